#![deny(warnings)]

use std::sync::Arc;

use pitaya::{Route, extract::State, prelude::*};

struct Gold;
struct Room;

#[handlers]
impl Room {
    #[request]
    async fn by_reference(
        &self,
        session: Session,
        app: App,
        context: Context,
        route: Route,
        State(gold): State<Gold>,
        maybe_session: Option<Session>,
        maybe_gold: Option<State<Gold>>,
        room: Arc<Self>,
        body: Bytes,
    ) -> Bytes {
        drop((session, app, context, route, gold, maybe_session, maybe_gold, room));
        body
    }

    #[request]
    async fn by_arc(self: Arc<Self>, _session: Session, Json(mut numbers): Json<Vec<u8>>) -> Vec<u8> {
        numbers.push(1);
        numbers
    }

    #[request]
    async fn by_full_path(self: std::sync::Arc<Self>) -> &'static [u8] {
        b"bytes"
    }

    #[request]
    async fn without_receiver(Json((x, y)): Json<(u8, u8)>) -> Json<u16> {
        Json(u16::from(x) + u16::from(y))
    }

    #[request]
    async fn without_anything() {}

    #[notify]
    async fn body_in_front_of_nothing(&self, _body: Option<Bytes>) -> Result<()> {
        Ok(())
    }

    #[request]
    async fn borrowed(&self, session: Session) -> Result<Json<&str>> {
        session.push("route", Json(self.name())).await?;
        Ok(Json(self.name()))
    }

    fn name(&self) -> &str {
        "room"
    }

    fn ordinary(&mut self) -> usize {
        1
    }
}

fn main() {
    assert_eq!(Room.ordinary(), 1);
    drop(Server::frontend("game").handlers(Room));
}
