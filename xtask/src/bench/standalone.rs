//! What is recorded of the comparison at a fixed rate.

use super::Result;
use super::machine::{self, Machine};
use super::report::Report;
use std::fmt::Write;

/// What is recorded of a run.
pub(crate) fn markdown(report: &Report, machine: &Machine, args: &[&str]) -> Result<String> {
    let mut out = format!("{}\n{METHOD}\n### Result\n\n", machine::head(machine, "standalone", args));
    out.push_str(&report.result());

    writeln!(out, "\n### The limit against a byte echo\n")?;
    for calibration in &report.calibrations {
        writeln!(out, "- {calibration}")?;
    }
    out.push_str(&report.raw_rounds());
    Ok(out)
}

const METHOD: &str = "\
One load generator in its own process, bound to one CPU, holds 64 connections to each server, at most 8 requests in flight on each.
A request is 100 bytes of JSON, which the server decodes and encodes again.
*limit* is a hand-written tokio loop that speaks the same packets with the same serde_json calls and does nothing else; it never suspends.
*ours* is this framework in its default configuration with one before-hook.
The offered rate is half of the limit's saturation, at times that are fixed beforehand; latencies count from those times.
A connection is given up to six requests at a time, three quarters of what it may have in flight, so that one wake-up of the server brings it a few, as at saturation.
Slices come in the order limit, ours, ours, limit, with new processes for every four.
A ratio is that of two neighbouring slices; the table shows the median of the ratios with the 95 % interval of their order statistics.
A goal is met if the upper end of the interval is at most the goal.
*batch* is how many requests one write of the generator carries on average.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn everything_is_recorded() {
        let machine = Machine {
            date: String::from("today"),
            commit: String::from("abc"),
            compiler: String::from("rustc"),
            cpu: String::from("a CPU"),
            kernel: String::from("a kernel"),
            load: String::from("0.00"),
        };
        let text = markdown(&report(1.2), &machine, &["--record"]).unwrap();
        assert!(text.contains("- commit: abc\n"));
        assert!(text.contains("| ready       |     1.200 |"));
        assert!(text.contains("| 10 | ours | 1.200000 | 1.2000 | 1000000 |"));
        assert!(text.contains("- not met: the limit must reach 0.8"));
        assert_eq!(text.matches("\n#### ").count(), 4);
    }
}
