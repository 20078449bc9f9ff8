//! Instructions per request, counted by callgrind.
//!
//! They hardly vary from run to run, so they show a regression of a per cent that CPU time hides.
//! They leave out the kernel. The servers run with one worker thread: threads that look for work
//! would add instructions that depend on time. Each server runs twice, with different numbers of
//! requests, and the difference is charged to the requests between: start and end cancel out.

use super::Result;
use super::build::Programs;
use super::case::Case;
use super::load::Load;
use super::options::Options;
use super::server::Server;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The numbers of requests of the two runs.
const COUNTS: [u64; 2] = [2_000, 12_000];

/// Few enough that the load generator fills every connection before the server has answered it:
/// then all reads bring a full batch, and the count does not depend on time.
const CONNECTIONS: usize = 8;

/// How long valgrind may take to write its result.
const END: Duration = Duration::from_secs(60);

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Line {
    case: &'static str,
    limit: f64,
    ours: f64,
    ratio: f64,
}

/// Counts for all cases and prints them.
pub(crate) fn run(programs: &Programs, options: &Options) -> Result<()> {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        return Err("valgrind is not installed; instructions are counted by its callgrind".into());
    }
    if !options.json {
        println!("| case        | limit | ours  | ratio |\n|-------------|-------|-------|-------|");
    }
    for case in Case::ALL {
        let limit = per_request(programs, &programs.limit, case)?;
        let ours = per_request(programs, &programs.ours, case)?;
        let (case, ratio) = (case.name(), ours / limit);
        if options.json {
            println!("{}", serde_json::to_string(&Line { case, limit, ours, ratio })?);
        } else {
            println!("| {case:<11} | {limit:>5.0} | {ours:>5.0} | {ratio:>5.2} |");
        }
    }
    Ok(())
}

/// The instructions of one more request.
fn per_request(programs: &Programs, server: &Path, case: Case) -> Result<f64> {
    let [few, many] = COUNTS;
    let run = |count| total(programs, server, case, count);
    let more = run(many)?.saturating_sub(run(few)?);
    Ok(more as f64 / (many - few) as f64)
}

/// The instructions of a whole run of `server` with `count` requests.
fn total(programs: &Programs, server: &Path, case: Case, count: u64) -> Result<u64> {
    let output = Output::new();
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--callgrind-out-file={}", output.0.display()));
    valgrind.arg(server).env("TOKIO_WORKER_THREADS", "1");

    let server = Server::start_with(&mut valgrind, case.transport(), &[])?;
    let mut load = Load::start(&programs.load, &[&server], case.transport(), CONNECTIONS)?;
    load.route(case.route())?;
    load.count(count)?;
    drop(load);
    server.end(END)?;

    let text = std::fs::read_to_string(&output.0).map_err(|error| format!("callgrind wrote no result: {error}"))?;
    sum(&text).ok_or_else(|| "callgrind's result has no totals".into())
}

/// The number of instructions in a callgrind result.
fn sum(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The file of one run; removed on drop.
struct Output(PathBuf);

impl Output {
    fn new() -> Self {
        let name = format!("pitaya-bench-callgrind-{}.out", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // It does not exist if valgrind failed, and nobody minds a file in the temporary directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_are_found() {
        assert_eq!(sum("events: Ir\nfn=(1)\n1 2\ntotals: 12345\n"), Some(12345));
        assert_eq!(sum("events: Ir\n"), None);
    }
}
