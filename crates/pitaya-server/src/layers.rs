//! Layers that are ready to use, and the adapter for those of tower.
//!
//! [`ServerBuilder::layer`](crate::ServerBuilder::layer) puts a layer around all handlers; within [`Only`] it is around
//! some of them.
//!
//! ```
//! use std::time::Duration;
//! use pitaya_server::{Server, layers::{ConcurrencyLimit, Only, RequireBound, Timeout}};
//!
//! let server = Server::frontend("game")
//!     .layer(RequireBound::except(["account.login"]))
//!     .layer(Only::new(["shop.buy"], ConcurrencyLimit::new(8).waiting(100, Duration::from_secs(1))))
//!     .layer(Timeout::new(Duration::from_secs(5)));
//! # let _ = server;
//! ```

mod concurrency;
mod only;
mod require_bound;
mod timeout;
mod tower;

pub use concurrency::ConcurrencyLimit;
pub use only::Only;
pub use require_bound::RequireBound;
pub use timeout::Timeout;
pub use tower::{FromTower, Rest, RestFuture, from_tower};

use pitaya_core::Route;

/// Whether a route is among these, which are written with or without server type.
fn names(routes: &[String], route: &Route) -> bool {
    routes.iter().any(|name| name == route.short() || name == route.as_str())
}

fn owned<R: Into<String>>(routes: impl IntoIterator<Item = R>) -> Vec<String> {
    routes.into_iter().map(Into::into).collect()
}
