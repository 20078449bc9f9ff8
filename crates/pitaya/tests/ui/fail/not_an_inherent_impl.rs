use pitaya::prelude::*;

trait Joins {
    async fn join(&self);
}

struct Room;

#[handlers]
impl Joins for Room {
    #[request]
    async fn join(&self) {}
}

#[handlers]
struct Hall;

fn main() {}
