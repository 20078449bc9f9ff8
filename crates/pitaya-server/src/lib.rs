//! The engine of Pitaya in Rust: accepts clients, runs their connections and calls handlers.
//!
//! Users depend on the `pitaya` crate. An app is described with [`Server::frontend`], checked by
//! [`ServerBuilder::build`], and run by [`Server::serve`].
//!
//! The life of a message: an [`acceptor`] hands a connection to a task of its own (`connection`), which cuts its
//! bytes into packets, runs the state machine of `pitaya-protocol`, and passes each message to `dispatch`, which finds
//! the handler in the `registry` and polls its chain once in place; what suspends goes on in the same task (`runner`).
//! Replies and pushes meet in the connection's `outbox`, from which one write takes whatever is queued.

pub mod acceptor;
mod builder;
mod cluster;
mod connection;
mod dispatch;
mod engine;
mod groups;
pub mod layers;
mod lifecycle;
mod metrics;
mod pipeline;
mod problem;
mod registry;
mod run;
mod runner;
mod server;
pub mod settings;
pub mod signal;

pub use builder::ServerBuilder;
pub use cluster::in_process;
pub use groups::MemoryGroups;
pub use problem::{BuildError, Problem};
pub use server::{Serve, ServeError, Server};
