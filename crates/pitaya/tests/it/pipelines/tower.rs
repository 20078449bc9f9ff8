//! Layers of tower: stock ones and one that a user wrote.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pitaya::{
    BoxFuture, Error, Reply, Request, code,
    layers::{Only, from_tower},
};
use pitaya_protocol::Message;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tower::{
    BoxError,
    limit::ConcurrencyLimitLayer,
    timeout::{TimeoutLayer, error::Elapsed},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{words, words_until};
use crate::support::{Events, eventually, refused, serve};

#[tokio::test(start_paused = true)]
async fn a_time_out_of_tower_gives_up_a_handler_and_may_be_given_a_code() {
    for coded in [false, true] {
        let events = Events::default();
        let mut layer = from_tower(TimeoutLayer::new(Duration::from_secs(5)));
        if coded {
            layer = layer.map_error(|error| match error.downcast::<Elapsed>() {
                Ok(_) => Error::new(code::TIMEOUT, "too slow"),
                Err(error) => Error::internal(error),
            });
        }
        let server = serve(words(&events).layer(layer)).await;
        let mut raw = server.pipes.established().await;
        let start = Instant::now();
        raw.send_message(&Message::request(1, "words.linger", "")).await;
        let answer = raw.message().await.unwrap();
        assert_eq!((answer.error, start.elapsed().as_secs()), (true, 5));
        let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["code"], if coded { code::TIMEOUT } else { code::INTERNAL });
        // What is wrong inside is for the log.
        let message = error["msg"].as_str().unwrap();
        assert!(if coded { message == "too slow" } else { message.starts_with("internal error, request ") }, "{error}");
        assert_eq!(events.all(), ["linger", "dropped"]);
    }
}

/// The service of a layer of tower never sees a coded error as its own failure, however many such layers there are.
#[tokio::test]
async fn a_coded_error_passes_layers_of_tower_as_the_reply_that_it_is() {
    let events = Events::default();
    let server = serve(
        words(&events)
            .layer(from_tower(TimeoutLayer::new(Duration::from_secs(60))))
            .layer(from_tower(ConcurrencyLimitLayer::new(4)).map_error(|_| Error::plain("the layer failed"))),
    )
    .await;
    let client = server.client().await;
    let error = refused(client.request_bytes("words.fail", "").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("WORD-1", "no words"));
    assert_eq!(error.metadata["left"], "0");
    assert_eq!(refused(client.request_bytes("words.say", "{").await).code, code::BAD_REQUEST);
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w");
}

/// The limit holds over all sessions, since the clones of a service share it.
#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_of_tower_lets_the_next_wait() {
    let (events, go) = (Events::default(), Arc::<Notify>::default());
    let layer = Only::new(["words.linger"], from_tower(ConcurrencyLimitLayer::new(1)));
    let server = serve(words_until(&events, &go).layer(layer)).await;
    let mut first = server.pipes.established().await;
    let mut second = server.pipes.established().await;
    first.send_message(&Message::request(1, "words.linger", "")).await;
    eventually("the first runs", || events.count("linger") == 1).await;
    second.send_message(&Message::request(1, "words.linger", "")).await;
    assert!(timeout(Duration::from_secs(10), second.message()).await.is_err());
    assert_eq!(events.count("linger"), 1);
    for raw in [&mut first, &mut second] {
        go.notify_one();
        assert!(!raw.message().await.unwrap().error);
    }
    assert_eq!(events.all(), ["linger", "lingered", "linger", "lingered"]);
}

/// A layer of the user, written for tower: refuses before the service, or fails.
#[derive(Clone)]
struct Door(Events);

#[derive(Clone)]
struct Doorman<S> {
    inner: S,
    events: Events,
    ready: bool,
}

impl<S> Layer<S> for Door {
    type Service = Doorman<S>;

    fn layer(&self, inner: S) -> Doorman<S> {
        Doorman { inner, events: self.0.clone(), ready: false }
    }
}

impl<S> Service<Request> for Doorman<S>
where
    S: Service<Request, Response = Reply, Error = Infallible, Future: Send + 'static>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reply, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Not at once, so that the one that is called must be the one that was asked.
        if !std::mem::replace(&mut self.ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_ready(cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: Request) -> Self::Future {
        assert!(self.ready, "called before it was ready");
        self.events.add(format!("door {}", String::from_utf8_lossy(&request.body)));
        match &request.body[..] {
            br#""refuse""# => Box::pin(async { Ok(Err(Error::new("DOOR-1", "closed"))) }),
            br#""fail""# => Box::pin(async { Err(BoxError::from("the door fell off")) }),
            br#""coded""# => Box::pin(async { Err(BoxError::from(Error::new("DOOR-2", "jammed").with("by", "wood"))) }),
            _ => {
                let answering = self.inner.call(request);
                Box::pin(async { Ok(answering.await.unwrap_or_else(|never| match never {})) })
            }
        }
    }
}

#[tokio::test]
async fn a_layer_that_was_written_for_tower_is_put_around_handlers() {
    let events = Events::default();
    let server = serve(words(&events).layer(from_tower(Door(events.clone())))).await;
    let client = server.client().await;
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w");
    assert_eq!(events.all(), [r#"door "w""#, "say w"]);
    assert_eq!(refused(client.request::<String>("words.say", "refuse").await).code, "DOOR-1");
    // An error of ours that fails the service is still ours; any other is internal.
    let error = refused(client.request::<String>("words.say", "coded").await);
    assert_eq!((error.code.as_str(), error.metadata["by"].as_str()), ("DOOR-2", "wood"));
    let error = refused(client.request::<String>("words.say", "fail").await);
    assert_eq!(error.code, code::INTERNAL);
    assert!(!error.message.contains("door"), "{}", error.message);
    assert_eq!(events.count("say w"), 1);
    assert_eq!(refused(client.request_bytes("words.fail", "").await).code, "WORD-1");
}
