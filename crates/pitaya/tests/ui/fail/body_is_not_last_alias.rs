use pitaya::prelude::*;

type Msg<T> = Json<T>;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, Json(name): Msg<String>, session: Session) {
        drop((session, name));
    }
}

fn main() {}
