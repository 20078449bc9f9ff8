//! The figures of idle connections, as they are shown.

use super::crowded::{BINDS, Binds, LOADED, Requests};
use super::memory::Memory;
use crate::bench::Result;
use std::fmt::Write;

/// What the bind of a user may cost among many, by what it costs among few. Not the square: that would be the number of
/// thousands.
const BIND_GOAL: f64 = 2.0;

/// What a request may cost beside many connections, by what it costs without them.
const REQUEST_GOAL: f64 = 1.2;

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// How many connections are idle.
    pub(crate) idle: usize,
    pub(crate) memory: Vec<Memory>,
    pub(crate) binds: Vec<Binds>,
    pub(crate) requests: Option<Requests>,
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line {
    case: &'static str,
    value: f64,
    goal: f64,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
}

impl Report {
    /// The CPU time of the last thousand binds by that of the first.
    pub(crate) fn bind_ratio(&self) -> f64 {
        match self.binds[..] {
            [ref first, .., ref last] => last.cpu_us / first.cpu_us,
            _ => f64::NAN,
        }
    }

    /// The lines of `--json`.
    pub(crate) fn json(&self) -> Result<String> {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let line =
            |case, value, goal| Line { case, value: round(value), goal, connections: self.idle, low: None, high: None };
        let mut lines: Vec<_> =
            self.memory.iter().map(|one| line(one.transport.name(), one.each(), one.goal())).collect();
        lines.push(line("bind", self.bind_ratio(), BIND_GOAL));
        lines.extend(self.requests.iter().map(|requests| {
            let (low, high) = (Some(round(requests.ratio.low)), Some(round(requests.ratio.high)));
            Line { low, high, ..line("requests", requests.ratio.median, REQUEST_GOAL) }
        }));
        let mut out = String::new();
        for line in lines {
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(out)
    }

    /// The tables for people, which are also tables in Markdown.
    pub(crate) fn tables(&self) -> String {
        // Writing to a string does not fail.
        let mut out = String::from(
            "| transport | bytes per connection | goal  | met | before MiB | after MiB | Go Pitaya, bound | nano  |\n\
             |-----------|----------------------|-------|-----|------------|-----------|------------------|-------|\n",
        );
        for one in &self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let met = yes(one.each() <= one.goal());
            let _ = writeln!(
                out,
                "| {:<9} | {:>20.0} | {:>5} | {met:<3} | {:>10.1} | {:>9.1} | {:>16} | {:>5} |",
                one.transport.name(),
                one.each(),
                one.goal(),
                mib(one.before),
                mib(one.after),
                33_800,
                11_800,
            );
        }
        let _ = writeln!(out, "\n| users bound | seconds | CPU µs for each of the last {BINDS} |");
        let _ = writeln!(out, "|-------------|---------|------------------------------------|");
        let mut seconds = 0.0;
        for (index, binds) in self.binds.iter().enumerate() {
            seconds += binds.seconds;
            if matches!(index + 1, 1 | 4) || index + 1 == self.binds.len() {
                let _ = writeln!(out, "| {:>11} | {seconds:>7.3} | {:>34.2} |", (index + 1) * BINDS, binds.cpu_us);
            }
        }
        let ratio = self.bind_ratio();
        let _ = writeln!(
            out,
            "\nThe last thousand by the first: {ratio:.2} (goal {BIND_GOAL}, met: {}).",
            yes(ratio <= BIND_GOAL)
        );
        if let Some(requests) = &self.requests {
            let _ = writeln!(
                out,
                "\n| CPU ratio | 95 % interval  | goal | met | µs with {LOADED} connections | µs with {} more | requests/s |\n\
                 |-----------|----------------|------|-----|-------------------------|--------------------|------------|",
                self.idle
            );
            let ratio = requests.ratio;
            let _ = writeln!(
                out,
                "| {:>9.3} | {:>6.3} – {:<5.3} | {REQUEST_GOAL:>4} | {:<3} | {:>23.3} | {:>18.3} | {:>10.0} |",
                ratio.median,
                ratio.low,
                ratio.high,
                yes(ratio.high <= REQUEST_GOAL),
                requests.alone_us,
                requests.crowded_us,
                requests.rate
            );
        }
        out
    }

    /// What is recorded.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("{METHOD}\n### Result\n\n{}", self.tables());
        let _ =
            writeln!(out, "\n### Every thousand binds\n\n| users bound | CPU µs for each | seconds |\n|---|---|---|");
        for (index, binds) in self.binds.iter().enumerate() {
            let _ = writeln!(out, "| {} | {:.2} | {:.4} |", (index + 1) * BINDS, binds.cpu_us, binds.seconds);
        }
        let _ = writeln!(out, "\n### Raw rounds of the requests\n\n{RAW_HEAD}");
        for slice in self.requests.iter().flat_map(|requests| &requests.slices) {
            let (server, window) = (if slice.ours { "crowded" } else { "alone" }, &slice.window);
            let (cpu, answered) = (slice.cpu.as_secs_f64(), window.answered);
            let _ = writeln!(out, "| {} | {server} | {cpu:.6} | {:.4} | {answered} |", slice.round, slice.cpu_us());
        }
        out
    }

    /// What is wrong with the result; nothing if all goals are met.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for one in self.memory.iter().filter(|one| one.each() > one.goal()) {
            let (name, each, goal) = (one.transport.name(), one.each(), one.goal());
            complaints.push(format!("{name}: {each:.0} bytes per connection; the goal is {goal}"));
        }
        let ratio = self.bind_ratio();
        if ratio.is_nan() || ratio > BIND_GOAL {
            complaints.push(format!("bind: the last thousand by the first {ratio:.2}; the goal is {BIND_GOAL}"));
        }
        for requests in self.requests.iter().filter(|requests| requests.ratio.high > REQUEST_GOAL) {
            let (median, high) = (requests.ratio.median, requests.ratio.high);
            complaints.push(format!("requests: CPU ratio {median:.3}, up to {high:.3}; the goal is {REQUEST_GOAL}"));
        }
        complaints
    }
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}

const METHOD: &str = "\
The clients are in a process of their own, and come from many addresses of the loopback network, so that ports do not run out.
Each has bound a user, has got one push of 4 KiB that does not shrink when it is compressed, and has answered two heartbeats since; the server has a heartbeat of 5 s for this.
*Bytes per connection* is how the server's resident memory grows from 500 such connections, which stay, to all of them, divided by those that came in between: what a server makes once is left out, and nothing that a client gave back is used again.
What the kernel holds for a socket is not in it.
Beside it stand the figures of Go Pitaya with bound users (26,900 without) and of nano, measured on TCP in the same way.
*Bind* is the server's CPU time for a request that binds a user, a thousand users at a time, when all are connected.
*CPU ratio* compares a request to a server that has 100 connections with one to a server that has the idle ones beside them, with the default heartbeat, at half of what the first answers at saturation.
Slices come in the order alone, crowded, crowded, alone; a goal is met if the upper end of the 95 % interval is at most the goal.
";

const RAW_HEAD: &str = "\
| round | server | CPU s | CPU µs per request | answered |
|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::Transport;

    fn report(bytes: u64) -> Report {
        let memory =
            |transport| Memory { transport, before: 1 << 20, after: (1 << 20) + bytes * 1000, connections: 1000 };
        let binds = [10.0, 12.0].map(|cpu_us| Binds { cpu_us, seconds: 0.5 });
        let memory = [Transport::Tcp, Transport::WebSocket].map(memory).to_vec();
        Report { idle: 1500, memory, binds: binds.to_vec(), requests: None }
    }

    #[test]
    fn figures_are_shown_and_written() {
        let report = report(5000);
        let json = report.json().unwrap();
        assert!(json.starts_with(r#"{"case":"tcp","value":5000.0,"goal":4096.0,"connections":1500}"#), "{json}");
        assert!(json.contains(r#"{"case":"bind","value":1.2,"goal":2.0,"#), "{json}");
        assert!(report.tables().contains("|        2000 |   1.000 |"), "{}", report.tables());
        assert!(report.markdown().contains("| 1000 | 10.00 | 0.5000 |"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(report(5000).complaints(), ["tcp: 5000 bytes per connection; the goal is 4096"]);
        assert!(report(4096).complaints().is_empty());
        assert_eq!(report(9000).complaints().len(), 2);
    }
}
