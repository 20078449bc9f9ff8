#![deny(warnings)]

use std::marker::PhantomData;

use garde::Validate;
use pitaya::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

type Checked<T> = Valid<Json<T>>;

#[derive(Serialize, Deserialize, Validate)]
struct Entry {
    #[garde(length(min = 1))]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message, Validate)]
struct Move {
    #[prost(uint32, tag = "1")]
    #[garde(range(max = 8))]
    x: u32,
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, Valid(Json(entry)): Valid<Json<Entry>>) -> Json<Entry> {
        Json(entry)
    }

    #[request]
    async fn alias(&self, _session: Session, entry: Checked<Entry>) -> Json<String> {
        Json(entry.0.0.name)
    }

    #[notify]
    async fn perhaps(&self, _entry: Option<Checked<Entry>>) {}

    #[request]
    async fn play(&self, Valid(Protobuf(it)): Valid<Protobuf<Move>>) -> Protobuf<Move> {
        Protobuf(it)
    }
}

struct Store<T>(PhantomData<T>);

#[handlers(name = "store")]
impl<T> Store<T>
where
    T: DeserializeOwned + Validate<Context = ()> + Send + Sync + 'static,
{
    #[notify]
    async fn put(&self, Valid(Json(_item)): Valid<Json<T>>) {}
}

fn main() {
    let _ = Server::frontend("game").handlers(Room).handlers(Store::<Entry>(PhantomData));
}
