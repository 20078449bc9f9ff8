use pitaya::prelude::*;

struct Room {
    members: usize,
}

#[handlers]
impl Room {
    #[request]
    async fn join(&mut self) -> Json<usize> {
        self.members += 1;
        Json(self.members)
    }

    #[request]
    async fn leave(self) -> Json<usize> {
        Json(self.members)
    }
}

fn main() {}
