#![doc = include_str!("../docs/crate.md")]
#![allow(clippy::missing_panics_doc, reason = "assertions panic: that is how a test fails, and the crate page says so")]

mod client;
mod fail;
mod game;

pub use client::TestClient;
pub use game::TestGame;
pub use pitaya_client::{Builder, CloseReason, ConnectError, Push, ServerError};
