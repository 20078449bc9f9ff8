//! An async client for Pitaya and pomelo game servers, over TCP and WebSocket.
//!
//! [`Client`] sends requests and notifies and hands out pushes; [`Builder`] has the settings. It is what the tests and
//! tools of this workspace use, so it trusts no server: whatever comes over the wire, or does not come, ends in an
//! error or a [`CloseReason`] in bounded time and bounded memory.
//!
//! # Examples
//!
//! ```no_run
//! use pitaya_client::Client;
//! use serde_json::{Value, json};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("ws://127.0.0.1:3251").await?;
//! let mut messages = client.on("onMessage");
//! let joined: Value = client.request("room.room.join", &json!({"name": "ada"})).await?;
//! client.notify("room.room.message", &json!({"content": "hello"})).await?;
//! while let Some(push) = messages.next().await {
//!     println!("{}", push.json::<Value>()?);
//! }
//! println!("over: {}", client.closed().await);
//! # Ok(())
//! # }
//! ```
//!
//! # Time-outs and bounds
//!
//! | what | setting | default |
//! |---|---|---|
//! | connect, upgrade and handshake together | [`Builder::connect_timeout`] | 10 s |
//! | answer to a request | [`Builder::request_timeout`] | 5 s |
//! | no packet at all | [`Builder::silence`] | 3 heartbeat intervals |
//! | a packet that was begun | [`Builder::packet_timeout`] | 30 s |
//! | body of a packet | [`Builder::max_packet`] | 4 MiB |
//! | inflated body | [`Builder::max_inflated`] | 16 MiB |
//! | requests in flight | [`Builder::max_in_flight`] | 1024 |
//! | waiting pushes, per subscription | [`Builder::push_capacity`], [`Builder::push_bytes`] | 1024, 16 MiB |

mod address;
mod builder;
mod client;
mod driver;
mod error;
mod link;
mod options;
mod pending;
mod push;
mod reconnect;
mod session;
mod shared;
mod state;

pub use builder::Builder;
pub use client::Client;
pub use error::{CloseReason, ConnectError, RequestError, ServerError, Violation};
pub use pitaya_protocol::{Compression, Dictionary, HandshakeData, HandshakeReason, HandshakeResponse, HandshakeSys};
pub use push::{Push, Pushes};
pub use reconnect::Reconnect;
pub use state::{State, States};
