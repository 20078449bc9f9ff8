use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn count(&self) -> u32 {
        7
    }

    #[request]
    async fn name(&self) -> Result<String> {
        Ok("lobby".to_owned())
    }
}

fn main() {}
