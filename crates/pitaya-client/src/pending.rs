//! Requests that wait for their answers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{CloseReason, RequestError};

pub(crate) type Answer = Result<Bytes, RequestError>;

/// The requests in flight, and whether new ones may start.
///
/// Handles add requests and remove those they gave up; the task of the connection answers them.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Most requests in flight.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    door: Door,
    last_id: u64,
    /// Counts the connections, so that a message meant for a broken one is not sent on the next.
    epoch: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

#[derive(Debug, Clone)]
enum Door {
    Open,
    Reconnecting,
    Closed(CloseReason),
}

impl State {
    fn check(&self) -> Result<u64, RequestError> {
        match &self.door {
            Door::Open => Ok(self.epoch),
            Door::Reconnecting => Err(RequestError::Reconnecting),
            Door::Closed(reason) => Err(RequestError::Closed(reason.clone())),
        }
    }
}

impl Pending {
    /// Returns an open door for the first connection.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::new(State { door: Door::Open, last_id: 0, epoch: 0, waiting: HashMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way, so a poisoned state is a valid one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the epoch of the current connection, for messages without answer.
    pub(crate) fn epoch(&self) -> Result<u64, RequestError> {
        self.lock().check()
    }

    /// Lets a request in. It counts until it is answered or the ticket is dropped.
    pub(crate) fn admit(&self) -> Result<(Ticket<'_>, oneshot::Receiver<Answer>), RequestError> {
        let mut state = self.lock();
        let epoch = state.check()?;
        if state.waiting.len() >= self.limit {
            return Err(RequestError::TooMany);
        }
        // Id 0 is never answered (protocol.md section 3.1).
        let id = state.last_id.wrapping_add(1).max(1);
        state.last_id = id;
        let (answer, answered) = oneshot::channel();
        state.waiting.insert(id, answer);
        let ticket = Ticket { pending: self, id, epoch };
        Ok((ticket, answered))
    }

    /// Tells whether someone still waits for the answer.
    pub(crate) fn wants(&self, id: u64) -> bool {
        self.lock().waiting.contains_key(&id)
    }

    /// Delivers an answer; false if nobody waits for it.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> bool {
        let waiting = self.lock().waiting.remove(&id);
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// Opens the door for a new connection and returns its epoch.
    pub(crate) fn open(&self) -> u64 {
        let mut state = self.lock();
        // The client may have been closed while the connection was made.
        if matches!(state.door, Door::Reconnecting) {
            state.door = Door::Open;
        }
        state.epoch += 1;
        state.epoch
    }

    /// Refuses requests while a new connection is made; those in flight fail with `reason`.
    pub(crate) fn suspend(&self, reason: &CloseReason) {
        self.shut(Door::Reconnecting, reason);
    }

    /// Refuses requests from now on; those in flight fail. The first reason stays.
    pub(crate) fn close(&self, reason: &CloseReason) {
        self.shut(Door::Closed(reason.clone()), reason);
    }

    fn shut(&self, door: Door, reason: &CloseReason) {
        let mut state = self.lock();
        if !matches!(state.door, Door::Closed(_)) {
            state.door = door;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for (_, answer) in waiting {
            // Whoever gave up meanwhile has no need of it.
            answer.send(Err(RequestError::Closed(reason.clone()))).ok();
        }
    }
}

/// A request in flight; dropping it gives the request up.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pending: &'a Pending,
    pub(crate) id: u64,
    pub(crate) epoch: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.lock().waiting.remove(&self.id);
    }
}
