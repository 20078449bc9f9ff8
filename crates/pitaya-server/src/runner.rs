//! Runs the chains of one session in order.
//!
//! The promise: message n+1 of a session is not touched until the chain of message n has finished or has suspended for
//! the first time; at most N are unfinished at once; after an *ordered* message nothing starts until it has ended.
//!
//! The mechanism: a chain is polled once in place. If it is ready, that was all: no task, no channel. If it suspends, it
//! goes on in a `FuturesUnordered` of the same task, which is only made when it is needed.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use pitaya_core::{BoxFuture, Reply};

/// What a chain came to: its reply, or the payload of its panic.
pub(crate) type Outcome = Result<Reply, Box<dyn Any + Send>>;

/// Sees each poll of a chain, to count those that keep a thread for too long.
pub(crate) trait Observe {
    /// Polls, and looks at the clock if anybody wants to know.
    fn observe<R>(&self, poll: impl FnOnce() -> R) -> R;
}

/// The unfinished chains of one session. `T` says whose reply it is.
pub(crate) struct SessionRunner<T> {
    unfinished: Option<Box<FuturesUnordered<Unfinished<T>>>>,
    limit: usize,
    /// An ordered message is unfinished.
    held: bool,
}

struct Unfinished<T> {
    chain: BoxFuture<'static, Reply>,
    tag: Option<T>,
    ordered: bool,
}

impl<T: Observe + Unpin> SessionRunner<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { unfinished: None, limit, held: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| unfinished.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose replies are awaited.
    pub(crate) fn tags(&mut self) -> impl Iterator<Item = &mut T> {
        self.unfinished.iter_mut().flat_map(|unfinished| unfinished.iter_mut()).filter_map(|one| one.tag.as_mut())
    }

    /// How many more messages may start now.
    pub(crate) fn room(&self) -> usize {
        if self.held { 0 } else { self.limit.saturating_sub(self.len()) }
    }

    /// Starts a chain and polls it once. Returns its outcome and its tag if it is ready; otherwise the runner keeps it.
    ///
    /// `call` makes the chain; it is inside the same guard, since a hook may panic before it returns its future.
    pub(crate) fn start(
        &mut self,
        cx: &mut Context<'_>,
        tag: T,
        ordered: bool,
        call: impl FnOnce() -> BoxFuture<'static, Reply>,
    ) -> Option<(T, Outcome)> {
        let first = std::panic::catch_unwind(AssertUnwindSafe(|| {
            tag.observe(|| {
                let mut chain = call();
                match chain.as_mut().poll(cx) {
                    Poll::Ready(reply) => Ok(reply),
                    Poll::Pending => Err(chain),
                }
            })
        }));
        match first {
            Ok(Ok(reply)) => Some((tag, Ok(reply))),
            Err(panic) => Some((tag, Err(panic))),
            Ok(Err(chain)) => {
                self.held |= ordered;
                let unfinished = self.unfinished.get_or_insert_default();
                unfinished.push(Unfinished { chain, tag: Some(tag), ordered });
                None
            }
        }
    }

    /// Goes on with what is unfinished. Ready with the next outcome; pending when all wait, or when there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(T, Outcome)> {
        let Some(unfinished) = &mut self.unfinished else { return Poll::Pending };
        match unfinished.poll_next_unpin(cx) {
            Poll::Ready(Some((tag, ordered, outcome))) => {
                self.held &= !ordered;
                Poll::Ready((tag, outcome))
            }
            Poll::Ready(None) => {
                self.unfinished = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Observe + Unpin> Future for Unfinished<T> {
    type Output = (T, bool, Outcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { chain, tag, .. } = &mut *self;
        // Polled after it was ready, which `FuturesUnordered` never does.
        let Some(watched) = tag else { return Poll::Pending };
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| watched.observe(|| chain.as_mut().poll(cx))));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(reply)) => Ok(reply),
            Err(panic) => Err(panic),
        };
        match self.tag.take() {
            Some(tag) => Poll::Ready((tag, self.ordered, outcome)),
            None => Poll::Pending,
        }
    }
}
