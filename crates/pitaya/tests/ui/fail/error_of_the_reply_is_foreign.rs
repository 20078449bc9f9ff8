use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn load(&self) -> Result<Json<u32>, std::io::Error> {
        Ok(Json(7))
    }
}

fn main() {}
