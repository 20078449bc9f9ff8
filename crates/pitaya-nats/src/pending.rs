//! Calls that wait for their answers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use pitaya_core::cluster::RpcError;
use tokio::sync::oneshot;

/// How many calls may wait; one more fails.
const MAX_CALLS: usize = 1 << 18;

/// The calls that wait, by the number that is the end of their reply subject. (The library has such a map as well, but never
/// forgets a call that was not answered.)
pub(crate) struct Pending {
    calls: Mutex<Calls>,
    limit: usize,
}

#[derive(Default)]
struct Calls {
    /// The numbers are ours, so the hash need not stand an attack.
    waiting: HashMap<u64, oneshot::Sender<Answer>, RandomState>,
    last: u64,
}

/// What a call hears.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The other server's answer.
    Response(Bytes),
    /// The other server does not listen.
    NotDelivered,
    /// The connection has been broken for a while.
    Disconnected(RpcError),
}

/// The place of one call; it is forgotten with this.
pub(crate) struct Waiting<'a> {
    pending: &'a Pending,
    number: u64,
    answer: oneshot::Receiver<Answer>,
    /// Whether the answer has come, and the call is no longer in the map.
    answered: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self { calls: Mutex::default(), limit: MAX_CALLS }
    }
}

impl Pending {
    /// Makes a place for a call.
    ///
    /// # Errors
    ///
    /// Too many wait.
    pub(crate) fn wait(&self) -> Result<Waiting<'_>, RpcError> {
        let (sender, answer) = oneshot::channel();
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.waiting.len() >= self.limit {
            return Err(RpcError::Failed(format!("{} calls wait for answers already", self.limit)));
        }
        calls.last += 1;
        let number = calls.last;
        calls.waiting.insert(number, sender);
        Ok(Waiting { pending: self, number, answer, answered: false })
    }

    /// Hands over an answer. One that nobody waits for any more is thrown away.
    pub(crate) fn answer(&self, number: u64, answer: Answer) {
        let waiting = self.calls.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
        if let Some(waiting) = waiting {
            // It may have been given up in this moment.
            drop(waiting.send(answer));
        }
    }

    /// Ends all calls.
    pub(crate) fn fail(&self, reason: &RpcError) {
        let waiting = std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner).waiting);
        for waiting in waiting.into_values() {
            drop(waiting.send(Answer::Disconnected(reason.clone())));
        }
    }
}

impl Waiting<'_> {
    /// The number by which the answer finds this call.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = (&mut self.answer).await;
        self.answered = true;
        // Nobody drops the sender without sending.
        answer.unwrap_or(Answer::Disconnected(RpcError::Closed))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.pending.calls.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(pending: &Pending) -> usize {
        pending.calls.lock().unwrap().waiting.len()
    }

    #[tokio::test]
    async fn calls_get_their_own_answers_and_leave_nothing_behind() {
        let pending = Pending::default();
        let (mut one, mut two, three) = (pending.wait().unwrap(), pending.wait().unwrap(), pending.wait().unwrap());
        pending.answer(two.number(), Answer::Response("2".into()));
        pending.answer(one.number(), Answer::NotDelivered);
        assert!(matches!(two.answer().await, Answer::Response(bytes) if bytes == "2"));
        assert!(matches!(one.answer().await, Answer::NotDelivered));
        pending.answer(two.number(), Answer::Response("again".into()));
        assert_eq!(waiting(&pending), 1);
        drop(three);
        assert_eq!(waiting(&pending), 0);

        let mut four = pending.wait().unwrap();
        pending.fail(&RpcError::Closed);
        assert!(matches!(four.answer().await, Answer::Disconnected(RpcError::Closed)));
        assert_eq!(waiting(&pending), 0);
    }

    #[test]
    fn one_more_than_may_wait_fails() {
        let pending = Pending { limit: 2, ..Pending::default() };
        let (_one, two) = (pending.wait().unwrap(), pending.wait().unwrap());
        assert!(matches!(pending.wait(), Err(RpcError::Failed(_))));
        drop(two);
        assert!(pending.wait().is_ok());
    }
}
