//! Behaviour of a stand-alone server, through real sockets and a real client.
//!
//! One binary, so that it is linked once; one module for each topic.

mod acceptors;
mod connection;
mod handlers;
mod ordering;
mod sessions;
mod settings;
mod support;
mod websocket;
