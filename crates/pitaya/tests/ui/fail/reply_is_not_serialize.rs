use pitaya::prelude::*;

struct Joined {
    members: usize,
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self) -> Result<Json<Joined>> {
        Ok(Json(Joined { members: 1 }))
    }
}

fn main() {}
