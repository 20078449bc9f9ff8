use pitaya::prelude::*;

struct Room;

#[handlers(name = "game.room")]
impl Room {
    #[request]
    async fn join(&self) {}
}

struct Hall;

#[handlers]
impl Hall {
    #[request(rename = "")]
    async fn join(&self) {}

    #[request(rename = "go.away")]
    async fn leave(&self) {}
}

fn main() {}
