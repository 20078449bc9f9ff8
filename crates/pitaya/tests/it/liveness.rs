//! What must not starve, hang, spin or be forgotten.

use std::{sync::Arc, time::Duration};

use pitaya::{
    Bytes, Component, Context, Error, Json, JsonSerializer, Request, Result, Serializer, Server, Session, SessionId,
    from_fn, settings,
};
use pitaya_protocol::{HandshakeData, Message, PacketKind};
use tokio::{
    io::AsyncReadExt as _,
    sync::mpsc,
    time::{Instant, advance},
};

use crate::support::{Events, Raw, Recorder, encode_message, encode_packet, eventually, serve, soon};

/// The handshake, the Ack and many small messages in one segment: more than one turn of a task may handle.
fn everything_at_once(count: u64) -> Vec<u8> {
    let mut bytes = encode_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).to_vec();
    bytes.extend_from_slice(&encode_packet(PacketKind::HandshakeAck, b""));
    for number in 1..=count {
        bytes.extend_from_slice(&encode_message(&Message::notify("numbers.note", number.to_string())));
    }
    bytes
}

/// A handler that finds room in a channel does not wait, also when its task has used up its budget: what it does stays in
/// the order of the messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_reorders_nothing() {
    let (sender, mut receiver) = mpsc::channel(10_000);
    let note = move |Json(number): Json<u64>| {
        let sender = sender.clone();
        async move { sender.send(number).await.map_err(Error::internal) }
    };
    let numbers = Component::builder("numbers", Arc::new(())).notify("note", note).build();
    let server = serve(Server::frontend("game").component(numbers)).await;
    for _ in 0..5 {
        let mut raw = server.raw().await;
        raw.send(&everything_at_once(2_000)).await;
        for expected in 1..=2_000 {
            assert_eq!(soon("the next number", receiver.recv()).await, Some(expected));
        }
    }
}

/// A timer that is armed when the budget is spent must fire all the same.
#[tokio::test(start_paused = true)]
async fn a_busy_start_does_not_cost_the_heartbeats() {
    let numbers = Component::builder("numbers", Arc::new(())).notify("note", async |_: Bytes| ()).build();
    let server = serve(Server::frontend("game").component(numbers)).await;
    let mut raw = server.pipes.raw().await;
    raw.send(&everything_at_once(400)).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    let from = Instant::now();
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Heartbeat);
    assert!(from.elapsed() <= Duration::from_secs(11), "{:?}", from.elapsed());
    while raw.packet().await.is_some() {}
    assert!(from.elapsed() <= Duration::from_secs(27), "a silent client is dropped: {:?}", from.elapsed());
}

/// Much that waits for the handshake does not keep the handshake from being done.
#[tokio::test]
async fn early_pushes_do_not_shut_the_client_out() {
    let server = serve(Server::frontend("game").set(&settings::COMPRESSION, false)).await;
    let mut raw = server.raw().await;
    let id = SessionId::new(1);
    eventually("the session is there", || server.app.session(id).is_some()).await;
    let session = server.app.session(id).unwrap();
    for _ in 0..3 {
        session.push("early", Bytes::from(vec![7; 1 << 20])).await.unwrap();
    }
    raw.shake_hands().await;
    for _ in 0..3 {
        assert_eq!(raw.message().await.unwrap().body.len(), 1 << 20);
    }
}

/// A client that takes a few bytes now and then makes progress, but not for ever.
#[tokio::test(start_paused = true)]
async fn a_kicked_client_that_trickles_is_closed_in_time() {
    let server = serve(Server::frontend("game").set(&settings::COMPRESSION, false)).await;
    let mut raw = server.pipes.raw_with(1024).await;
    raw.shake_hands().await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    session.push("large", Bytes::from(vec![7; 1 << 20])).await.unwrap();
    session.kick().await.unwrap();
    let from = Instant::now();
    while !session.is_closed() {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut few = [0; 64];
        let _ = raw.stream.read(&mut few).await;
        assert!(from.elapsed() < Duration::from_secs(30), "the session is still open");
    }
    assert_eq!(server.app.session_count(), 0);
}

/// A thread that was busy, or a process that stood still, must not make a client look silent.
#[tokio::test(start_paused = true)]
async fn a_client_is_not_idle_while_its_packets_wait_to_be_read() {
    let server = serve(Server::frontend("game")).await;
    let mut raw = server.pipes.established().await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    for _ in 0..10 {
        // The heartbeat lies in the pipe when the clock jumps beyond the idle time.
        raw.send_packet(PacketKind::Heartbeat, b"").await;
        advance(Duration::from_secs(26)).await;
        assert_eq!(raw.packet().await.map(|packet| packet.kind), Some(PacketKind::Heartbeat));
        assert!(!session.is_closed());
    }
}

/// A session whose messages wait for an unfinished handler is not handled further, but a client that goes is noticed.
#[tokio::test]
async fn a_client_that_goes_is_noticed_while_an_ordered_handler_waits() {
    let events = Events::default();
    let wait = {
        let events = events.clone();
        move |context: Context| {
            let events = events.clone();
            async move {
                events.add("waiting");
                context.cancelled().await;
                events.add("cancelled");
            }
        }
    };
    let component = Component::builder("until", Arc::new(())).options(pitaya::HandlerOptions::default().ordered());
    let component = component.notify("gone", wait).build();
    // No heartbeat tells that the client has gone.
    let hour = Duration::from_secs(3600);
    let server = serve(Server::frontend("game").component(component).set(&settings::HEARTBEAT_INTERVAL, hour)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::notify("until.gone", "")).await;
    eventually("the handler waits", || events.count("waiting") == 1).await;
    drop(raw);
    eventually("the handler is told", || events.count("cancelled") == 1).await;
}

/// A callback that panics before its first await stops no other.
#[tokio::test]
async fn a_close_callback_that_panics_at_once_does_not_stop_the_others() {
    let events = Events::default();
    let (before, after) = (events.clone(), events.clone());
    let builder = Server::frontend("game")
        .on_close(move |_, _| {
            before.add("first");
            async {}
        })
        .on_close(|_, _| -> std::future::Ready<()> { panic!("on purpose") })
        .on_close(move |_, _| {
            after.add("last");
            async {}
        });
    let server = serve(builder).await;
    drop(Raw::established(server.tcp).await);
    eventually("the last callback has run", || events.count("last") == 1).await;
    assert_eq!(events.all(), ["first", "last"]);
    eventually("the session is gone", || server.app.session_count() == 0).await;
}

/// A bind that fails after the session has closed leaves the uid to the close callbacks.
#[tokio::test]
async fn a_session_that_closes_while_it_is_bound_keeps_its_uid_for_its_callbacks() {
    let events = Events::default();
    let seen = events.clone();
    let builder = Server::frontend("game")
        .on_after_bind(|session, _| async move {
            session.close();
            session.closed().await;
            session.push("welcome", Json(1)).await
        })
        .on_close(move |session, _| {
            let seen = seen.clone();
            async move {
                tokio::task::yield_now().await;
                seen.add(session.uid().map_or_else(|_| "nobody".to_owned(), |uid| uid.to_string()));
            }
        });
    let server = serve(builder).await;
    let _raw = Raw::established(server.tcp).await;
    let session = server.app.session(SessionId::new(1)).unwrap();
    assert!(session.bind("ada").await.is_err());
    eventually("the callback has run", || !events.all().is_empty()).await;
    assert_eq!(events.all(), ["ada"]);
    assert_eq!(session.uid().unwrap(), "ada");
}

/// Fails where nobody expects it.
struct Explosive;

impl Serializer for Explosive {
    fn name(&self) -> &'static str {
        "json"
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        assert_ne!(error.code(), "BOOM", "on purpose");
        JsonSerializer.encode_error(error)
    }
}

/// A serializer that panics costs the connection, and leaves no session behind.
#[tokio::test]
async fn a_panic_outside_of_handlers_leaves_no_session_behind() {
    let fail = async |session: Session| {
        // The second one fails when the first has cost the connection already.
        if session.has("second") {
            session.closed().await;
        }
        session.set("second", &true)?;
        tokio::task::yield_now().await;
        Result::<()>::Err(Error::new("BOOM", "x"))
    };
    let recorder = Recorder::default();
    let component = Component::builder("bad", Arc::new(())).request("fail", fail).build();
    let builder = Server::frontend("game").component(component).serializer(Explosive).reporter(recorder.clone());
    let server = serve(builder).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "bad.fail", "")).await;
    raw.send_message(&Message::request(2, "bad.fail", "")).await;
    while raw.packet().await.is_some() {}
    eventually("the session is gone", || server.app.session_count() == 0).await;
    eventually("the client is no longer counted", || recorder.value("acceptor.connected_clients") == 0).await;
}

/// Who waits for the bind's approval is not taken for approved.
#[tokio::test]
async fn a_uid_is_not_seen_before_the_bind_has_been_approved() {
    let secret = async |session: Session| session.uid().map(|uid| Json(uid.to_string()));
    let login = async |session: Session| session.bind("victim").await;
    let component = Component::builder("club", Arc::new(())).request("login", login).request("secret", secret).build();
    let layer = from_fn(|request: Request, next| async move { pitaya::Next::run(next, request).await });
    let server = serve(Server::frontend("game").component(component).layer(layer).on_bind(|_, _| async {
        tokio::task::yield_now().await;
        Err(Error::new("BANNED", "not you"))
    }))
    .await;
    let mut raw = Raw::established(server.tcp).await;
    let both = [Message::request(1, "club.login", ""), Message::request(2, "club.secret", "")];
    let bytes: Vec<u8> = both.iter().flat_map(|message| encode_message(message).to_vec()).collect();
    raw.send(&bytes).await;
    let answers = [raw.message().await.unwrap(), raw.message().await.unwrap()];
    assert!(answers.iter().all(|answer| answer.error), "{answers:?}");
}
