use pitaya::prelude::*;

#[derive(serde::Deserialize)]
struct Entry {
    name: String,
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, session: Session, Valid(Json(entry)): Valid<Json<Entry>>) {
        let _ = (session, entry.name);
    }
}

fn main() {}
