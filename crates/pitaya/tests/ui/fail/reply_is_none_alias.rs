use pitaya::prelude::*;

struct Entry;

type Msg<T> = Json<T>;
type Answer<T> = std::result::Result<Msg<T>, Error>;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn entry(&self) -> Answer<Entry> {
        Ok(Json(Entry))
    }
}

fn main() {}
