#![deny(warnings)]

//! The tokens of one handler may come from different places.

use pitaya::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Entry {
    name: String,
}

macro_rules! echo {
    ($room:ident, $name:literal, $method:ident($request:ident: $argument:ty) -> $reply:ty) => {
        struct $room;

        #[handlers(name = $name)]
        impl $room {
            #[request]
            async fn $method(&self, session: Session, $request: $argument) -> $reply {
                let _ = session;
                $request.into()
            }

            #[notify]
            async fn fixed(&self, Json(_): Json<u8>) {}
        }
    };
}

echo!(Room, "room", join(entry: Json<Entry>) -> Json<Entry>);
echo!(Hall, "hall", enter(body: Bytes) -> Option<Bytes>);

fn main() {
    drop(Server::frontend("game").handlers(Room).handlers(Hall));
}
