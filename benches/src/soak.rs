//! The soak: clients come, ask, listen, misbehave and go, for as long as one likes; then the server must hold no more
//! than it did before.
//!
//! The server runs in a process of its own. Its memory and its open files are looked at from outside; how many clients
//! and tasks it has it says itself, to a client that asks when all others have gone. Before the first look, the same
//! clients come and go for a while: what a server makes once, and what its allocator keeps, is there then.
#![cfg(target_os = "linux")]

mod behaviour;
mod connection;
mod process;

use crate::{Transport, server::raise_file_limit};
use behaviour::Site;
use connection::Connection;
use process::ServerProcess;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use behaviour::{Behaviour, Counts};

/// How long the server may take to give everything back, on any machine. A server that does well needs a second: as long
/// as a closed connection waits for its client.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a server that has not given everything back yet.
const LOOK: Duration = Duration::from_millis(100);

/// How many looks in a row must agree before it counts as quiet.
const AGREEING: usize = 3;

/// What part of the memory it may have grown by, for what an allocator cannot give back, ...
const GROWTH: f64 = 0.1;

/// ... and at least so many bytes. A leak of a few hundred bytes for each client is more than that.
const SLACK: u64 = 2 << 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program `bench-server`.
    pub server: PathBuf,
    /// How long, the clients before the first look included.
    pub time: Duration,
    /// How many clients there are at once.
    pub clients: usize,
}

/// What a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Its memory, in bytes.
    pub resident: u64,
    /// Its open files, sockets included.
    pub files: usize,
    /// The tasks of its runtime.
    pub tasks: usize,
    /// Its clients, the one that asks included.
    pub sessions: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What the server held after the clients that came first.
    pub before: Holdings,
    /// What it held in the end.
    pub after: Holdings,
    /// What the clients did in between.
    pub counts: Counts,
}

impl Outcome {
    /// What is wrong; nothing if the server has given everything back.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let (before, after) = (self.before, self.after);
        let mut complaints = Vec::new();
        for (what, before, after) in [
            ("open files", before.files, after.files),
            ("tasks", before.tasks, after.tasks),
            ("sessions", before.sessions, after.sessions),
        ] {
            if after != before {
                complaints.push(format!("{what}: {before} before, {after} after"));
            }
        }
        let allowed = before.resident + SLACK.max((before.resident as f64 * GROWTH) as u64);
        if after.resident > allowed {
            let (before, after) = (before.resident >> 10, after.resident >> 10);
            complaints.push(format!("memory: {before} KiB before, {after} after, {} are allowed", allowed >> 10));
        }
        for behaviour in Behaviour::ALL {
            if self.counts.of(behaviour) == 0 {
                complaints.push(format!("no client got to the end of `{}`", behaviour.name()));
            }
        }
        complaints
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for behaviour in Behaviour::ALL {
            writeln!(f, "{:>9} {}", self.counts.of(behaviour), behaviour.name())?;
        }
        writeln!(f, "{:>9} cut off by the server or by a time-out", self.counts.cut_off)?;
        writeln!(f, "         | memory KiB | open files | tasks | sessions")?;
        for (when, held) in [("before", self.before), ("after", self.after)] {
            let Holdings { resident, files, tasks, sessions } = held;
            writeln!(f, "{when:<8} | {:>10} | {files:>10} | {tasks:>5} | {sessions:>8}", resident >> 10)?;
        }
        Ok(())
    }
}

/// Runs it.
///
/// # Errors
///
/// If the server does not run or answers something wrong, not if it leaks.
pub async fn run(plan: &Plan) -> io::Result<Outcome> {
    raise_file_limit()?;
    let server = ServerProcess::start(&plan.server)?;
    let site = Arc::new(Site::new(server.tcp, server.ws));

    // A fifth of the time, but not less than the clients need that are found out by their silence.
    let first = (plan.time / 5).max(behaviour::SILENCE * 2);
    crowd(&site, plan.clients, first).await?;
    let before = settle(&server, None).await?;
    site.reset();
    crowd(&site, plan.clients, plan.time.saturating_sub(first)).await?;
    let after = settle(&server, Some(before)).await?;
    Ok(Outcome { before, after, counts: site.counts() })
}

/// Lets clients come and go for a while; the last have gone at the end.
async fn crowd(site: &Arc<Site>, clients: usize, time: Duration) -> io::Result<()> {
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for number in 0..clients {
        running.spawn(behaviour::misbehave(Arc::clone(site), number, until));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Waits until the server holds as many files, tasks and sessions as in `goal`; without one, until there is no client but
/// the one that asks, and nothing changes any more. What it then holds, or when it has had its time.
async fn settle(server: &ServerProcess, goal: Option<Holdings>) -> io::Result<Holdings> {
    let deadline = Instant::now() + PATIENCE;
    let mut watcher = Connection::open(server.tcp, None, Transport::Tcp).await?;
    let (mut last, mut agreeing) = (None, 0);
    loop {
        let held = match server.holdings(&mut watcher).await {
            Ok(held) => held,
            // The machine stood still for so long that the server took the watcher for gone.
            Err(error) if error.kind() != io::ErrorKind::InvalidData && Instant::now() < deadline => {
                watcher = Connection::open(server.tcp, None, Transport::Tcp).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let counted = (held.files, held.tasks, held.sessions);
        agreeing = if last == Some(counted) { agreeing + 1 } else { 0 };
        last = Some(counted);
        let settled = goal.map_or(held.sessions == 1, |goal| counted == (goal.files, goal.tasks, goal.sessions));
        if (settled && agreeing >= AGREEING) || Instant::now() > deadline {
            return Ok(held);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_back_is_said() {
        let before = Holdings { resident: 10 << 20, files: 12, tasks: 3, sessions: 1 };
        let counts = Counts::all(1);
        let complaints = |after| Outcome { before, after, counts }.complaints();
        assert!(complaints(Holdings { resident: 12 << 20, ..before }).is_empty());
        assert!(complaints(Holdings { resident: 14 << 20, ..before })[0].starts_with("memory: 10240 KiB before"));
        assert_eq!(complaints(Holdings { files: 13, ..before }), ["open files: 12 before, 13 after"]);
        assert_eq!(complaints(Holdings { tasks: 4, sessions: 2, ..before }).len(), 2);
        let nothing_done = Outcome { before, after: before, counts: Counts::all(0) }.complaints();
        assert_eq!(nothing_done.len(), Behaviour::ALL.len());
    }
}
