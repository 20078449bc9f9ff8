//! One session for each user over all frontends of a type: which of two binds is the newer one (protocol.md 9.4).
//!
//! Everybody tells the others of a bind, and who hears of one kicks its own session of that user. Two frontends that bind one
//! user in the same moment hear of each other: by that rule alone, which is Go's, both sessions go. So servers of this
//! framework say when they bound, and the newer one stays:
//!
//! * The time is a logical clock: never before the clock of the machine, and always after everything that was heard. So a
//!   bind that knew of another one is the newer of the two, however wrong the clocks are; two that did not know of each other
//!   have an order all the same, with the names of the servers for equal times.
//! * Who stays tells of its bind again, so that the other one goes also if the first message was lost, or was sent before it
//!   listened.
//! * A session that has been here for longer than messages travel is older, whatever the times say: a machine whose clock is
//!   far behind has not heard of anything yet, and the newer login wins.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pitaya_core::SessionId;
use tokio::time::Instant;

/// Longer than a message travels, also through a frozen NATS server until that is found out.
const LONGEST_WAY: Duration = Duration::from_secs(30);

/// A time that is so far ahead is none; it would push everybody's clock there. In microseconds.
const TOO_FAR: u64 = 24 * 3600 * 1_000_000;

/// The clock of the binds on one frontend, and when its sessions were bound.
#[derive(Default)]
pub(crate) struct Unique(Mutex<State>);

#[derive(Default)]
struct State {
    /// The newest time that was given or heard, in microseconds of Unix time.
    clock: u64,
    told: HashMap<SessionId, Told>,
}

/// A bind of which the others were told.
#[derive(Debug, Clone, Copy)]
struct Told {
    at: u64,
    since: Instant,
}

/// What becomes of a session whose user was bound elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the older one.
    Goes,
    /// It is being bound, and the others will be told of that: with a later time.
    Stays,
    /// It is the newer one, and the others are to be told again that it was bound at this time.
    Insists(u64),
}

impl Unique {
    /// The time of a bind that the others are about to be told of.
    pub(super) fn tell(&self, session: SessionId) -> u64 {
        let mut state = self.state();
        let at = state.clock.saturating_add(1).max(now());
        state.clock = at;
        state.told.insert(session, Told { at, since: Instant::now() });
        at
    }

    /// The session is not bound any more.
    pub(super) fn forget(&self, session: SessionId) {
        self.state().told.remove(&session);
    }

    /// Hears of a bind of `there`, and judges the session that this server, `here`, has of the same user.
    pub(super) fn hear(&self, at: Option<u64>, there: &str, here: &str, session: Option<SessionId>) -> Option<Verdict> {
        let mut state = self.state();
        let at = at.filter(|at| *at <= now().saturating_add(TOO_FAR));
        state.clock = state.clock.max(at.unwrap_or_default());
        let session = session?;
        Some(match (at, state.told.get(&session)) {
            (None, _) => Verdict::Goes,
            (Some(_), None) => Verdict::Stays,
            (Some(at), Some(told)) => {
                let newer = (at, there) > (told.at, here) || told.since.elapsed() > LONGEST_WAY;
                if newer { Verdict::Goes } else { Verdict::Insists(told.at) }
            }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // In half a million years.
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId::new(1);

    /// What each of two frontends does when it hears of the other's bind.
    fn each_hears(one: (&Unique, u64), two: (&Unique, u64)) -> [Verdict; 2] {
        let heard = |by: &Unique, at, there, here| by.hear(Some(at), there, here, Some(SESSION)).unwrap();
        [heard(one.0, two.1, "g2", "g1"), heard(two.0, one.1, "g1", "g2")]
    }

    #[tokio::test]
    async fn of_two_binds_in_one_moment_the_later_stays_and_says_so_again() {
        let (one, two) = (Unique::default(), Unique::default());
        let first = one.tell(SESSION);
        // The clock of the machine may stand still.
        two.hear(Some(first - 1), "g3", "g2", None);
        let second = two.tell(SESSION).max(first + 1);
        two.state().told.get_mut(&SESSION).unwrap().at = second;
        assert_eq!(each_hears((&one, first), (&two, second)), [Verdict::Goes, Verdict::Insists(second)]);
        // The names decide between equal times.
        two.state().told.get_mut(&SESSION).unwrap().at = first;
        assert_eq!(each_hears((&one, first), (&two, first)), [Verdict::Goes, Verdict::Insists(first)]);
    }

    #[tokio::test]
    async fn a_bind_that_knew_of_another_is_later_whatever_the_clocks_say() {
        let (ahead, behind) = (Unique::default(), Unique::default());
        ahead.state().clock = now() + 3_600_000_000;
        let first = ahead.tell(SESSION);
        assert_eq!(behind.hear(Some(first), "g1", "g2", None), None);
        let second = behind.tell(SESSION);
        assert!(second > first);
        assert_eq!(each_hears((&ahead, first), (&behind, second)), [Verdict::Goes, Verdict::Insists(second)]);
        // One that is still being bound will be later, too.
        behind.forget(SESSION);
        assert_eq!(behind.hear(Some(second + 9), "g1", "g2", Some(SESSION)), Some(Verdict::Stays));
        assert!(behind.tell(SESSION) > second + 9);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_been_here_for_long_is_older_and_who_does_not_say_when_is_newer() {
        let unique = Unique::default();
        let at = unique.tell(SESSION);
        let hear = |at| unique.hear(at, "g2", "g1", Some(SESSION)).unwrap();
        assert_eq!(hear(Some(at - 1_000_000)), Verdict::Insists(at));
        assert_eq!(hear(None), Verdict::Goes);
        assert_eq!(hear(Some(u64::MAX)), Verdict::Goes, "nobody's clock is so far ahead");
        assert!(unique.tell(SESSION) < u64::MAX / 2);
        tokio::time::advance(LONGEST_WAY * 2).await;
        assert_eq!(hear(Some(at - 1_000_000)), Verdict::Goes);
    }
}
