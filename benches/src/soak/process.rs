//! The server's process, and what it holds.

use super::Holdings;
use super::connection::Connection;
use crate::server::Vitals;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Between two heartbeats, in seconds: as short as may be, so that clients are soon found out by their silence.
pub(crate) const HEARTBEAT: u64 = 1;

/// A running server. It is killed on drop, and ends by itself when this process does.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) tcp: SocketAddr,
    pub(crate) ws: SocketAddr,
}

impl ServerProcess {
    pub(crate) fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--and-ws", "--exit-with-stdin"])
            .args(["--heartbeat", &HEARTBEAT.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let mut address = || {
            let line = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
            let address = line.strip_prefix("listening ").and_then(|address| address.parse().ok());
            address.ok_or_else(|| io::Error::other(format!("the server said `{line}`")))
        };
        let (tcp, ws) = (address()?, address()?);
        Ok(Self { child, tcp, ws })
    }

    /// What it holds now; `watcher` is a connection to it.
    pub(crate) async fn holdings(&self, watcher: &mut Connection) -> io::Result<Holdings> {
        let answer = watcher.ask("bench.vitals").await?;
        let Vitals { sessions, tasks } = serde_json::from_slice(&answer)?;
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let files = std::fs::read_dir(proc.join("fd"))?.count();
        let status = std::fs::read_to_string(proc.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let resident = resident.ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))? * 1024;
        Ok(Holdings { resident, files, tasks, sessions })
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
