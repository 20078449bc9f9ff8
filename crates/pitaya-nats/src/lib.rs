//! RPC between servers on NATS.
//!
//! [`NatsClient`] calls other servers and publishes to them, [`NatsServer`] takes what they send. Each has a connection of
//! its own, to servers of its own. Subjects and payloads are those of every Pitaya (protocol.md 6), so servers in Go and
//! in Rust share a cluster.
//!
//! # What is promised
//!
//! * **A call is run once at the most**, and [`NotDelivered`](pitaya_core::cluster::RpcError::NotDelivered) is a proof: NATS
//!   itself said that nobody listens. After any other failure the call may have been run, or be run yet.
//! * **Order**: calls that are polled one after the other arrive in that order, and so do messages on one subject, while one
//!   connection lasts; also those that find no room in its queue of [16,384](settings::QUEUE) messages, and whoever polls them
//!   again or does not.
//! * **A broken connection is made again**, with all subscriptions, until that succeeds (or as often as
//!   [`settings::CLIENT_RETRIES`] says). Calls in flight, and those of the first half second, wait for it; when the half
//!   second is over they all fail as disconnected, and so do new ones, at once. What was sent while the connection was
//!   broken is lost, as always on NATS.
//! * **Lame duck**: when a NATS server says that it is about to stop, a connection to another one of its cluster is made
//!   first, with the same subscriptions. Both are read for two seconds, then the old one is closed. A call that came by
//!   both is known by its reply subject and run once; a push, kick or bind of ours is known by a header. One of a Go server
//!   has none, and may come twice. Order is not kept across the change.
//! * **Nothing waits**: what arrives is handed to the engine at once. Should the machine be too busy even for that, the
//!   library throws away messages beyond the first 262,144 of a subscription; they are counted in `dropped_messages`.
//!
//! A user costs two subscriptions, which are 10 to 11 KB of memory in the client library (each has a channel, which makes room
//! for 32 messages at once), and a round trip to NATS: `cargo xtask bench idle --nats`.
//!
//! No type of the client library is in the interface of this crate.

mod calls;
mod client;
mod connection;
mod echo;
mod intake;
mod keeper;
mod link;
mod options;
mod overflow;
mod pending;
mod recent;
mod server;
pub mod settings;
mod subject;
mod subscription;
mod subscriptions;

pub use client::NatsClient;
pub use server::NatsServer;
