//! Messages that no handler gets: what is answered instead, and that each is counted.

use std::sync::Arc;

use pitaya::{Bytes, Component, Error, Json, Result, Server, code, handlers};
use pitaya_client::Client;
use pitaya_protocol::{Message, MessageKind};
use serde::Deserialize;

use crate::support::{Events, Raw, Recorder, Running, eventually, refused, serve};

#[derive(Deserialize)]
struct Move {
    x: i8,
}

struct Game {
    calls: Events,
}

#[handlers(name = "board")]
impl Game {
    #[request]
    async fn go(&self, Json(to): Json<Move>) -> Json<i8> {
        self.calls.add("go");
        Json(to.x)
    }

    #[request]
    async fn text(&self, Json(text): Json<String>) -> Json<usize> {
        self.calls.add("text");
        Json(text.len())
    }

    #[request]
    async fn raw(&self, body: Bytes) -> Bytes {
        self.calls.add("raw");
        body
    }

    #[request]
    async fn fail(&self) -> Result<()> {
        Err(Error::new("GAME-1", "it is not your turn"))
    }

    #[notify]
    async fn tell(&self, Json(to): Json<Move>) {
        self.calls.add(format!("tell {}", to.x));
    }
}

struct Scene {
    server: Running,
    calls: Events,
    recorder: Recorder,
}

impl Scene {
    async fn new() -> Self {
        let (calls, recorder) = (Events::default(), Recorder::default());
        let game = Game { calls: calls.clone() };
        let server = serve(Server::frontend("game").handlers(game).reporter(recorder.clone())).await;
        Self { server, calls, recorder }
    }

    /// How many messages were refused, by reason; each of the reasons that are not named must be 0.
    fn refused(&self, expected: &[(&str, i64)]) {
        for reason in
            ["request_id_zero", "undecodable", "bad_route", "not_found", "no_servers", "notify_route", "wrong_kind"]
        {
            let count = self.recorder.value(&format!("handler.refused_messages{{{reason}}}"));
            let expected = expected.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count);
            assert_eq!(count, expected, "{reason}");
        }
    }
}

/// The code and the text of the error that a request is answered with.
async fn error(client: &Client, route: &str, body: &'static str) -> (String, String) {
    let error = refused(client.request_bytes(route, body).await);
    assert!(error.metadata.is_empty());
    (error.code, error.message)
}

async fn lives(client: &Client) {
    assert_eq!(client.request_bytes("board.raw", "still here").await.unwrap(), "still here");
}

#[tokio::test]
async fn an_unknown_route_is_pit_404_and_names_the_full_route() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    for route in ["board.jump", "game.board.jump"] {
        let expected = (code::NOT_FOUND.to_owned(), "pitaya/handler: game.board.jump not found".to_owned());
        assert_eq!(error(&client, route, "{}").await, expected);
    }
    let (code, text) = error(&client, "shop.buy", "").await;
    assert_eq!((code.as_str(), text.as_str()), (code::NOT_FOUND, "pitaya/handler: game.shop.buy not found"));
    lives(&client).await;
    scene.refused(&[("not_found", 3)]);
}

#[tokio::test]
async fn a_route_that_is_none_is_pit_400() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    // An empty part is told before a wrong number of parts; parts are not trimmed.
    for route in ["", ".", "board.", ".go", "a..c", ". .", " .go", "a.b.c.", "..", "....", "a.b.c. ", "\t"] {
        let (code, text) = error(&client, route, "{}").await;
        assert_eq!((code.as_str(), text.as_str()), (code::BAD_REQUEST, "route field can not be empty"), "{route:?}");
    }
    for route in ["board", "a.b.c.d", "a.b.c.d.e", "boardgo"] {
        let (code, text) = error(&client, route, "{}").await;
        assert_eq!((code.as_str(), text.as_str()), (code::BAD_REQUEST, "invalid route"), "{route:?}");
    }
    lives(&client).await;
    scene.refused(&[("bad_route", 16)]);
}

#[tokio::test]
async fn a_route_that_differs_by_white_space_or_case_is_unknown() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    for route in [" board.go", "board.go ", "board. go", "Board.go", "board.GO", "game.board .go"] {
        assert_eq!(error(&client, route, "{}").await.0, code::NOT_FOUND, "{route:?}");
    }
    assert_eq!(error(&client, "Game.board.go", "{}").await.0, code::INTERNAL);
    scene.refused(&[("not_found", 6), ("no_servers", 1)]);
}

#[tokio::test]
async fn another_server_type_is_answered_with_pit_500_when_there_is_no_cluster() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    let expected = (code::INTERNAL.to_owned(), "no servers available of this type".to_owned());
    for route in ["room.board.go", "room.room.join", "games.board.go"] {
        assert_eq!(error(&client, route, "{}").await, expected);
    }
    lives(&client).await;
    scene.refused(&[("no_servers", 3)]);
}

#[tokio::test]
async fn a_body_that_is_not_the_argument_is_pit_400_and_calls_no_handler() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    let bodies = ["{", "[]", "null", "{}", r#"{"x":"1"}"#, r#"{"x":300}"#, r#"{"x":1} x"#, "\u{0}", "nonsense"];
    for body in bodies {
        assert_eq!(error(&client, "board.go", body).await.0, code::BAD_REQUEST, "{body:?}");
    }
    let not_utf8 = refused(client.request_bytes("board.text", &b"\"\xff\""[..]).await);
    assert_eq!(not_utf8.code, code::BAD_REQUEST);
    assert!(scene.calls.all().is_empty());
    assert_eq!(client.request_bytes("board.go", r#" {"x": 7, "more": [1]} "#).await.unwrap(), "7");
    assert_eq!(scene.calls.all(), ["go"]);
    // These have reached their handler's chain, so they are no refused messages but failed ones.
    scene.refused(&[]);
    let failed = scene.recorder.value("handler.response_time_ns{game.board.go,failed,request,PIT-400}");
    assert_eq!(failed, bodies.len() as i64);
}

#[tokio::test]
async fn an_empty_body_for_a_json_argument_is_pit_400_with_the_text_that_clients_know() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    let expected = (code::BAD_REQUEST.to_owned(), "unexpected end of JSON input".to_owned());
    assert_eq!(error(&client, "board.go", "").await, expected);
    assert_eq!(error(&client, "board.text", "").await, expected);
    assert_eq!(client.request_bytes("board.raw", "").await.unwrap(), "");
    assert_eq!(scene.calls.all(), ["raw"]);
}

#[tokio::test]
async fn a_request_to_a_notify_handler_is_pit_400_and_calls_it_not() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    for route in ["board.tell", "game.board.tell"] {
        let expected = (code::BAD_REQUEST.to_owned(), "tried to request a notify route".to_owned());
        assert_eq!(error(&client, route, r#"{"x":1}"#).await, expected);
    }
    client.notify_bytes("board.tell", r#"{"x":2}"#).await.unwrap();
    lives(&client).await;
    assert_eq!(scene.calls.all(), ["tell 2", "raw"]);
    scene.refused(&[("notify_route", 2)]);
}

#[tokio::test]
async fn notifies_that_fail_are_never_answered_and_the_connection_lives() {
    let scene = Scene::new().await;
    let mut raw = Raw::established(scene.server.tcp).await;
    for route in ["board.jump", "a.b.c.d", "", "room.board.go", "board.fail"] {
        raw.send_message(&Message::notify(route, "{}")).await;
    }
    raw.send_message(&Message::notify("board.tell", "not json")).await;
    raw.send_message(&Message::notify("board.go", r#"{"x":1}"#)).await;
    raw.send_message(&Message::request(5, "board.raw", "x")).await;
    let answer = raw.message().await.unwrap();
    assert_eq!((answer.kind, answer.id, answer.error), (MessageKind::Response, 5, false));
    assert_eq!(scene.calls.all(), ["go", "raw"]);
    scene.refused(&[("not_found", 1), ("bad_route", 2), ("no_servers", 1)]);
    let times = |labels: &str| scene.recorder.value(&format!("handler.response_time_ns{{{labels}}}"));
    assert_eq!(times("game.board.tell,failed,notify,PIT-400"), 1);
    assert_eq!(times("game.board.go,ok,request,"), 1);
}

#[tokio::test]
async fn a_response_from_a_client_is_answered_with_pit_400_for_its_id() {
    let scene = Scene::new().await;
    let mut raw = Raw::established(scene.server.tcp).await;
    raw.send_message(&Message::response(6, "{}")).await;
    let answer = raw.message().await.unwrap();
    assert_eq!((answer.kind, answer.id, answer.error), (MessageKind::Response, 6, true));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["code"], code::BAD_REQUEST);
    raw.send_message(&Message::request(7, "board.raw", "x")).await;
    assert_eq!(raw.message().await.unwrap().id, 7);
    scene.refused(&[("wrong_kind", 1)]);
}

#[tokio::test]
async fn a_push_from_a_client_is_handled_like_a_notify() {
    let scene = Scene::new().await;
    let mut raw = Raw::established(scene.server.tcp).await;
    raw.send_message(&Message::push("board.tell", r#"{"x":3}"#)).await;
    raw.send_message(&Message::push("board.go", r#"{"x":4}"#)).await;
    raw.send_message(&Message::push("board.jump", "")).await;
    raw.send_message(&Message::request(8, "board.raw", "x")).await;
    assert_eq!(raw.message().await.unwrap().id, 8);
    assert_eq!(scene.calls.all(), ["tell 3", "go", "raw"]);
    scene.refused(&[("not_found", 1)]);
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Sends bytes and expects exactly these bytes.
async fn exchange(raw: &mut Raw, request: &[u8], expected: &[u8]) {
    use tokio::io::AsyncReadExt as _;
    raw.send(request).await;
    let mut answer = vec![0; expected.len()];
    crate::support::soon("the answer", raw.stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn the_answers_to_an_empty_route_and_to_a_missing_server_type_are_those_of_the_original() {
    let scene = Scene::new().await;
    let mut raw = Raw::established(scene.server.tcp).await;
    let empty_route = "04000039 24 01 7b22636f6465223a225049542d343030222c226d7367223a22726f757465206669656c642063616e\
                       206e6f7420626520656d707479227d";
    exchange(&mut raw, &bytes("04000003 000100"), &bytes(empty_route)).await;
    let no_servers = "0400003e 24 01 7b22636f6465223a225049542d353030222c226d7367223a226e6f207365727665727320617661\
                      696c61626c65206f6620746869732074797065227d";
    // Request 1 to room.room.join with the body {}.
    let request = bytes("04000013 00010e726f6f6d2e726f6f6d2e6a6f696e7b7d");
    exchange(&mut raw, &request, &bytes(no_servers)).await;
}

#[tokio::test]
async fn response_times_are_recorded_with_route_status_kind_and_code() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    let times = |labels: &str| scene.recorder.value(&format!("handler.response_time_ns{{{labels}}}"));
    assert_eq!(client.request_bytes("board.raw", "1").await.unwrap(), "1");
    assert_eq!(client.request_bytes("game.board.raw", "2").await.unwrap(), "2");
    assert_eq!(error(&client, "board.fail", "").await.0, "GAME-1");
    client.notify_bytes("board.tell", r#"{"x":1}"#).await.unwrap();
    eventually("the notify is recorded", || times("game.board.tell,ok,notify,") == 1).await;
    // However the client wrote the route, it is one.
    assert_eq!(times("game.board.raw,ok,request,"), 2);
    assert_eq!(times("game.board.fail,failed,request,GAME-1"), 1);
    assert_eq!(times("game.board.fail,ok,request,"), 0);
    assert_eq!(times("game.board.go,ok,request,"), 0);
}

/// What a client writes must not become a label: it could make any number of them.
#[tokio::test]
async fn routes_that_do_not_exist_make_no_metrics_of_their_own() {
    let scene = Scene::new().await;
    let client = scene.server.client().await;
    for number in 0..10 {
        error(&client, &format!("board.made_up_{number}"), "").await;
    }
    assert!(!scene.recorder.names().iter().any(|name| name.contains("made_up")));
    scene.refused(&[("not_found", 10)]);
}

#[tokio::test]
async fn a_server_without_handlers_answers_every_request_with_an_error() {
    let server = serve(Server::frontend("game").component(Component::builder("empty", Arc::new(())).build())).await;
    let client = server.client().await;
    assert_eq!(error(&client, "empty.any", "").await.0, code::NOT_FOUND);
    assert_eq!(error(&client, "other.any", "").await.0, code::NOT_FOUND);
}
