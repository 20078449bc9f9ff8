//! Payloads that do not belong to the app's serializer: handlers are refused by `build`, pushes before they are sent.

use std::{collections::BTreeSet, sync::Arc};

use garde::Validate;
use pitaya::{
    App, Bytes, Component, Error, IntoPayload, Json, JsonSerializer, Problem, Protobuf, ProtobufSerializer, Result,
    Server, ServerBuilder, Session, extract::Valid, from_fn, handlers,
};
use pitaya_protocol::Message;
use serde::{Deserialize, Serialize};

use super::{
    announced,
    msgpack::{MSGPACK, MsgPack, MsgPackSerializer},
};
use crate::support::{Pipes, Raw, serve};

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize, Validate)]
struct Point {
    #[prost(int32, tag = "1")]
    #[garde(skip)]
    x: i32,
}

type Msg<T> = Json<T>;
type Checked<T> = Valid<Msg<T>>;
type Answer<T> = Result<Protobuf<T>>;

/// A handler for each way in which a format can be asked for.
struct Every;

#[handlers(name = "every")]
impl Every {
    #[request]
    async fn json(&self, _p: Json<Point>) {}
    #[request]
    async fn json_alias(&self, _p: Msg<Point>) {}
    #[request]
    async fn json_valid(&self, _p: Valid<Json<Point>>) {}
    #[request]
    async fn json_valid_alias(&self, _p: Option<Checked<Point>>) {}
    #[request]
    async fn json_reply(&self) -> Result<Option<Msg<Point>>> {
        Ok(None)
    }

    #[notify]
    async fn protobuf(&self, _p: Protobuf<Point>) {}
    #[notify]
    async fn protobuf_valid(&self, _p: Valid<Protobuf<Point>>) {}
    #[request]
    async fn protobuf_reply(&self, _p: Bytes) -> Answer<Point> {
        Err("none".into())
    }

    #[request]
    async fn msgpack_valid(&self, _p: Option<Valid<MsgPack<Point>>>) {}
    #[request]
    async fn msgpack_reply(&self) -> std::result::Result<MsgPack<u8>, Error> {
        Ok(MsgPack(1))
    }

    /// Both at once: wrong with any serializer.
    #[request]
    async fn protobuf_json(&self, _p: Protobuf<Point>) -> Json<u8> {
        Json(1)
    }

    #[request]
    async fn bytes(&self, _session: Session, _p: Bytes) -> Bytes {
        Bytes::new()
    }
    #[notify]
    async fn nothing(&self) {}
}

/// The routes that are refused, and what they speak.
fn refused(builder: ServerBuilder, speaks: &'static str) -> BTreeSet<(String, &'static str)> {
    let Err(error) = builder.acceptor(Pipes::new().1).build() else { panic!("it was built") };
    let problem = |problem: &Problem| match problem {
        Problem::Format { route, format, serializer } if *serializer == speaks => {
            assert_eq!(problem.to_string(), format!("{route} speaks {format}, but the app's serializer is {speaks}"));
            (route.as_str().to_owned(), *format)
        }
        other => panic!("{other}"),
    };
    let problems: BTreeSet<_> = error.problems().iter().map(problem).collect();
    assert_eq!(problems.len(), error.problems().len(), "each is told once");
    problems
}

#[test]
fn build_lists_every_route_that_speaks_another_format() {
    let all = [
        ("json", "json"),
        ("json_alias", "json"),
        ("json_valid", "json"),
        ("json_valid_alias", "json"),
        ("json_reply", "json"),
        ("protobuf", "protobuf"),
        ("protobuf_valid", "protobuf"),
        ("protobuf_reply", "protobuf"),
        ("msgpack_valid", MSGPACK),
        ("msgpack_reply", MSGPACK),
        ("protobuf_json", "protobuf"),
        ("protobuf_json", "json"),
    ];
    for speaks in ["json", "protobuf", MSGPACK] {
        let builder = Server::frontend("game").handlers(Every);
        let builder = match speaks {
            "json" => builder.serializer(JsonSerializer),
            "protobuf" => builder.serializer(ProtobufSerializer),
            _ => builder.serializer(MsgPackSerializer),
        };
        let wrong = all.iter().filter(|(_, format)| *format != speaks);
        let expected = wrong.map(|(method, format)| (format!("game.every.{method}"), *format)).collect();
        assert_eq!(refused(builder, speaks), expected, "{speaks}");
    }
}

/// F073: the serializer that is set last counts, wherever it is set; a running server has no way to change it.
#[tokio::test]
async fn the_serializer_that_was_set_is_announced() {
    let closures = Component::builder("any", Arc::new(())).request("bytes", async |body: Bytes| body).build();
    let server = serve(
        Server::frontend("game").serializer(ProtobufSerializer).component(closures).serializer(MsgPackSerializer),
    )
    .await;
    assert_eq!(announced(&server.client().await), MSGPACK);
    assert_eq!(announced(&serve(Server::frontend("game")).await.client().await), "json", "the default");
}

/// Pushes to a session, to users and to groups.
struct Pushing;

#[handlers(name = "pushing")]
impl Pushing {
    #[notify]
    async fn wrong(&self, app: App, session: Session) -> Result<()> {
        session.bind("ada").await?;
        let group = app.group("all");
        group.create().await?;
        group.add(&session.uid()?).await?;
        wrong_pushes(&app, &session, || Json(1), "json").await?;
        wrong_pushes(&app, &session, || Protobuf(Point { x: 1 }), "protobuf").await?;
        // Bytes are sent as they are; they show that nothing was queued before.
        group.broadcast("game", "right", Bytes::from("bytes")).await?.all()?;
        session.push("right", MsgPack(2)).await
    }
}

/// Each way to push refuses the payload. The members of the group and the users would all be reached.
async fn wrong_pushes<P: IntoPayload>(
    app: &App,
    session: &Session,
    payload: impl Fn() -> P,
    format: &str,
) -> Result<()> {
    let error = |error: Error| error.message().to_owned();
    let results = [
        session.push("wrong", payload()).await.map_err(error),
        app.push("wrong", payload()).to_users("game", [session.uid()?]).await.map(drop).map_err(error),
        app.group("all").broadcast("game", "wrong", payload()).await.map(drop).map_err(error),
        app.encode_push("wrong", payload()).map(drop).map_err(error),
    ];
    let expected = format!("cannot push {format} on route wrong: this app speaks {MSGPACK}");
    for result in results {
        if result != Err(expected.clone()) {
            return Err(Error::plain(format!("{result:?}")));
        }
    }
    Ok(())
}

/// What a handler of a notify returned reaches nobody: a layer turns it into a push that the test would see.
#[tokio::test]
async fn pushes_in_another_format_fail_before_anything_is_sent() {
    let telling = from_fn(|request: pitaya::Request, next: pitaya::Next| async move {
        let session = request.parts.session()?.clone();
        if let Err(error) = next.run(request).await {
            session.push("failed", Bytes::from(error.to_string())).await?;
        }
        Ok(Bytes::new())
    });
    let server = serve(Server::frontend("game").handlers(Pushing).layer(telling).serializer(MsgPackSerializer)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::notify("pushing.wrong", "")).await;
    for body in [&b"bytes"[..], &[2]] {
        let push = raw.message().await.unwrap();
        assert_eq!((push.route.as_str(), &push.body[..]), ("right", body));
    }
}
