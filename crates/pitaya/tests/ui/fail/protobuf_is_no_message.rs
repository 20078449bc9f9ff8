use pitaya::prelude::*;

#[derive(Default)]
struct Entry;

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, Protobuf(entry): Protobuf<Entry>) -> Protobuf<Entry> {
        Protobuf(entry)
    }
}

fn main() {}
