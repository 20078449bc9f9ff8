//! Before- and after-functions.

use pitaya::{Bytes, Error, Next, Parts, Reply, Request, Route, ServerBuilder, code, from_fn};
use serde_json::Value;

use super::words;
use crate::support::{Events, Recorder, eventually, refused, serve};

/// Adds a before-function that writes down its name and appends it to the word in the payload.
fn before(builder: ServerBuilder, name: &'static str, events: &Events) -> ServerBuilder {
    let events = events.clone();
    builder.before(move |mut request: Request| {
        events.add(format!("before {name}"));
        if let Ok(Value::String(word)) = serde_json::from_slice(&request.body) {
            request.body = format!("{:?}", format!("{word}{name}")).into();
        }
        async { Ok(request) }
    })
}

/// Adds an after-function that writes down its name and what it sees, and marks the reply.
fn after(builder: ServerBuilder, name: &'static str, events: &Events) -> ServerBuilder {
    let events = events.clone();
    builder.after(move |_parts: Parts, reply: Reply| {
        match &reply {
            Ok(body) => events.add(format!("after {name} {}", String::from_utf8_lossy(body))),
            Err(error) => events.add(format!("after {name} {}", error.code())),
        }
        async move { reply.map_err(|error| error.with(name, "seen")) }
    })
}

/// F060, F061: the functions run in the order of registration, each with what the one before it returned, around every
/// handler and inside of the layers.
#[tokio::test]
async fn the_functions_run_in_order_and_feed_each_other() {
    let events = Events::default();
    let builder = before(words(&events), "1", &events);
    let builder = after(builder, "a", &events);
    let outer = events.clone();
    let builder = builder.layer(from_fn(move |request: Request, next: Next| {
        let events = outer.clone();
        async move {
            events.add("layer in");
            let reply = next.run(request).await;
            events.add("layer out");
            reply
        }
    }));
    let builder = after(before(builder, "2", &events), "b", &events);
    let server = serve(builder).await;
    let client = server.client().await;
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w12");
    let expected = [
        "layer in",
        "before 1",
        "before 2",
        "say w12",
        r#"after a "you said w12""#,
        r#"after b "you said w12""#,
        "layer out",
    ];
    assert_eq!(events.all(), expected);

    client.notify("words.whisper", "n").await.unwrap();
    eventually("the notify is handled", || events.all().len() == 2 * expected.len()).await;
    let of_notify = ["layer in", "before 1", "before 2", "whisper n12", "after a ", "after b ", "layer out"];
    assert_eq!(events.all()[expected.len()..], of_notify);
}

#[tokio::test]
async fn messages_without_handler_pass_no_function() {
    let events = Events::default();
    let server = serve(after(before(words(&events), "1", &events), "a", &events)).await;
    let client = server.client().await;
    for route in ["words.shout", "words", "room.words.say", "words.whisper"] {
        assert!(client.request_bytes(route, r#""x""#).await.is_err());
    }
    assert_eq!(events.all(), [""; 0]);
}

/// F060: an error stops; the client gets it, the handler is not called, nor is anything behind the function.
#[tokio::test]
async fn a_before_function_that_refuses_is_the_last_that_runs() {
    let events = Events::default();
    let builder = before(words(&events), "1", &events);
    let builder = builder.before(async |request: Request| match &request.body[..] {
        br#""coded1""# => Err(Error::new("AUTH-001", "log in first").with("hint", "login")),
        br#""plain1""# => Err("not today".into()),
        _ => Ok(request),
    });
    let server = serve(after(before(builder, "3", &events), "a", &events)).await;
    let client = server.client().await;
    let error = refused(client.request::<String>("words.say", "coded").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("AUTH-001", "log in first"));
    assert_eq!(error.metadata, [("hint".to_owned(), "login".to_owned())].into());
    let error = refused(client.request::<String>("words.say", "plain").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "not today"));
    assert_eq!(events.all(), ["before 1", "before 1"]);
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w13");
}

/// F061, F104: after-functions see what failed: the handler, its argument, a panic. The connection lives.
#[tokio::test]
async fn after_functions_run_whatever_failed() {
    let (events, recorder) = (Events::default(), Recorder::default());
    let builder = after(after(words(&events), "a", &events), "b", &events).reporter(recorder.clone());
    let server = serve(builder).await;
    let client = server.client().await;

    let error = refused(client.request_bytes("words.fail", "").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("WORD-1", "no words"));
    assert_eq!(error.metadata.into_keys().collect::<Vec<_>>(), ["a", "b", "left"]);
    assert_eq!(events.all(), ["fail", "after a WORD-1", "after b WORD-1"]);

    // The handler is not called with an argument that cannot be read.
    let error = refused(client.request_bytes("words.say", "{").await);
    assert_eq!((error.code.as_str(), error.metadata["b"].as_str()), (code::BAD_REQUEST, "seen"));
    assert_eq!(events.all()[3..], ["after a PIT-400", "after b PIT-400"]);

    for (nth, when) in ["at once", "later"].into_iter().enumerate() {
        let error = refused(client.request_bytes("words.panic", when).await);
        assert_eq!((error.code.as_str(), error.metadata["b"].as_str()), (code::INTERNAL, "seen"));
        let request = format!("internal error, request {}-", client_session(&server));
        assert!(error.message.starts_with(&request), "{}", error.message);
        assert_eq!(events.all()[5 + 3 * nth..], ["panic", "after a PIT-500", "after b PIT-500"]);
        assert_eq!(recorder.value("handler.panics{game.words.panic}"), nth as i64 + 1);
    }
    assert_eq!(client.request::<String>("words.say", "w").await.unwrap(), "you said w");
}

fn client_session(server: &crate::support::Running) -> String {
    server.app.sessions()[0].id().to_string()
}

#[tokio::test]
async fn an_after_function_may_turn_an_answer_into_an_error_and_the_reverse() {
    let events = Events::default();
    let builder = words(&events).after(async |_, reply: Reply| match reply {
        Ok(body) if body.starts_with(br#""you said secret"#) => Err(Error::new("WORD-2", "censored")),
        Ok(body) => Ok([&body[..], b"!"].concat().into()),
        Err(error) => Ok(Bytes::from(format!("saved from {}", error.code()))),
    });
    let server = serve(builder).await;
    let client = server.client().await;
    assert_eq!(client.request_bytes("words.say", r#""hello""#).await.unwrap(), r#""you said hello"!"#);
    assert_eq!(refused(client.request_bytes("words.say", r#""secret plan""#).await).code, "WORD-2");
    assert_eq!(client.request_bytes("words.fail", "").await.unwrap(), "saved from WORD-1");
    assert_eq!(client.request_bytes("words.say", "{").await.unwrap(), "saved from PIT-400");
    assert_eq!(client.request_bytes("words.panic", "").await.unwrap(), "saved from PIT-500");
}

#[tokio::test]
async fn after_functions_see_the_circumstances_as_the_before_functions_have_left_them() {
    let events = Events::default();
    let seen = events.clone();
    let builder = words(&events)
        .before(async |mut request: Request| {
            request.parts.context.insert(7_u64);
            request.parts.route = Route::parse("game.else.where").map_err(Error::internal)?;
            Ok(request)
        })
        .after(move |parts: Parts, reply: Reply| {
            let number = parts.context.get::<u64>();
            seen.add(format!("{} {number:?} {}", parts.route, parts.session().is_ok()));
            async { reply }
        });
    let server = serve(builder).await;
    server.client().await.request_bytes("words.say", r#""w""#).await.unwrap();
    assert_eq!(events.all(), ["say w", "game.else.where Some(7) true"]);
}

/// A function that suspends is awaited before the next begins.
#[tokio::test]
async fn functions_may_wait() {
    let events = Events::default();
    let slow = |events: &Events, name: &'static str| {
        let events = events.clone();
        move |request: Request| {
            let events = events.clone();
            async move {
                events.add(format!("{name} begins"));
                tokio::task::yield_now().await;
                events.add(format!("{name} ends"));
                Ok(request)
            }
        }
    };
    let late = events.clone();
    let builder = words(&events).before(slow(&events, "1")).before(slow(&events, "2")).after(move |_, reply: Reply| {
        let events = late.clone();
        async move {
            tokio::task::yield_now().await;
            events.add("after");
            reply
        }
    });
    let server = serve(builder).await;
    server.client().await.request_bytes("words.say", r#""w""#).await.unwrap();
    assert_eq!(events.all(), ["1 begins", "1 ends", "2 begins", "2 ends", "say w", "after"]);
}
