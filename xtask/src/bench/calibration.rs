//! How fast the limit server is, and whether it deserves its name.

use super::Result;
use super::build::Programs;
use super::case::Transport;
use super::estimate::median_of;
use super::load::Load;
use super::options::Options;
use super::rounds::CONNECTIONS;
use super::server::Server;
use std::fmt;

/// What the limit must reach of the byte echo.
pub(crate) const REACH: f64 = 0.8;

/// What saturation costs one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saturation {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Microseconds of CPU time for each request.
    pub(crate) cpu_us: f64,
}

/// The limit server and the byte echo at saturation, over one transport.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    pub(crate) transport: Transport,
    /// Medians of the limit.
    pub(crate) limit: Saturation,
    /// Medians of the byte echo.
    pub(crate) echo: Saturation,
    /// The requests that the limit answers per second of CPU time, as a part of the echo's.
    ///
    /// This and not the throughput is held against [`REACH`]: what two servers and a generator
    /// get done on few cores depends on how the scheduler happens to place their threads, and
    /// jumps by a quarter from one second to the next; what a request costs does not.
    pub(crate) reach: f64,
    /// The requests that the limit answers per second, as a part of the echo's.
    pub(crate) throughput: f64,
}

impl Calibration {
    /// Saturates both servers in turn.
    pub(crate) fn measure(programs: &Programs, transport: Transport, options: &Options) -> Result<Self> {
        let limit = Server::start(&programs.limit, transport)?;
        let echo = Server::start_echo(&programs.limit, transport)?;
        let servers = [&limit, &echo];
        let mut load = Load::start(&programs.load, &servers, transport, CONNECTIONS)?;
        for index in 0..servers.len() {
            load.target(index)?;
            load.saturate(options.warm_up)?;
        }
        let mut samples = [Vec::new(), Vec::new()];
        for turn in 0..options.saturations {
            // The order alternates, so that a drift of the machine meets both.
            for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                load.target(index)?;
                let before = servers[index].cpu()?;
                let window = load.saturate(options.saturation)?;
                let cpu = servers[index].cpu()?.saturating_sub(before);
                samples[index].push(Saturation {
                    per_second: window.per_second,
                    cpu_us: cpu.as_secs_f64() * 1e6 / window.answered.max(1) as f64,
                });
            }
        }
        let [limit, echo] = &samples;
        let pairs = || limit.iter().zip(echo);
        Ok(Self {
            transport,
            reach: median_of(pairs().map(|(limit, echo)| echo.cpu_us / limit.cpu_us)),
            throughput: median_of(pairs().map(|(limit, echo)| limit.per_second / echo.per_second)),
            limit: Saturation::median(limit),
            echo: Saturation::median(echo),
        })
    }

    /// The rate that is offered in the slices: half of what the limit can do.
    pub(crate) fn rate(&self) -> f64 {
        (self.limit.per_second / 2.0).round()
    }
}

impl Saturation {
    fn median(samples: &[Self]) -> Self {
        Self {
            per_second: median_of(samples.iter().map(|sample| sample.per_second)),
            cpu_us: median_of(samples.iter().map(|sample| sample.cpu_us)),
        }
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: limit {:.0} requests per second, {:.3} µs of CPU each; byte echo {:.0}, {:.3} µs; \
             per CPU second the limit \
             reaches {:.0} % of the echo, in throughput {:.0} %",
            self.transport.name(),
            self.limit.per_second,
            self.limit.cpu_us,
            self.echo.per_second,
            self.echo.cpu_us,
            self.reach * 100.0,
            self.throughput * 100.0,
        )
    }
}
