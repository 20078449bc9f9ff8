use pitaya::prelude::*;

struct Entry {
    name: String,
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(entry): Json<Entry>) {
        drop((session, entry.name));
    }
}

fn main() {}
