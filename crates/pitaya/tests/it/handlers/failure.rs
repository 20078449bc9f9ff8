//! Handlers that fail, and what the client may know of it.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use pitaya::{
    Component, Context, Endpoint, Error, FromRequest, Json, Next, Reply, Request, Result, Server, ServerBuilder, code,
    extract::TakesNothing, from_fn, handlers,
};
use pitaya_client::Client;
use serde::Serialize;

use crate::support::{Recorder, Running, refused, serve};

/// What no client may see.
const SECRET: &str = "hunter2";

/// The error type of a game.
#[derive(Debug)]
enum ShopError {
    NotEnoughGold { missing: u32 },
    Database(io::Error),
}

impl From<ShopError> for Error {
    fn from(error: ShopError) -> Self {
        match error {
            ShopError::NotEnoughGold { missing } => Self::new("SHOP-042", "not enough gold").with("missing", missing),
            ShopError::Database(source) => Self::internal(source),
        }
    }
}

/// Fails while it is written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(SECRET))
    }
}

/// Panics while it is written.
struct Explosive;

impl Serialize for Explosive {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> std::result::Result<S::Ok, S::Error> {
        panic!("{SECRET}")
    }
}

struct Shop;

#[handlers(name = "shop")]
impl Shop {
    #[request]
    async fn plain(&self) -> Result<()> {
        Err("no such shelf".into())
    }

    #[request]
    async fn formatted(&self) -> Result<(), String> {
        Err(format!("no shelf {}", 7))
    }

    #[request]
    async fn coded(&self) -> Result<Json<u8>, ShopError> {
        Err(ShopError::NotEnoughGold { missing: 12 })
    }

    #[request]
    async fn rich(&self) -> Result<()> {
        Err(Error::new("SHOP-007", "Ünïcode <&> \"quoted\"").with("a", "1").with("b", "zwei").with("", ""))
    }

    #[request]
    async fn uncoded(&self) -> Result<()> {
        Err(Error::new("", "the code was left empty"))
    }

    #[request]
    async fn internal(&self) -> Result<Json<u8>, ShopError> {
        Err(ShopError::Database(io::Error::other(SECRET)))
    }

    #[request]
    async fn internal_with_metadata(&self) -> Result<()> {
        Err(Error::internal(io::Error::other(SECRET)).with("retry", "yes"))
    }

    #[request]
    async fn request_id(&self, context: Context) -> Json<String> {
        Json(context.request_id())
    }

    #[request]
    async fn none(&self) -> Option<Json<u8>> {
        None
    }

    #[request]
    async fn some(&self) -> Result<Option<Json<u8>>> {
        Ok(Some(Json(1)))
    }

    #[request]
    async fn ok_none(&self) -> Result<Option<Json<u8>>> {
        Ok(None)
    }

    #[request]
    async fn null(&self) -> Json<Option<u8>> {
        Json(None)
    }

    #[request]
    async fn unwritable(&self) -> Json<Unwritable> {
        Json(Unwritable)
    }
}

async fn shop() -> (Running, Client) {
    let server = serve(Server::frontend("game").handlers(Shop)).await;
    let client = server.client().await;
    (server, client)
}

#[tokio::test]
async fn an_error_without_code_is_pit_000_with_its_text() {
    let (_server, client) = shop().await;
    for (method, text) in
        [("plain", "no such shelf"), ("formatted", "no shelf 7"), ("uncoded", "the code was left empty")]
    {
        let error = refused(client.request_bytes(&format!("shop.{method}"), "").await);
        assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, text));
        assert!(error.metadata.is_empty());
    }
}

#[tokio::test]
async fn a_coded_error_arrives_with_code_text_and_metadata() {
    let (_server, client) = shop().await;
    let error = refused(client.request_bytes("shop.coded", "").await);
    assert_eq!(error.raw, r#"{"code":"SHOP-042","msg":"not enough gold","metadata":{"missing":"12"}}"#);
    let error = refused(client.request_bytes("shop.rich", "").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("SHOP-007", "Ünïcode <&> \"quoted\""));
    let metadata: Vec<_> = error.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(metadata, [("", ""), ("a", "1"), ("b", "zwei")]);
}

#[tokio::test]
async fn the_cause_of_an_internal_error_stays_on_the_server_and_the_client_gets_the_request_id() {
    let (_server, client) = shop().await;
    let first: String = client.request("shop.request_id", &()).await.unwrap();
    let (session, number) = first.split_once('-').unwrap();
    let next = format!("{session}-{}", number.parse::<u64>().unwrap() + 1);

    let error = refused(client.request_bytes("shop.internal", "").await);
    assert_eq!(error.code, code::INTERNAL);
    assert!(!String::from_utf8_lossy(&error.raw).contains(SECRET));
    assert!(error.message.contains(&next), "{error:?} names {next}");

    let error = refused(client.request_bytes("shop.internal_with_metadata", "").await);
    assert!(!String::from_utf8_lossy(&error.raw).contains(SECRET));
    assert_eq!(error.metadata["retry"], "yes");
}

#[tokio::test]
async fn no_result_is_an_error_and_a_json_null_is_a_result() {
    let (_server, client) = shop().await;
    for method in ["none", "ok_none"] {
        let error = refused(client.request_bytes(&format!("shop.{method}"), "").await);
        assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "reply must not be null"));
    }
    assert_eq!(client.request_bytes("shop.some", "").await.unwrap(), "1");
    assert_eq!(client.request_bytes("shop.null", "").await.unwrap(), "null");
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_an_error_answer() {
    let (_server, client) = shop().await;
    let error = refused(client.request_bytes("shop.unwritable", "").await);
    assert_eq!(error.code, code::INTERNAL);
    assert!(!String::from_utf8_lossy(&error.raw).contains(SECRET));
}

/// An error of errors, as databases give them.
#[derive(Debug)]
struct Wrapped(io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("query failed")
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn an_internal_error_keeps_the_whole_chain_for_those_who_ask() {
    let error = Error::internal(Wrapped(io::Error::other(SECRET)));
    let source = error.source().unwrap();
    assert!(source.is::<Wrapped>());
    assert_eq!(source.source().unwrap().to_string(), SECRET);
    assert!(!format!("{error}").contains(SECRET));
}

/// Where and how something panics, as the body of a request says it.
fn explode(kind: &str) {
    match kind {
        "str" => std::panic::panic_any(SECRET),
        "string" => std::panic::panic_any(format!("{SECRET} {kind}")),
        "other" => std::panic::panic_any(42_u64),
        _ => {}
    }
}

const KINDS: [&str; 3] = ["str", "string", "other"];

/// An extractor that panics when the body says so, before or after it has suspended.
struct Fuse<const SUSPENDS: bool>;

impl<C: Send + Sync, const SUSPENDS: bool> FromRequest<C> for Fuse<SUSPENDS> {
    type Takes = TakesNothing;

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        if SUSPENDS {
            tokio::task::yield_now().await;
        }
        explode(std::str::from_utf8(&request.body).unwrap_or_default());
        Ok(Self)
    }
}

struct Mine;

#[handlers(name = "mine")]
impl Mine {
    #[request]
    async fn at_once(&self, body: pitaya::Bytes) {
        explode(std::str::from_utf8(&body).unwrap());
    }

    #[request]
    async fn later(&self, body: pitaya::Bytes) {
        tokio::task::yield_now().await;
        explode(std::str::from_utf8(&body).unwrap());
    }

    #[request]
    async fn argument(&self, _fuse: Fuse<false>) {}

    #[request]
    async fn later_argument(&self, _fuse: Fuse<true>) {}

    #[request(spawn)]
    async fn task(&self, body: pitaya::Bytes) {
        explode(std::str::from_utf8(&body).unwrap());
    }

    #[request(spawn)]
    async fn later_task(&self, body: pitaya::Bytes) {
        tokio::task::yield_now().await;
        explode(std::str::from_utf8(&body).unwrap());
    }

    #[request(ordered)]
    async fn ordered(&self, body: pitaya::Bytes) {
        tokio::task::yield_now().await;
        explode(std::str::from_utf8(&body).unwrap());
    }

    #[request]
    async fn reply(&self) -> Json<Explosive> {
        Json(Explosive)
    }

    #[request]
    async fn fine(&self) -> Json<u8> {
        Json(1)
    }
}

/// Asks for a panic, and expects an error answer that tells nothing, on a connection that lives.
async fn expect_panic(client: &Client, method: &str, kind: &'static str) {
    let error = refused(client.request_bytes(&format!("mine.{method}"), kind).await);
    assert_eq!(error.code, code::INTERNAL, "{method} {kind}");
    assert!(!String::from_utf8_lossy(&error.raw).contains(SECRET), "{method} {kind}");
    assert_eq!(client.request_bytes("mine.fine", "").await.unwrap(), "1");
}

#[tokio::test]
async fn a_panic_in_a_handler_or_an_argument_is_an_error_answer_and_the_connection_lives() {
    let recorder = Recorder::default();
    let server = serve(Server::frontend("game").handlers(Mine).reporter(recorder.clone())).await;
    let clients = [server.client().await, server.ws_client().await];
    for client in &clients {
        for method in ["at_once", "later", "argument", "later_argument", "task", "later_task", "ordered"] {
            for kind in KINDS {
                expect_panic(client, method, kind).await;
            }
        }
        expect_panic(client, "reply", "").await;
    }
    assert_eq!(server.app.session_count(), 2);
    for method in ["at_once", "later", "argument", "later_argument", "task", "later_task", "ordered"] {
        assert_eq!(recorder.value(&format!("handler.panics{{game.mine.{method}}}")), 6, "{method}");
    }
    assert_eq!(recorder.value("handler.panics{game.mine.reply}"), 2);
    assert_eq!(recorder.value("handler.panics{game.mine.fine}"), 0);
    assert_eq!(recorder.value("handler.response_time_ns{game.mine.at_once,failed,request,PIT-500}"), 6);
}

/// As Go Pitaya does.
#[tokio::test]
async fn a_panic_is_answered_with_its_text_where_the_setting_says_so() {
    for builder in [
        Server::frontend("game").set(&pitaya::settings::PANIC_TEXT, true),
        Server::frontend("game").preset(pitaya::config::Preset::GoV2),
        Server::frontend("game").preset(pitaya::config::Preset::GoV3),
    ] {
        // The function around it sees the same error.
        let server = serve(builder.handlers(Mine).after(|_, reply| async { reply })).await;
        let error = refused(server.client().await.request_bytes("mine.at_once", "str").await);
        assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, SECRET));
    }
}

/// A layer whose endpoint panics in `call`: not even a future is made.
struct Early;

struct EarlyEndpoint(Arc<dyn Endpoint>);

impl pitaya::Layer for Early {
    fn layer(&self, _route: &pitaya::Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        Arc::new(EarlyEndpoint(inner))
    }
}

impl Endpoint for EarlyEndpoint {
    fn call(&self, request: Request) -> pitaya::BoxFuture<'static, Reply> {
        explode(std::str::from_utf8(&request.body).unwrap());
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_panic_in_a_hook_is_an_error_answer_and_the_connection_lives() {
    let before_the_future = |request: Request, next: Next| {
        explode(std::str::from_utf8(&request.body).unwrap());
        next.run(request)
    };
    let before_the_first_await = |request: Request, next: Next| async move {
        explode(std::str::from_utf8(&request.body).unwrap());
        next.run(request).await
    };
    let after_the_handler = |request: Request, next: Next| async move {
        let body = request.body.clone();
        let reply = next.run(request).await;
        explode(std::str::from_utf8(&body).unwrap());
        reply
    };
    let later = |request: Request, next: Next| async move {
        tokio::task::yield_now().await;
        explode(std::str::from_utf8(&request.body).unwrap());
        next.run(request).await
    };
    let handler = async |_: pitaya::Bytes| {};
    let component =
        || Component::builder("mine", Arc::new(())).request("hooked", handler).request("fine", fine).build();
    let builders: [ServerBuilder; 5] = [
        Server::frontend("game").layer(from_fn(before_the_future)),
        Server::frontend("game").layer(from_fn(before_the_first_await)),
        Server::frontend("game").layer(from_fn(after_the_handler)),
        Server::frontend("game").layer(from_fn(later)),
        Server::frontend("game").layer(Early),
    ];
    for builder in builders {
        let server = serve(builder.component(component())).await;
        let client = server.client().await;
        for kind in KINDS {
            expect_panic(&client, "hooked", kind).await;
        }
    }
}

async fn fine() -> Json<u8> {
    Json(1)
}

#[tokio::test]
async fn a_panic_in_a_notify_costs_that_notify_only() {
    let recorder = Recorder::default();
    let handler = async |body: pitaya::Bytes| explode(std::str::from_utf8(&body).unwrap());
    let component = Component::builder("mine", Arc::new(())).notify("tell", handler).request("fine", fine).build();
    let server = serve(Server::frontend("game").component(component).reporter(recorder.clone())).await;
    let client = server.client().await;
    for kind in KINDS {
        client.notify_bytes("mine.tell", kind).await.unwrap();
    }
    assert_eq!(client.request_bytes("mine.fine", "").await.unwrap(), "1");
    assert_eq!(recorder.value("handler.panics{game.mine.tell}"), 3);
}

/// While one handler keeps its thread busy, the others of the connection go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_handler_stalls_no_other_message() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let busy = move || {
        let released = Arc::clone(&released);
        async move {
            // Blocks its thread until the other request has been answered.
            released
                .lock()
                .unwrap()
                .recv_timeout(crate::support::PATIENCE)
                .map(|()| Json("done"))
                .map_err(|_| Error::plain("the other request was not answered"))
        }
    };
    let component = Component::builder("cpu", Arc::new(()))
        .request("fine", fine)
        .options(pitaya::HandlerOptions::default().spawn())
        .request("busy", busy)
        .build();
    let server = serve(Server::frontend("game").component(component)).await;
    let client = server.client().await;
    let slow = {
        let client = client.clone();
        tokio::task::spawn(async move { client.request::<String>("cpu.busy", &()).await })
    };
    // Both lie in the same connection, in this order or the other; one of them is answered first.
    assert_eq!(client.request_bytes("cpu.fine", "").await.unwrap(), "1");
    assert!(!slow.is_finished());
    release.send(()).unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), "done");
}
