//! Why a call did not come back with an answer.

use std::time::Duration;

use crate::{Error, ServerId, code, config::Value as _};

/// What a transport says when a call has no answer. An answer that is an error is not one of these.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Nobody listens for that server's calls: it is proved that the call was not delivered, so it may be tried elsewhere.
    #[error("server {0} does not listen")]
    NotDelivered(ServerId),
    /// No answer came in time. Whether the call was run is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The message is longer than the transport carries; both in bytes.
    #[error("a message of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no connection to the transport now.
    #[error("not connected: {0}")]
    Disconnected(String),
    /// The server or this app is stopping.
    #[error("the connection to other servers is closed")]
    Closed,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl RpcError {
    /// Whether the call may be tried on another server: it has certainly not been run.
    #[must_use]
    pub fn is_undelivered(&self) -> bool {
        matches!(self, Self::NotDelivered(_))
    }
}

impl From<RpcError> for Error {
    fn from(error: RpcError) -> Self {
        match error {
            // As protocol.md 3.5 has it.
            RpcError::Timeout(limit) => {
                Self::new(code::TIMEOUT, "rpc client: request timeout").with("timeout", limit.show())
            }
            RpcError::NotDelivered(_)
            | RpcError::TooLarge { .. }
            | RpcError::Disconnected(_)
            | RpcError::Closed
            | RpcError::Failed(_) => Self::new(code::INTERNAL, error.to_string()),
        }
    }
}
