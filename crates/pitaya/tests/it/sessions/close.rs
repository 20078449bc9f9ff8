//! The end of a session: callbacks, handlers that go on, and those who wait for it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pitaya::{CloseReason, Component, Context, Json, Server, ServerBuilder, Session, SessionId, settings};
use pitaya_protocol::Message;
use tokio::sync::{Notify, oneshot};

use super::{bare, connect, uid};
use crate::support::{Events, Raw, Recorder, eventually, serve, soon};

/// Two callbacks for all sessions.
fn with_callbacks(events: &Events) -> ServerBuilder {
    let (first, second) = (events.clone(), events.clone());
    Server::frontend("game")
        .on_close(move |_, reason| {
            let first = first.clone();
            async move {
                tokio::task::yield_now().await;
                first.add(format!("global 1 {}", reason.as_str()));
            }
        })
        .on_close(move |_, reason| {
            second.add(format!("global 2 {}", reason.as_str()));
            async {}
        })
}

/// Two callbacks for this session.
fn add_callbacks(session: &Session, events: &Events) {
    for number in [1, 2] {
        let events = events.clone();
        let callback = move |closed: Session| async move {
            tokio::task::yield_now().await;
            events.add(format!("session {} own {number}", closed.id()));
        };
        session.on_close(callback).unwrap();
    }
}

fn expected(reason: &str) -> [String; 4] {
    ["session 1 own 1".into(), "session 1 own 2".into(), format!("global 1 {reason}"), format!("global 2 {reason}")]
}

#[tokio::test]
async fn callbacks_run_once_in_order_when_the_client_vanishes() {
    let (events, recorder) = (Events::default(), Recorder::default());
    let server = serve(with_callbacks(&events).reporter(recorder.clone())).await;
    let raw = Raw::established(server.tcp).await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    add_callbacks(&session, &events);
    drop(raw);
    eventually("the last callback has run", || events.all().len() == 4).await;
    // Whoever closes it again makes no callback run again.
    session.close();
    drop(session.kick().await);
    server.stop().await.unwrap();
    assert_eq!(events.all(), expected("client_closed"));
    assert_eq!(recorder.value("session.closed{client_closed}"), 1);
}

#[tokio::test]
async fn callbacks_run_once_in_order_when_the_server_closes_or_kicks() {
    for kick in [false, true] {
        let events = Events::default();
        let server = serve(with_callbacks(&events)).await;
        let (_client, session) = connect(&server, 1).await;
        add_callbacks(&session, &events);
        if kick {
            session.kick().await.unwrap();
        } else {
            session.close();
        }
        eventually("the last callback has run", || events.all().len() == 4).await;
        server.stop().await.unwrap();
        assert_eq!(events.all(), expected(if kick { "kicked" } else { "closed" }));
    }
}

#[tokio::test]
async fn callbacks_have_run_when_the_server_has_stopped() {
    let events = Events::default();
    let server = serve(with_callbacks(&events)).await;
    let (_client, session) = connect(&server, 1).await;
    add_callbacks(&session, &events);
    server.stop().await.unwrap();
    assert_eq!(events.all(), expected("shutdown"));
}

#[tokio::test]
async fn callbacks_of_a_session_run_for_that_session_only() {
    let events = Events::default();
    let server = serve(with_callbacks(&events)).await;
    let (first, one) = connect(&server, 1).await;
    let (_second, two) = connect(&server, 2).await;
    add_callbacks(&two, &events);
    first.close();
    soon("the first session closes", one.closed()).await;
    eventually("the global callbacks have run", || events.count("global 2 client_closed") == 1).await;
    assert_eq!(events.all().len(), 2);
    assert!(!two.is_closed());
}

#[tokio::test]
async fn a_panicking_callback_does_not_stop_the_others() {
    let events = Events::default();
    let builder = Server::frontend("game").on_close(|_, _| async { panic!("global, on purpose") });
    let seen = events.clone();
    let builder = builder.on_close(move |_, _| {
        seen.add("global");
        async {}
    });
    let server = serve(builder).await;
    let (client, session) = connect(&server, 1).await;
    // One panics in its future, one before it has made one.
    session.on_close(|_| async { panic!("own, on purpose") }).unwrap();
    let early = |_: Session| -> std::future::Ready<()> { panic!("own and early, on purpose") };
    session.on_close(early).unwrap();
    add_callbacks(&session, &events);
    client.close();
    eventually("the others have run", || events.all().len() == 3).await;
    assert_eq!(events.all(), ["session 1 own 1", "session 1 own 2", "global"]);
    // The server lives.
    connect(&server, 2).await.0.close();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_callback_that_never_ends_is_cut_by_the_step_time_out() {
    let events = Events::default();
    let seen = events.clone();
    let builder = Server::frontend("game")
        .set(&settings::SESSION_STEP_TIMEOUT, Duration::from_millis(20))
        .on_close(|_, _| std::future::pending())
        .on_close(move |_, _| {
            seen.add("global");
            async {}
        });
    let server = serve(builder).await;
    let (client, session) = connect(&server, 1).await;
    session.on_close(|_| std::future::pending()).unwrap();
    let seen = events.clone();
    let quick = move |_: Session| {
        seen.add("own");
        async {}
    };
    session.on_close(quick).unwrap();
    client.close();
    eventually("the others have run", || events.all().len() == 2).await;
    assert_eq!(events.all(), ["own", "global"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn callbacks_see_uid_and_data_but_nobody_finds_the_session_any_more() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let global = Arc::clone(&seen);
    let look = |session: &Session| {
        (session.uid().unwrap().to_string(), session.get::<u64>("level").unwrap(), session.is_closed())
    };
    let builder = Server::frontend("game").on_close(move |session, _| {
        global.lock().unwrap().push(look(&session));
        async {}
    });
    let server = serve(builder).await;
    let (client, session) = connect(&server, 1).await;
    session.bind("ada").await.unwrap();
    session.set("level", &7).unwrap();
    let (own, app) = (Arc::clone(&seen), server.app.clone());
    let callback = move |session: Session| {
        own.lock().unwrap().push(look(&session));
        assert_eq!(app.session_of(&uid("ada")), None);
        assert_eq!(app.session(session.id()), None);
        assert_eq!(app.session_count(), 0);
        async {}
    };
    session.on_close(callback).unwrap();
    client.close();
    eventually("both callbacks have run", || seen.lock().unwrap().len() == 2).await;
    let expected = ("ada".to_owned(), Some(7), true);
    assert_eq!(*seen.lock().unwrap(), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_push_in_a_callback_is_refused_as_closed() {
    let server = bare().await;
    let (client, session) = connect(&server, 1).await;
    let (sender, receiver) = oneshot::channel();
    let callback = |session: Session| async move {
        let error = session.push("late", Json(1)).await.unwrap_err();
        sender.send(error.code().to_owned()).unwrap();
    };
    session.on_close(callback).unwrap();
    client.close();
    assert_eq!(soon("the callback has pushed", receiver).await.unwrap(), pitaya::code::CLIENT_CLOSED);
}

/// What a handler that waits tells: how it began and how it ended.
fn patient(events: &Events, go_on: &Arc<Notify>) -> Component {
    let (waiting, watching) = (events.clone(), events.clone());
    let go_on = Arc::clone(go_on);
    Component::builder("patient", Arc::new(()))
        .request("wait", move |session: Session, context: Context| {
            let (events, go_on) = (waiting.clone(), Arc::clone(&go_on));
            async move {
                events.add(format!("wait begins {} {}", session.is_closed(), context.is_cancelled()));
                go_on.notified().await;
                events.add(format!("wait ends {} {}", session.is_closed(), context.is_cancelled()));
                Json(1)
            }
        })
        .request("watch", move |session: Session, context: Context| {
            let events = watching.clone();
            async move {
                events.add("watch begins");
                tokio::join!(
                    async {
                        session.closed().await;
                        events.add("session closed");
                    },
                    async {
                        context.cancelled().await;
                        events.add("context cancelled");
                    }
                );
                events.add("watch ends");
                Json(1)
            }
        })
        .build()
}

#[tokio::test]
async fn a_handler_goes_on_after_its_client_has_vanished_and_its_session_says_closed() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = serve(Server::frontend("game").component(patient(&events, &go_on))).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "patient.wait", "")).await;
    eventually("the handler waits", || events.all().len() == 1).await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    drop(raw);
    soon("the session closes", session.closed()).await;
    assert_eq!(events.all(), ["wait begins false false"]);
    go_on.notify_one();
    eventually("the handler ends", || events.all().len() == 2).await;
    assert_eq!(events.all(), ["wait begins false false", "wait ends true true"]);
}

#[tokio::test]
async fn a_handler_that_waits_for_the_end_of_its_client_is_told() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = serve(Server::frontend("game").component(patient(&events, &go_on))).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "patient.watch", "")).await;
    eventually("the handler watches", || events.count("watch begins") == 1).await;
    assert_eq!(events.all().len(), 1);
    drop(raw);
    eventually("the handler was told", || events.count("watch ends") == 1).await;
    assert_eq!(events.count("session closed"), 1);
    assert_eq!(events.count("context cancelled"), 1);
}

#[tokio::test]
async fn many_tasks_wait_for_one_close_and_a_wait_may_be_given_up() {
    let server = bare().await;
    let (client, session) = connect(&server, 1).await;
    let waiters: Vec<_> = (0..32)
        .map(|_| {
            let session = session.clone();
            tokio::task::spawn(async move { session.closed().await })
        })
        .collect();
    // Given up at once.
    assert!(futures_util::FutureExt::now_or_never(session.closed()).is_none());
    client.close();
    for waiter in waiters {
        soon("the waiter is told", waiter).await.unwrap();
    }
}

/// A handler that waits for the end of its own connection must not dead-lock.
#[tokio::test]
async fn a_handler_may_close_its_session_and_wait_for_the_end() {
    let events = Events::default();
    let seen = events.clone();
    let handler = Component::builder("self", Arc::new(()))
        .request("close", move |session: Session| {
            let seen = seen.clone();
            async move {
                session.close();
                session.closed().await;
                seen.add("closed");
            }
        })
        .build();
    let server = serve(Server::frontend("game").component(handler)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "self.close", "")).await;
    assert_eq!(raw.packet_but_heartbeat().await, None);
    eventually("the handler has ended", || events.count("closed") == 1).await;
}

/// A close callback that waits for a handler of the same session gets it.
#[tokio::test]
async fn a_callback_may_wait_for_a_handler_of_its_session() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = serve(Server::frontend("game").component(patient(&events, &go_on))).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "patient.wait", "")).await;
    eventually("the handler waits", || events.all().len() == 1).await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    let seen = events.clone();
    let callback = move |_: Session| async move {
        go_on.notify_one();
        eventually("the handler ends", || seen.all().len() == 2).await;
        seen.add("callback");
    };
    session.on_close(callback).unwrap();
    drop(raw);
    eventually("the callback has run", || events.count("callback") == 1).await;
    assert_eq!(events.all(), ["wait begins false false", "wait ends true true", "callback"]);
}

#[tokio::test]
async fn each_way_to_close_is_counted_with_its_reason() {
    let recorder = Recorder::default();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reasons);
    let builder = Server::frontend("game").reporter(recorder.clone()).on_close(move |_, reason| {
        seen.lock().unwrap().push(reason);
        async {}
    });
    let server = serve(builder).await;
    let (vanishing, one) = connect(&server, 1).await;
    let (_kicked, two) = connect(&server, 2).await;
    let (_closed, three) = connect(&server, 3).await;
    let (_stopped, four) = connect(&server, 4).await;
    assert_eq!(recorder.value("acceptor.connected_clients"), 4);
    vanishing.close();
    soon("the first closes", one.closed()).await;
    two.kick().await.unwrap();
    soon("the second closes", two.closed()).await;
    three.close();
    soon("the third closes", three.closed()).await;
    server.stop().await.unwrap();
    assert!(four.is_closed());
    let expected = [CloseReason::ClientClosed, CloseReason::Kicked, CloseReason::Closed, CloseReason::Shutdown];
    assert_eq!(*reasons.lock().unwrap(), expected);
    for reason in CloseReason::ALL {
        let count = recorder.value(&format!("session.closed{{{}}}", reason.as_str()));
        assert_eq!(count, i64::from(expected.contains(&reason)), "{reason:?}");
    }
    assert_eq!(recorder.value("acceptor.connected_clients"), 0);
}
