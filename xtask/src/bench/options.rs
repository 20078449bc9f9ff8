//! The command line of `cargo xtask bench`.

use super::Result;
use std::time::Duration;

/// How a benchmark is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Print one line of JSON for each case, and nothing else, on standard output.
    pub(crate) json: bool,
    /// Write the result to `docs/benchmarks.md`.
    pub(crate) record: bool,
    /// Put the limit server in our place: the ratios must come out as 1.
    pub(crate) self_check: bool,
    /// Slices of each case, half of them for each server.
    pub(crate) slices: usize,
    /// The length of a slice.
    pub(crate) slice: Duration,
    /// How often the limit and the byte echo are saturated to find the rate, and then offered it.
    pub(crate) saturations: usize,
    /// How long each time.
    pub(crate) saturation: Duration,
    /// How long each server is warmed up in each round.
    pub(crate) warm_up: Duration,
    /// How many connections are idle.
    pub(crate) idle: usize,
    /// Measure idle connections on a frontend of a cluster.
    pub(crate) nats: bool,
    /// How many members a broadcast has.
    pub(crate) members: usize,
}

impl Options {
    /// Reads the words after the name of the benchmark.
    pub(crate) fn parse(args: &[&str]) -> Result<Self> {
        let quick = args.contains(&"--quick");
        let millis = |long, short| Duration::from_millis(if quick { short } else { long });
        let mut options = Self {
            json: false,
            record: false,
            self_check: false,
            slices: if quick { 24 } else { 40 },
            slice: millis(1000, 250),
            saturations: if quick { 7 } else { 20 },
            saturation: millis(400, 200),
            warm_up: millis(300, 100),
            nats: false,
            idle: if quick { 5_000 } else { 15_000 },
            members: if quick { 2_000 } else { 5_000 },
        };
        let mut words = args.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => {}
                "--json" => options.json = true,
                "--record" => options.record = true,
                "--nats" => options.nats = true,
                "--self-check" => options.self_check = true,
                "--slices" => {
                    let number = words.next().ok_or("--slices needs a number")?;
                    options.slices = number.parse()?;
                }
                _ => return Err(format!("unknown argument `{word}`").into()),
            }
        }
        if options.slices < 12 || !options.slices.is_multiple_of(4) {
            return Err("--slices: a multiple of 4, at least 12 (fewer have no 95 % interval)".into());
        }
        if options.record && (options.self_check || quick) {
            return Err("--record is for a full run of our own server".into());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_issue_asks_for() {
        let options = Options::parse(&[]).unwrap();
        assert!(options.slices >= 40 && options.slice >= Duration::from_secs(1));
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [&["--slices", "10"][..], &["--slices"], &["--fast"], &["--record", "--quick"]] {
            assert!(Options::parse(args).is_err(), "{args:?}");
        }
    }
}
