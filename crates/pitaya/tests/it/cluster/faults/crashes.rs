//! Servers that are killed, or vanish in another way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pitaya::{ServerBuilder, settings};
use pitaya_fixtures::{Etcd, Nats};
use tokio::{runtime::Runtime, time::sleep};

use super::{
    super::{Node, Shared, World, acquainted, request},
    Ground,
    load::{IN_FLIGHT, Load},
    process::OwnProcess,
};
use crate::support::{eventually, soon};

/// How long a server that has died is seen, in seconds.
const TTL: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_killed_costs_what_it_was_doing() {
    const PLAYERS: usize = 8;
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let ground = Ground::new(etcd.address(), nats.address(), TTL);
    let (gate, address) = ground.gate("g1").await;
    let (doomed, _other) =
        tokio::join!(OwnProcess::start(&ground, "room", "r1"), OwnProcess::start(&ground, "room", "r2"));
    eventually("both are known", || gate.app.servers().len() == 3).await;
    let mut load = Load::start(&[address], PLAYERS);
    load.is_healthy("at the beginning").await;
    load.is_served_by("r1").await;

    doomed.kill().await;
    // Long before the others know: what was not delivered is tried on the other one.
    load.is_healthy("after the kill").await;
    eventually("the dead one is forgotten", || gate.app.servers().len() == 2).await;
    // One with the same name takes its place.
    let _new = OwnProcess::start(&ground, "room", "r1").await;
    let before = load.answered();
    load.is_served_by("r1").await;
    load.is_healthy("in the end").await;
    assert_eq!(gate.app.session_count(), PLAYERS);
    load.stop().await;

    assert!(load.answered() > before);
    let failures = load.failures();
    assert!(failures.values().sum::<usize>() <= PLAYERS * IN_FLIGHT as usize, "{failures:?}");
    assert_eq!(load.lost(), 0);
    ground.nothing_was_handled_twice();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frontend_that_is_killed_costs_its_connections_and_backends_hear_of_each() {
    const PLAYERS: usize = 8;
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let ground = Ground::new(etcd.address(), nats.address(), TTL);
    let room = ground.room("r1").await;
    let (doomed, other) =
        tokio::join!(OwnProcess::start(&ground, "gate", "g1"), OwnProcess::start(&ground, "gate", "g2"));
    eventually("both are known", || room.app.servers().len() == 3).await;
    // Those with even numbers connect to the first one.
    let mut load = Load::start(&[doomed.address(), other.address()], PLAYERS);
    load.is_healthy("at the beginning").await;

    doomed.kill().await;
    load.is_healthy("at the other frontend").await;
    assert_eq!(load.lost(), PLAYERS / 2);
    eventually("the dead one is forgotten", || room.app.servers().len() == 2).await;
    eventually("its sessions close", || ground.closed().len() == PLAYERS / 2).await;
    let closed = ground.closed();
    assert!(closed.iter().all(|(session, count)| session.starts_with("g1/") && *count == 1), "{closed:?}");
    load.is_healthy("when the old sessions have closed").await;
    assert_eq!(load.failures(), BTreeMap::new(), "nobody else has noticed anything");

    // It comes back, and the other one is killed and is back under its name before anybody can miss it.
    let back = OwnProcess::start(&ground, "gate", "g1").await;
    other.kill().await;
    let other = OwnProcess::start(&ground, "gate", "g2").await;
    // The players know only where these were.
    load.stop().await;
    let mut load = Load::start(&[back.address(), other.address()], PLAYERS);
    load.is_healthy("in the end").await;
    let from = |gate: &str| ground.closed().keys().filter(|session| session.starts_with(gate)).count();
    eventually("the sessions of the second one close", || from("g2/") == PLAYERS).await;
    load.stop().await;
    assert_eq!(load.failures(), BTreeMap::new());
    ground.nothing_was_handled_twice();
}

/// A frontend that runs on threads of its own, which end at once.
struct Apart {
    node: Node,
    runtime: Runtime,
}

impl Apart {
    async fn start(builder: ServerBuilder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.spawn(Node::start(builder, true)).await.unwrap();
        Self { node, runtime }
    }

    /// All that it does ends in the middle.
    async fn crash(self) {
        let Self { node, runtime } = self;
        tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(Duration::from_secs(10));
            drop(node);
        })
        .await
        .unwrap();
    }
}

/// In another runtime, the clock of this one cannot be paused: so these tests run in real time in both worlds.
async fn sessions_of_a_frontend_that_vanishes_close_on_backends(world: &World) {
    let shared = Arc::<Shared>::default();
    let crashing = Apart::start(gate(world, "g1")).await;
    let dropped = Node::start(gate(world, "g2"), true).await;
    let steady = Node::start(gate(world, "g3"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&crashing.node, &dropped, &steady, &room]).await;
    let mut clients = [crashing.node.client().await, dropped.client().await, steady.client().await];
    for raw in &mut clients {
        for _ in 0..2 {
            assert!(request(raw, "room.room.watch", "").await.is_ok());
        }
    }
    assert_eq!(shared.events.all(), Vec::<String>::new());
    crashing.crash().await;
    eventually("the first one is gone", || room.app.servers().len() == 3).await;
    eventually("its callbacks run", || shared.events.all() == ["closed 1", "closed 1"]).await;
    // Nobody waits for a server whose future is dropped, but it says good-bye.
    dropped.serving.abort();
    eventually("the second one is gone", || room.app.servers().len() == 2).await;
    eventually("its callbacks run", || shared.events.count("closed 1") == 4).await;
    // The third one is not concerned, and neither are those who come back.
    let [_, _, steady_client] = &mut clients;
    assert!(request(steady_client, "room.room.echo", "1").await.is_ok());
    let back = Node::start(gate(world, "g1"), true).await;
    acquainted(&[&back, &steady, &room]).await;
    let mut raw = back.client().await;
    assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    assert_eq!(shared.events.all().len(), 4);
    drop(raw);
    eventually("its session closes", || shared.events.all().len() == 5).await;
}

/// A frontend that has left the list may still have clients: nobody's callbacks run before theirs close.
async fn sessions_of_a_frontend_that_only_leaves_stay_open(world: &World) {
    let shared = Arc::<Shared>::default();
    let draining = gate(world, "g1").set(&settings::DRAIN_ENABLED, true).set(&settings::DRAIN_TIMEOUT, DRAIN);
    let mut draining = Node::start(draining, true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&draining, &room]).await;
    let mut raw = draining.client().await;
    assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    drop(draining.stop.take());
    acquainted(&[&room]).await;
    // More than one look whether it lives.
    for _ in 0..30 {
        sleep(Duration::from_millis(100)).await;
        assert!(request(&mut raw, "room.room.echo", "1").await.is_ok());
    }
    assert_eq!(shared.events.all(), Vec::<String>::new());
    drop(raw);
    soon("the frontend stops", draining.serving).await.unwrap().unwrap();
    eventually("its session closes", || shared.events.all() == ["closed 1"]).await;
}

/// Longer than the test.
const DRAIN: Duration = Duration::from_secs(60);

super::super::in_each_world!(sessions_of_a_frontend_that_only_leaves_stay_open);

mod vanishing {
    use super::World;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn in_process() {
        super::sessions_of_a_frontend_that_vanishes_close_on_backends(&World::bus()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_etcd_and_nats() {
        super::sessions_of_a_frontend_that_vanishes_close_on_backends(&World::network().await).await;
    }
}

/// A frontend that is soon missed.
fn gate(world: &World, id: &str) -> ServerBuilder {
    let gate = world.gate(id);
    match world {
        World::Bus(_) => gate,
        World::Network(_) => gate.set_text("pitaya.cluster.sd.etcd.heartbeatinterval", "3s"),
    }
}
