//! A serializer of the user (F072): MessagePack, with nothing but what `pitaya` exports.

use std::{collections::BTreeMap, sync::Arc};

use garde::Validate;
use pitaya::{
    App, Bytes, Component, Error, FromRequest, IntoPayload, IntoReply, Needs, Reply, Request, Result, Serializer,
    Server, Session, code,
    extract::{TakesPayload, Valid},
    handlers,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{announced, error_body};
use crate::support::{Running, serve, soon};

pub(super) const MSGPACK: &str = "msgpack";

/// What the app announces, and how it writes errors.
pub(super) struct MsgPackSerializer;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Failure {
    code: String,
    text: String,
    details: BTreeMap<String, String>,
}

impl Serializer for MsgPackSerializer {
    fn name(&self) -> &'static str {
        MSGPACK
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        let failure = Failure {
            code: error.code().to_owned(),
            text: error.message().to_owned(),
            details: error.metadata().clone(),
        };
        rmp_serde::to_vec_named(&failure).unwrap().into()
    }
}

/// The payload type that belongs to it.
pub(super) struct MsgPack<T>(pub(super) T);

impl<T: DeserializeOwned, C: Send + Sync> FromRequest<C> for MsgPack<T> {
    type Takes = TakesPayload;

    fn needs(needs: &mut Needs) {
        needs.format(MSGPACK);
    }

    fn is_absent(request: &Request) -> bool {
        request.body.is_empty()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let value = rmp_serde::from_slice(&request.body);
        value.map(Self).map_err(|error| Error::bad_request(format!("invalid MessagePack: {error}")))
    }
}

impl<T: Serialize + Send> IntoPayload for MsgPack<T> {
    const FORMAT: Option<&'static str> = Some(MSGPACK);

    fn into_payload(self) -> Result<Bytes> {
        rmp_serde::to_vec_named(&self.0).map(Bytes::from).map_err(Error::internal)
    }
}

impl<T: Serialize + Send> IntoReply for MsgPack<T> {
    fn needs(needs: &mut Needs) {
        needs.format(MSGPACK);
    }

    fn into_reply(self) -> Reply {
        self.into_payload()
    }
}

/// So that `Valid<MsgPack<T>>` is an argument.
impl<T: Validate> Validate for MsgPack<T> {
    type Context = T::Context;

    fn validate_into(
        &self,
        context: &Self::Context,
        parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        self.0.validate_into(context, parent, report);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
struct Item {
    #[garde(length(min = 1))]
    name: String,
    #[garde(skip)]
    count: Option<u8>,
}

fn item(name: &str, count: Option<u8>) -> Item {
    Item { name: name.to_owned(), count }
}

fn packed(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn unpacked<T: DeserializeOwned>(body: &[u8]) -> T {
    rmp_serde::from_slice(body).unwrap()
}

struct Bag;

#[handlers(name = "bag")]
impl Bag {
    /// Answers with one more, and pushes it.
    #[request]
    async fn more(&self, session: Session, MsgPack(it): MsgPack<Item>) -> Result<MsgPack<Item>> {
        let count =
            it.count.map(|count| count.checked_add(1).ok_or_else(|| Error::new("BAG-1", "full").with("at", 255)));
        let more = Item { count: count.transpose()?, ..it };
        session.push("more", MsgPack(&more)).await?;
        Ok(MsgPack(more))
    }

    #[request]
    async fn checked(&self, Valid(MsgPack(it)): Valid<MsgPack<Item>>) -> MsgPack<String> {
        MsgPack(it.name)
    }

    #[request]
    async fn share(&self, app: App, session: Session, MsgPack(it): MsgPack<Item>) -> Result<()> {
        session.bind("ada").await?;
        let group = app.group("bags");
        group.create().await?;
        group.add(&session.uid()?).await?;
        group.broadcast("game", "shared", MsgPack(&it)).await?.all()?;
        app.push("shared", MsgPack(&it)).to_users("game", [session.uid()?]).await?.all()
    }
}

async fn bag() -> Running {
    serve(Server::frontend("game").handlers(Bag).serializer(MsgPackSerializer)).await
}

#[tokio::test]
async fn the_handshake_names_it_and_messages_go_both_ways() {
    let server = bag().await;
    let client = server.client().await;
    assert_eq!(announced(&client), "msgpack");
    let mut more = client.on("more");
    for (sent, expected) in
        [(item("gold", Some(1)), item("gold", Some(2))), (item("\u{1f3b2}", None), item("\u{1f3b2}", None))]
    {
        let answer = client.request_bytes("bag.more", packed(&sent)).await.unwrap();
        assert_eq!(unpacked::<Item>(&answer), expected);
        assert_eq!(unpacked::<Item>(&soon("the push", more.next()).await.unwrap().body), expected);
    }
    let mut shared = client.on("shared");
    assert_eq!(client.request_bytes("bag.share", packed(&item("gold", None))).await.unwrap(), "");
    for _ in 0..2 {
        assert_eq!(unpacked::<Item>(&soon("shared", shared.next()).await.unwrap().body), item("gold", None));
    }
}

#[tokio::test]
async fn errors_are_written_in_it() {
    let server = bag().await;
    let client = server.client().await;
    let failure: Failure =
        unpacked(&error_body(client.request_bytes("bag.more", packed(&item("gold", Some(255)))).await));
    let details = BTreeMap::from([("at".to_owned(), "255".to_owned())]);
    assert_eq!(failure, Failure { code: "BAG-1".to_owned(), text: "full".to_owned(), details });
    for (route, body, code) in [
        ("bag.more", &b"\xc1"[..], code::BAD_REQUEST),
        ("bag.more", b"", code::BAD_REQUEST),
        ("bag.checked", &packed(&item("", None)), code::BAD_REQUEST),
        ("bag.none", b"", code::NOT_FOUND),
        ("shop.bag.more", b"", code::INTERNAL),
    ] {
        let failure: Failure = unpacked(&error_body(client.request_bytes(route, body.to_vec()).await));
        assert_eq!(failure.code, code, "{route}");
    }
    let name = client.request_bytes("bag.checked", packed(&item("gold", None))).await.unwrap();
    assert_eq!(unpacked::<String>(&name), "gold");
}

/// Functions and closures take the payload types of the user, too.
#[tokio::test]
async fn closures_speak_it() {
    let closures = Component::builder("bag", Arc::new(()))
        .request("twice", async |MsgPack(word): MsgPack<String>| MsgPack(word.repeat(2)))
        .build();
    let server = serve(Server::frontend("game").component(closures).serializer(MsgPackSerializer)).await;
    let answer = server.client().await.request_bytes("bag.twice", packed(&"ab")).await.unwrap();
    assert_eq!(unpacked::<String>(&answer), "abab");
}
