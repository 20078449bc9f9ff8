//! When requests are due, fixed before the first one is sent.
//!
//! Time is cut into ticks. The connections are dealt into groups; in each tick one group has its
//! turn, and the requests of a turn are due together. So one wake-up of a connection brings the
//! server a few requests, as at saturation but fewer, and the generator can keep to the schedule:
//! a wake-up for each single request would cost it more than it costs the server to answer.

use std::time::Duration;

/// The golden ratio's fraction: its multiples spread evenly over the unit interval.
const SPREAD: f64 = 0.618_033_988_749_895;

/// The schedule of one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Requests a second, of all connections together.
    pub(crate) rate: f64,
    /// The length of the window.
    pub(crate) window: Duration,
    /// The length of a tick.
    pub(crate) tick: Duration,
    /// After how many ticks a connection has its next turn.
    pub(crate) groups: usize,
    /// How many connections there are.
    pub(crate) lanes: usize,
}

impl Schedule {
    /// How many ticks the window has.
    pub(crate) fn ticks(&self) -> u32 {
        (self.window.as_secs_f64() / self.tick.as_secs_f64()).ceil() as u32
    }

    /// The connections that have their turn at `tick`, with the number of requests of each.
    pub(crate) fn turn(&self, tick: u32) -> impl Iterator<Item = (usize, usize)> {
        let turn_length = self.tick.as_secs_f64() * self.groups as f64;
        let per_turn = self.rate / self.lanes as f64 * turn_length;
        let turn = f64::from(tick / self.groups as u32);
        (tick as usize % self.groups..self.lanes).step_by(self.groups).map(move |lane| {
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
        for rate in [1000.0, 123_456.0, 270_000.0] {
            let window = Duration::from_secs(1);
            let tick = Duration::from_micros(250);
            let schedule = Schedule { rate, window, tick, groups: 4, lanes: 64 };
            assert_eq!(schedule.ticks(), 4000);
            let turns = (0..schedule.ticks()).flat_map(|tick| schedule.turn(tick));
            let sum: usize = turns.map(|(_, requests)| requests).sum();
            assert!((sum as f64 - rate).abs() <= 64.0, "{sum} for {rate}");
        }
    }
}
