use pitaya::prelude::*;

struct Room {
    members: usize,
}

#[handlers]
impl Room {
    #[request]
    async fn boxed(self: Box<Self>) -> Json<usize> {
        Json(self.members)
    }
}

fn main() {}
