//! Thousands of clients in a process of their own.

use super::Result;
use super::case::Transport;
use super::load::pinned;
use super::process::Process;
use super::server::Server;
use std::path::Path;
use std::time::Duration;

/// How long the process may take to start.
const START: Duration = Duration::from_secs(10);

/// How long a command may take beyond the length of its window. The crowd itself gives up when nothing happens for a while.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the crowd says about one command.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Done {
    /// How long it took.
    pub(crate) seconds: f64,
    /// How many pushes the clients got of broadcasts.
    pub(crate) pushes: u64,
    /// For each broadcast, the microseconds until the last member had it.
    pub(crate) last_us: Vec<u64>,
}

/// A running crowd.
#[derive(Debug)]
pub(crate) struct Crowd(Process);

impl Crowd {
    /// Starts the program; nobody is connected yet.
    pub(crate) fn start(program: &Path, servers: &[&Server], transport: Transport) -> Result<Self> {
        let mut command = pinned(program);
        for server in servers {
            command.args(["--addr", server.address()]);
        }
        let mut process = Process::spawn("crowd", command.args(["--transport", transport.name()]))?;
        match process.line(START)?.as_str() {
            "ready" => Ok(Self(process)),
            line => Err(format!("the crowd said `{line}`").into()),
        }
    }

    /// Talks to the server with this index from now on.
    pub(crate) fn target(&mut self, index: usize) -> Result<()> {
        self.0.send(&format!("target {index}"))
    }

    /// Opens more connections.
    pub(crate) fn connect(&mut self, count: usize) -> Result<Done> {
        self.command(&format!("connect {count}"), Duration::ZERO)
    }

    /// Lets the next clients that have not asked for this route ask for it.
    pub(crate) fn each(&mut self, route: &str, count: usize) -> Result<Done> {
        self.command(&format!("each {route} {count}"), Duration::ZERO)
    }

    /// Lets the next clients ask for a large push, and waits until all who have asked have it.
    pub(crate) fn gifts(&mut self, count: usize) -> Result<Done> {
        self.each("bench.gift", count)?;
        self.command("gifts", Duration::ZERO)
    }

    /// Waits until every client has answered so many heartbeats.
    pub(crate) fn heartbeats(&mut self, count: u32) -> Result<Done> {
        self.command(&format!("heartbeats {count}"), Duration::ZERO)
    }

    /// Asks for broadcasts at a fixed rate.
    pub(crate) fn broadcast(&mut self, rate: f64, window: Duration) -> Result<Done> {
        self.command(&format!("broadcast {rate} {}", window.as_secs_f64()), window)
    }

    /// Asks for one broadcast after the other.
    pub(crate) fn chain(&mut self, window: Duration) -> Result<Done> {
        self.command(&format!("chain {}", window.as_secs_f64()), window)
    }

    fn command(&mut self, command: &str, window: Duration) -> Result<Done> {
        self.0.send(command)?;
        Ok(serde_json::from_str(&self.0.line(window + PATIENCE)?)?)
    }
}
