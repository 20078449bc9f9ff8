//! What the benchmark's programs share: the bytes on the wire, the payload and the arguments.
//!
//! Programs use it:
//!
//! - `limit-server`, a hand-written loop that does the least that a server must do;
//! - `bench-server`, the same as an ordinary application of this framework;
//! - `limit-pair`, a hand-written frontend and backend, and `bench-pair`, the same as two servers of this framework;
//! - `services`, a nats-server and an etcd for them;
//! - `load`, the load generator, which runs in a process of its own;
//! - `crowd`, thousands of clients that are mostly quiet, in a process of its own, too;
//! - `soak`, clients that come, misbehave and go, to find what the server does not give back.
//!
//! `cargo xtask bench` starts them and compares ours with the hand-written ones.
//! The limit and the generators write the protocol by hand, without our protocol crate:
//! a mistake (or a slowness) there must not cancel out of the comparison.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures real time and owns its tasks itself"
)]

pub mod args;
pub mod client;
pub mod handshake;
pub mod lane;
pub mod limit;
pub mod packet;
pub mod pair;
pub mod payload;
pub mod server;
pub mod soak;
pub mod stats;
pub mod upgrade;
pub mod websocket;

/// The route of the case *ready*: its handler never suspends.
pub const ROUTE_READY: &str = "bench.echo";

/// The route of the case *suspends once*: its handler yields to the runtime before it answers.
pub const ROUTE_SUSPENDS: &str = "bench.suspends";

/// The route of a request that puts its client into the one group that there is.
pub const ROUTE_JOIN: &str = "bench.join";

/// The route of a request whose payload is pushed to all members of the group.
pub const ROUTE_BROADCAST: &str = "bench.broadcast";

/// The route of such a push.
pub const PUSH_NEWS: &str = "bench.news";

/// The route of the one large push that a client asks for.
pub const PUSH_GIFT: &str = "bench.gift";

/// How the packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A byte stream of packets.
    Tcp,
    /// One packet in each binary frame.
    WebSocket,
}

impl std::str::FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "ws" => Ok(Self::WebSocket),
            _ => Err(format!("unknown transport `{text}`: tcp or ws")),
        }
    }
}

/// Makes the error for bytes that break the protocol.
pub(crate) fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
