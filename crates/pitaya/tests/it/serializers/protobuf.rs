//! Protocol buffers (F071). The bytes are those of the contract: made here by a message that the test derives.

use std::collections::HashMap;

use garde::Validate;
use pitaya::{
    App, Bytes, Error, Protobuf, ProtobufSerializer, Result, Server, Session, code, extract::Valid, from_fn, handlers,
};
use prost::Message as _;

use super::{announced, error_body};
use crate::support::{Raw, Running, serve, soon};

#[derive(Clone, PartialEq, prost::Message, Validate)]
struct Move {
    #[prost(sint32, tag = "1")]
    #[garde(range(min = -8, max = 8))]
    x: i32,
    #[prost(string, tag = "2")]
    #[garde(length(max = 10))]
    who: String,
}

/// `protos.Error`, as a client has it (protocol.md 5.2).
#[derive(Clone, PartialEq, prost::Message)]
struct WireError {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    msg: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

fn step(x: i32, who: &str) -> Move {
    Move { x, who: who.to_owned() }
}

struct Board;

#[handlers(name = "board")]
impl Board {
    /// Answers with the mirror image, and pushes it.
    #[request]
    async fn mirror(&self, session: Session, Protobuf(it): Protobuf<Move>) -> Result<Protobuf<Move>> {
        if it.x > 100 {
            return Err(Error::new("BOARD-1", "off the board").with("limit", 100));
        }
        let mirrored = Move { x: -it.x, ..it };
        session.push("mirrored", Protobuf(mirrored.clone())).await?;
        Ok(Protobuf(mirrored))
    }

    #[request]
    async fn checked(&self, Valid(Protobuf(it)): Valid<Protobuf<Move>>) -> Protobuf<Move> {
        Protobuf(it)
    }

    #[request]
    async fn perhaps(&self, it: Option<Protobuf<Move>>) -> Bytes {
        Bytes::from(if it.is_some() { "some" } else { "none" })
    }

    /// Broadcasts, and pushes to users.
    #[request]
    async fn enter(&self, app: App, session: Session, Protobuf(it): Protobuf<Move>) -> Result<()> {
        session.bind(it.who.as_str()).await?;
        let group = app.group("board");
        group.create().await?;
        group.add(&session.uid()?).await?;
        group.broadcast("game", "entered", Protobuf(it.clone())).await?.all()?;
        app.push("entered", Protobuf(it)).to_users("game", [session.uid()?]).await?.all()
    }

    #[request]
    async fn panic(&self) {
        panic!("the board broke");
    }
}

async fn board() -> Running {
    serve(Server::frontend("game").serializer(ProtobufSerializer).handlers(Board)).await
}

fn wire_error(answer: std::result::Result<Bytes, pitaya_client::RequestError>) -> WireError {
    WireError::decode(error_body(answer)).unwrap()
}

#[tokio::test]
async fn the_handshake_says_protobuf_and_messages_go_both_ways() {
    let server = board().await;
    let client = server.client().await;
    assert_eq!(announced(&client), "protobuf");
    assert_eq!(announced(&server.ws_client().await), "protobuf");

    let mut mirrored = client.on("mirrored");
    let answer = client.request_bytes("board.mirror", step(3, "ada").encode_to_vec()).await.unwrap();
    assert_eq!(Move::decode(answer).unwrap(), step(-3, "ada"));
    let push = soon("the push", mirrored.next()).await.unwrap();
    assert_eq!(Move::decode(push.body).unwrap(), step(-3, "ada"));

    let mut entered = client.on("entered");
    assert_eq!(client.request_bytes("board.enter", step(1, "ada").encode_to_vec()).await.unwrap(), "");
    for _ in 0..2 {
        assert_eq!(Move::decode(soon("entered", entered.next()).await.unwrap().body).unwrap(), step(1, "ada"));
    }
}

/// An empty payload is a message, whose fields have their defaults (protocol.md 3.3).
#[tokio::test]
async fn an_empty_payload_is_the_default_message() {
    let server = board().await;
    let client = server.client().await;
    assert_eq!(client.request_bytes("board.mirror", "").await.unwrap(), "");
    assert_eq!(client.request_bytes("board.perhaps", "").await.unwrap(), "none");
    assert_eq!(client.request_bytes("board.perhaps", step(1, "").encode_to_vec()).await.unwrap(), "some");
}

/// The error is the message `protos.Error`, whoever says it: handler, argument, rule, server, panic.
#[tokio::test]
async fn errors_are_protobuf_messages() {
    let server = board().await;
    let client = server.client().await;
    let error = wire_error(client.request_bytes("board.mirror", step(101, "").encode_to_vec()).await);
    assert_eq!((error.code.as_str(), error.msg.as_str()), ("BOARD-1", "off the board"));
    assert_eq!(error.metadata, [("limit".to_owned(), "100".to_owned())].into());

    let error = wire_error(client.request_bytes("board.mirror", &b"\x12\x05ad"[..]).await);
    assert_eq!(error.code, code::BAD_REQUEST);
    assert!(error.msg.starts_with("invalid protobuf: "), "{}", error.msg);

    let error = wire_error(client.request_bytes("board.checked", step(9, "ada").encode_to_vec()).await);
    assert_eq!((error.code.as_str(), error.msg.split(':').next()), (code::BAD_REQUEST, Some("x")));
    client.request_bytes("board.checked", step(8, "ada").encode_to_vec()).await.unwrap();

    let error = wire_error(client.request_bytes("board.none", "").await);
    assert_eq!(
        (error.code.as_str(), error.msg.as_str()),
        (code::NOT_FOUND, "pitaya/handler: game.board.none not found")
    );
    assert_eq!(wire_error(client.request_bytes("board.panic", "").await).code, code::INTERNAL);
}

/// The bytes of an error, as the contract has them (protocol.md 5.4).
#[tokio::test]
async fn the_bytes_of_an_error_are_those_of_the_contract() {
    let refusing = from_fn(|_, _| async { Err(Error::not_found("route not found").with("route", "room.nope")) });
    let server = serve(Server::frontend("game").serializer(ProtobufSerializer).handlers(Board).layer(refusing)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&pitaya_protocol::Message::request(7, "board.mirror", "")).await;
    let answer = raw.message().await.unwrap();
    assert!(answer.error);
    let expected = b"\x0a\x07PIT-404\x12\x0froute not found\x1a\x12\x0a\x05route\x12\x09room.nope";
    assert_eq!(answer.body, expected[..]);
}
