//! A queue of pushes, bounded by number and by bytes.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Push;

/// Bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Most pushes.
    pub(crate) pushes: usize,
    /// Most bytes of routes, bodies and bookkeeping together: a number alone would let a server fill the memory with
    /// few big pushes.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pushes: VecDeque<Push>,
    bytes: usize,
    lagged: u64,
    closed: bool,
    /// Who waits; one is enough, because taking needs the subscription exclusively.
    waker: Option<Waker>,
}

impl State {
    fn pop(&mut self) -> Option<Push> {
        let push = self.pushes.pop_front()?;
        self.bytes -= cost(&push);
        Some(push)
    }
}

fn cost(push: &Push) -> usize {
    size_of::<Push>() + push.route.len() + push.body.len()
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way, so a poisoned state is a valid one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the push, or drops and counts it.
    pub(super) fn push(&self, push: Push) {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(cost(&push));
        // One push alone is always taken, however big: otherwise it could never be received.
        let fits = state.pushes.is_empty() || bytes <= self.limits.bytes;
        if !fits || state.pushes.len() >= self.limits.pushes {
            state.lagged += 1;
            return;
        }
        state.bytes = bytes;
        state.pushes.push_back(push);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all pushes that `matches` lets through, in their order.
    pub(super) fn extract(&self, matches: impl Fn(&Push) -> bool) -> VecDeque<Push> {
        let mut state = self.lock();
        let (taken, left) = state.pushes.drain(..).partition(matches);
        state.pushes = left;
        state.bytes = state.pushes.iter().map(cost).sum();
        taken
    }

    pub(super) fn pop(&self) -> Option<Push> {
        self.lock().pop()
    }

    pub(super) fn poll_pop(&self, cx: &Context<'_>) -> Poll<Option<Push>> {
        let mut state = self.lock();
        if let Some(push) = state.pop() {
            return Poll::Ready(Some(push));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Ends the queue; what is in it can still be taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Counts pushes that were lost elsewhere.
    pub(super) fn lost(&self, pushes: u64) {
        self.lock().lagged += pushes;
    }

    /// Starts the count of dropped pushes anew and returns what it was.
    pub(super) fn take_lagged(&self) -> u64 {
        std::mem::take(&mut self.lock().lagged)
    }

    pub(super) fn lagged(&self) -> u64 {
        self.lock().lagged
    }
}
