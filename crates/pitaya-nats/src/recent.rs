//! What has come lately, to know what comes by two connections.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// How many messages are remembered; the oldest is forgotten for one more.
const MAX_REMEMBERED: usize = 1 << 16;

/// The messages that have come while two connections are read. Nothing is remembered at other times.
#[derive(Default)]
pub(crate) struct Recent {
    remembering: AtomicBool,
    seen: Mutex<Seen>,
    hasher: RandomState,
}

/// By the hashes of their names: 64 bits of a keyed hash stand for one among so few.
#[derive(Default)]
struct Seen {
    set: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Remembers from now on.
    pub(crate) fn begin(&self) {
        self.remembering.store(true, Ordering::SeqCst);
    }

    /// Forgets everything.
    pub(crate) fn end(&self) {
        self.remembering.store(false, Ordering::SeqCst);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// Whether this is the first message of that name.
    pub(crate) fn is_first(&self, name: &str) -> bool {
        !self.remembering.load(Ordering::SeqCst) || {
            let name = self.hasher.hash_one(name);
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).add(name)
        }
    }
}

impl Seen {
    fn add(&mut self, name: u64) -> bool {
        let new = self.set.insert(name);
        if new {
            self.order.push_back(name);
            if self.order.len() > MAX_REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.set.remove(&oldest);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_known_only_while_two_connections_are_read() {
        let recent = Recent::default();
        assert!(recent.is_first("a") && recent.is_first("a"));
        recent.begin();
        assert!(recent.is_first("a") && !recent.is_first("a") && recent.is_first("b"));
        recent.end();
        assert!(recent.is_first("a"));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let recent = Recent::default();
        recent.begin();
        for number in 0..=MAX_REMEMBERED {
            assert!(recent.is_first(&number.to_string()));
        }
        assert!(!recent.is_first(&MAX_REMEMBERED.to_string()));
        assert!(recent.is_first("0"));
    }
}
