//! From slices to the figures that are shown.

use super::Result;
use super::calibration::{Calibration, REACH};
use super::case::Case;
use super::estimate::{Estimate, median_of, ratios};
use super::rounds::Slice;
use std::fmt::Write;

/// The part of the offered requests that must be answered in time.
const KEEPS_UP: f64 = 0.99;

/// How far from 1 the median may be when the limit is compared with itself.
const SELF_CHECK: f64 = 0.03;

/// The result of one case.
#[derive(Clone, Debug)]
pub(crate) struct CaseReport {
    pub(crate) case: Case,
    /// The offered requests per second.
    pub(crate) rate: f64,
    /// CPU time per request, ours by the limit's.
    pub(crate) cpu: Estimate,
    /// 99th percentile of the latency, ours by the limit's.
    pub(crate) p99: Estimate,
    /// The slices that the figures come from.
    pub(crate) slices: Vec<Slice>,
    self_check: bool,
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line {
    case: &'static str,
    cpu_ratio: f64,
    low: f64,
    high: f64,
    p99_ratio: f64,
    goal: f64,
}

impl CaseReport {
    /// Takes the ratio of every two neighbouring slices, then the median of the ratios.
    pub(crate) fn new(case: Case, rate: f64, slices: Vec<Slice>, self_check: bool) -> Result<Self> {
        let values = |value: fn(&Slice) -> f64| -> Vec<_> { slices.iter().map(|one| (one.ours, value(one))).collect() };
        let cpu = Estimate::of(&ratios(&values(Slice::cpu_us)))?;
        let p99 = Estimate::of(&ratios(&values(|slice| slice.window.p99_us.max(1) as f64)))?;
        Ok(Self { case, rate, cpu, p99, slices, self_check })
    }

    /// The line of `--json`.
    pub(crate) fn json(&self) -> Result<String> {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        Ok(serde_json::to_string(&Line {
            case: self.case.name(),
            cpu_ratio: round(self.cpu.median),
            low: round(self.cpu.low),
            high: round(self.cpu.high),
            p99_ratio: round(self.p99.median),
            goal: self.goal(),
        })?)
    }

    /// What the upper end of the interval may be; in the self-check what the median may be.
    pub(crate) fn goal(&self) -> f64 {
        if self.self_check { 1.0 + SELF_CHECK } else { self.case.goal() }
    }

    /// Whether the goal is met.
    pub(crate) fn is_met(&self) -> bool {
        if self.self_check { (self.cpu.median - 1.0).abs() <= SELF_CHECK } else { self.cpu.high <= self.case.goal() }
    }

    /// The part of the offered requests that one of the servers answered in time.
    pub(crate) fn kept_up(&self, ours: bool) -> f64 {
        let windows = || self.of(ours).map(|slice| &slice.window);
        let (done, sent) = windows().fold((0, 0), |(d, s), w| (d + w.done, s + w.sent));
        done as f64 / sent as f64
    }

    /// The median over the slices of one of the servers.
    pub(crate) fn typical(&self, ours: bool, value: impl Fn(&Slice) -> f64) -> f64 {
        median_of(self.of(ours).map(value))
    }

    fn of(&self, ours: bool) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter(move |slice| slice.ours == ours)
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) calibrations: Vec<Calibration>,
    pub(crate) cases: Vec<CaseReport>,
}

impl Report {
    /// The table for people, which is also a table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from(
            "| case        | CPU ratio | 95 % interval  | goal | met | limit µs | ours µs | p99 ratio | 95 % interval  | limit p99 µs | ours p99 µs | requests/s | batch |\n\
             |-------------|-----------|----------------|------|-----|----------|---------|-----------|----------------|--------------|-------------|------------|-------|\n",
        );
        for case in &self.cases {
            let (cpu, p99) = (case.cpu, case.p99);
            let p99_us = |slice: &Slice| slice.window.p99_us as f64;
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "| {:<11} | {:>9.3} | {:>6.3} – {:<5.3} | {:>4} | {:<3} | {:>8.3} | {:>7.3} | {:>9.2} | {:>6.2} – {:<5.2} | {:>12.0} | {:>11.0} | {:>10.0} | {:>5.1} |",
                case.case.name(),
                cpu.median,
                cpu.low,
                cpu.high,
                case.goal(),
                if case.is_met() { "yes" } else { "NO" },
                case.typical(false, Slice::cpu_us),
                case.typical(true, Slice::cpu_us),
                p99.median,
                p99.low,
                p99.high,
                case.typical(false, p99_us),
                case.typical(true, p99_us),
                case.rate,
                case.typical(true, |slice| slice.window.batch),
            );
        }
        out
    }

    /// The table, and whether the goals are met.
    pub(crate) fn result(&self) -> String {
        let mut out = self.table();
        out.push('\n');
        let complaints = self.complaints();
        for complaint in &complaints {
            // Writing to a string does not fail.
            let _ = writeln!(out, "- not met: {complaint}");
        }
        if complaints.is_empty() {
            out.push_str("All goals are met.\n");
        }
        out
    }

    /// All slices.
    pub(crate) fn raw_rounds(&self) -> String {
        let mut out = String::from("\n### Raw rounds\n");
        for case in &self.cases {
            // Writing to a string does not fail.
            let _ = writeln!(out, "\n#### {}\n\n{RAW_HEAD}", case.case.name());
            for slice in &case.slices {
                let (server, window) = (if slice.ours { "ours" } else { "limit" }, &slice.window);
                let _ = writeln!(
                    out,
                    "| {} | {server} | {:.6} | {:.4} | {} | {} | {} | {:.2} | {} | {} | {} |",
                    slice.round,
                    slice.cpu.as_secs_f64(),
                    slice.cpu_us(),
                    window.sent,
                    window.done,
                    window.answered,
                    window.batch,
                    window.p50_us,
                    window.p99_us,
                    window.max_us,
                );
            }
        }
        out
    }

    /// What is wrong with the result; nothing if all goals are met.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for calibration in self.calibrations.iter().filter(|one| !one.is_good()) {
            complaints.push(format!("the limit must reach {REACH} of the echo: {calibration}"));
        }
        for case in &self.cases {
            let name = case.case.name();
            if !case.is_met() {
                let (goal, cpu) = (case.goal(), case.cpu);
                let text = format!("{name}: CPU ratio {:.3}, up to {:.3}", cpu.median, cpu.high);
                complaints.push(format!("{text}; the goal is {goal}"));
            }
            for (ours, server) in [(false, "limit"), (true, "server under test")] {
                let part = case.kept_up(ours);
                if part < KEEPS_UP {
                    let percent = part * 100.0;
                    complaints.push(format!("{name}: the {server} answered {percent:.1} % in time"));
                }
            }
        }
        complaints
    }
}

const RAW_HEAD: &str = "\
| round | server | CPU s | CPU µs per request | sent | done in time | answered | batch | p50 µs | p99 µs | max µs |
|---|---|---|---|---|---|---|---|---|---|---|";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::load::Window;
    use std::time::Duration;

    /// A report in which our server takes `ratio` times the limit's CPU time.
    pub(in crate::bench) fn report(ratio: f64) -> Report {
        let slice = |n: usize| {
            let ours = matches!(n % 4, 1 | 2);
            let micros = if ours { 1e6 * ratio } else { 1e6 };
            let window = Window {
                sent: 1_000_000,
                done: if ours { 1_000_000 } else { 500_000 },
                answered: 1_000_000,
                per_second: 1e6,
                batch: 5.0,
                p50_us: 100,
                p99_us: if ours { 300 } else { 200 },
                max_us: 1000,
            };
            Slice { round: n / 4 + 1, ours, cpu: Duration::from_micros(micros as u64), window }
        };
        let case = |case| CaseReport::new(case, 1e6, (0..40).map(slice).collect(), false).unwrap();
        let calibration = Calibration {
            transport: crate::bench::case::Transport::Tcp,
            limit: 2e6,
            echo: 3e6,
            limit_us: 1.0,
            echo_us: 0.75,
            reach: Estimate { median: 0.75, low: 0.72, high: 0.78 },
        };
        Report { calibrations: vec![calibration], cases: Case::ALL.map(case).to_vec() }
    }

    #[test]
    fn ratios_are_ours_by_the_limits_in_either_order() {
        let report = report(1.3);
        let case = &report.cases[0];
        assert!((case.cpu.low - 1.3).abs() < 1e-9 && (case.cpu.high - 1.3).abs() < 1e-9);
        assert!((case.p99.median - 1.5).abs() < 1e-9);
        assert_eq!(
            case.json().unwrap(),
            r#"{"case":"ready","cpu_ratio":1.3,"low":1.3,"high":1.3,"p99_ratio":1.5,"goal":1.25}"#
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let complaints = report(1.3).complaints();
        let said = |text: &str| complaints.iter().any(|one| one.contains(text));
        assert!(said("must reach 0.8"), "{complaints:?}");
        assert!(said("ws-ready: CPU ratio 1.300"), "{complaints:?}");
        assert!(!said("suspends: CPU ratio"), "{complaints:?}");
        assert!(said("ready: the limit answered 50.0 % in time"), "{complaints:?}");
        assert!(!said("under test answered"), "{complaints:?}");
    }
}
