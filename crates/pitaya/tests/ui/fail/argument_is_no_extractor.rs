use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, count: u32, Json(name): Json<String>) {
        drop((session, count, name));
    }

    #[request]
    async fn say(&self, text: &str) {
        drop(text.len());
    }

    #[request]
    async fn put(&self, thing: Option<Vec<u8>>) {
        drop(thing);
    }
}

fn main() {}
