//! How fast the limit server is, and whether it deserves its name.

use super::Result;
use super::build::Programs;
use super::case::Transport;
use super::estimate::{Estimate, median_of};
use super::load::{Load, Window};
use super::options::Options;
use super::rounds::CONNECTIONS;
use super::server::Server;
use std::fmt;
use std::time::Duration;

/// What the limit must reach of the byte echo.
pub(crate) const REACH: f64 = 0.8;

/// The limit server and the byte echo, over one transport.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    pub(crate) transport: Transport,
    /// Requests per second that the limit answers at saturation.
    pub(crate) limit: f64,
    /// Requests per second that the byte echo answers at saturation.
    pub(crate) echo: f64,
    /// Microseconds of CPU time that the limit spends on a request at [`Calibration::rate`].
    pub(crate) limit_us: f64,
    /// The same of the byte echo.
    pub(crate) echo_us: f64,
    /// The requests that the limit answers in a second of CPU time, as a part of the echo's.
    ///
    /// It is taken at the offered rate, like everything that is compared. Throughput at saturation
    /// would be the wrong measure on few cores, where the generator needs one of them: a second
    /// worker thread of the server then competes with the generator, and how often the two wake
    /// and wait for each other moves the throughput more than the work that is done.
    pub(crate) reach: Estimate,
}

impl Calibration {
    /// Saturates both servers in turn, then offers half of what the limit could do.
    pub(crate) fn measure(programs: &Programs, transport: Transport, options: &Options) -> Result<Self> {
        let limit = Server::start(&programs.limit, transport)?;
        let echo = Server::start_echo(&programs.limit, transport)?;
        let servers = [&limit, &echo];
        let mut load = Load::start(&programs.load, &servers, transport, CONNECTIONS)?;
        for index in 0..servers.len() {
            load.target(index)?;
            load.saturate(options.warm_up)?;
        }
        let saturated = in_turn(&mut load, servers, options.saturations, |load| load.saturate(options.saturation))?;
        let [limit, echo] = saturated.map(|turns| median_of(turns.iter().map(|(window, _)| window.per_second)));

        let offered =
            in_turn(&mut load, servers, options.saturations, |load| load.rate(half(limit), options.saturation))?;
        let [limit_us, echo_us] = offered.map(|turns| turns.iter().map(cpu_us).collect::<Vec<_>>());
        let pairs = limit_us.iter().zip(&echo_us);
        let reach: Vec<f64> = pairs.map(|(limit, echo)| echo / limit).collect();
        Ok(Self {
            transport,
            limit,
            echo,
            limit_us: median_of(limit_us.into_iter()),
            echo_us: median_of(echo_us.into_iter()),
            reach: Estimate::of(&reach)?,
        })
    }

    /// The rate that is offered in the slices: half of what the limit can do.
    pub(crate) fn rate(&self) -> f64 {
        half(self.limit)
    }

    /// Whether the limit is good enough to be one, as far as the measurement can tell: if 80 % lies
    /// within the interval, it cannot tell.
    pub(crate) fn is_good(&self) -> bool {
        self.reach.high >= REACH
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: saturated, the limit answers {:.0} and the byte echo {:.0} requests per second; \
             at {:.0} they spend {:.3} and {:.3} µs of CPU on each: \
             the limit reaches {:.0} % of the echo (95 % interval {:.0} to {:.0})",
            self.transport.name(),
            self.limit,
            self.echo,
            self.rate(),
            self.limit_us,
            self.echo_us,
            self.reach.median * 100.0,
            self.reach.low * 100.0,
            self.reach.high * 100.0,
        )
    }
}

/// What one turn of a server measured: the generator's view, and the server's CPU time.
type Turn = (Window, Duration);

/// Lets both servers have `turns` turns of `run`. The order alternates, so that a drift of the
/// machine meets both.
fn in_turn(
    load: &mut Load,
    servers: [&Server; 2],
    turns: usize,
    run: impl Fn(&mut Load) -> Result<Window>,
) -> Result<[Vec<Turn>; 2]> {
    let mut done = [Vec::new(), Vec::new()];
    for turn in 0..turns {
        for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            load.target(index)?;
            let before = servers[index].cpu()?;
            let window = run(load)?;
            let cpu = servers[index].cpu()?.saturating_sub(before);
            done[index].push((window, cpu));
        }
    }
    Ok(done)
}

/// Microseconds of CPU time for each request of a turn.
fn cpu_us((window, cpu): &Turn) -> f64 {
    cpu.as_secs_f64() * 1e6 / window.answered.max(1) as f64
}

fn half(per_second: f64) -> f64 {
    (per_second / 2.0).round()
}
