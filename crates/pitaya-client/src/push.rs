//! Pushes: what the server sends of its own accord.

mod hub;
mod queue;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use serde::de::DeserializeOwned;

pub(crate) use hub::Hub;
use queue::Queue;
pub(crate) use queue::QueueLimits;

/// One message that the server sent of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The route, by name even where the wire has a dictionary code.
    pub route: String,
    /// The body, inflated.
    pub body: Bytes,
}

impl Push {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON or not of the expected type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// A subscription to pushes, in the order of their arrival.
///
/// It has a queue of its own, bounded by [`Builder::push_capacity`](crate::Builder::push_capacity) and
/// [`Builder::push_bytes`](crate::Builder::push_bytes). A push that finds the queue full is **dropped and counted**
/// ([`lagged`](Self::lagged)): waiting would hold up the answers behind it. The stream ends when the client has closed
/// and the queue is empty; it goes on over a reconnect. It does not keep the client open.
pub struct Pushes {
    queue: Arc<Queue>,
}

impl Pushes {
    /// Waits for the next push; `None` when the client has closed and nothing is left.
    ///
    /// # Cancel safety
    ///
    /// No push is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Push> {
        std::future::poll_fn(|cx| self.queue.poll_pop(cx)).await
    }

    /// Takes the next push if it has arrived already.
    pub fn try_next(&mut self) -> Option<Push> {
        self.queue.pop()
    }

    /// Returns how many pushes were dropped because the queue was full.
    ///
    /// A subscription to all pushes also counts those that were dropped before anyone wanted them.
    #[must_use]
    pub fn lagged(&self) -> u64 {
        self.queue.lagged()
    }
}

impl Stream for Pushes {
    type Item = Push;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Push>> {
        self.queue.poll_pop(cx)
    }
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes").field("lagged", &self.lagged()).finish_non_exhaustive()
    }
}
