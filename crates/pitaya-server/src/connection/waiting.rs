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
pub(crate) type Permit = OwnedSemaphorePermit;

/// The permits and the seats of one app.
#[derive(Debug)]
pub(crate) struct Dispatch {
    permits: Arc<Semaphore>,
    seats: Arc<Semaphore>,
}

impl Dispatch {
    pub(crate) fn new(permits: usize, seats: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), seats: Arc::new(Semaphore::new(seats)) }
    }

    /// A permit, if there is one and nobody waits for it.
    pub(crate) fn try_permit(&self) -> Option<Permit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }
}

/// The messages of one connection that wait, at least one.
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    permit: PollSemaphore,
}

struct Message {
    body: Bytes,
    seat: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    pub(super) fn new(dispatch: &Dispatch) -> Self {
        Self { messages: VecDeque::new(), permit: PollSemaphore::new(Arc::clone(&dispatch.permits)) }
    }

    pub(super) fn push(&mut self, body: Bytes, dispatch: &Dispatch) {
        let seat = Arc::clone(&dispatch.seats).try_acquire_owned().ok();
        self.messages.push_back(Message { body, seat });
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no more messages may be read: the last one found no seat.
    pub(super) fn is_full(&self) -> bool {
        self.messages.back().is_some_and(|message| message.seat.is_none())
    }

    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        match self.permit.poll_acquire(cx) {
            Poll::Ready(Some(permit)) => Poll::Ready(permit),
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
