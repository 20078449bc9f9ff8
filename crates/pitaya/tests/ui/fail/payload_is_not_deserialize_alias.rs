use pitaya::prelude::*;

type Msg<T> = Json<T>;

struct Entry {
    name: String,
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(entry): Msg<Entry>) {
        drop((session, entry.name));
    }

    #[request]
    async fn perhaps(&self, entry: Option<Msg<Entry>>) {
        drop(entry);
    }
}

fn main() {}
