//! A minute of the soak, with few clients: a server gives back what its clients took.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use pitaya_bench::soak::{self, Plan};
use std::time::Duration;

/// `cargo xtask soak` does the same with more clients and for as long as one likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_gives_back_what_its_clients_took() {
    let server = env!("CARGO_BIN_EXE_bench-server").into();
    let plan = Plan { server, time: Duration::from_secs(60), clients: 40 };
    let outcome = soak::run(&plan).await.unwrap();
    assert!(outcome.complaints().is_empty(), "{:#?}\n{outcome}", outcome.complaints());
}
