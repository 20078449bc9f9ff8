//! Why a call did not come back with an answer.

use std::time::Duration;

use crate::{Error, ServerId, code};

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

/// What is said of a call that was not answered in time, by its caller and by who was called.
pub const TIMED_OUT: &str = "rpc client: request timeout";

impl RpcError {
    /// Whether the call may be tried on another server: it has certainly not been run.
    #[must_use]
    pub fn is_undelivered(&self) -> bool {
        matches!(self, Self::NotDelivered(_))
    }
}

impl From<RpcError> for Error {
    fn from(error: RpcError) -> Self {
        let code = match &error {
            // The texts of Go Pitaya (protocol.md 3.5 and 6.3).
            RpcError::Timeout(_) => return Self::new(code::TIMEOUT, TIMED_OUT),
            RpcError::NotDelivered(_) => return Self::plain("nats: no responders available for request"),
            RpcError::TooLarge { .. } | RpcError::Disconnected(_) | RpcError::Closed | RpcError::Failed(_) => {
                code::INTERNAL
            }
        };
        Self::new(code, error.to_string())
    }
}
