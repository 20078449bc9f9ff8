//! The cases of Go Pitaya's end-to-end suite (`e2e`, v2.11.23), on the server that passes that suite in the place of Go's:
//! processes of their own, on a real etcd and a real NATS. Beside what the suite looks at, each answer is compared whole.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of a test fail the test, and its tasks end with it"
)]

#[path = "suite/binary.rs"]
mod binary;
#[path = "suite/handlers.rs"]
mod handlers;
#[path = "suite/rpc.rs"]
mod rpc;
#[path = "suite/users.rs"]
mod users;
#[path = "suite/world.rs"]
mod world;
