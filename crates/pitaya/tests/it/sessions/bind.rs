//! Binding a session to a user: a sequence of steps that is done as a whole or not at all.

use std::{sync::Arc, time::Duration};

use pitaya::{
    BoxFuture, CloseReason, Component, Error, Json, Result, Server, ServerBuilder, Session, SessionId, SessionStep,
    Uid, acceptor::Incoming, code, settings,
};
use tokio::sync::{Barrier, Notify};

use super::{bare, connect, uid, with_handler};
use crate::support::{Events, PATIENCE, Raw, Recorder, Running, eventually, refused, serve, soon};

/// What a step does when it is its turn.
#[derive(Clone, Default)]
enum Act {
    #[default]
    Agree,
    Fail,
    Panic,
    /// Waits until it is told to go on, then agrees.
    Wait(Arc<Notify>),
    /// Fails the first time and agrees later.
    FailOnce(Arc<std::sync::Once>),
    Never,
}

impl Act {
    async fn run(&self, name: &str) -> Result<()> {
        match self {
            Self::Agree => Ok(()),
            Self::Fail => Err(Error::new("STEP-1", format!("{name} refuses"))),
            Self::Panic => panic!("{name} panics on purpose"),
            Self::Wait(go_on) => {
                go_on.notified().await;
                Ok(())
            }
            Self::FailOnce(once) => {
                let mut first = false;
                once.call_once(|| first = true);
                if first { Err(Error::new("STEP-1", "not yet")) } else { Ok(()) }
            }
            Self::Never => std::future::pending().await,
        }
    }
}

/// A step that writes down what it is asked.
struct Step {
    name: &'static str,
    events: Events,
    bind: Act,
    after_bind: Act,
    unbind: Act,
}

impl Step {
    fn new(name: &'static str, events: &Events) -> Self {
        let agree = Act::Agree;
        Self { name, events: events.clone(), bind: agree.clone(), after_bind: agree.clone(), unbind: agree }
    }

    fn bind(self, bind: Act) -> Self {
        Self { bind, ..self }
    }

    fn after_bind(self, after_bind: Act) -> Self {
        Self { after_bind, ..self }
    }

    fn unbind(self, unbind: Act) -> Self {
        Self { unbind, ..self }
    }
}

impl SessionStep for Step {
    fn bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            assert!(session.uid().is_err(), "nobody sees the uid {uid} before all steps have agreed");
            self.events.add(format!("{} bind", self.name));
            self.bind.run(self.name).await
        })
    }

    fn unbind<'a>(&'a self, _session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.events.add(format!("{} unbind {uid}", self.name));
            drop(self.unbind.run(self.name).await);
        })
    }

    fn after_bind<'a>(&'a self, _session: &'a Session, _uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.events.add(format!("{} after", self.name));
            self.after_bind.run(self.name).await
        })
    }

    fn close<'a>(&'a self, _session: &'a Session, _reason: CloseReason) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.events.add(format!("{} close", self.name)) })
    }
}

async fn with_steps(steps: impl IntoIterator<Item = Step>) -> Running {
    serve(steps.into_iter().fold(Server::frontend("game"), ServerBuilder::step)).await
}

/// Checks that a session is as it was before it was bound.
async fn is_unbound(server: &Running, session: &Session) {
    // A uid is not seen while a bind is undone either, so this looks at the phase.
    eventually("the session is unbound", || format!("{session:?}").contains("Unbound")).await;
    assert!(session.uid().is_err());
    assert_eq!(server.app.session_of(&uid("ada")), None);
}

#[tokio::test]
async fn a_uid_that_is_no_name_is_refused_before_any_step_runs() {
    let events = Events::default();
    let server = with_steps([Step::new("a", &events)]).await;
    let (_client, session) = connect(&server, 1).await;

    let error = session.bind("").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::UNKNOWN, "illegal uid"));
    for name in ["a b", "a\nb", "*", "a.>", "a..b", ".", &"x".repeat(129)] {
        let error = session.bind(name).await.unwrap_err();
        assert_eq!(error.code(), code::UNKNOWN, "{name:?}");
        assert!(error.message().starts_with("illegal uid"), "{name:?}");
    }
    assert!(session.uid().is_err());
    assert!(events.all().is_empty());
    session.bind("a.b/c@example.org").await.unwrap();
}

#[tokio::test]
async fn a_refused_uid_reaches_the_client_as_an_error() {
    let server = serve(with_handler(Server::frontend("game"), |session| async move { session.bind("").await })).await;
    let client = server.client().await;
    let error = refused(client.request_bytes("session.use", "").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "illegal uid"));
}

#[tokio::test]
async fn a_bound_session_cannot_be_bound_again_not_even_to_the_same_uid() {
    let events = Events::default();
    let server = with_steps([Step::new("a", &events)]).await;
    let (_client, session) = connect(&server, 1).await;
    session.bind("ada").await.unwrap();
    for name in ["ada", "bob"] {
        let error = session.bind(name).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code::UNKNOWN, "session is already bound to an uid"));
    }
    assert_eq!(session.uid().unwrap(), "ada");
    assert_eq!(server.app.session_of(&uid("ada")), Some(session));
    assert_eq!(server.app.session_of(&uid("bob")), None);
    assert_eq!(events.all(), ["a bind", "a after"]);
}

#[tokio::test]
async fn all_bind_steps_run_in_order_then_the_uid_is_known_then_all_after_bind_steps() {
    let events = Events::default();
    let (on_bind, on_after_bind) = (events.clone(), events.clone());
    let found = Arc::new(std::sync::OnceLock::<pitaya::App>::new());
    let (early, late) = (Arc::clone(&found), Arc::clone(&found));
    let is_found = |app: &std::sync::OnceLock<pitaya::App>| app.get().unwrap().session_of(&uid("ada")).is_some();
    let builder = Server::frontend("game")
        .step(Step::new("first", &events))
        .on_bind(move |session, uid| {
            // Nobody sees the uid before all have agreed.
            assert!(session.uid().is_err());
            on_bind.add(format!("on_bind {uid} {}", is_found(&early)));
            async { Ok(()) }
        })
        .on_after_bind(move |session, uid| {
            assert_eq!(session.uid().unwrap(), uid);
            on_after_bind.add(format!("on_after_bind {uid} {}", is_found(&late)));
            async { Ok(()) }
        })
        .step(Step::new("last", &events));
    let server = serve(builder).await;
    found.set(server.app.clone()).unwrap();
    let (_client, session) = connect(&server, 1).await;
    session.bind("ada").await.unwrap();
    let expected =
        ["first bind", "on_bind ada false", "last bind", "first after", "on_after_bind ada true", "last after"];
    assert_eq!(events.all(), expected);
}

#[tokio::test]
async fn a_failing_bind_step_undoes_the_earlier_ones_in_reverse_and_the_session_can_bind_again() {
    let events = Events::default();
    let once = Arc::new(std::sync::Once::new());
    let server = with_steps([
        Step::new("a", &events),
        Step::new("b", &events),
        Step::new("c", &events).bind(Act::FailOnce(once)),
        Step::new("d", &events),
    ])
    .await;
    let (_client, session) = connect(&server, 1).await;
    assert_eq!(session.bind("ada").await.unwrap_err().code(), "STEP-1");
    assert!(session.uid().is_err());
    assert_eq!(server.app.session_of(&uid("ada")), None);
    assert_eq!(events.all(), ["a bind", "b bind", "c bind", "b unbind ada", "a unbind ada"]);

    session.bind("bob").await.unwrap();
    assert_eq!(session.uid().unwrap(), "bob");
    assert_eq!(server.app.session_of(&uid("bob")), Some(session));
}

#[tokio::test]
async fn a_failing_after_bind_step_undoes_the_look_up_and_all_steps() {
    let events = Events::default();
    let once = Arc::new(std::sync::Once::new());
    let server = with_steps([
        Step::new("a", &events),
        Step::new("b", &events).after_bind(Act::FailOnce(once)),
        Step::new("c", &events),
    ])
    .await;
    let (_client, session) = connect(&server, 1).await;
    assert_eq!(session.bind("ada").await.unwrap_err().code(), "STEP-1");
    assert!(session.uid().is_err());
    assert_eq!(server.app.session_of(&uid("ada")), None);
    let expected = ["a bind", "b bind", "c bind", "a after", "b after", "c unbind ada", "b unbind ada", "a unbind ada"];
    assert_eq!(events.all(), expected);
    session.bind("ada").await.unwrap();
    assert_eq!(server.app.session_of(&uid("ada")), Some(session));
}

#[tokio::test]
async fn a_panicking_step_refuses_the_bind_and_what_it_unbinds_does_not_stop_the_others() {
    let events = Events::default();
    let server = with_steps([
        Step::new("a", &events),
        Step::new("b", &events).unbind(Act::Panic),
        Step::new("c", &events).bind(Act::Panic),
    ])
    .await;
    let (_client, session) = connect(&server, 1).await;
    assert_eq!(session.bind("ada").await.unwrap_err().code(), code::INTERNAL);
    assert_eq!(events.all(), ["a bind", "b bind", "c bind", "b unbind ada", "a unbind ada"]);
    assert!(session.uid().is_err());
    assert!(!session.is_closed());
}

#[tokio::test]
async fn a_step_that_never_ends_is_cut_by_the_step_time_out() {
    for after in [false, true] {
        let events = Events::default();
        let stuck = Step::new("b", &events).unbind(Act::Never);
        let stuck = if after { stuck.after_bind(Act::Never) } else { stuck.bind(Act::Never) };
        let builder = Server::frontend("game").set(&settings::SESSION_STEP_TIMEOUT, Duration::from_millis(20));
        let server = serve(builder.step(Step::new("a", &events)).step(stuck)).await;
        let (_client, session) = connect(&server, 1).await;
        let error = soon("the bind is cut", session.bind("ada")).await.unwrap_err();
        assert_eq!(error.code(), code::TIMEOUT);
        assert!(session.uid().is_err());
        assert_eq!(server.app.session_of(&uid("ada")), None);
        assert_eq!(events.all().last().unwrap(), "a unbind ada");
    }
}

#[tokio::test]
async fn a_bind_while_another_is_under_way_is_refused() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = with_steps([Step::new("a", &events).bind(Act::Wait(Arc::clone(&go_on)))]).await;
    let (_client, session) = connect(&server, 1).await;
    let slow = {
        let session = session.clone();
        tokio::task::spawn(async move { session.bind("ada").await })
    };
    eventually("the first bind waits", || events.count("a bind") == 1).await;
    let error = session.bind("bob").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::UNKNOWN, "session is already bound to an uid"));
    go_on.notify_one();
    slow.await.unwrap().unwrap();
    assert_eq!(session.uid().unwrap(), "ada");
}

#[tokio::test]
async fn a_second_login_closes_the_older_session_and_takes_its_place() {
    let recorder = Recorder::default();
    let builder = Server::frontend("game").reporter(recorder.clone());
    let server = serve(with_handler(builder, |session| async move { session.bind("ada").await })).await;
    let mut old = Raw::established(server.tcp).await;
    old.send_message(&pitaya_protocol::Message::request(1, "session.use", "")).await;
    assert_eq!(old.message().await.unwrap().id, 1);
    let first = server.app.session_of(&uid("ada")).unwrap();

    let new = server.ws_client().await;
    new.request_bytes("session.use", "").await.unwrap();
    // Closed without a kick.
    assert_eq!(old.packet_but_heartbeat().await, None);
    soon("the older session closes", first.closed()).await;
    eventually("the close is counted", || recorder.value("session.closed{replaced}") == 1).await;
    let second = server.app.session_of(&uid("ada")).unwrap();
    assert_eq!(second.id(), SessionId::new(2));
    assert!(!second.is_closed());
}

/// The old connection hangs: its client does not read, so what was pushed to it cannot be written.
#[tokio::test]
async fn an_old_connection_that_closes_late_does_not_remove_the_new_session_of_its_user() {
    let server = bare().await;
    let (ours, theirs) = tokio::io::duplex(256);
    server.pipes.arrive(Incoming::ready(None, theirs)).await;
    let mut stuck = Raw::over(ours);
    stuck.shake_hands().await;
    let old = server.app.session(SessionId::new(1)).unwrap();
    old.bind("ada").await.unwrap();
    old.push("much", Json("x".repeat(100_000))).await.unwrap();

    let (_client, new) = connect(&server, 2).await;
    new.bind("ada").await.unwrap();
    assert_eq!(server.app.session_of(&uid("ada")), Some(new.clone()));
    assert!(old.push("more", Json(1)).await.is_err(), "it was told to close");
    assert!(!old.is_closed(), "and has not yet");
    assert_eq!(server.app.session_count(), 2);

    drop(stuck);
    soon("the old session closes", old.closed()).await;
    eventually("only the new one is left", || server.app.session_count() == 1).await;
    assert_eq!(server.app.session_of(&uid("ada")), Some(new.clone()));
    assert!(!new.is_closed());
}

#[tokio::test]
async fn the_steps_of_a_bound_session_are_unbound_in_reverse_before_any_callback_of_its_close() {
    let events = Events::default();
    let server = with_steps([Step::new("a", &events), Step::new("b", &events), Step::new("c", &events)]).await;
    let (client, session) = connect(&server, 1).await;
    session.bind("ada").await.unwrap();
    let seen = events.clone();
    let own = move |_: Session| async move { seen.add("own") };
    session.on_close(own).unwrap();
    let bound = events.all().len();
    client.close();
    eventually("the last callback has run", || events.count("c close") == 1).await;
    let expected = ["c unbind ada", "b unbind ada", "a unbind ada", "own", "a close", "b close", "c close"];
    assert_eq!(events.all()[bound..], expected);
}

#[tokio::test]
async fn nothing_is_unbound_when_a_session_closes_that_was_never_bound() {
    let events = Events::default();
    let server = with_steps([Step::new("a", &events)]).await;
    let (client, _session) = connect(&server, 1).await;
    client.close();
    eventually("the callback has run", || events.count("a close") == 1).await;
    assert_eq!(events.all(), ["a close"]);
}

#[tokio::test]
async fn a_session_that_closes_while_a_bind_step_runs_ends_unbound() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server =
        with_steps([Step::new("a", &events), Step::new("b", &events).bind(Act::Wait(Arc::clone(&go_on)))]).await;
    let (client, session) = connect(&server, 1).await;
    let binding = {
        let session = session.clone();
        tokio::task::spawn(async move { session.bind("ada").await })
    };
    eventually("the bind waits", || events.count("b bind") == 1).await;
    client.close();
    soon("the session closes", session.closed()).await;
    go_on.notify_one();
    let error = soon("the bind ends", binding).await.unwrap().unwrap_err();
    assert_eq!(error.code(), code::CLIENT_CLOSED);
    assert!(session.uid().is_err());
    assert_eq!(server.app.session_of(&uid("ada")), None);
    assert_eq!(server.app.session_count(), 0);
    eventually("all is over", || events.count("b close") == 1).await;
    for step in ["a unbind ada", "b unbind ada"] {
        assert_eq!(events.count(step), 1, "{step}");
    }
    assert_eq!(events.count("a after"), 0);
}

#[tokio::test]
async fn a_session_that_closes_while_an_after_bind_step_runs_is_unbound_once() {
    for then in [Act::Agree, Act::Fail] {
        let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
        let server = with_steps([
            Step::new("a", &events).after_bind(Act::Wait(Arc::clone(&go_on))),
            Step::new("b", &events).after_bind(then),
        ])
        .await;
        let (client, session) = connect(&server, 1).await;
        let binding = {
            let session = session.clone();
            tokio::task::spawn(async move { session.bind("ada").await })
        };
        eventually("the after-bind step waits", || events.count("a after") == 1).await;
        client.close();
        eventually("the session has closed", || events.count("b close") == 1).await;
        go_on.notify_one();
        drop(soon("the bind ends", binding).await.unwrap());
        assert_eq!(server.app.session_of(&uid("ada")), None);
        for step in ["a unbind ada", "b unbind ada"] {
            assert_eq!(events.count(step), 1, "{step}");
        }
    }
}

/// What users do with a bind that takes too long: give up waiting, and answer.
#[tokio::test]
async fn a_handler_that_gives_a_bind_up_half_way_leaves_the_session_unbound() {
    for after in [false, true] {
        let events = Events::default();
        let stuck = Step::new("b", &events);
        let stuck = if after { stuck.after_bind(Act::Never) } else { stuck.bind(Act::Never) };
        let builder = Server::frontend("game").step(Step::new("a", &events)).step(stuck);
        let seen = events.clone();
        let server = serve(with_handler(builder, move |session| {
            let seen = seen.clone();
            async move {
                let gave_up = async {
                    let stuck_at = if after { "b after" } else { "b bind" };
                    eventually("the bind is stuck", || seen.count(stuck_at) == 1).await;
                };
                tokio::select! {
                    result = session.bind("ada") => result,
                    () = gave_up => Err(Error::new("SLOW-1", "try again")),
                }
            }
        }))
        .await;
        let client = server.client().await;
        assert_eq!(refused(client.request_bytes("session.use", "").await).code, "SLOW-1");
        let session = server.app.session(SessionId::new(1)).unwrap();
        is_unbound(&server, &session).await;
        let unbound: Vec<_> = events.all().into_iter().filter(|event| event.contains("unbind")).collect();
        let expected: &[_] = if after { &["b unbind ada", "a unbind ada"] } else { &["a unbind ada"] };
        assert_eq!(unbound, expected);
        assert!(!session.is_closed());
    }
}

#[tokio::test]
async fn a_bind_that_is_given_up_while_it_is_undone_is_undone_to_the_end() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = with_steps([
        Step::new("a", &events),
        Step::new("b", &events).unbind(Act::Wait(Arc::clone(&go_on))),
        Step::new("c", &events).bind(Act::Fail),
    ])
    .await;
    let (_client, session) = connect(&server, 1).await;
    tokio::select! {
        _ = session.bind("ada") => panic!("the undoing waits"),
        () = eventually("the undoing waits", || events.count("b unbind ada") == 1) => {}
    }
    go_on.notify_one();
    is_unbound(&server, &session).await;
    assert_eq!(events.count("a unbind ada"), 1, "{:?}", events.all());
}

#[tokio::test]
async fn a_session_whose_bind_was_given_up_can_be_bound_again() {
    let (events, go_on) = (Events::default(), Arc::new(Notify::new()));
    let server = with_steps([Step::new("a", &events).bind(Act::Wait(Arc::clone(&go_on)))]).await;
    let (_client, session) = connect(&server, 1).await;
    tokio::select! {
        _ = session.bind("ada") => panic!("the step waits"),
        () = eventually("the step waits", || events.count("a bind") == 1) => {}
    }
    is_unbound(&server, &session).await;
    go_on.notify_one();
    session.bind("ada").await.unwrap();
    assert_eq!(server.app.session_of(&uid("ada")), Some(session));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_connections_that_bind_one_uid_at_once_exactly_one_remains_bound() {
    const CONNECTIONS: i64 = 50;
    let barrier = Arc::new(Barrier::new(CONNECTIONS as usize));
    let all_here = Arc::clone(&barrier);
    let recorder = Recorder::default();
    let builder = with_handler(Server::frontend("game").reporter(recorder.clone()), move |session| {
        let all_here = Arc::clone(&all_here);
        async move {
            all_here.wait().await;
            session.bind("ada").await
        }
    });
    let who = |session: Session| async move { Json(session.uid().ok().map(|uid| uid.to_string())) };
    let who = Component::builder("who", Arc::new(())).request("am_i", who).build();
    let server = serve(builder.component(who)).await;
    let clients = futures_util::future::join_all((0..CONNECTIONS).map(|_| server.client())).await;
    let answers = clients.iter().map(|client| client.request_bytes("session.use", ""));
    // Those that are replaced before they have been answered see their connection close.
    drop(futures_util::future::join_all(answers).await);
    eventually("one session is left", || server.app.session_count() == 1).await;
    eventually("the others were replaced", || recorder.value("session.closed{replaced}") == CONNECTIONS - 1).await;

    let winner = server.app.session_of(&uid("ada")).expect("one session is bound");
    assert!(!winner.is_closed());
    assert_eq!(server.app.session(winner.id()), Some(winner));
    let mut bound = 0;
    for client in &clients {
        let answer = client.with_timeout(PATIENCE).request::<Option<String>>("who.am_i", &()).await;
        bound += usize::from(answer.is_ok_and(|uid| uid.as_deref() == Some("ada")));
    }
    assert_eq!(bound, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_tasks_that_bind_one_session_exactly_one_succeeds() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    let barrier = Arc::new(Barrier::new(16));
    let binds = (0..16).map(|number| {
        let (session, barrier) = (session.clone(), Arc::clone(&barrier));
        tokio::task::spawn(async move {
            barrier.wait().await;
            session.bind(format!("user{number}")).await.is_ok()
        })
    });
    let results: Vec<bool> =
        futures_util::future::join_all(binds).await.into_iter().map(|result| result.unwrap()).collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 1);
    let winner = results.iter().position(|ok| *ok).unwrap();
    assert_eq!(session.uid().unwrap().as_str(), format!("user{winner}"));
    for number in 0..16 {
        let found = server.app.session_of(&uid(&format!("user{number}")));
        assert_eq!(found.is_some(), number == winner);
    }
}
