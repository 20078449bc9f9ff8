use pitaya::prelude::*;

struct Room;

#[handlers(name)]
impl Room {
    #[request]
    async fn join(&self) {}
}

struct Hall;

#[handlers]
impl Hall {
    #[request = "join"]
    async fn join(&self) {}
}

fn main() {}
