use pitaya::prelude::*;

struct Room;

#[remotes(ordered)]
impl Room {
    #[remote]
    async fn stats(&self) {}
}

struct Hall;

#[remotes]
impl Hall {
    #[remote(spawn)]
    async fn stats(&self) {}
}

struct Shop;

#[remotes]
impl Shop {
    #[remote]
    async fn change(&mut self) {}
}

fn main() {}
