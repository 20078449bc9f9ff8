use garde::Validate;
use pitaya::prelude::*;

#[derive(serde::Deserialize, Validate)]
struct Entry {
    #[garde(length(min = 1))]
    name: String,
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, Valid(Json(entry)): Valid<Json<Entry>>, session: Session) {
        let _ = (session, entry.name);
    }
}

fn main() {}
