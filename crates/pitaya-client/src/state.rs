//! How a client is doing.

use tokio::sync::watch;

use crate::error::CloseReason;

/// How a client is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum State {
    /// Requests can be sent.
    Connected,
    /// The connection broke and a new one is being made; requests fail at once.
    Reconnecting {
        /// Which attempt is waited for or under way, from 1.
        attempt: u32,
    },
    /// Over; there is no way back.
    Closed(CloseReason),
}

/// The changes of a client's [`State`].
///
/// A slow reader misses states in between, never the last one.
#[derive(Debug)]
pub struct States {
    receiver: watch::Receiver<State>,
}

impl States {
    pub(crate) fn new(receiver: watch::Receiver<State>) -> Self {
        Self { receiver }
    }

    /// Waits for a state that has not been seen yet; `None` if the client has gone and there is none.
    ///
    /// # Cancel safety
    ///
    /// No change is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<State> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }
}
