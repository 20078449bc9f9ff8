//! Layers that know their route, and the stock layers.

use std::{sync::Arc, time::Duration};

use pitaya::{
    Endpoint, Error, Layer, Problem, Route, code,
    layers::{ConcurrencyLimit, Only, RequireBound, Timeout},
};
use pitaya_protocol::Message;
use serde_json::Value;
use tokio::{io::DuplexStream, sync::Notify, time::Instant};

use super::{words, words_until};
use crate::support::{Events, PATIENCE, Raw, Running, eventually, refused, serve, try_serve};

/// Answers with the route in place of the handler, where the route is its own.
struct Answering(&'static str);

impl Layer for Answering {
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        if route.short() != self.0 {
            return inner;
        }
        struct Answer(Route);
        impl Endpoint for Answer {
            fn call(&self, _request: pitaya::Request) -> pitaya::BoxFuture<'static, pitaya::Reply> {
                let answer = Ok(self.0.as_str().to_owned().into_bytes().into());
                Box::pin(async { answer })
            }
        }
        Arc::new(Answer(route.clone()))
    }

    fn routes(&self) -> Vec<&str> {
        vec![self.0]
    }
}

#[tokio::test]
async fn a_layer_decides_by_the_route_that_it_is_put_around() {
    let server = serve(words(&Events::default()).layer(Answering("words.fail"))).await;
    let client = server.client().await;
    assert_eq!(client.request_bytes("words.fail", "").await.unwrap(), "game.words.fail");
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w");
}

/// All at once, and together with what else is wrong.
#[tokio::test]
async fn routes_that_layers_name_and_no_handler_has_are_refused() {
    let builder = words(&Events::default())
        .layer(RequireBound::except(["words.login", "game.words.say", "words.logn"]))
        .layer(Answering("words.fial"))
        .layer(Only::new(["room.words.say"], RequireBound::except(["words"])))
        .set_text("pitaya.session.unfinished", "none");
    let Err(error) = try_serve(builder).await else { panic!("it was built") };
    let problem = |problem: &Problem| match problem {
        Problem::LayerRoute { route } => route.clone(),
        Problem::Config(_) => "config".to_owned(),
        other => panic!("{other}"),
    };
    let problems: Vec<_> = error.problems().iter().map(problem).collect();
    assert_eq!(problems, ["config", "words.logn", "words.fial", "room.words.say", "words"]);
    assert!(error.to_string().contains("a layer names the route words.logn, which no handler has"), "{error}");
}

#[tokio::test]
async fn before_the_bind_only_the_named_routes_are_open() {
    let events = Events::default();
    let server = serve(words(&events).layer(RequireBound::except(["words.login"]))).await;
    let client = server.client().await;
    let error = refused(client.request::<String>("words.say", "w").await);
    assert_eq!(error.code, code::UNAUTHORIZED);
    assert_eq!(error.code, "PIT-401");
    client.notify("words.whisper", "w").await.unwrap();
    // The full route is the same route.
    client.request_bytes("game.words.login", "").await.unwrap();
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w");
    assert_eq!(events.all(), ["say w"]);
    // Each session for itself.
    let other = server.client().await;
    assert_eq!(refused(other.request::<String>("words.say", "w").await).code, code::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_given_up() {
    let events = Events::default();
    let server = serve(words(&events).layer(Timeout::new(Duration::from_secs(5)))).await;
    let mut raw = server.pipes.established().await;
    let start = Instant::now();
    raw.send_message(&Message::request(1, "words.linger", "")).await;
    raw.send_message(&Message::request(2, "words.say", r#""w""#)).await;
    let quick = raw.message().await.unwrap();
    assert_eq!((quick.id, quick.error, start.elapsed().as_secs()), (2, false, 0));
    let slow = raw.message().await.unwrap();
    assert_eq!((slow.id, slow.error, start.elapsed().as_secs()), (1, true, 5));
    let error: Value = serde_json::from_slice(&slow.body).unwrap();
    assert_eq!(error["code"], code::TIMEOUT);
    assert_eq!(error["metadata"]["route"], "game.words.linger");
    assert_eq!(events.all(), ["linger", "say w", "dropped"]);
}

/// A server with a limit of one, and how many may wait.
async fn limited(limit: ConcurrencyLimit) -> (Running, Events, Arc<Notify>) {
    let (events, go) = (Events::default(), Arc::default());
    let server = serve(words_until(&events, &go).layer(Only::new(["words.linger"], limit))).await;
    (server, events, go)
}

async fn linger(server: &Running, id: u64) -> Raw<DuplexStream> {
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(id, "words.linger", "")).await;
    raw
}

/// One that waits: the answer to a later message on a route without limit shows that this one was begun.
async fn waiting(server: &Running) -> Raw<DuplexStream> {
    let mut raw = linger(server, 2).await;
    raw.send_message(&Message::request(3, "words.say", r#""w""#)).await;
    assert_eq!(raw.message().await.unwrap().id, 3);
    raw
}

async fn code_of(raw: &mut Raw<DuplexStream>) -> Option<String> {
    let answer = raw.message().await.unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.error.then(|| body["code"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_of_running_handlers_some_wait_in_order_and_the_rest_is_refused() {
    let patience = PATIENCE * 2;
    let (server, events, go) = limited(ConcurrencyLimit::new(1).waiting(2, patience)).await;
    let mut first = linger(&server, 1).await;
    eventually("the first runs", || events.count("linger") == 1).await;
    let mut second = waiting(&server).await;
    let mut third = waiting(&server).await;
    let mut fourth = linger(&server, 4).await;
    assert_eq!(code_of(&mut fourth).await.as_deref(), Some(code::TOO_MANY));
    assert_eq!(code::TOO_MANY, "PIT-429");
    for raw in [&mut first, &mut second, &mut third] {
        go.notify_one();
        assert_eq!(code_of(raw).await, None);
    }
    assert_eq!(events.count("lingered"), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_too_long_is_refused_and_leaves_its_place() {
    let (server, events, go) = limited(ConcurrencyLimit::new(1).waiting(1, Duration::from_secs(3))).await;
    let mut first = linger(&server, 1).await;
    eventually("the first runs", || events.count("linger") == 1).await;
    for _ in 0..2 {
        let start = Instant::now();
        let mut waiting = linger(&server, 2).await;
        assert_eq!(code_of(&mut waiting).await.as_deref(), Some(code::TOO_MANY));
        assert_eq!(start.elapsed().as_secs(), 3);
    }
    go.notify_one();
    assert_eq!(code_of(&mut first).await, None);
    assert_eq!(events.all(), ["linger", "lingered"]);
}

/// Without places to wait the answer comes at once; a place is free again however its handler ended.
#[tokio::test(start_paused = true)]
async fn a_place_is_free_again_when_its_handler_has_failed_or_was_given_up() {
    let events = Events::default();
    let builder = words(&events)
        .layer(ConcurrencyLimit::new(1))
        .layer(Timeout::new(Duration::from_secs(1)))
        .before(async |request| if request.body == "no" { Err(Error::plain("no")) } else { Ok(request) });
    let server = serve(builder).await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "words.linger", "")).await;
    raw.send_message(&Message::request(2, "words.say", r#""w""#)).await;
    assert_eq!(code_of(&mut raw).await.as_deref(), Some(code::TOO_MANY));
    assert_eq!(code_of(&mut raw).await.as_deref(), Some(code::TIMEOUT));
    for (id, route, body, code) in [
        (3, "words.fail", "", Some("WORD-1")),
        (4, "words.say", "no", Some(code::UNKNOWN)),
        (5, "words.panic", "later", Some(code::INTERNAL)),
        (6, "words.say", r#""w""#, None),
    ] {
        raw.send_message(&Message::request(id, route, body)).await;
        assert_eq!(code_of(&mut raw).await.as_deref(), code, "{route}");
    }
}
