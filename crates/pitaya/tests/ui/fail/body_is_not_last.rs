use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, Json(name): Json<String>, session: Session) {
        drop((session, name));
    }

    #[request]
    async fn put(&self, session: Session, first: Bytes, Json(second): Json<String>) {
        drop((session, first, second));
    }

    #[notify]
    async fn say(&self, text: Option<Json<String>>, session: Session) {
        drop((text, session));
    }
}

fn main() {}
