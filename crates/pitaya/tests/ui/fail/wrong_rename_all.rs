use pitaya::prelude::*;

struct Room;

#[handlers(rename_all = "camelcase")]
impl Room {
    #[request]
    async fn join(&self) {}
}

fn main() {}
