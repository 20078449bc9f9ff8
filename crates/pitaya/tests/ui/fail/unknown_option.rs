use pitaya::prelude::*;

struct Room;

#[handlers(nmae = "room")]
impl Room {
    #[request]
    async fn join(&self) {}
}

struct Hall;

#[handlers]
impl Hall {
    #[request(route = "join")]
    async fn join(&self) {}

    #[notify(spawn, oredred)]
    async fn leave(&self) {}
}

fn main() {}
