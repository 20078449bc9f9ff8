//! A real etcd.

use tempfile::TempDir;

use crate::process::{Process, on_free_ports};

/// An etcd of one member, on free ports of this machine, with its data in a folder that ends with it.
pub struct Etcd {
    port: u16,
    peer: u16,
    data: TempDir,
    process: Option<Process>,
}

impl Etcd {
    /// Starts a server.
    pub async fn start() -> Self {
        on_free_ports(async |[port, peer]: [u16; 2]| {
            let data = tempfile::tempdir().unwrap();
            let process = run(port, peer, &data).await?;
            Some(Self { port, peer, data, process: Some(process) })
        })
        .await
    }

    /// Where it listens, as `127.0.0.1:2379`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it, as a power cut does. Its data stays.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again on its ports with its data.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.process = run(self.port, self.peer, &self.data).await;
        assert!(self.process.is_some(), "a port of the server was taken");
    }

    /// Starts it again on its ports without its data: keys and leases are gone, and revisions begin anew.
    pub async fn restart_empty(&mut self) {
        self.kill().await;
        self.data = tempfile::tempdir().unwrap();
        self.restart().await;
    }

    /// Stops its process without its knowing: connections stay open, and nothing is answered.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on after a [`freeze`](Self::freeze).
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            process.signal(name).await;
        }
    }
}

async fn run(port: u16, peer: u16, data: &TempDir) -> Option<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    let data = data.path().to_str().unwrap();
    let args = [
        "--name=test",
        &format!("--data-dir={data}"),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=test={peer}"),
        // A test machine has slow discs and no need for safety.
        "--unsafe-no-fsync",
        "--heartbeat-interval=10",
        "--election-timeout=100",
        "--logger=zap",
        "--log-level=error",
    ]
    .map(str::to_owned);
    Process::start("etcd", &args, port).await
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("port", &self.port).finish_non_exhaustive()
    }
}
