//! The load generator, which holds connections to all servers of a round.

use super::Result;
use super::case::Transport;
use super::process::Process;
use super::server::Server;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long the connections may take to come up; under valgrind they are slow.
const CONNECT: Duration = Duration::from_secs(60);

/// How long an answer may take beyond the length of the window.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the generator may take to count requests to a server under valgrind.
const COUNT: Duration = Duration::from_secs(300);

/// What the load generator says about one window.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Window {
    /// Requests that were due.
    pub(crate) sent: u64,
    /// Answers in time.
    pub(crate) done: u64,
    /// All answers.
    pub(crate) answered: u64,
    /// Answers in time, per second.
    pub(crate) per_second: f64,
    /// Requests in one write, on average.
    pub(crate) batch: f64,
    /// Median latency from the intended time.
    pub(crate) p50_us: u64,
    /// 99th percentile of the latency from the intended time.
    pub(crate) p99_us: u64,
    /// The longest latency.
    pub(crate) max_us: u64,
}

/// The generator's command, bound to the last CPU that xtask may use, if `taskset` is there.
///
/// Where the scheduler puts the generator's one thread relative to the server's is decided anew in
/// every slice, and decides how often they have to wake each other on another CPU: left alone it
/// moves the server's CPU time by a tenth. The server is not bound: that would not be its default.
pub(crate) fn pinned(program: &Path) -> Command {
    let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
    match last_cpu() {
        Some(cpu) if taskset.is_ok_and(|status| status.success()) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &cpu]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// The last CPU that this process may use, unless there is but one.
fn last_cpu() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let (_, last) = list.rsplit_once([',', '-'])?;
    Some(last.to_owned())
}

/// A running load generator.
#[derive(Debug)]
pub(crate) struct Load(Process);

impl Load {
    /// Connects to `servers`, `connections` times each.
    pub(crate) fn start(program: &Path, servers: &[&Server], transport: Transport, connections: usize) -> Result<Self> {
        let mut command = pinned(program);
        for server in servers {
            command.args(["--addr", server.address()]);
        }
        command.args(["--transport", transport.name(), "--in-flight", "8"]);
        command.args(["--connections", &connections.to_string()]);
        let mut process = Process::spawn("load generator", &mut command)?;
        match process.line(CONNECT)?.as_str() {
            "ready" => Ok(Self(process)),
            line => Err(format!("the load generator said `{line}`").into()),
        }
    }

    /// Asks for `route` from now on.
    pub(crate) fn route(&mut self, route: &str) -> Result<()> {
        self.0.send(&format!("route {route}"))
    }

    /// Talks to the server with this index from now on.
    pub(crate) fn target(&mut self, index: usize) -> Result<()> {
        self.0.send(&format!("target {index}"))
    }

    /// Offers `rate` requests a second.
    pub(crate) fn rate(&mut self, rate: f64, window: Duration) -> Result<Window> {
        let command = format!("rate {rate:.0} {}", window.as_secs_f64());
        self.window(&command, window + PATIENCE)
    }

    /// Keeps all connections full.
    pub(crate) fn saturate(&mut self, window: Duration) -> Result<Window> {
        self.window(&format!("saturate {}", window.as_secs_f64()), window + PATIENCE)
    }

    /// Sends exactly `count` requests.
    pub(crate) fn count(&mut self, count: u64) -> Result<Window> {
        self.window(&format!("count {count}"), COUNT)
    }

    fn window(&mut self, command: &str, patience: Duration) -> Result<Window> {
        self.0.send(command)?;
        Ok(serde_json::from_str(&self.0.line(patience)?)?)
    }
}
