//! When requests are due, fixed before the first one is sent.
//!
//! Time is cut into ticks. The connections are dealt into groups; in each tick one group has its
//! turn, and the requests of a turn are due together. So one wake-up of a connection brings the
//! server a few requests, as at saturation but fewer, and the generator can keep to the schedule:
//! a wake-up for each single request would cost it more than it costs the server to answer.

use std::time::Duration;

/// The golden ratio's fraction: its multiples spread evenly over the unit interval.
const SPREAD: f64 = 0.618_033_988_749_895;

/// After how many ticks a connection has its next turn.
const GROUPS: usize = 4;

/// The longest tick. At rates that fill it, a turn is a millisecond.
const LONGEST_TICK: Duration = Duration::from_micros(250);

/// The schedule of one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Requests a second, of all connections together.
    rate: f64,
    /// The length of the window.
    pub(crate) window: Duration,
    /// The length of a tick.
    pub(crate) tick: Duration,
    /// How many connections there are.
    lanes: usize,
}

impl Schedule {
    /// Spreads `rate` requests a second over `lanes` connections, which may have `in_flight`
    /// requests each.
    ///
    /// A turn brings at most three quarters of what may be in flight, on any machine: it takes
    /// ticks that are short enough. More than may be in flight would have to wait for answers, and
    /// how the rest is then cut into writes, and with it the work, would be left to chance.
    pub(crate) fn new(rate: f64, window: Duration, lanes: usize, in_flight: usize) -> Self {
        let burst = (in_flight * 3 / 4).max(1);
        let tick = (burst * lanes) as f64 / rate / GROUPS as f64;
        let tick = Duration::try_from_secs_f64(tick)
            .map_or(LONGEST_TICK, |tick| tick.clamp(Duration::from_micros(10), LONGEST_TICK));
        Self { rate, window, tick, lanes }
    }

    /// How many ticks the window has.
    pub(crate) fn ticks(&self) -> u32 {
        (self.window.as_secs_f64() / self.tick.as_secs_f64()).ceil() as u32
    }

    /// The connections that have their turn at `tick`, with the number of requests of each.
    pub(crate) fn turn(&self, tick: u32) -> impl Iterator<Item = (usize, usize)> {
        let turn_length = self.tick.as_secs_f64() * GROUPS as f64;
        let per_turn = self.rate / self.lanes as f64 * turn_length;
        let turn = f64::from(tick / GROUPS as u32);
        (tick as usize % GROUPS..self.lanes).step_by(GROUPS).map(move |lane| {
            // Each connection rounds at another phase, so that the sum keeps to the rate.
            let phase = (lane as f64 * SPREAD).fract();
            let due = |turn: f64| (turn * per_turn + phase).floor();
            (lane, (due(turn + 1.0) - due(turn)) as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_to_its_rate() {
        for rate in [1000.0, 123_456.0, 270_000.0, 700_000.0] {
            let window = Duration::from_secs(1);
            let schedule = Schedule::new(rate, window, 64, 8);
            let turns = (0..schedule.ticks()).flat_map(|tick| schedule.turn(tick));
            let sum: usize = turns.map(|(_, requests)| requests).sum();
            assert!((sum as f64 - rate).abs() <= 2.0 * 64.0 * 6.0, "{sum} for {rate}");
        }
    }

    #[test]
    fn a_turn_leaves_room() {
        for rate in [100_000.0, 384_000.0, 900_000.0] {
            let schedule = Schedule::new(rate, Duration::from_secs(1), 64, 8);
            let largest = (0..1000).flat_map(|tick| schedule.turn(tick)).map(|(_, n)| n).max();
            assert!(largest <= Some(7), "{largest:?} for {rate}");
        }
    }
}
