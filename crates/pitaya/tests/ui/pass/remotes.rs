//! One type with both attributes, on two blocks and on one.

use pitaya::{prelude::*, Handlers, Remotes};

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, _session: Session) -> Json<u8> {
        Json(1)
    }
}

#[remotes(name = "room", rename_all = "camelCase")]
impl Room {
    #[remote]
    async fn all_stats(&self, _app: App, _context: Context, _state: State<u8>, _q: Protobuf<()>) -> Result<Protobuf<()>> {
        Ok(Protobuf(()))
    }

    #[remote(rename = "quiet")]
    async fn nothing() {}
}

struct Hall;

#[handlers]
#[remotes]
impl Hall {
    #[request]
    #[remote]
    async fn both(&self) {}
}

fn main() {
    let names = |component: pitaya::Component| -> Vec<String> {
        component.handlers().iter().map(|handler| handler.method.clone()).collect()
    };
    let room = std::sync::Arc::new(Room);
    assert_eq!(names(room.clone().into_component()), ["join"]);
    assert_eq!(names(room.into_remote_component()), ["allStats", "quiet"]);
    let hall = std::sync::Arc::new(Hall);
    assert_eq!(names(hall.clone().into_component()), names(hall.into_remote_component()));
}
