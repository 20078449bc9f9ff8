//! Discovery on a real etcd: servers that come, change, die and leave; an etcd that is away, frozen, cut off or empty; and each
//! setting.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod connection;
mod faults;
mod lease;
mod servers;
mod settings;
mod support;
