//! What can go wrong, and why a connection ended.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use pitaya_protocol::{HandshakeError, HandshakeReason, MessageError, PacketError, ProtocolError};
use serde_json::Value;
use thiserror::Error;

/// What a server did that the protocol does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// The bytes are not a packet, or the packet is over the limit.
    #[error("undecodable packet")]
    Packet(#[from] PacketError),
    /// The body of a Data packet is not a message, names an unknown route code, or does not inflate.
    #[error("undecodable message")]
    Message(#[from] MessageError),
    /// A packet that has no place in the state of the connection.
    #[error("packet out of place")]
    State(#[from] ProtocolError),
    /// The WebSocket framing is broken; the text says how.
    #[error("websocket: {0}")]
    WebSocket(String),
}

fn because(reason: Option<&HandshakeReason>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {}: {}", reason.code, reason.msg))
}

/// Why a connection, and with it the client, has ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The server sent a Kick packet.
    #[error("kicked by the server")]
    Kicked,
    /// The server closed the connection without a word.
    #[error("closed by the server")]
    ServerClosed,
    /// [`Client::close`](crate::Client::close) was called, or the last clone of the client was dropped.
    #[error("closed by the client")]
    ClientClosed,
    /// The server broke the protocol.
    #[error("the server broke the protocol")]
    Protocol(#[source] Violation),
    /// No packet came for the configured number of heartbeat intervals.
    #[error("the server fell silent")]
    Silence,
    /// A packet was begun and not completed in time.
    #[error("the server did not complete a packet")]
    HalfPacket,
    /// Reading or writing failed.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
    /// The connection broke and could not be replaced.
    #[error("no new connection after {attempts} attempts")]
    ReconnectFailed {
        /// How many attempts were made.
        attempts: u32,
        /// What became of the last one; `None` if the option allows none at all.
        #[source]
        last: Option<Arc<ConnectError>>,
    },
    /// The runtime dropped the task of the connection.
    #[error("the runtime shut down")]
    Aborted,
}

/// Why no connection came about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used; the text says why.
    #[error("invalid address: {0}")]
    Address(String),
    /// The user data of the handshake is not a JSON object.
    #[error("user data of the handshake is not a JSON object")]
    User(#[source] Option<serde_json::Error>),
    /// Connecting and shaking hands took longer than the connect time-out.
    #[error("no handshake in time")]
    Timeout,
    /// Connecting, reading or writing failed.
    #[error("cannot connect")]
    Io(#[source] io::Error),
    /// The server refused the WebSocket upgrade, or answered it wrongly; the text says how.
    #[error("websocket upgrade failed: {0}")]
    Upgrade(String),
    /// The server refused the handshake.
    #[error("handshake refused with code {code}{}", because(.reason.as_ref()))]
    Refused {
        /// The code of the response, 400 from Pitaya servers.
        code: u16,
        /// Why, if the server says so.
        reason: Option<HandshakeReason>,
    },
    /// The body of the server's handshake cannot be used.
    #[error("unusable handshake response")]
    Handshake(#[source] HandshakeError),
    /// The server broke the protocol before the handshake was over, or our own handshake does not fit a packet.
    #[error("protocol violated in the handshake")]
    Protocol(#[source] Violation),
    /// The server closed the connection before the handshake was over.
    #[error("closed by the server in the handshake")]
    ServerClosed,
    /// The server kicked before the handshake was over.
    #[error("kicked in the handshake")]
    Kicked,
}

/// Why a request has no answer, or a notify was not sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server answered with an error.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No answer came in time; a late one is ignored.
    #[error("request timed out")]
    Timeout,
    /// The connection ended before the answer came, or had ended before.
    #[error("connection closed")]
    Closed(#[source] CloseReason),
    /// The connection broke and a new one is being made; nothing was sent.
    #[error("not connected, reconnecting")]
    Reconnecting,
    /// As many requests as allowed are waiting for an answer.
    #[error("too many requests in flight")]
    TooMany,
    /// The route is longer than 255 bytes.
    #[error("message cannot be sent")]
    Message(#[source] MessageError),
    /// The body, in bytes, does not fit a packet.
    #[error("body of {len} bytes does not fit a packet")]
    TooLarge {
        /// Length of the body in bytes.
        len: usize,
    },
    /// The argument cannot be serialised.
    #[error("cannot serialise the argument")]
    Encode(#[source] serde_json::Error),
    /// The answer is not of the expected type.
    #[error("cannot deserialise the answer")]
    Decode(#[source] serde_json::Error),
    /// The server speaks another serializer than JSON: use the methods that take and return bytes.
    #[error("the server's serializer is {0}, not json")]
    Serializer(String),
}

/// The error that a server answered a request with (protocol.md section 3.4).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the server answered with error {code:?}: {message}")]
pub struct ServerError {
    /// The code, such as `PIT-404`; empty if the payload has none or cannot be read.
    pub code: String,
    /// The text for people; empty if the payload has none or cannot be read.
    pub message: String,
    /// Further details; values that are not texts are given as their JSON.
    pub metadata: BTreeMap<String, String>,
    /// The payload as it came, for serializers other than JSON.
    pub raw: Bytes,
}

impl ServerError {
    /// Reads an error payload; what cannot be read stays empty.
    pub(crate) fn parse(raw: Bytes, serializer: &str) -> Self {
        let mut error = Self { code: String::new(), message: String::new(), metadata: BTreeMap::new(), raw };
        if serializer != "json" {
            return error;
        }
        if let Ok(Value::Object(fields)) = serde_json::from_slice(&error.raw) {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("code", value) => error.code = text(value),
                    ("msg", value) => error.message = text(value),
                    ("metadata", Value::Object(entries)) => {
                        error.metadata = entries.into_iter().map(|(k, v)| (k, text(v))).collect();
                    }
                    _ => {}
                }
            }
        }
        error
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}
