//! The servers of a test, and its clients.

use std::{process::Stdio, time::Duration};

use pitaya_client::{Client, CloseReason, Pushes, RequestError};
use pitaya_fixtures::{Etcd, Nats};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// The longest that anything here may take; never waited for when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An etcd and a NATS for the servers of one test.
pub(crate) struct World {
    etcd: Etcd,
    nats: Nats,
}

/// A server of the suite, as a process. It is killed at the end, as the suite does.
pub(crate) struct Process {
    _child: Child,
    /// Reads on, so that a server that logs never waits.
    log: JoinHandle<()>,
    /// Where clients connect.
    address: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
        Self { etcd, nats }
    }

    pub(crate) async fn frontend(&self, kind: &str) -> Process {
        self.start(kind, true, &[]).await
    }

    pub(crate) async fn backend(&self, kind: &str) -> Process {
        self.start(kind, false, &[]).await
    }

    /// Starts a server with the flags and the environment of the suite, and waits until it says that it is ready.
    pub(crate) async fn start(&self, kind: &str, frontend: bool, variables: &[(&str, &str)]) -> Process {
        let frontend = format!("-frontend={frontend}");
        let flags = ["-type", kind, "-port", "0", &frontend, "-sdprefix", "suite/", "-grpcport", "3434", "-grpc=false"];
        let mut command = binary(&flags);
        command.arg("-debug");
        command.envs([
            ("PITAYA_METRICS_PROMETHEUS_PORT", "9090"),
            ("PITAYA_CLUSTER_RPC_CLIENT_GRPC_LAZYCONNECTION", "false"),
            ("PITAYA_CLUSTER_RPC_SERVER_LOOPBACKENABLED", "false"),
            ("PITAYA_CLUSTER_SD_ETCD_ENDPOINTS", &self.etcd.address()),
            ("PITAYA_CLUSTER_RPC_CLIENT_NATS_CONNECT", &self.nats.url()),
            ("PITAYA_CLUSTER_RPC_SERVER_NATS_CONNECT", &self.nats.url()),
        ]);
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = String::new();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, told)) = line.split_once("accepting clients address=") {
                    told.clone_into(&mut address);
                }
                if line.contains("all modules started!") {
                    return;
                }
            }
            panic!("the {kind} has ended before it was ready");
        };
        timeout(PATIENCE, ready).await.unwrap();
        let log = tokio::spawn(async move {
            // The end of the process ends it.
            drop(tokio::io::copy(lines.get_mut(), &mut tokio::io::sink()).await);
        });
        Process { _child: child, log, address }
    }
}

impl Process {
    pub(crate) async fn client(&self) -> Client {
        timeout(PATIENCE, Client::connect(&format!("tcp://{}", self.address))).await.unwrap().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.log.abort();
    }
}

/// The program with flags, an environment without anything, and its error output caught.
pub(crate) fn binary(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2e-server"));
    command
        .args(flags)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a request is answered with: the body, also that of an error.
pub(crate) async fn ask(client: &Client, route: &str, body: &str) -> Result<String, String> {
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    match timeout(PATIENCE, client.request_bytes(route, body.to_owned())).await.unwrap() {
        Ok(answer) => Ok(text(answer.into())),
        Err(RequestError::Server(error)) => Err(text(error.raw.into())),
        Err(error) => panic!("{route}: {error:?}"),
    }
}

/// Binds a client to a user, in the way of the suite: the answer is `ack`.
pub(crate) async fn bind(client: &Client, route: &str, uid: &str) {
    assert_eq!(ask(client, route, uid).await.as_deref(), Ok("ack"), "{route}");
}

/// The next push.
pub(crate) async fn pushed(pushes: &mut Pushes) -> (String, String) {
    let push = timeout(PATIENCE, pushes.next()).await.unwrap().unwrap();
    (push.route, String::from_utf8(push.body.into()).unwrap())
}

/// Waits until the server has closed the connection of a client.
pub(crate) async fn closed(client: &Client) -> CloseReason {
    timeout(PATIENCE, client.closed()).await.unwrap()
}

/// What the program said on its error output, for one that ends by itself.
pub(crate) async fn said(mut child: Child) -> (bool, String) {
    let mut text = String::new();
    let status = async {
        child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
        child.wait().await.unwrap()
    };
    let status = timeout(PATIENCE, status).await.unwrap();
    (status.success(), text)
}
