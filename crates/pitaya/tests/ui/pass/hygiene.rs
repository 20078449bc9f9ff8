#![deny(warnings)]
#![allow(dead_code)]

//! The macro uses no name of the file that it stands in.

use pitaya as games;

mod elsewhere {
    pub use pitaya as framework;
}

struct Box;
struct Arc;
struct Component;
struct Request;
struct Handlers;
enum Option {}
enum Result {}
trait Default {}

fn drop(_: u8) {}

struct Room {
    request: u8,
    this: u8,
}

#[games::handlers(name = "room", crate = elsewhere::framework)]
impl Room {
    #[request(rename = "join", ordered, spawn)]
    async fn join(&self, needs: games::Session, games::Json(request): games::Json<u8>) -> games::Json<u8> {
        let _ = needs;
        games::Json(self.request + self.this + request)
    }

    #[notify]
    async fn r#loop(&self, argument_0: games::App, argument_1: games::Session) {
        let _ = (argument_0, argument_1);
    }
}

fn main() {
    let room = Room { request: 1, this: 2 };
    let _ = games::Server::frontend("game").handlers(room);
}
