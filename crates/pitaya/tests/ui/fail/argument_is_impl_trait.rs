use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn leave(&self, entry: Json<impl Send>) {
        drop(entry);
    }
}

fn main() {}
