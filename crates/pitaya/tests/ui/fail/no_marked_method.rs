use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    async fn join(&self) -> Json<u32> {
        Json(1)
    }
}

fn main() {}
