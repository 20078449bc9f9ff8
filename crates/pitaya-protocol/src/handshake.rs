//! The JSON bodies of the two Handshake packets (protocol.md sections 2.2 and 2.3).

mod request;
mod response;

use std::time::Duration;

use thiserror::Error;

use crate::compression::InflateError;
use crate::dictionary::DictionaryError;

pub use request::{HandshakeData, HandshakeSys};
pub use response::{HandshakeReason, HandshakeResponse};

/// Why a handshake body cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not JSON, or not of the expected shape.
    #[error("handshake is not acceptable JSON")]
    Json(#[source] serde_json::Error),
    /// The compressed response cannot be inflated.
    #[error("cannot inflate handshake")]
    Inflate(#[from] InflateError),
    /// The dictionary of the response is not valid.
    #[error("handshake has an invalid dictionary")]
    Dictionary(#[from] DictionaryError),
    /// The interval cannot be told to all clients: none, not whole seconds, or too long.
    #[error("heartbeat interval must be whole seconds, at least one, but is {0:?}")]
    Heartbeat(Option<Duration>),
}
