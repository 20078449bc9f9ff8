//! Runs the slices of a case.
//!
//! A slice offers the fixed rate to one server and charges the CPU time that this server used to
//! the requests that it answered. Slices come in the order ABBA, A being the limit and B the
//! server under test, so that a steady drift of the machine cancels out of the pairs. Every round
//! starts both servers and the generator anew: where the memory of a process lies can be worth a
//! per cent or two, and must not be the same for a whole run.

use super::Result;
use super::build::Programs;
use super::case::Case;
use super::load::{Load, Window};
use super::options::Options;
use super::server::Server;
use std::time::Duration;

/// Connections to each server.
pub(crate) const CONNECTIONS: usize = 64;

/// The order of the slices; a round is a multiple of it.
pub(crate) const ORDER: [usize; 4] = [0, 1, 1, 0];

/// Slices in one round.
pub(crate) const ROUND: usize = ORDER.len();

/// What one slice measured.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Which round it belongs to, from 1.
    pub(crate) round: usize,
    /// Whether it measured our server, or the limit.
    pub(crate) ours: bool,
    /// The CPU time of the server.
    pub(crate) cpu: Duration,
    /// What the load generator saw.
    pub(crate) window: Window,
}

impl Slice {
    /// Microseconds of CPU time for each request.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.window.answered.max(1) as f64
    }
}

/// Runs all slices of `case`.
pub(crate) fn run(programs: &Programs, case: Case, rate: f64, options: &Options) -> Result<Vec<Slice>> {
    let mut slices = Vec::with_capacity(options.slices);
    while slices.len() < options.slices {
        let limit = Server::start(&programs.limit, case.transport())?;
        let ours = Server::start(&programs.ours, case.transport())?;
        fresh(programs, case, [&limit, &ours], rate, options, &mut slices)?;
    }
    Ok(slices)
}

/// Runs the slices of one round with servers that have just been started.
pub(crate) fn fresh(
    programs: &Programs,
    case: Case,
    servers: [&Server; 2],
    rate: f64,
    options: &Options,
    slices: &mut Vec<Slice>,
) -> Result<()> {
    let mut load = Load::start(&programs.load, &servers, case.transport(), CONNECTIONS)?;
    load.route(case.route())?;
    for index in 0..servers.len() {
        load.target(index)?;
        load.rate(rate, options.warm_up)?;
    }
    round(servers, &mut load, rate, options.slice, slices)
}

/// Runs the slices of one round: the second server is the one under test.
pub(crate) fn round(
    servers: [&Server; 2],
    load: &mut Load,
    rate: f64,
    slice: Duration,
    slices: &mut Vec<Slice>,
) -> Result<()> {
    let round = slices.len() / ROUND + 1;
    for index in ORDER {
        load.target(index)?;
        let before = servers[index].cpu()?;
        let window = load.rate(rate, slice)?;
        let cpu = servers[index].cpu()?.saturating_sub(before);
        slices.push(Slice { round, ours: index == 1, cpu, window });
    }
    Ok(())
}
