use std::cell::Cell;

use pitaya::prelude::*;

struct Room {
    members: Cell<usize>,
}

#[handlers]
impl Room {
    #[request]
    async fn count(&self) -> Json<usize> {
        Json(1)
    }
}

fn main() {}
