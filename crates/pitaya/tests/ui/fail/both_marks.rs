use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    #[notify]
    async fn join(&self) {}

    #[notify]
    #[notify]
    async fn leave(&self) {}
}

fn main() {}
