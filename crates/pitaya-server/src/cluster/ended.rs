//! Which sessions of other servers have closed lately: a handler that asks for a callback may come after the close.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::service::Key;

/// How many are remembered; the oldest is forgotten for one more.
const MAX_REMEMBERED: usize = 65_536;

/// The closes are counted. A message that came after the close of its session is of another session with the same name: its
/// frontend has started again. So nothing has to be looked up when a message comes.
#[derive(Default)]
pub(super) struct Ended {
    count: AtomicU64,
    lately: Mutex<Lately>,
}

#[derive(Default)]
struct Lately {
    closed: HashMap<Key, u64>,
    order: VecDeque<(Key, u64)>,
}

impl Ended {
    /// How many have closed so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes that a session has closed.
    pub(super) fn note(&self, key: &Key) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        lately.closed.insert(key.clone(), number);
        lately.order.push_back((key.clone(), number));
        if lately.order.len() > MAX_REMEMBERED
            && let Some((oldest, number)) = lately.order.pop_front()
            && lately.closed.get(&oldest) == Some(&number)
        {
            lately.closed.remove(&oldest);
        }
    }

    /// Whether a session has closed since so many had.
    pub(super) fn has_closed_since(&self, key: &Key, count: u64) -> bool {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.closed.get(key).is_some_and(|number| *number > count)
    }
}

#[cfg(test)]
mod tests {
    use pitaya_core::SessionId;

    use super::*;

    fn key(id: i64) -> Key {
        ("g1".try_into().unwrap(), SessionId::new(id))
    }

    #[test]
    fn only_what_came_before_the_close_has_closed_and_the_oldest_is_forgotten() {
        let ended = Ended::default();
        let before = ended.count();
        assert!(!ended.has_closed_since(&key(1), before));
        ended.note(&key(1));
        assert!(ended.has_closed_since(&key(1), before) && !ended.has_closed_since(&key(2), before));
        assert!(!ended.has_closed_since(&key(1), ended.count()), "another one with this name");
        for _ in 0..2 {
            // The newest of one name counts.
            ended.note(&key(1));
        }
        for id in 2..2 + MAX_REMEMBERED as i64 - 1 {
            ended.note(&key(id));
        }
        assert!(ended.has_closed_since(&key(1), before));
        ended.note(&key(0));
        assert!(!ended.has_closed_since(&key(1), before) && ended.has_closed_since(&key(2), before));
        let lately = ended.lately.lock().unwrap();
        assert_eq!((lately.closed.len(), lately.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
