//! The ordering promise across servers: three backends behind the sticky router keep the order of each session's messages.
//! The exchange is that of the stand-alone test.

use std::sync::Arc;

use pitaya::{ServerBuilder, Session, cluster::Sticky};

use super::{Node, Server, World, acquainted};
use crate::{
    ordering::{Log, Pushes, SESSIONS, logging, one_session, spawning},
    support::soon,
};

/// Lets the sessions of one frontend send numbered messages to three backends, and returns what these saw.
async fn exchange(world: &World, messages: u64, backends: fn(ServerBuilder) -> ServerBuilder) -> Arc<Log> {
    let log = Arc::new(Log::default());
    let gate = Node::start(world.gate("g1").router("room", Sticky), true).await;
    let mut rooms = Vec::new();
    for id in ["r1", "r2", "r3"] {
        let room = backends(world.of(Server::backend("room").id(id)));
        rooms.push(Node::start(logging(room, &log), false).await);
    }
    let [one, two, three] = &rooms[..] else { unreachable!() };
    acquainted(&[&gate, one, two, three]).await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(gate.client().await);
    }
    // Backends push to users.
    for session in gate.app.sessions() {
        bind(&session).await;
    }
    let sessions = clients.into_iter().map(|raw| one_session(raw, "room.numbers.next", messages, Pushes::AnyTime));
    let sessions: Vec<_> = sessions.map(tokio::task::spawn).collect();
    for session in sessions {
        session.await.unwrap();
    }
    log
}

async fn bind(session: &Session) {
    soon("the bind", session.bind(format!("user-{}", session.id()))).await.unwrap();
}

/// Fewer messages than stand-alone: each goes through two servers, and is pushed through them.
const MESSAGES: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_is_kept_in_process() {
    exchange(&World::bus(), MESSAGES, |builder| builder).await.check(MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_is_kept_on_nats() {
    exchange(&World::network().await, MESSAGES, |builder| builder).await.check(MESSAGES);
}

/// The tests above would notice if backends made a task of each message.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_for_each_message_would_be_noticed_in_process() {
    assert!(exchange(&World::bus(), 200, spawning).await.is_out_of_order());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_for_each_message_would_be_noticed_on_nats() {
    assert!(exchange(&World::network().await, 200, spawning).await.is_out_of_order());
}
