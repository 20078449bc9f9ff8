use pitaya::prelude::*;

struct Room;

fn main() {
    drop(Server::frontend("game").handlers(Room));
}
