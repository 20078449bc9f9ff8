//! A real nats-server.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    PATIENCE,
    process::{Process, on_free_ports},
};

/// A nats-server on a free port of this machine.
pub struct Nats {
    port: u16,
    args: Vec<String>,
    process: Option<Process>,
}

impl Nats {
    /// Starts a server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with more arguments.
    pub async fn start_with(args: &[&str]) -> Self {
        on_free_ports(async |[port]: [u16; 1]| {
            let mut all: Vec<_> = ["-a", "127.0.0.1", "-p"].map(str::to_owned).into();
            all.push(port.to_string());
            all.extend(args.iter().map(|arg| (*arg).to_owned()));
            let process = Process::start("nats-server", &all, port).await?;
            Some(Self { port, args: all, process: Some(process) })
        })
        .await
    }

    /// Starts two servers that are a cluster: a client of one learns of the other, and messages pass between them.
    pub async fn pair() -> [Self; 2] {
        on_free_ports(async |[one, two, route_one, route_two]: [u16; 4]| {
            let run = async |port: u16, route: u16, other: u16| {
                let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "--cluster_name", "test", "--cluster"];
                let mut args: Vec<_> = args.map(str::to_owned).into();
                args.push(format!("nats://127.0.0.1:{route}"));
                args.extend(["--routes".to_owned(), format!("nats://127.0.0.1:{other}")]);
                let process = Process::start("nats-server", &args, port).await?;
                Some(Self { port, args, process: Some(process) })
            };
            let pair = [run(one, route_one, route_two).await?, run(two, route_two, route_one).await?];
            pair[0].knows(&pair[1]).await;
            pair[1].knows(&pair[0]).await;
            Some(pair)
        })
        .await
    }

    /// Waits until this server tells its clients of another one.
    async fn knows(&self, other: &Self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut info = String::new();
            let mut client = BufReader::new(TcpStream::connect(self.address()).await.unwrap());
            client.read_line(&mut info).await.unwrap();
            if info.contains(&format!("\"{}\"", other.address())) {
                return;
            }
            assert!(Instant::now() < deadline, "the servers do not find each other");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it listens, as `127.0.0.1:4222`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it listens, as `nats://127.0.0.1:4222`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Kills it, as a power cut does.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again on its port after a [`kill`](Self::kill); it has forgotten everything.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.process = Process::start("nats-server", &self.args, self.port).await;
        assert!(self.process.is_some(), "the port of the server was taken");
    }

    /// Stops its process without its knowing: connections stay open, and nothing is answered.
    pub async fn freeze(&self) {
        if let Some(process) = &self.process {
            process.freeze().await;
        }
    }

    /// Lets it go on after a [`freeze`](Self::freeze).
    pub async fn thaw(&self) {
        if let Some(process) = &self.process {
            process.thaw().await;
        }
    }

    /// Tells it to ask its clients to leave for another server of its cluster (lame duck mode).
    pub async fn lame_duck(&self) {
        if let Some(process) = &self.process {
            process.signal("USR2").await;
        }
    }
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("port", &self.port).finish_non_exhaustive()
    }
}
