//! The memory of an idle connection.
//!
//! What is measured is how the server's memory grows between a few hundred connections and all of them. The first ones
//! stay: so everything that a server makes once (threads, tables, the memory that its allocator keeps) is there before
//! the first look, and nothing of what goes away with a client can be used again for those that are counted.

use crate::bench::Result;
use crate::bench::build::Programs;
use crate::bench::case::Transport;
use crate::bench::crowd::Crowd;
use crate::bench::options::Options;
use crate::bench::server::Server;
use std::time::Duration;

/// Connections that are there before the first look.
pub(super) const FIRST: usize = 500;

/// Heartbeats that each connection answers after its large push, before the server's memory is looked at.
pub(super) const HEARTBEATS: u32 = 2;

/// Between two heartbeats, in seconds: short, so that the measurement is.
pub(super) const HEARTBEAT: &str = "5";

/// How long the server then has for what it does after the last of them.
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// What was measured on one transport.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) transport: Transport,
    /// Bytes in use with the first connections.
    pub(crate) before: u64,
    /// Bytes in use with all.
    pub(crate) after: u64,
    /// How many connections came in between.
    pub(crate) connections: usize,
}

impl Memory {
    /// Bytes for each connection.
    pub(crate) fn each(&self) -> f64 {
        (self.after as f64 - self.before as f64) / self.connections as f64
    }

    /// What it may be at most.
    pub(crate) fn goal(&self) -> f64 {
        match self.transport {
            Transport::Tcp => 4096.0,
            Transport::WebSocket => 8192.0,
        }
    }
}

/// Connects all, and lets each bind a user, get a large push, and answer heartbeats.
pub(crate) fn measure(programs: &Programs, transport: Transport, options: &Options) -> Result<Memory> {
    let server = Server::start_args(&programs.ours, transport, &["--heartbeat", HEARTBEAT])?;
    let mut crowd = Crowd::start(&programs.crowd, &[&server], transport)?;
    let connections = options.idle - FIRST;
    let mut looks = [0; 2];
    for (count, look) in [FIRST, connections].into_iter().zip(&mut looks) {
        crowd.connect(count)?;
        crowd.each("bench.bind", count)?;
        crowd.gifts(count)?;
        crowd.heartbeats(HEARTBEATS)?;
        std::thread::sleep(QUIET);
        *look = server.resident()?;
    }
    let [before, after] = looks;
    Ok(Memory { transport, before, after, connections })
}
