//! What a bound user adds on a frontend of a cluster, with a real nats-server.
//!
//! As in [`memory`](super::memory), the first connections are there before the first look, bound and all. The others are
//! connected and quiet at the first look, and bound at the second: what lies between is what their users add. That is the
//! server's own memory of them, and that of the client library for their subscriptions.

use crate::bench::Result;
use crate::bench::build::Programs;
use crate::bench::case::Transport;
use crate::bench::crowd::Crowd;
use crate::bench::options::Options;
use crate::bench::process::Process;
use crate::bench::server::Server;
use std::process::Command;
use std::time::Duration;

use super::memory::{FIRST, HEARTBEAT, HEARTBEATS, QUIET};

/// What a user may add, in bytes.
const GOAL: f64 = 6144.0;

/// How long nats-server and etcd may take to start.
const START: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Bytes in use when the first are bound and all are connected.
    pub(crate) before: u64,
    /// Bytes in use when all are bound.
    pub(crate) after: u64,
    /// How many were bound in between.
    pub(crate) users: usize,
    /// How long that took.
    pub(crate) seconds: f64,
}

/// Connects all clients to a frontend, binds the users of the first ones, and then those of the others.
pub(crate) fn measure(programs: &Programs, options: &Options) -> Result<Bound> {
    let mut services = Process::spawn("nats-server and etcd", &mut Command::new(&programs.services))?;
    let addresses = services.line(START)?;
    // The server ends before what it needs: it is dropped first.
    let server = {
        let more: Vec<_> = ["--heartbeat", HEARTBEAT].into_iter().chain(addresses.split_whitespace()).collect();
        Server::start_args(&programs.ours, Transport::Tcp, &more)?
    };
    let mut crowd = Crowd::start(&programs.crowd, &[&server], Transport::Tcp)?;
    let users = options.idle - FIRST;
    crowd.connect(FIRST)?;
    crowd.each("bench.bind", FIRST)?;
    crowd.connect(users)?;
    crowd.heartbeats(HEARTBEATS)?;
    std::thread::sleep(QUIET);
    let before = server.resident()?;
    let seconds = crowd.each("bench.bind", users)?.seconds;
    crowd.heartbeats(HEARTBEATS)?;
    std::thread::sleep(QUIET);
    let after = server.resident()?;
    Ok(Bound { before, after, users, seconds })
}

impl Bound {
    /// Bytes for each user.
    pub(crate) fn each(&self) -> f64 {
        (self.after as f64 - self.before as f64) / self.users as f64
    }

    /// The line of `--json`.
    pub(crate) fn json(&self) -> String {
        let value = self.each().round();
        serde_json::json!({"case": "nats", "value": value, "goal": GOAL, "connections": self.users + FIRST}).to_string()
    }

    /// The table for people, which is also one in Markdown.
    pub(crate) fn table(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let met = if self.each() <= GOAL { "yes" } else { "NO" };
        format!(
            "| bytes that a bound user adds | goal | met | users | before MiB | after MiB | seconds to bind all |\n\
             |------------------------------|------|-----|-------|------------|-----------|---------------------|\n\
             | {:>28.0} | {GOAL:>4} | {met:<3} | {:>5} | {:>10.1} | {:>9.1} | {:>19.2} |\n",
            self.each(),
            self.users,
            mib(self.before),
            mib(self.after),
            self.seconds,
        )
    }

    /// What is wrong with the result.
    pub(crate) fn complaint(&self) -> Option<String> {
        (self.each() > GOAL).then(|| format!("a bound user adds {:.0} bytes; the goal is {GOAL}", self.each()))
    }
}

pub(crate) const METHOD: &str = "\
A frontend of a cluster on a real nats-server and etcd, in its default configuration but for a heartbeat of 5 s; its clients are in a process of their own.
*Bytes that a bound user adds* is how its resident memory grows between the moment when all are connected and have answered two heartbeats and the one when all are bound and have answered two more, divided by the users that were bound in between; 500 were bound before, so that what is made once is left out.
Each user has two subscriptions on NATS, for pushes and for kicks.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_shown_and_judged() {
        let bound = |bytes: u64| Bound { before: 1 << 20, after: (1 << 20) + bytes * 1000, users: 1000, seconds: 2.0 };
        assert_eq!(bound(6144).json(), r#"{"case":"nats","connections":1500,"goal":6144.0,"value":6144.0}"#);
        assert_eq!(bound(6144).complaint(), None);
        assert!(
            bound(6144).table().contains("|                         6144 | 6144 | yes |  1000 |"),
            "{}",
            bound(6144).table()
        );
        assert_eq!(bound(6145).complaint().unwrap(), "a bound user adds 6145 bytes; the goal is 6144");
    }
}
