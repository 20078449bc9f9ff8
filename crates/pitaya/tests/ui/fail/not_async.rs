use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    fn join(&self) -> Json<u32> {
        Json(1)
    }
}

fn main() {}
