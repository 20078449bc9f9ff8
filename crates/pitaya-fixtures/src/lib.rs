//! Real servers for tests: [`Nats`] and [`Etcd`] as child processes on free ports, and in front of them a
//! [`Proxy`] that makes the faults of a network, or a [`GrpcProxy`] that treats each method in its own way.
//!
//! A test starts what it needs, in any number, next to all other tests. Everything dies with the test, however that ends.
//! Everything here panics when it fails: that is what fails a test.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used, reason = "it fails tests, by panicking")]
#![allow(clippy::disallowed_methods, reason = "the tasks of a proxy end with it")]

mod certificates;
mod etcd;
mod grpc_proxy;
mod nats;
mod process;
mod proxy;

pub use certificates::Certificates;
pub use etcd::Etcd;
pub use grpc_proxy::GrpcProxy;
pub use nats::Nats;
pub use proxy::Proxy;

use std::time::Duration;

/// The longest that a server may take to start; never waited for when it does.
pub const PATIENCE: Duration = Duration::from_secs(60);
