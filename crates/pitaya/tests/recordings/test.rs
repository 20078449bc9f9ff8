//! What a test says of its recording, and the verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    compatibility,
    recording::Recording,
    replay::{PATIENCE, Replay},
};

/// A test of one recording.
pub(crate) struct Test {
    file: &'static str,
    /// Clients that are there at the beginning: connection, frontend, user.
    pub(crate) known: Vec<(&'static str, &'static str, &'static str)>,
    /// Settings: of which server (all if empty), key, value.
    pub(crate) settings: Vec<(&'static str, &'static str, &'static str)>,
    /// What is to be done at a step, where the recording does not show it.
    pub(crate) acts: BTreeMap<&'static str, Act>,
    left_out: Vec<(&'static str, &'static str)>,
    allowed: Vec<Allowed>,
    pub(crate) patience: Duration,
}

/// What the recorder did at a step.
pub(crate) enum Act {
    /// Told a server to stop.
    Stop(&'static str),
    /// Let a client in, and bound it: connection, frontend, user.
    Enter(&'static str, &'static str, &'static str),
    /// Let a client go.
    Leave(&'static str),
}

/// Differences that may be in any recording: row, and a part of the path. A bind is told again only if another came late.
const EVERYWHERE: [(&str, &str); 2] =
    [("message-ids", "nats.headers"), ("bind-again", "publishes on pitaya/connector/bindings")];

struct Allowed {
    /// The row of `docs/compatibility.md` that says why.
    row: &'static str,
    /// In which events; in all if there are none.
    events: Vec<usize>,
    path: &'static str,
}

impl Test {
    pub(crate) fn of(file: &'static str) -> Self {
        // For whoever works on these tests.
        let patience = std::env::var("RECORDINGS_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
        Self {
            file,
            known: Vec::new(),
            settings: Vec::new(),
            acts: BTreeMap::new(),
            left_out: Vec::new(),
            allowed: Vec::new(),
            patience: patience.map_or(PATIENCE, Duration::from_secs),
        }
    }

    /// The three users of most recordings are there.
    pub(crate) fn with_users(self) -> Self {
        self.client("A", "c1", "u1").client("B", "c2", "u2").client("D", "c1", "u3")
    }

    /// A client that is there at the beginning, bound to a user unless that is empty.
    pub(crate) fn client(mut self, conn: &'static str, server: &'static str, uid: &'static str) -> Self {
        self.known.push((conn, server, uid));
        self
    }

    /// A setting of a server, or of all if its id is empty.
    pub(crate) fn set(mut self, server: &'static str, key: &'static str, value: &'static str) -> Self {
        self.settings.push((server, key, value));
        self
    }

    /// What the recorder did at a step, where the recording does not show it.
    pub(crate) fn at(mut self, step: &'static str, act: Act) -> Self {
        self.acts.insert(step, act);
        self
    }

    /// A step that cannot happen with ours, for the reason of this row.
    pub(crate) fn without(mut self, row: &'static str, step: &'static str) -> Self {
        self.left_out.push((row, step));
        self
    }

    /// Ours differs in a field of these events (of all, if none are named), for the reason of this row.
    pub(crate) fn differs(mut self, row: &'static str, events: &[usize], path: &'static str) -> Self {
        self.allowed.push(Allowed { row, events: events.to_vec(), path });
        self
    }

    pub(crate) fn is_left_out(&self, step: &str) -> bool {
        self.left_out.iter().any(|(_, left_out)| *left_out == step)
    }

    pub(crate) fn allows(&self, event: usize, path: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed.fits(event, path))
    }

    /// Plays the recording once with our frontends and recorded backends, and once with each of our backends among the
    /// others recorded.
    pub(crate) async fn run(self) {
        let recording = Recording::load(self.file);
        let servers = recording.servers();
        let mut runs: Vec<Vec<&str>> = Vec::new();
        let frontends: Vec<_> = servers.iter().map(String::as_str).filter(|id| id.starts_with('c')).collect();
        if !frontends.is_empty() {
            runs.push(frontends);
        }
        for id in servers.iter().filter(|id| !id.starts_with('c')) {
            if recording.publishes().any(|publish| publish.from == *id)
                || self.acts.values().any(|act| matches!(act, Act::Stop(stops) if stops == id))
            {
                runs.push(vec![id]);
            }
        }
        self.run_with(&recording, &runs).await;
    }

    /// Plays the recording once with all servers ours.
    pub(crate) async fn run_as_one(self) {
        let recording = Recording::load(self.file);
        let servers = recording.servers();
        let all = servers.iter().map(String::as_str).collect();
        self.run_with(&recording, &[all]).await;
    }

    /// The rows of the table that this test needs.
    fn rows(&self) -> impl Iterator<Item = &'static str> {
        let allowed = self.allowed.iter().map(|allowed| allowed.row);
        let left_out = self.left_out.iter().map(|(row, _)| *row);
        EVERYWHERE.iter().map(|(row, _)| *row).chain(allowed).chain(left_out)
    }

    async fn run_with(&self, recording: &Recording, runs: &[Vec<&str>]) {
        let mut unexpected = Vec::new();
        let mut met = BTreeSet::new();
        for ours in runs {
            for difference in Replay::run(self, recording, ours).await {
                let allowed = self.allowed.iter().position(|allowed| allowed.fits(difference.event, &difference.path));
                match allowed {
                    Some(number) => drop(met.insert(number)),
                    None if EVERYWHERE.iter().any(|(_, path)| difference.path.contains(path)) => {}
                    None => unexpected.push(format!("{ours:?} {}", difference.text)),
                }
            }
        }
        for (number, allowed) in self.allowed.iter().enumerate() {
            if !met.contains(&number) {
                unexpected.push(format!("not met any more: {}, {:?} {}", allowed.row, allowed.events, allowed.path));
            }
        }
        for (row, step) in &self.left_out {
            if !recording.events.iter().any(|event| event.step == *step) {
                unexpected.push(format!("there is no step «{step}», which {row} leaves out"));
            }
        }
        for row in self.rows() {
            if !compatibility::has_row(row) {
                unexpected.push(format!("docs/compatibility.md has no row {row}"));
            }
        }
        assert!(unexpected.is_empty(), "{}:\n{}", recording.name, unexpected.join("\n"));
    }
}

impl Allowed {
    fn fits(&self, event: usize, path: &str) -> bool {
        (self.events.is_empty() || self.events.contains(&event))
            && (path == self.path
                || path.starts_with(&format!("{}.", self.path))
                || path.ends_with(&format!(".{}", self.path))
                || path.starts_with("extra ") && path.contains(self.path))
    }
}
