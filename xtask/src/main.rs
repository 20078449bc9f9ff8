//! `cargo xtask`: tasks of this repository that need more than one cargo command.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark measures real time; tables and JSON lines are what xtask is for"
)]

mod bench;

use std::error::Error;
use std::process::ExitCode;

/// What a task returns: whether all was well, or why it could not be done.
type Outcome = Result<bool, Box<dyn Error>>;

const USAGE: &str = "\
usage: cargo xtask bench standalone [--quick] [--json] [--record] [--slices N] [--self-check]
       cargo xtask bench instructions [--json] [--self-check]
       cargo xtask bench idle [--nats] [--quick] [--json] [--record] [--slices N]
       cargo xtask bench broadcast [--quick] [--json] [--record] [--slices N] [--self-check]
       cargo xtask bench cluster [--quick] [--json] [--record] [--slices N] [--self-check]
       cargo xtask soak [--seconds N] [--clients N]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["bench", "standalone", ref rest @ ..] => bench::standalone(rest),
        ["bench", "instructions", ref rest @ ..] => bench::instructions(rest),
        ["bench", "idle", ref rest @ ..] => bench::idle(rest),
        ["bench", "broadcast", ref rest @ ..] => bench::broadcast(rest),
        ["bench", "cluster", ref rest @ ..] => bench::cluster(rest),
        ["soak", ref rest @ ..] => bench::soak(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
