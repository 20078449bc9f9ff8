//! What a connection is doing, and what packets mean to it.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::packet::PacketKind;

/// Which side of the connection a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Waits for the handshake, answers it, waits for the Ack.
    Server,
    /// Has sent the handshake, waits for the response, sends the Ack.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// How far a connection has come; it only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The peer's Handshake packet has not come yet.
    Handshake,
    /// The Handshake packet is there, the engine has not decided yet.
    Accepting,
    /// Server only: the response is sent, the Ack has not come yet.
    AwaitingAck,
    /// Data may flow.
    Working,
    /// Over.
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "handshake",
            Self::Accepting => "accepting",
            Self::AwaitingAck => "awaiting ack",
            Self::Working => "working",
            Self::Closed => "closed",
        })
    }
}

/// Longest packet bodies to accept, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Before the connection works. For a server a few KiB do; a client must leave room for the dictionary.
    pub handshake: usize,
    /// While it works.
    pub packet: usize,
}

/// What a packet means to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer's handshake: parse the body, then accept or refuse.
    Handshake(Bytes),
    /// Server only: the Ack came, data may flow.
    Established,
    /// One message.
    Data(Bytes),
    /// The peer is alive; nothing to do.
    Heartbeat,
    /// Client only: the server ends the connection; the machine is closed.
    Kicked(Bytes),
    /// Tolerated and without meaning.
    Ignored,
}

/// What a peer, or the engine, must not do in the current state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet that has no place in the state.
    #[error("{role} received a {kind} packet in state {state}")]
    Unexpected {
        /// The receiving side.
        role: Role,
        /// What came.
        kind: PacketKind,
        /// The state before it came; the machine is closed since.
        state: State,
    },
    /// The engine accepted a handshake that does not wait for it.
    #[error("no handshake to accept in state {state}")]
    NothingToAccept {
        /// The state, which stays.
        state: State,
    },
}
