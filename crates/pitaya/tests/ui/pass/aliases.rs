#![deny(warnings)]

use pitaya::{FromRequest, extract::TakesPayload, prelude::*};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

type Msg<T> = Json<T>;
type Answer<T> = std::result::Result<Msg<T>, Error>;
type Maybe<T> = Option<Msg<T>>;
type Unit = ();

/// A wrapper around any other payload.
struct Valid<P>(P);

impl<P: FromRequest<C, Takes = TakesPayload> + Send, C: Send + Sync> FromRequest<C> for Valid<P> {
    type Takes = TakesPayload;

    async fn from_request(request: &mut Request, component: &Arc<C>) -> Result<Self> {
        P::from_request(request, component).await.map(Self)
    }
}

#[derive(Deserialize, Serialize)]
struct Entry {
    name: String,
}

struct Room;

#[handlers]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(entry): Msg<Entry>) -> Answer<Entry> {
        session.push("joined", Json(&entry)).await?;
        Ok(Json(entry))
    }

    #[request]
    async fn perhaps(&self, entry: Maybe<Entry>) -> Maybe<Entry> {
        entry
    }

    #[request]
    async fn valid(&self, Valid(Json(entry)): Valid<Msg<Entry>>) -> Result<Unit> {
        drop(entry);
        Ok(())
    }

    #[notify]
    async fn nothing(&self) -> Unit {}
}

fn takes<T: DeserializeOwned>() {}

fn main() {
    takes::<Entry>();
    drop(Server::frontend("game").handlers(Room));
}
