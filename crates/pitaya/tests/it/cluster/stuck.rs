//! What never ends keeps nobody from anything else.

use std::sync::{Arc, atomic::Ordering};

use pitaya::{Server, ServerBuilder, settings};
use pitaya_protocol::Message;
use serde_json::json;
use tokio::time::{Duration, Instant, timeout};

use super::{Node, Room, Shared, World, acquainted, in_each_world, request};
use crate::support::{eventually, soon};

/// A gate whose calls are waited for longer than the test takes, where that can be said.
fn patient(world: &World, gate: ServerBuilder) -> ServerBuilder {
    match world {
        World::Bus(_) => gate,
        World::Network(_) => gate.set_text("pitaya.cluster.rpc.client.nats.requesttimeout", "1m"),
    }
}

fn with_rooms(builder: ServerBuilder, shared: &Arc<Shared>) -> ServerBuilder {
    builder.handlers(Room).shared_state(Arc::clone(shared))
}

/// With the default settings: other routes of the same server, other servers and this one answer as if nothing were.
async fn a_route_that_never_answers_leaves_all_others_alone(world: &World) {
    const STUCK: usize = 100;
    let (shared, other) = (Arc::<Shared>::default(), Arc::<Shared>::default());
    let gate = Node::start(patient(world, with_rooms(world.gate("g1"), &other)), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    let shop = Node::start(with_rooms(world.of(Server::backend("shop")), &other), false).await;
    acquainted(&[&gate, &room, &shop]).await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut raw = gate.client().await;
        for id in 1..=15 {
            raw.send_message(&Message::request(id, "room.room.never", "")).await;
        }
        stuck.push(raw);
    }
    eventually("all hang", || shared.calls.load(Ordering::SeqCst) == 15 * STUCK).await;

    let start = Instant::now();
    let mut raw = gate.client().await;
    for raw in [&mut raw, &mut stuck[0]] {
        for route in ["room.room.echo", "shop.room.echo", "gate.room.echo"] {
            for _ in 0..10 {
                assert_eq!(request(raw, route, "7").await, Ok(json!(7)), "{route}");
            }
        }
    }
    if let World::Bus(_) = world {
        assert!(start.elapsed() < Duration::from_secs(1), "the clock stands still while somebody works");
    }
    assert_eq!(gate.app.sessions().iter().map(|session| session.requests_in_flight()).sum::<usize>(), 15 * STUCK);
}

/// K72, K73, K74: permits and waiting places of forwarded messages are others than those of messages that stay here.
async fn forwarded_messages_wait_for_each_other_only(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = with_rooms(world.gate("g1"), &shared)
        .set(&settings::DISPATCH_CONCURRENCY, 3)
        .set(&settings::LOCAL_BUFFER, 2)
        .set(&settings::REMOTE_BUFFER, 2);
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;

    // Handlers here take all permits, and what waits for one takes all places; others are served there.
    let mut clients = [gate.client().await, gate.client().await, gate.client().await];
    for id in 1..=10 {
        clients[0].send_message(&Message::request(id, "gate.room.never", "")).await;
    }
    eventually("three hang here", || shared.calls.load(Ordering::SeqCst) == 3).await;
    for _ in 0..10 {
        assert_eq!(request(&mut clients[1], "room.room.echo", "1").await, Ok(json!(1)));
    }

    // Now all permits are taken, of both kinds. Those of forwarded messages come back by their time-outs.
    for id in 1..=3 {
        clients[1].send_message(&Message::request(id, "room.room.never", "")).await;
    }
    eventually("three hang there as well", || shared.calls.load(Ordering::SeqCst) == 6).await;
    for (id, route) in [(101, "room.room.echo"), (102, "room.room.echo")] {
        clients[2].send_message(&Message::request(id, route, "2")).await;
    }
    for _ in 0..2 {
        let answer = soon("those that wait have their turn", clients[2].message()).await.unwrap();
        assert!(!answer.error && answer.id > 100);
    }
    clients[2].send_message(&Message::request(103, "gate.room.echo", "3")).await;
    assert!(timeout(Duration::from_millis(50), clients[2].message()).await.is_err(), "handlers here still hang");
    let calls = shared.calls.load(Ordering::SeqCst);
    assert_eq!(calls, 6, "nobody else has got in here");
}

in_each_world!(a_route_that_never_answers_leaves_all_others_alone, forwarded_messages_wait_for_each_other_only);
