//! What many connections cost others: the bind of one more user, and a request.

use crate::bench::Result;
use crate::bench::build::Programs;
use crate::bench::case::Transport;
use crate::bench::crowd::Crowd;
use crate::bench::estimate::{Estimate, median_of, ratios};
use crate::bench::load::Load;
use crate::bench::options::Options;
use crate::bench::rounds::{self, Slice};
use crate::bench::server::Server;

/// Connections that have requests.
pub(crate) const LOADED: usize = 100;

/// How many binds are looked at together.
pub(crate) const BINDS: usize = 1000;

/// The binds of `BINDS` users.
#[derive(Clone, Debug)]
pub(crate) struct Binds {
    /// Microseconds of the server's CPU time for each.
    pub(crate) cpu_us: f64,
    /// How long all of them took.
    pub(crate) seconds: f64,
}

/// Requests to a server that has no other connections, and to one that has many.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Requests a second.
    pub(crate) rate: f64,
    /// CPU time per request, with many connections by without.
    pub(crate) ratio: Estimate,
    /// Microseconds of CPU time per request without.
    pub(crate) alone_us: f64,
    /// The same with.
    pub(crate) crowded_us: f64,
    pub(crate) slices: Vec<Slice>,
}

/// Binds the users of all connections, a thousand at a time, then loads the same number of other connections to this
/// server and to one that has none but these.
pub(crate) fn measure(programs: &Programs, options: &Options) -> Result<(Vec<Binds>, Requests)> {
    let alone = Server::start(&programs.ours, Transport::Tcp)?;
    let crowded = Server::start(&programs.ours, Transport::Tcp)?;
    let mut crowd = Crowd::start(&programs.crowd, &[&crowded], Transport::Tcp)?;
    crowd.connect(options.idle)?;
    let mut binds = Vec::new();
    for _ in 0..options.idle / BINDS {
        let before = crowded.cpu()?;
        let done = crowd.each("bench.bind", BINDS)?;
        let cpu = crowded.cpu()?.saturating_sub(before);
        binds.push(Binds { cpu_us: cpu.as_secs_f64() * 1e6 / BINDS as f64, seconds: done.seconds });
    }

    let servers = [&alone, &crowded];
    let mut load = Load::start(&programs.load, &servers, Transport::Tcp, LOADED)?;
    let mut saturated = Vec::new();
    for index in [0, 1, 0] {
        load.target(index)?;
        saturated.push(load.saturate(options.saturation)?.per_second);
    }
    let rate = (saturated[2] / 2.0).round();
    let mut slices = Vec::new();
    while slices.len() < options.slices {
        rounds::round(servers, &mut load, rate, options.slice, &mut slices)?;
    }
    let values: Vec<_> = slices.iter().map(|slice| (slice.ours, slice.cpu_us())).collect();
    let typical = |ours| median_of(slices.iter().filter(|slice| slice.ours == ours).map(Slice::cpu_us));
    let (alone_us, crowded_us) = (typical(false), typical(true));
    Ok((binds, Requests { rate, ratio: Estimate::of(&ratios(&values))?, alone_us, crowded_us, slices }))
}
