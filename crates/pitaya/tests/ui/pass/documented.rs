//! A library with strict lints takes the macro.
#![deny(missing_docs, missing_debug_implementations, unused, unreachable_pub, rust_2018_idioms, unsafe_code)]
#![deny(clippy::all, clippy::pedantic)]

use pitaya::prelude::*;

/// A room.
#[derive(Debug)]
pub struct Room;

#[handlers(name = "room", ordered)]
impl Room {
    /// Joins.
    ///
    /// # Errors
    ///
    /// The name is taken.
    #[request]
    pub async fn join(&self, session: Session, Json(name): Json<String>) -> Result<Json<usize>> {
        session.bind(name).await?;
        Ok(Json(1))
    }
}

fn main() {
    drop(Server::frontend("game").handlers(Room));
}
