//! All sessions of a server: counted, gone through, closed.

use std::sync::Arc;

use pitaya::{
    App, Bytes, CloseReason, Error, Result, Server, ServerBuilder, Session, extract::State, handlers, settings,
};
use pitaya_protocol::{Message, MessageKind, PacketKind};
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant},
};

use crate::support::{Events, eventually, serve};

struct Desk;

#[handlers(name = "desk")]
impl Desk {
    #[request]
    async fn wait(&self, gate: State<Semaphore>, body: Bytes) -> Result<Bytes> {
        gate.acquire().await.map_err(Error::internal)?.forget();
        Ok(body)
    }

    #[notify]
    async fn note(&self, gate: State<Semaphore>) -> Result<()> {
        gate.acquire().await.map_err(Error::internal)?.forget();
        Ok(())
    }

    /// How many requests of the session are in flight, this one included.
    #[request]
    async fn count(&self, session: Session) -> pitaya::Json<usize> {
        pitaya::Json(session.requests_in_flight())
    }

    #[request]
    async fn close_all(&self, app: App) -> pitaya::Json<usize> {
        pitaya::Json(app.close_all())
    }
}

fn game(gate: &Arc<Semaphore>, events: &Events) -> ServerBuilder {
    let events = events.clone();
    Server::frontend("game").handlers(Desk).shared_state(Arc::clone(gate)).on_close(move |_, reason| {
        events.add(format!("{reason:?}"));
        async {}
    })
}

#[tokio::test]
async fn sessions_are_counted_and_gone_through() {
    let server = serve(game(&Arc::new(Semaphore::new(0)), &Events::default())).await;
    let mut clients = Vec::new();
    for count in 1..=5 {
        clients.push(server.client().await);
        assert_eq!(server.app.session_count(), count);
    }
    let mut ids: Vec<_> = server.app.sessions().iter().map(Session::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| server.app.session(*id).is_some()));
    clients.truncate(3);
    eventually("two have gone", || server.app.session_count() == 3 && server.app.sessions().len() == 3).await;
}

#[tokio::test]
async fn requests_in_flight_are_those_that_are_not_answered_yet() {
    let gate = Arc::new(Semaphore::new(0));
    let server = serve(game(&gate, &Events::default())).await;
    let mut raw = server.pipes.established().await;
    let session = server.app.sessions().remove(0);
    assert_eq!(session.requests_in_flight(), 0);
    for id in 1..=3 {
        raw.send_message(&Message::request(id, "desk.wait", "x")).await;
    }
    raw.send_message(&Message::notify("desk.note", "")).await;
    eventually("all are handled", || session.requests_in_flight() == 3).await;
    raw.send_message(&Message::request(4, "desk.count", "")).await;
    assert_eq!(&raw.message().await.unwrap().body[..], b"4");
    // A request that is refused was never in flight.
    raw.send_message(&Message::request(5, "desk.nothing", "")).await;
    assert!(raw.message().await.unwrap().error);
    assert_eq!(session.requests_in_flight(), 3);
    gate.add_permits(4);
    for _ in 0..3 {
        assert_eq!(raw.message().await.unwrap().kind, MessageKind::Response);
    }
    eventually("all are answered", || session.requests_in_flight() == 0).await;
    // A client that goes away leaves its requests in flight until their handlers end.
    raw.send_message(&Message::request(6, "desk.wait", "x")).await;
    eventually("it is handled", || session.requests_in_flight() == 1).await;
    drop(raw);
    eventually("it is gone", || session.is_closed()).await;
    assert_eq!(session.requests_in_flight(), 1);
    gate.add_permits(1);
    eventually("the handler has ended", || session.requests_in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn close_all_answers_what_was_read_and_closes_without_a_kick() {
    let (gate, events) = (Arc::new(Semaphore::new(0)), Events::default());
    let server = serve(game(&gate, &events)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut raw = server.pipes.established().await;
        raw.send_message(&Message::request(1, "desk.wait", "x")).await;
        clients.push(raw);
    }
    let sessions = server.app.sessions();
    eventually("all are handled", || sessions.iter().all(|session| session.requests_in_flight() == 1)).await;
    assert_eq!(server.app.close_all(), 3);
    gate.add_permits(3);
    for mut raw in clients {
        assert_eq!(&raw.message().await.unwrap().body[..], b"x");
        assert_eq!(raw.packet().await, None, "no kick");
    }
    eventually("all have closed", || events.all() == ["Closed"; 3]).await;
    // The server goes on.
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "desk.count", "")).await;
    assert_eq!(&raw.message().await.unwrap().body[..], b"1");
    assert_ne!(CloseReason::Closed, CloseReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_close_all_its_own_session_included() {
    let (gate, events) = (Arc::new(Semaphore::new(0)), Events::default());
    let server = serve(game(&gate, &events)).await;
    let mut other = server.pipes.established().await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "desk.close_all", "")).await;
    assert_eq!(&raw.message().await.unwrap().body[..], b"2");
    assert_eq!(raw.packet().await, None);
    assert_eq!(other.packet().await, None);
}

#[tokio::test(start_paused = true)]
async fn close_all_waits_for_a_handler_no_longer_than_the_grace_period() {
    let (gate, events) = (Arc::new(Semaphore::new(0)), Events::default());
    let server = serve(game(&gate, &events).set(&settings::SHUTDOWN_GRACE, Duration::from_secs(3))).await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "desk.wait", "x")).await;
    let session = server.app.sessions().remove(0);
    eventually("it is handled", || session.requests_in_flight() == 1).await;
    let start = Instant::now();
    server.app.close_all();
    assert_eq!(raw.packet().await, None);
    assert_eq!(start.elapsed().as_secs(), 3);
    gate.add_permits(1);
}

/// Only a stop cuts handlers off, and what ran longer than the grace period of a `close_all` is no failure of a later one.
#[tokio::test(start_paused = true)]
async fn a_handler_runs_to_its_end_when_close_all_no_longer_waits_for_it() {
    let (gate, events) = (Arc::new(Semaphore::new(0)), Events::default());
    let server = serve(game(&gate, &events).set(&settings::SHUTDOWN_GRACE, Duration::from_secs(3))).await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "desk.wait", "x")).await;
    let session = server.app.sessions().remove(0);
    eventually("it is handled", || session.requests_in_flight() == 1).await;
    server.app.close_all();
    assert_eq!(raw.packet().await, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    gate.add_permits(1);
    eventually("the handler has ended", || gate.available_permits() == 0).await;
    server.stop().await.unwrap();
}

/// A stop is a stop, whatever has begun to close its sessions: the second signal hurries it.
#[tokio::test(start_paused = true)]
async fn a_stop_takes_over_from_close_all() {
    let (gate, events) = (Arc::new(Semaphore::new(0)), Events::default());
    let mut server = serve(game(&gate, &events).set(&settings::SHUTDOWN_GRACE, Duration::from_secs(30))).await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "desk.wait", "x")).await;
    let session = server.app.sessions().remove(0);
    eventually("it is handled", || session.requests_in_flight() == 1).await;
    let start = Instant::now();
    server.app.close_all();
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.begin_stop();
    // The stop has a grace period of its own.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!session.is_closed());
    server.hurry();
    assert_eq!(raw.packet_but_heartbeat().await.map(|packet| packet.kind), Some(PacketKind::Kick));
    assert_eq!(raw.packet().await, None);
    assert_eq!(start.elapsed().as_secs(), 40);
    drop(raw);
    assert!(matches!(server.stop().await, Err(pitaya::ServeError::NotDrained { count: 1 })));
    assert_eq!(events.all(), ["Shutdown"]);
}
