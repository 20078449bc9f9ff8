//! The client against servers that are written by hand, most of them to misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, unreachable_pub, reason = "tests")]

mod basics;
mod encoding;
mod handshake;
mod lifetime;
mod messages;
mod pushes;
mod reconnect;
mod requests;
mod support;
mod timing;
mod upgrade;
mod websocket;
