//! Servers in processes of their own, which can be killed.

use std::{net::SocketAddr, process::Stdio};

use pitaya::{Server, TcpAcceptor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{Ground, Work, at};
use crate::support::soon;

/// The variable that makes this program a server.
const ROLE: &str = "FAULTS_SERVER";

/// What such a server says when it serves.
const READY: &str = "the server is ready: ";

/// A server in a process of its own. It is killed when this is dropped.
pub(super) struct OwnProcess {
    child: Child,
    /// Where clients connect, if it is a frontend.
    address: Option<SocketAddr>,
    /// It would end if nobody could read what it says.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl OwnProcess {
    /// Starts a `gate` or a `room`, and waits until it serves.
    pub(super) async fn start(ground: &Ground, kind: &str, id: &str) -> Self {
        let folder = ground.folder.path();
        let role = json!({
            "kind": kind, "id": id, "etcd": ground.etcd, "nats": ground.nats, "ttl": ground.ttl, "folder": folder,
        });
        let test = concat!(module_path!(), "::a_server_in_a_process_of_its_own");
        let test = test.split_once("::").unwrap().1;
        // The kernel kills it as well when the thread that has started it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(ROLE, role.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            loop {
                let line = stdout.next_line().await.unwrap().expect("the server has ended");
                if let Some((_, address)) = line.split_once(READY) {
                    return address.parse().ok();
                }
            }
        };
        let address = soon("a server in a process of its own starts", ready).await;
        Self { child, address, _stdout: stdout }
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// Kills it with SIGKILL.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// No test: what the tests start as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let role: Value = serde_json::from_str(&role).unwrap();
    let text = |key: &str| role[key].as_str().unwrap();
    let (mut address, folder, id) = (None, text("folder").as_ref(), text("id"));
    let builder = if text("kind") == "gate" {
        let tcp = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
        address = Some(tcp.address());
        Server::frontend("gate").acceptor(tcp)
    } else {
        Server::backend("room").handlers(Work::new(folder, id))
    };
    let builder = at(builder.id(id), text("etcd"), text("nats"), role["ttl"].as_u64().unwrap());
    let server = builder.build().unwrap();
    let app = server.app();
    let ready = async {
        crate::support::eventually("the server is ready", || app.is_ready()).await;
        println!("{READY}{}", address.map_or_else(|| "no address".to_owned(), |address| address.to_string()));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server.serve() => ended.unwrap(),
        () = ready => {}
    }
}
