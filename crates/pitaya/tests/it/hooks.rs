//! Hooks: what comes before and after handlers.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use pitaya::{
    BoxFuture, Bytes, Component, Context, Endpoint, Error, Json, Layer, Next, Reply, Request, Result, Route, Server,
    ServerBuilder, Session, code, from_fn, handlers,
};
use pitaya_protocol::Message;
use serde_json::{Value, json};

use crate::support::{Events, Raw, eventually, refused, serve};

struct Words {
    calls: Events,
}

#[handlers(name = "words")]
impl Words {
    #[request]
    async fn say(&self, Json(word): Json<String>) -> Json<String> {
        self.calls.add(format!("say {word}"));
        Json(format!("you said {word}"))
    }

    #[request]
    async fn raw(&self, body: Bytes) -> Bytes {
        self.calls.add("raw");
        body
    }

    #[request]
    async fn fail(&self) -> Result<()> {
        self.calls.add("fail");
        Err(Error::new("WORD-1", "no words").with("left", 0))
    }

    #[request]
    async fn circumstances(&self, route: Route, context: Context, session: Session) -> Result<Json<Value>> {
        let mood: Option<String> = session.get("mood")?;
        Ok(Json(json!({"route": route.as_str(), "id": context.message_id(), "mood": mood})))
    }

    #[notify]
    async fn whisper(&self, Json(word): Json<String>) {
        self.calls.add(format!("whisper {word}"));
    }
}

fn words(calls: &Events) -> ServerBuilder {
    Server::frontend("game").handlers(Words { calls: calls.clone() })
}

/// A hook that writes down when it is passed on the way in and on the way out.
fn noting(name: &'static str, events: &Events) -> impl Layer {
    let events = events.clone();
    from_fn(move |request: Request, next: Next| {
        let events = events.clone();
        async move {
            events.add(format!("{name} before"));
            let reply = next.run(request).await;
            events.add(format!("{name} after {}", if reply.is_ok() { "ok" } else { "failed" }));
            reply
        }
    })
}

#[tokio::test]
async fn hooks_run_around_the_handler_in_the_order_in_which_they_were_added() {
    let events = Events::default();
    let server = serve(
        Server::frontend("game")
            .layer(noting("a", &events))
            // Where the handlers are added makes no difference.
            .handlers(Words { calls: events.clone() })
            .layer(noting("b", &events))
            .layer(noting("c", &events)),
    )
    .await;
    let client = server.client().await;
    let answer: String = client.request("words.say", "hello").await.unwrap();
    assert_eq!(answer, "you said hello");
    let expected = ["a before", "b before", "c before", "say hello", "c after ok", "b after ok", "a after ok"];
    assert_eq!(events.all(), expected);
}

#[tokio::test]
async fn hooks_run_for_notifies_and_for_handlers_of_every_component() {
    let events = Events::default();
    let other = Component::builder("other", Arc::new(())).request("any", async || Json(1)).build();
    let server = serve(words(&events).component(other).layer(noting("a", &events))).await;
    let client = server.client().await;
    client.notify("words.whisper", "psst").await.unwrap();
    eventually("the notify is handled", || events.all().len() == 3).await;
    assert_eq!(events.all(), ["a before", "whisper psst", "a after ok"]);
    client.request::<u8>("other.any", &()).await.unwrap();
    assert_eq!(events.count("a before"), 2);
}

#[tokio::test]
async fn hooks_do_not_run_for_messages_without_handler() {
    let events = Events::default();
    let server = serve(words(&events).layer(noting("a", &events))).await;
    let client = server.client().await;
    for route in ["words.shout", "words", "room.words.say", "words.whisper"] {
        assert!(client.request_bytes(route, r#""x""#).await.is_err());
    }
    assert!(events.all().is_empty());
}

#[tokio::test]
async fn a_hook_sees_the_raw_payload_and_may_change_it() {
    let (events, seen) = (Events::default(), Arc::new(Mutex::new(Vec::new())));
    let first = Arc::clone(&seen);
    let reading = from_fn(move |mut request: Request, next: Next| {
        let seen = Arc::clone(&first);
        async move {
            seen.lock().unwrap().push(request.body.clone());
            request.body = String::from_utf8_lossy(&request.body).to_uppercase().into();
            next.run(request).await
        }
    });
    let second = Arc::clone(&seen);
    let wrapping = from_fn(move |mut request: Request, next: Next| {
        let seen = Arc::clone(&second);
        async move {
            seen.lock().unwrap().push(request.body.clone());
            let word: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            request.body = json!(format!("<{}>", word.as_str().unwrap_or("none"))).to_string().into();
            next.run(request).await
        }
    });
    let server = serve(words(&events).layer(reading).layer(wrapping)).await;
    let client = server.client().await;
    let answer: String = client.request("words.say", "hello").await.unwrap();
    assert_eq!(answer, "you said <HELLO>");
    // What is no JSON reaches a hook all the same.
    client.request_bytes("words.raw", &b"\x01not json"[..]).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [&br#""hello""#[..], br#""HELLO""#, b"\x01not json", b"\x01NOT JSON"]);
}

#[tokio::test]
async fn a_hook_may_change_the_circumstances_that_the_handler_sees_and_the_answer_finds_its_request() {
    let changing = from_fn(|mut request: Request, next: Next| async move {
        let session = request.parts.session()?.clone();
        session.set("mood", &"good")?;
        request.parts.context = Context::of_message(session, 1_000);
        request.parts.route = Route::parse("game.elsewhere.entirely").map_err(Error::internal)?;
        next.run(request).await
    });
    let server = serve(words(&Events::default()).layer(changing)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(4, "words.circumstances", "")).await;
    let answer = raw.message().await.unwrap();
    assert_eq!((answer.id, answer.error), (4, false));
    let seen: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(seen, json!({"route": "game.elsewhere.entirely", "id": 1_000, "mood": "good"}));
}

#[tokio::test]
async fn a_hook_that_refuses_calls_no_handler_and_its_error_reaches_the_client() {
    let events = Events::default();
    let refusing = from_fn(|request: Request, next: Next| async move {
        match &request.body[..] {
            br#""coded""# => Err(Error::new("AUTH-001", "log in first").with("hint", "login")),
            br#""plain""# => Err("not today".into()),
            _ => next.run(request).await,
        }
    });
    let server =
        serve(words(&events).layer(noting("outer", &events)).layer(refusing).layer(noting("inner", &events))).await;
    let client = server.client().await;
    let error = refused(client.request::<String>("words.say", "coded").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("AUTH-001", "log in first"));
    assert_eq!(error.metadata["hint"], "login");
    let error = refused(client.request::<String>("words.say", "plain").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "not today"));
    // Those outside of it see the refusal, those inside nothing.
    assert_eq!(events.all(), ["outer before", "outer after failed", "outer before", "outer after failed"]);
    client.request::<String>("words.say", "hello").await.unwrap();
    assert_eq!(events.count("say hello"), 1);
}

#[tokio::test]
async fn a_hook_may_answer_itself() {
    let events = Events::default();
    let cache = from_fn(|request: Request, next: Next| async move {
        if request.parts.route.method() == "say" {
            Ok(Bytes::from(r#""from the cache""#))
        } else {
            next.run(request).await
        }
    });
    let server = serve(words(&events).layer(cache)).await;
    let client = server.client().await;
    let answer: String = client.request("words.say", "hello").await.unwrap();
    assert_eq!(answer, "from the cache");
    assert!(events.all().is_empty());
    client.request_bytes("words.raw", "x").await.unwrap();
    assert_eq!(events.all(), ["raw"]);
}

#[tokio::test]
async fn a_hook_may_change_the_reply_in_both_directions() {
    let events = Events::default();
    let changing = from_fn(|request: Request, next: Next| async move {
        match next.run(request).await {
            Ok(body) if body.starts_with(b"secret") => Err(Error::new("WORD-2", "censored")),
            Ok(body) => Ok([&body[..], b"!"].concat().into()),
            Err(error) if error.code() == "WORD-1" => Ok(format!("saved from {}", error.message()).into()),
            Err(error) => Err(error.with("seen", "yes")),
        }
    });
    let server = serve(words(&events).layer(changing)).await;
    let client = server.client().await;
    assert_eq!(client.request_bytes("words.raw", "hello").await.unwrap(), "hello!");
    assert_eq!(refused(client.request_bytes("words.raw", "secret word").await).code, "WORD-2");
    assert_eq!(client.request_bytes("words.fail", "").await.unwrap(), "saved from no words");
    let error = refused(client.request_bytes("words.say", "not json").await);
    assert_eq!((error.code.as_str(), error.metadata["seen"].as_str()), (code::BAD_REQUEST, "yes"));
}

#[tokio::test]
async fn what_comes_after_a_handler_runs_also_when_it_or_its_argument_failed() {
    let (events, errors) = (Events::default(), Events::default());
    let seen = errors.clone();
    let watching = from_fn(move |request: Request, next: Next| {
        let seen = seen.clone();
        async move {
            let reply = next.run(request).await;
            if let Err(error) = &reply {
                seen.add(format!("{} {:?}", error.code(), error.metadata().get("left")));
            }
            reply
        }
    });
    let server = serve(words(&events).layer(noting("a", &events)).layer(watching)).await;
    let client = server.client().await;
    let error = refused(client.request_bytes("words.fail", "").await);
    assert_eq!((error.code.as_str(), error.metadata["left"].as_str()), ("WORD-1", "0"));
    assert_eq!(refused(client.request_bytes("words.say", "{").await).code, code::BAD_REQUEST);
    assert_eq!(events.all(), ["a before", "fail", "a after failed", "a before", "a after failed"]);
    assert_eq!(errors.all(), [r#"WORD-1 Some("0")"#, "PIT-400 None"]);
}

#[tokio::test]
async fn a_hook_may_push_and_bind_before_the_handler_runs() {
    let greeting = from_fn(|request: Request, next: Next| async move {
        let session = request.parts.session()?.clone();
        session.bind("ada").await?;
        session.push("welcome", Json("ada")).await?;
        next.run(request).await
    });
    let server = serve(words(&Events::default()).layer(greeting)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "words.raw", "x")).await;
    assert_eq!(raw.message().await.unwrap().route, "welcome");
    assert_eq!(raw.message().await.unwrap().id, 1);
    assert!(server.app.session_of(&"ada".try_into().unwrap()).is_some());
}

/// A layer that is no function: it is told of each route once, and may treat them differently.
struct Counting {
    layered: Arc<AtomicUsize>,
    called: Arc<AtomicUsize>,
}

struct Counted {
    inner: Arc<dyn Endpoint>,
    called: Arc<AtomicUsize>,
}

impl Layer for Counting {
    fn layer(&self, _route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        self.layered.fetch_add(1, Ordering::SeqCst);
        Arc::new(Counted { inner, called: Arc::clone(&self.called) })
    }
}

impl Endpoint for Counted {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        self.called.fetch_add(1, Ordering::SeqCst);
        self.inner.call(request)
    }
}

#[tokio::test]
async fn a_layer_of_the_user_wraps_each_route_once_when_the_server_is_built() {
    let (layered, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = Counting { layered: Arc::clone(&layered), called: Arc::clone(&called) };
    let server = serve(words(&Events::default()).layer(counting)).await;
    assert_eq!(layered.load(Ordering::SeqCst), 5);
    let client = server.client().await;
    for _ in 0..3 {
        client.request_bytes("words.raw", "x").await.unwrap();
    }
    assert_eq!((layered.load(Ordering::SeqCst), called.load(Ordering::SeqCst)), (5, 3));
}
