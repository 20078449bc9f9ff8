//! The figures of broadcasts, as they are shown.

use super::{Case, RATE, Slice};
use crate::bench::Result;
use crate::bench::estimate::{Estimate, median_of, ratios};
use std::fmt::Write;

/// What the upper end of the interval of the CPU ratio may be at most.
const GOAL: f64 = 1.25;

/// How far from 1 the median may be when the limit is compared with itself.
const SELF_CHECK: f64 = 0.05;

/// The result of one case.
#[derive(Clone, Debug)]
pub(crate) struct CaseReport {
    case: Case,
    /// CPU time per delivered push, ours by the limit's.
    cpu: Estimate,
    slices: Vec<Slice>,
    self_check: bool,
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line {
    case: &'static str,
    cpu_ratio: f64,
    low: f64,
    high: f64,
    goal: f64,
    ours_us: f64,
    limit_us: f64,
    ours_p50_us: u64,
    ours_p99_us: u64,
    limit_p50_us: u64,
    limit_p99_us: u64,
}

impl CaseReport {
    pub(crate) fn new(case: Case, slices: Vec<Slice>, self_check: bool) -> Result<Self> {
        let values: Vec<_> = slices.iter().map(|slice| (slice.ours, slice.cpu_us())).collect();
        Ok(Self { case, cpu: Estimate::of(&ratios(&values))?, slices, self_check })
    }

    /// The line of `--json`.
    pub(crate) fn json(&self) -> Result<String> {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        Ok(serde_json::to_string(&Line {
            case: self.case.name(),
            cpu_ratio: round(self.cpu.median),
            low: round(self.cpu.low),
            high: round(self.cpu.high),
            goal: self.goal(),
            ours_us: round(self.cpu_us(true)),
            limit_us: round(self.cpu_us(false)),
            ours_p50_us: self.last(true, 0.5),
            ours_p99_us: self.last(true, 0.99),
            limit_p50_us: self.last(false, 0.5),
            limit_p99_us: self.last(false, 0.99),
        })?)
    }

    fn goal(&self) -> f64 {
        if self.self_check { 1.0 + SELF_CHECK } else { GOAL }
    }

    fn is_met(&self) -> bool {
        if self.self_check { (self.cpu.median - 1.0).abs() <= SELF_CHECK } else { self.cpu.high <= GOAL }
    }

    /// The median over the slices of one of the servers.
    fn cpu_us(&self, ours: bool) -> f64 {
        median_of(self.of(ours).map(Slice::cpu_us))
    }

    /// A quantile of the time until the last member had a broadcast, over all slices of one of the servers.
    fn last(&self, ours: bool, quantile: f64) -> u64 {
        let mut all: Vec<u64> = self.of(ours).flat_map(|slice| slice.done.last_us.iter().copied()).collect();
        all.sort_unstable();
        let at = (all.len() as f64 * quantile).ceil() as usize;
        all.get(at.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Broadcasts in a second.
    fn per_second(&self, ours: bool) -> f64 {
        median_of(self.of(ours).map(|slice| slice.done.last_us.len() as f64 / slice.done.seconds))
    }

    fn of(&self, ours: bool) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter(move |slice| slice.ours == ours)
    }
}

/// The result of a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// How many members each broadcast has.
    pub(crate) members: usize,
    pub(crate) cases: Vec<CaseReport>,
}

impl Report {
    /// The tables for people, which are also tables in Markdown.
    pub(crate) fn table(&self) -> String {
        // Writing to a string does not fail.
        let mut out = String::from(
            "| case            | CPU ratio | 95 % interval  | goal | met | limit µs | ours µs | Go Pitaya µs |\n\
             |-----------------|-----------|----------------|------|-----|----------|---------|--------------|\n",
        );
        for case in &self.cases {
            let (name, cpu, goal) = (case.case.name(), case.cpu, case.goal());
            let met = if case.is_met() { "yes" } else { "NO" };
            let _ = writeln!(
                out,
                "| {name:<15} | {:>9.3} | {:>6.3} – {:<5.3} | {goal:>4} | {met:<3} | {:>8.3} | {:>7.3} | {:>12} |",
                cpu.median,
                cpu.low,
                cpu.high,
                case.cpu_us(false),
                case.cpu_us(true),
                26.9,
            );
        }
        out.push_str(
            "\n| case            | server | broadcasts/s | last member p50 ms | p99 ms |\n\
             |-----------------|--------|--------------|--------------------|--------|\n",
        );
        for case in &self.cases {
            for (ours, server) in [(false, "limit"), (true, "ours")] {
                let millis = |quantile| case.last(ours, quantile) as f64 / 1e3;
                let _ = writeln!(
                    out,
                    "| {:<15} | {server:<6} | {:>12.1} | {:>18.2} | {:>6.2} |",
                    case.case.name(),
                    case.per_second(ours),
                    millis(0.5),
                    millis(0.99),
                );
            }
        }
        out
    }

    /// What is recorded.
    pub(crate) fn markdown(&self) -> String {
        let method = METHOD.replace("{members}", &self.members.to_string()).replace("{rate}", &RATE.to_string());
        let mut out = format!("{method}\n### Result\n\n{}", self.table());
        for case in &self.cases {
            let _ = writeln!(out, "\n### Raw rounds: {}\n\n{RAW_HEAD}", case.case.name());
            for slice in &case.slices {
                let server = if slice.ours { "ours" } else { "limit" };
                let (cpu, us, done) = (slice.cpu.as_secs_f64(), slice.cpu_us(), &slice.done);
                let broadcasts = done.last_us.len();
                let _ = writeln!(
                    out,
                    "| {} | {server} | {cpu:.6} | {us:.4} | {broadcasts} | {} |",
                    slice.round, done.pushes
                );
            }
        }
        out
    }

    /// What is wrong with the result; nothing if all goals are met.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let missed = self.cases.iter().filter(|case| !case.is_met());
        missed
            .map(|case| {
                let (name, cpu, goal) = (case.case.name(), case.cpu, case.goal());
                format!("{name}: CPU ratio {:.3}, up to {:.3}; the goal is {goal}", cpu.median, cpu.high)
            })
            .collect()
    }
}

const METHOD: &str = "\
One client of a group of {members} asks for a broadcast of 100 bytes of JSON, which the server decodes, writes once as a push, and queues for every member; the members are in a process of their own, bound to one CPU, and check that each gets every push once, in order.
Members join in another order than they connect, as in life: a server that finds its members' memory side by side, in the order in which it walks through them, would look faster than it is.
*limit* is a hand-written tokio server with the same bytes on the wire: it writes a push once and copies it once for each member, whose task it wakes once, and which writes what has come together with one call. It has no users, and nobody can leave.
*ours* is this framework in its default configuration: members bind and join in a handler, and `Group::broadcast` pushes.
In the case *broadcast* {rate} broadcasts a second are due at fixed times; in *broadcast-chain* the next begins when the last member has the one before.
CPU is the server's, user and system, for each push that was delivered: most of it is the system call that writes to a socket.
*Last member* is the time from when a broadcast was due until the last member had it; the members' process needs most of it.
Slices come in the order limit, ours, ours, limit, with new processes for every round; a goal is met if the upper end of the 95 % interval is at most the goal.
Beside it stands Go Pitaya with compression off, measured with as many members (with its default compression: 479 µs).
";

const RAW_HEAD: &str = "\
| round | server | CPU s | CPU µs per push | broadcasts | pushes |
|---|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::crowd::Done;
    use std::time::Duration;

    fn report(ratio: f64) -> Report {
        let slice = |n: usize| {
            let ours = matches!(n % 4, 1 | 2);
            let cpu = Duration::from_secs_f64(if ours { ratio } else { 1.0 });
            let done = Done { seconds: 2.0, pushes: 1_000_000, last_us: vec![1000, 2000, 3000, 4000] };
            Slice { round: n / 4 + 1, ours, cpu, done }
        };
        let case = |case| CaseReport::new(case, (0..24).map(slice).collect(), false).unwrap();
        Report { members: 5000, cases: Case::ALL.map(case).to_vec() }
    }

    #[test]
    fn figures_are_shown_and_written() {
        let report = report(1.1);
        let json = report.cases[0].json().unwrap();
        assert!(json.starts_with(r#"{"case":"broadcast","cpu_ratio":1.1,"low":1.1,"high":1.1,"goal":1.25,"#), "{json}");
        assert!(json.contains(r#""ours_p50_us":2000,"ours_p99_us":4000"#), "{json}");
        assert!(report.table().contains("| broadcast       | ours   |          2.0 |               2.00 |   4.00 |"));
        assert!(report.markdown().contains("| 1 | limit | 1.000000 | 1.0000 | 4 | 1000000 |"));
        assert!(report.complaints().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let complaints = report(1.3).complaints();
        assert_eq!(complaints[1], "broadcast-chain: CPU ratio 1.300, up to 1.300; the goal is 1.25");
    }
}
