//! Behaviour of a stand-alone server, through real sockets and a real client.
//!
//! One binary, so that it is linked once; one module for each topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod acceptors;
mod build;
mod cluster;
mod concurrency;
mod connection;
mod errors;
mod groups;
mod handlers;
mod hooks;
mod lifecycle;
mod liveness;
mod migrating;
mod ordering;
mod parts;
mod pipelines;
mod pushes;
mod serializers;
mod sessions;
mod settings;
mod shutdown;
mod support;
mod validators;
mod websocket;
