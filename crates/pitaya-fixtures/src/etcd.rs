//! A real etcd.

mod api;

use std::sync::Arc;

use tempfile::TempDir;

use crate::{
    Certificates,
    process::{Process, on_free_ports},
};

/// A member of etcd, on free ports of this machine, with its data in a folder that ends with it.
pub struct Etcd {
    name: String,
    port: u16,
    peer: u16,
    /// All members: names and addresses.
    cluster: String,
    args: Vec<String>,
    tls: Option<Arc<Certificates>>,
    data: TempDir,
    process: Option<Process>,
    /// The password of the user root, once there are users.
    root: Option<String>,
}

impl Etcd {
    /// Starts a server of one member.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server of one member with more arguments.
    pub async fn start_with(args: &[&str]) -> Self {
        let [etcd] = Self::members(args, None).await;
        etcd
    }

    /// Starts a server of one member which clients have to reach through TLS, with a certificate of their own.
    pub async fn start_tls(certificates: &Arc<Certificates>) -> Self {
        let [etcd] = Self::members(&[], Some(certificates)).await;
        etcd
    }

    /// Starts the members of one cluster.
    pub async fn cluster<const N: usize>() -> [Self; N] {
        Self::members(&[], None).await
    }

    async fn members<const N: usize>(args: &[&str], tls: Option<&Arc<Certificates>>) -> [Self; N] {
        on_free_ports(async |ports: [[u16; 2]; N]| {
            let names: Vec<_> = (0..N).map(|number| format!("m{number}")).collect();
            let all = names.iter().zip(&ports).map(|(name, [_, peer])| format!("{name}=http://127.0.0.1:{peer}"));
            let cluster = all.collect::<Vec<_>>().join(",");
            let mut members = Vec::new();
            for (name, [port, peer]) in names.into_iter().zip(ports) {
                let (cluster, tls) = (cluster.clone(), tls.map(Arc::clone));
                let args = args.iter().map(|arg| (*arg).to_owned()).collect();
                let data = tempfile::tempdir().unwrap();
                let mut etcd = Self { name, port, peer, cluster, args, tls, data, process: None, root: None };
                etcd.process = Some(etcd.run().await?);
                members.push(etcd);
            }
            members.try_into().ok()
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
        self.process = self.run().await;
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

    async fn run(&self) -> Option<Process> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://127.0.0.1:{}", self.port), format!("http://127.0.0.1:{}", self.peer));
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data.path().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", self.cluster),
        ];
        // A test machine has slow discs and no need for safety.
        args.extend(["--unsafe-no-fsync", "--logger=zap", "--log-level=error"].map(str::to_owned));
        // One member elects itself at once; several on a busy machine must not take each other for dead.
        let pace = if self.cluster.contains(',') { [100, 1_000] } else { [10, 100] };
        args.extend([format!("--heartbeat-interval={}", pace[0]), format!("--election-timeout={}", pace[1])]);
        if let Some(tls) = &self.tls {
            args.push(format!("--cert-file={}", tls.server_certificate()));
            args.push(format!("--key-file={}", tls.server_key()));
            args.push(format!("--trusted-ca-file={}", tls.authority()));
            args.push("--client-cert-auth".to_owned());
        }
        args.extend(self.args.iter().cloned());
        Process::start("etcd", &args, self.port).await
    }
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("port", &self.port).finish_non_exhaustive()
    }
}
