use pitaya::prelude::*;

type Checked<T> = Valid<Json<T>>;

#[derive(serde::Deserialize)]
struct Entry {
    name: String,
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, entry: Checked<Entry>) {
        let _ = entry.0.0.name;
    }
}

fn main() {}
