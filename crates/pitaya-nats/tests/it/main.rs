//! Servers that call each other, on real NATS servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod binds;
mod calls;
mod capacity;
mod faults;
mod lame_duck;
mod messages;
mod support;
