//! What a broadcast costs, against a hand-written server that does the least.

mod report;

use super::build::Programs;
use super::case::Transport;
use super::crowd::{Crowd, Done};
use super::machine::{self, Machine};
use super::options::Options;
use super::rounds::{ORDER, ROUND};
use super::server::Server;
use super::{Result, record};
use report::{CaseReport, Report};
use std::time::Duration;

/// How broadcasts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// [`RATE`] a second.
    Rate,
    /// The next when the last member has the one before.
    Chain,
}

/// Broadcasts a second.
pub(crate) const RATE: f64 = 10.0;

/// The shortest slice: a few broadcasts.
const SHORTEST: Duration = Duration::from_millis(500);

impl Case {
    const ALL: [Self; 2] = [Self::Rate, Self::Chain];

    /// The name in JSON and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "broadcast",
            Self::Chain => "broadcast-chain",
        }
    }
}

/// What one slice measured.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Which round it belongs to, from 1.
    pub(crate) round: usize,
    /// Whether it measured our server, or the limit.
    pub(crate) ours: bool,
    /// The CPU time of the server.
    pub(crate) cpu: Duration,
    /// What the members saw.
    pub(crate) done: Done,
}

impl Slice {
    /// Microseconds of CPU time for each push that was delivered.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.pushes.max(1) as f64
    }
}

/// Measures all cases.
pub(crate) fn run(programs: &Programs, options: &Options, machine: &Machine, args: &[&str]) -> Result<bool> {
    let mut report = Report { members: options.members, cases: Vec::new() };
    let slices = slices(programs, options)?;
    for (case, slices) in Case::ALL.into_iter().zip(slices) {
        let case = CaseReport::new(case, slices, options.self_check)?;
        if options.json {
            println!("{}", case.json()?);
        }
        report.cases.push(case);
    }
    if !options.json {
        print!("{}", report.table());
    }
    if options.record {
        let text = format!("{}\n{}", machine::head(machine, "broadcast", args), report.markdown());
        eprintln!("wrote {}", record::write("broadcast", &text)?.display());
    }
    let complaints = report.complaints();
    for complaint in &complaints {
        eprintln!("NOT MET: {complaint}");
    }
    Ok(complaints.is_empty())
}

/// Runs the slices of both cases. Every round starts both servers and the members anew, as in the other comparisons.
fn slices(programs: &Programs, options: &Options) -> Result<[Vec<Slice>; 2]> {
    let mut all = [Vec::new(), Vec::new()];
    let limits = ["--mode", "broadcast"];
    for round in 1..=options.slices / ROUND {
        eprintln!("round {round} of {}: {} members of each server", options.slices / ROUND, options.members);
        let limit = Server::start_args(&programs.limit, Transport::Tcp, &limits)?;
        let more = if options.self_check { &limits[..] } else { &[] };
        let ours = Server::start_args(&programs.ours, Transport::Tcp, more)?;
        let servers = [&limit, &ours];
        let mut crowd = Crowd::start(&programs.crowd, &servers, Transport::Tcp)?;
        for index in 0..servers.len() {
            crowd.target(index)?;
            crowd.connect(options.members)?;
            crowd.each("bench.join", options.members)?;
            crowd.chain(options.warm_up)?;
        }
        let slice = options.slice.max(SHORTEST);
        for (case, slices) in Case::ALL.into_iter().zip(&mut all) {
            for index in ORDER {
                crowd.target(index)?;
                let before = servers[index].cpu()?;
                let done = match case {
                    Case::Rate => crowd.broadcast(RATE, slice)?,
                    Case::Chain => crowd.chain(slice)?,
                };
                let cpu = servers[index].cpu()?.saturating_sub(before);
                slices.push(Slice { round, ours: index == 1, cpu, done });
            }
        }
    }
    Ok(all)
}
