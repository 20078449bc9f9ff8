use pitaya::prelude::*;

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join<T: Send>(&self, entry: Json<T>) {
        drop(entry);
    }

    #[request]
    async fn size<const N: usize>(&self) -> Json<usize> {
        Json(N)
    }
}

fn main() {}
