//! Handlers: how they are written, named, called and answered.

mod argument;
mod failure;

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use pitaya::{Bytes, Component, HandlerKind, HandlerOptions, Handlers, Json, Result, Server, Session, code, handlers};
use pitaya_protocol::{Message, MessageKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Events, Raw, eventually, refused, serve};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Move {
    x: i32,
    y: i32,
}

/// One method for each form that Pitaya knows. Nothing here is named by an option.
struct Forms {
    seen: Events,
}

#[handlers]
impl Forms {
    #[request]
    async fn nothing(&self) -> Json<&'static str> {
        Json("nothing")
    }

    #[request]
    async fn structure(&self, Json(to): Json<Move>) -> Json<Move> {
        Json(Move { x: to.y, y: to.x })
    }

    #[request]
    async fn raw_bytes(&self, body: Bytes) -> Bytes {
        body
    }

    #[notify]
    async fn told(&self, Json(to): Json<Move>) {
        self.seen.add(format!("told {},{}", to.x, to.y));
    }

    #[request]
    async fn structure_or_error(&self, Json(to): Json<Move>) -> Result<Json<Move>> {
        self.seen.add("structure_or_error");
        if to.x < 0 { Err("off the board".into()) } else { Ok(Json(to)) }
    }

    #[request]
    async fn bytes_or_error(&self, body: Bytes) -> Result<Vec<u8>> {
        if body.is_empty() { Err("nothing came".into()) } else { Ok(body.to_vec()) }
    }

    /// Not marked, so not reachable.
    async fn helper(&self) -> Json<u8> {
        Json(1)
    }
}

#[tokio::test]
async fn the_six_forms_of_handlers_answer() {
    let seen = Events::default();
    let server = serve(Server::frontend("game").handlers(Forms { seen: seen.clone() })).await;
    let client = server.client().await;
    let here = Move { x: 1, y: 2 };

    assert_eq!(client.request_bytes("Forms.nothing", "").await.unwrap(), r#""nothing""#);
    assert_eq!(client.request_bytes("Forms.nothing", "an argument that nobody takes").await.unwrap(), r#""nothing""#);
    assert_eq!(client.request::<Move>("Forms.structure", &here).await.unwrap(), Move { x: 2, y: 1 });
    assert_eq!(client.request_bytes("Forms.raw_bytes", "abc").await.unwrap(), "abc");
    assert_eq!(client.request::<Move>("Forms.structure_or_error", &here).await.unwrap(), here);
    let error = refused(client.request::<Move>("Forms.structure_or_error", &Move { x: -1, y: 0 }).await);
    assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "off the board"));
    assert_eq!(client.request_bytes("Forms.bytes_or_error", "abc").await.unwrap(), "abc");
    assert_eq!(refused(client.request_bytes("Forms.bytes_or_error", "").await).message, "nothing came");

    client.notify("Forms.told", &here).await.unwrap();
    eventually("the notify is handled", || seen.count("told 1,2") == 1).await;

    assert_eq!(Forms { seen }.helper().await, Json(1));
    assert_eq!(refused(client.request_bytes("Forms.helper", "").await).code, code::NOT_FOUND);
}

#[tokio::test]
async fn a_notify_to_a_request_handler_runs_and_is_not_answered() {
    let seen = Events::default();
    let server = serve(Server::frontend("game").handlers(Forms { seen: seen.clone() })).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::notify("Forms.structure_or_error", r#"{"x":1,"y":2}"#)).await;
    raw.send_message(&Message::notify("Forms.structure_or_error", r#"{"x":-1,"y":2}"#)).await;
    raw.send_message(&Message::request(9, "Forms.nothing", "")).await;
    let next = raw.message().await.unwrap();
    assert_eq!((next.kind, next.id, next.error), (MessageKind::Response, 9, false));
    assert_eq!(seen.count("structure_or_error"), 2);
}

#[tokio::test]
async fn a_handler_is_found_with_the_server_type_and_without() {
    let server = serve(Server::frontend("game").handlers(Forms { seen: Events::default() })).await;
    let client = server.client().await;
    for route in ["Forms.nothing", "game.Forms.nothing"] {
        assert_eq!(client.request_bytes(route, "").await.unwrap(), r#""nothing""#, "{route}");
    }
    for route in ["forms.nothing", "Forms.Nothing", "game.forms.nothing"] {
        assert_eq!(refused(client.request_bytes(route, "").await).code, code::NOT_FOUND, "{route}");
    }
}

#[tokio::test]
async fn raw_bytes_go_in_and_out_unchanged() {
    let server = serve(Server::frontend("game").handlers(Forms { seen: Events::default() })).await;
    let all: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    for client in [server.client().await, server.ws_client().await] {
        for body in [&all[..], &all[..256], &[0], &[], b"{not json", b"\xff\xfe"] {
            let answer = client.request_bytes("Forms.raw_bytes", body.to_vec()).await.unwrap();
            assert_eq!(answer, body);
        }
    }
}

/// A component that works for any type of piece.
struct Arena<T> {
    pieces: Mutex<Vec<T>>,
}

#[handlers]
impl<T> Arena<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + fmt::Debug + 'static,
{
    #[request]
    async fn place(&self, Json(piece): Json<T>) -> Json<usize> {
        let mut pieces = self.pieces.lock().unwrap();
        pieces.push(piece);
        Json(pieces.len())
    }

    #[request]
    async fn all(self: Arc<Self>) -> Result<Json<Vec<T>>> {
        tokio::task::yield_now().await;
        let pieces = self.pieces.lock().unwrap().clone();
        Ok(Json(pieces))
    }
}

/// A constant and a lifetime-free marker as parameters.
struct Board<const N: usize, M>(PhantomData<fn() -> M>);

#[handlers(name = "board")]
impl<const N: usize, M: 'static> Board<N, M> {
    #[request]
    async fn size() -> Json<usize> {
        Json(N)
    }
}

#[tokio::test]
async fn generic_components_have_handlers() {
    let moves = Arena::<Move> { pieces: Mutex::default() };
    let names = Arena::<String> { pieces: Mutex::default() };
    let server = serve(
        Server::frontend("game")
            .handlers(moves)
            .component(Arc::new(names).into_component().with_name("Names"))
            .handlers(Board::<8, Move>(PhantomData)),
    )
    .await;
    let client = server.client().await;
    assert_eq!(client.request::<usize>("Arena.place", &Move { x: 1, y: 1 }).await.unwrap(), 1);
    assert_eq!(client.request::<usize>("Names.place", "rook").await.unwrap(), 1);
    assert_eq!(client.request::<usize>("Names.place", "pawn").await.unwrap(), 2);
    assert_eq!(client.request::<Vec<Move>>("Arena.all", &()).await.unwrap(), [Move { x: 1, y: 1 }]);
    assert_eq!(client.request::<Vec<String>>("Names.all", &()).await.unwrap(), ["rook", "pawn"]);
    assert_eq!(client.request::<usize>("board.size", &()).await.unwrap(), 8);
    assert_eq!(refused(client.request::<usize>("Arena.place", "rook").await).code, code::BAD_REQUEST);
}

struct Named;

#[handlers(name = "player-stats", rename_all = "camelCase")]
impl Named {
    #[request]
    async fn find_match(&self) -> Json<u8> {
        Json(1)
    }

    /// A name of its own wins over the rule.
    #[request(rename = "Stop_It")]
    async fn cancel_match(&self) -> Json<u8> {
        Json(2)
    }

    #[request]
    async fn r#type(&self) -> Json<u8> {
        Json(3)
    }
}

fn names(component: &Component) -> Vec<&str> {
    component.handlers().iter().map(|handler| handler.method.as_str()).collect()
}

#[tokio::test]
async fn names_on_the_wire_are_the_ones_that_the_attributes_say() {
    let component = Arc::new(Named).into_component();
    assert_eq!(component.name(), "player-stats");
    assert_eq!(names(&component), ["findMatch", "Stop_It", "type"]);
    let server = serve(Server::frontend("game").handlers(Named)).await;
    let client = server.client().await;
    for (method, expected) in [("findMatch", 1), ("Stop_It", 2), ("type", 3)] {
        let answer: u8 = client.request(&format!("game.player-stats.{method}"), &()).await.unwrap();
        assert_eq!(answer, expected);
    }
    for method in ["find_match", "cancel_match", "cancelMatch", "stopIt", "r#type"] {
        let error = refused(client.request::<u8>(&format!("game.player-stats.{method}"), &()).await);
        assert_eq!(error.code, code::NOT_FOUND, "{method}");
    }
}

#[tokio::test]
async fn the_default_names_are_those_of_the_type_and_the_methods_as_written() {
    let component = Arc::new(Forms { seen: Events::default() }).into_component();
    assert_eq!(component.name(), "Forms");
    let expected = ["nothing", "structure", "raw_bytes", "told", "structure_or_error", "bytes_or_error"];
    assert_eq!(names(&component), expected);
    assert_eq!(Arc::new(Arena::<Move> { pieces: Mutex::default() }).into_component().name(), "Arena");
}

#[tokio::test]
async fn names_can_be_given_when_a_component_is_registered() {
    let component = Arc::new(Named)
        .into_component()
        .with_name("Stats")
        .with_name_fn(str::to_lowercase)
        .with_name_fn(|name| name.replace('_', "-"));
    let server = serve(Server::frontend("game").component(component)).await;
    let client = server.client().await;
    for (route, expected) in [("Stats.findmatch", 1), ("Stats.stop-it", 2), ("Stats.type", 3)] {
        assert_eq!(client.request::<u8>(route, &()).await.unwrap(), expected);
    }
    assert_eq!(refused(client.request::<u8>("player-stats.findMatch", &()).await).code, code::NOT_FOUND);
    assert_eq!(refused(client.request::<u8>("Stats.findMatch", &()).await).code, code::NOT_FOUND);
}

struct Red;
struct Blue;

#[handlers(name = "red")]
impl Red {
    #[request]
    async fn colour(&self) -> Json<&'static str> {
        Json("red")
    }
}

#[handlers(name = "blue")]
impl Blue {
    #[request]
    async fn colour(&self) -> Json<&'static str> {
        Json("blue")
    }
}

#[tokio::test]
async fn two_components_may_have_methods_of_the_same_name() {
    let server = serve(Server::frontend("game").handlers(Red).handlers(Blue)).await;
    let client = server.client().await;
    for colour in ["red", "blue"] {
        let answer: String = client.request(&format!("game.{colour}.colour"), &()).await.unwrap();
        assert_eq!(answer, colour);
    }
}

#[tokio::test]
async fn two_apps_of_one_process_share_nothing() {
    let (red, blue) =
        (serve(Server::frontend("game").handlers(Red)).await, serve(Server::frontend("game").handlers(Blue)).await);
    let (red, blue) = (red.client().await, blue.client().await);
    assert!(red.request::<String>("red.colour", &()).await.is_ok());
    assert!(blue.request::<String>("blue.colour", &()).await.is_ok());
    assert_eq!(refused(red.request::<String>("blue.colour", &()).await).code, code::NOT_FOUND);
    assert_eq!(refused(blue.request::<String>("red.colour", &()).await).code, code::NOT_FOUND);
}

struct Lobby {
    prefix: String,
}

impl Lobby {
    async fn greet(self: Arc<Self>, Json(name): Json<String>) -> Json<String> {
        Json(format!("{}{name}", self.prefix))
    }
}

async fn plain_function() -> Json<&'static str> {
    Json("function")
}

#[tokio::test]
async fn functions_closures_and_methods_can_be_registered_without_the_macro() {
    let shared = Arc::new(Lobby { prefix: "hello ".to_owned() });
    let told = Events::default();
    let telling = told.clone();
    let offset = 10;
    let component = Component::builder("lobby", shared)
        .request("function", plain_function)
        .request("closure", async || Json("closure"))
        .request("method", Lobby::greet)
        .request("captures", move |Json(number): Json<i32>| async move { Json(number + offset) })
        .request("two", async |session: Session, Json(number): Json<i64>| Json(session.id().get() + number))
        .request("many", async |a: Session, b: Session, c: Session, d: Session, body: Bytes| {
            assert_eq!((&a, &b), (&c, &d));
            body
        })
        .notify("tell", move |body: Bytes| {
            let telling = telling.clone();
            async move { telling.add(String::from_utf8_lossy(&body)) }
        })
        .build();
    assert_eq!(component.handlers()[6].kind, HandlerKind::Notify);
    let server = serve(Server::frontend("game").component(component)).await;
    let client = server.client().await;
    let ask = async |method: &str, argument: Value| -> Value {
        client.request(&format!("lobby.{method}"), &argument).await.unwrap()
    };
    assert_eq!(ask("function", json!(null)).await, "function");
    assert_eq!(ask("closure", json!(null)).await, "closure");
    assert_eq!(ask("method", json!("ada")).await, "hello ada");
    assert_eq!(ask("captures", json!(5)).await, 15);
    assert_eq!(ask("two", json!(41)).await, 42);
    assert_eq!(ask("many", json!([1, 2])).await, json!([1, 2]));
    client.notify_bytes("lobby.tell", "news").await.unwrap();
    eventually("the notify is handled", || told.count("news") == 1).await;
}

#[tokio::test]
async fn options_of_the_builder_hold_for_the_handlers_that_follow() {
    let component = Component::builder("c", Arc::new(()))
        .request("plain", plain_function)
        .options(HandlerOptions::default().ordered().spawn())
        .request("both", plain_function)
        .options(HandlerOptions::default())
        .request("plain_again", plain_function)
        .build();
    let options: Vec<_> =
        component.handlers().iter().map(|handler| (handler.options.ordered, handler.options.spawn)).collect();
    assert_eq!(options, [(false, false), (true, true), (false, false)]);
}

struct Careful;

#[handlers(name = "careful")]
impl Careful {
    #[request]
    async fn plain(&self) {}

    #[request(spawn)]
    async fn spawned(&self) {}

    #[notify(ordered)]
    async fn strict(&self) {}

    #[request(rename = "both", spawn, ordered)]
    async fn all_of_it(&self) {}
}

struct Strict;

#[handlers(ordered)]
impl Strict {
    #[request]
    async fn plain(&self) {}

    #[notify(spawn)]
    async fn spawned(&self) {}
}

#[test]
fn options_of_the_attributes_hold_for_their_method_or_for_the_whole_component() {
    let options = |component: Component| -> Vec<_> {
        let handlers = component.handlers().iter();
        handlers.map(|handler| (handler.kind, handler.options.ordered, handler.options.spawn)).collect()
    };
    let (request, notify) = (HandlerKind::Request, HandlerKind::Notify);
    let careful = [(request, false, false), (request, false, true), (notify, true, false), (request, true, true)];
    assert_eq!(options(Arc::new(Careful).into_component()), careful);
    assert_eq!(options(Arc::new(Strict).into_component()), [(request, true, false), (notify, true, true)]);
}

struct Gate {
    first: Notify,
    order: Events,
}

#[handlers(name = "gate")]
impl Gate {
    /// The first request is answered after the second.
    #[request]
    async fn pass(&self, Json(number): Json<u8>) -> Json<u8> {
        if number == 1 {
            self.first.notified().await;
        } else {
            self.first.notify_one();
        }
        self.order.add(number.to_string());
        Json(number * 10)
    }
}

#[tokio::test]
async fn requests_that_are_answered_out_of_order_get_their_own_answers() {
    let order = Events::default();
    let gate = Gate { first: Notify::new(), order: order.clone() };
    let server = serve(Server::frontend("game").handlers(gate)).await;
    let mut raw = Raw::established(server.tcp).await;
    // The ids are the client's own business.
    raw.send_message(&Message::request(u64::MAX, "gate.pass", "1")).await;
    raw.send_message(&Message::request(3, "gate.pass", "2")).await;
    let (early, late) = (raw.message().await.unwrap(), raw.message().await.unwrap());
    assert_eq!(order.all(), ["2", "1"]);
    assert_eq!((early.id, &early.body[..]), (3, &b"20"[..]));
    assert_eq!((late.id, &late.body[..]), (u64::MAX, &b"10"[..]));

    let client = server.client().await;
    let (one, two) =
        futures_util::future::join(client.request::<u8>("gate.pass", &1), client.request::<u8>("gate.pass", &2)).await;
    assert_eq!((one.unwrap(), two.unwrap()), (10, 20));
}

/// The example of Pitaya's documentation, in our terms.
#[derive(Default)]
struct Room {
    said: Events,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
}

#[derive(Serialize)]
struct Joined {
    result: String,
}

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(entry): Json<Entry>) -> Result<Json<Joined>> {
        session.bind(entry.name).await?;
        session.push("onJoin", Json(json!({"uid": session.uid()?.as_str()}))).await?;
        Ok(Json(Joined { result: "success".to_owned() }))
    }

    #[notify]
    async fn message(&self, session: Session, Json(text): Json<String>) -> Result<()> {
        self.said.add(format!("{}: {text}", session.uid()?));
        Ok(())
    }
}

#[tokio::test]
async fn the_example_of_the_documentation_answers_pushes_and_listens() {
    let room = Arc::new(Room::default());
    let server = serve(Server::frontend("connector").handlers(Arc::clone(&room))).await;
    let client = server.ws_client().await;
    let mut joins = client.on("onJoin");
    let answer: Value = client.request("connector.room.join", &json!({"name": "ada"})).await.unwrap();
    assert_eq!(answer, json!({"result": "success"}));
    let push = joins.next().await.unwrap();
    assert_eq!(push.json::<Value>().unwrap(), json!({"uid": "ada"}));
    client.notify("connector.room.message", "hello").await.unwrap();
    eventually("the message is heard", || room.said.all() == ["ada: hello"]).await;
}

struct Marks {
    seen: Events,
}

/// Other attributes and conditions stay what they are.
#[handlers(name = "marks")]
impl Marks {
    #[doc = "Documented by hand."]
    #[request]
    #[allow(clippy::unused_async, reason = "the attribute must survive the macro")]
    async fn kept(&self) -> Json<u8> {
        self.seen.add("kept");
        Json(Self::constant())
    }

    fn constant() -> u8 {
        Self::VALUE
    }

    const VALUE: u8 = 7;
}

#[tokio::test]
async fn an_impl_block_may_hold_other_things_than_handlers() {
    let seen = Events::default();
    let server = serve(Server::frontend("game").handlers(Marks { seen: seen.clone() })).await;
    assert_eq!(server.client().await.request::<u8>("marks.kept", &()).await.unwrap(), 7);
    assert_eq!(seen.all(), ["kept"]);
}
