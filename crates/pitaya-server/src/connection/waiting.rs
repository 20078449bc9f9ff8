//! Messages that wait because as many handlers are unfinished, over all sessions, as may be.
//!
//! Each message needs a permit from before its chain is first polled until it has ended. A message that finds none waits in
//! its connection, in order, behind those that wait there already. How many wait in all is bounded by the seats: a
//! connection whose last message found no seat is not read until that message has its turn.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What a message holds while it is handled.
#[derive(Debug)]
pub(crate) struct Permit {
    lane: Lane,
    _held: OwnedSemaphorePermit,
}

impl Permit {
    pub(super) fn is_of(&self, lane: Lane) -> bool {
        self.lane == lane
    }
}

/// Messages that are handled here and those that go to other servers have permits of their own, so that a slow server keeps
/// nobody from the handlers here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Local,
    Forward,
}

/// The permits and the seats of one app.
#[derive(Debug)]
pub(crate) struct Dispatch {
    local: Pool,
    forward: Pool,
}

#[derive(Debug)]
struct Pool {
    permits: Arc<Semaphore>,
    seats: Arc<Semaphore>,
}

impl Dispatch {
    /// So many permits for each lane, and so many seats for the local and for the forwarded messages that wait.
    pub(crate) fn new(permits: usize, local_seats: usize, forward_seats: usize) -> Self {
        let pool = |seats| Pool { permits: Arc::new(Semaphore::new(permits)), seats: Arc::new(Semaphore::new(seats)) };
        Self { local: pool(local_seats), forward: pool(forward_seats) }
    }

    /// A permit, if there is one and nobody waits for it.
    pub(crate) fn try_permit(&self, lane: Lane) -> Option<Permit> {
        let held = Arc::clone(&self.pool(lane).permits).try_acquire_owned().ok()?;
        Some(Permit { lane, _held: held })
    }

    fn pool(&self, lane: Lane) -> &Pool {
        match lane {
            Lane::Local => &self.local,
            Lane::Forward => &self.forward,
        }
    }
}

/// The messages of one connection that wait, at least one.
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    /// The permits that the first message waits for.
    permit: PollSemaphore,
    lane: Lane,
}

struct Message {
    body: Bytes,
    lane: Lane,
    seat: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    /// Nothing waits yet; the first will be of this lane.
    pub(super) fn new(lane: Lane, dispatch: &Dispatch) -> Self {
        let permit = PollSemaphore::new(Arc::clone(&dispatch.pool(lane).permits));
        Self { messages: VecDeque::new(), permit, lane }
    }

    pub(super) fn push(&mut self, body: Bytes, lane: Lane, dispatch: &Dispatch) {
        let seat = Arc::clone(&dispatch.pool(lane).seats).try_acquire_owned().ok();
        self.messages.push_back(Message { body, lane, seat });
    }

    /// The lane of the first message.
    pub(super) fn lane(&self) -> Lane {
        self.messages.front().map_or(self.lane, |message| message.lane)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no more messages may be read: the last one found no seat.
    pub(super) fn is_full(&self) -> bool {
        self.messages.back().is_some_and(|message| message.seat.is_none())
    }

    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>, dispatch: &Dispatch) -> Poll<Permit> {
        let lane = self.lane();
        if lane != self.lane {
            self.lane = lane;
            self.permit = PollSemaphore::new(Arc::clone(&dispatch.pool(lane).permits));
        }
        match self.permit.poll_acquire(cx) {
            Poll::Ready(Some(held)) => Poll::Ready(Permit { lane, _held: held }),
            // The semaphore is never closed.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Goes to the end of the queue for permits, with the next [`poll_permit`](Self::poll_permit).
    pub(super) fn give_way(&mut self) {
        // The clone does not wait, and what it replaces no longer does.
        self.permit = self.permit.clone();
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.messages.pop_front().map(|message| message.body)
    }
}
