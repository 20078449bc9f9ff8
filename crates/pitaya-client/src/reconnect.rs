//! When to try again after a connection broke.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How a client replaces a broken connection.
///
/// The n-th attempt in a row waits `initial * 2^(n-1)`, at most `max`; half of that is random, so that the clients of a
/// restarted server do not come back at the same moment. A connection that lived for less than `max` counts as a
/// failed attempt: a server that accepts and breaks at once is not hammered.
///
/// There is no new connection after a kick, after [`Client::close`](crate::Client::close), and after a refused
/// handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Wait before the first attempt.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Most attempts in a row; `None` never gives up.
    pub attempts: Option<u32>,
}

impl Default for Reconnect {
    /// 500 ms, at most 30 s, without end.
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(30), attempts: None }
    }
}

impl Reconnect {
    /// Returns the wait before an attempt, counted from 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        // Beyond 2^31 the maximum rules anyway.
        let factor = 1_u32 << attempt.saturating_sub(1).min(31);
        let half = self.initial.saturating_mul(factor).min(self.max) / 2;
        // Each `RandomState` has keys of its own: random enough to spread clients, without a dependency.
        let random = RandomState::new().hash_one(attempt) as u32;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_at_most_half_is_random() {
        let reconnect = Reconnect { initial: Duration::from_millis(100), max: Duration::from_secs(1), attempts: None };
        for (attempt, full) in [(1, 100), (2, 200), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            for _ in 0..50 {
                let delay = reconnect.delay(attempt);
                let full = Duration::from_millis(full);
                assert!(full / 2 <= delay && delay <= full, "{attempt}: {delay:?}");
            }
        }
        let endless = Reconnect { initial: Duration::MAX, max: Duration::MAX, attempts: None };
        assert!(endless.delay(7) >= Duration::MAX / 2);
    }
}
