//! Broadcasts that are under way, and when the last member had each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The broadcasts of one server, in order.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The number of the next broadcast.
    pub(crate) next: u32,
    /// How many members get each.
    pub(crate) members: usize,
    /// Those that some member has not got yet, from the oldest on.
    under_way: VecDeque<UnderWay>,
    /// How long each took that has arrived since the last [`News::take`], from when it was due to the last member.
    arrived: Vec<Duration>,
}

#[derive(Debug)]
struct UnderWay {
    due: Instant,
    missing: usize,
}

impl News {
    /// No broadcasts yet. The number of one is also the id of the request for it, and id 0 would not be answered.
    pub(crate) fn starting_at(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    /// Notes that a broadcast is due; returns its number.
    pub(crate) fn begin(&mut self, due: Instant) -> u32 {
        self.under_way.push_back(UnderWay { due, missing: self.members });
        self.next += 1;
        self.next - 1
    }

    /// A member has got a broadcast.
    pub(crate) fn arrived(&mut self, number: u32, now: Instant) {
        let oldest = self.next - self.under_way.len() as u32;
        let Some(one) = number.checked_sub(oldest).and_then(|at| self.under_way.get_mut(at as usize)) else {
            return;
        };
        one.missing -= 1;
        // Members get them in order, so an older one is complete when a younger one is.
        while let Some(first) = self.under_way.front()
            && first.missing == 0
        {
            self.arrived.push(now.saturating_duration_since(first.due));
            self.under_way.pop_front();
        }
    }

    /// Whether all members have all of them.
    pub(crate) fn is_quiet(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How long those took that have arrived since the last call.
    pub(crate) fn take(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_has_arrived_when_the_last_member_has_it() {
        let mut news = News { members: 2, ..News::default() };
        let due = Instant::now();
        let after = |millis| due + Duration::from_millis(millis);
        assert_eq!((news.begin(due), news.begin(after(1))), (0, 1));
        news.arrived(0, after(2));
        news.arrived(1, after(3));
        assert!(news.take().is_empty() && !news.is_quiet());
        news.arrived(0, after(4));
        assert_eq!(news.take(), [Duration::from_millis(4)]);
        news.arrived(1, after(5));
        assert_eq!(news.take(), [Duration::from_millis(4)]);
        assert!(news.is_quiet());
        assert_eq!(news.begin(due), 2);
    }
}
