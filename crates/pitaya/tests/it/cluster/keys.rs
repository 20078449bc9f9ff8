//! Settings of the adapters as the servers of a game show them; what the adapters do with theirs is tested beside them.

use std::{sync::Arc, time::Duration};

use pitaya::{Cluster, Json, Server, handlers, remotes};
use pitaya_fixtures::{Etcd, Nats, Proxy};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Node, Shared, World, acquainted, number, request};
use crate::support::{PATIENCE, eventually, soon};

struct Slow;

#[remotes(name = "slow")]
impl Slow {
    #[remote]
    async fn sleep(&self) {
        tokio::time::sleep(PATIENCE).await;
    }

    #[remote]
    async fn ready(&self) {}
}

#[handlers(name = "shop")]
impl Slow {
    #[request]
    async fn buy(&self) -> Json<u32> {
        Json(1)
    }
}

/// One that has not heard of the end yet, since its etcd says nothing, calls the server that stops and is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k13_a_stopping_server_answers_others_for_the_delay() {
    const DELAY: Duration = Duration::from_millis(1500);
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let proxy = Proxy::to(etcd.address()).await;
    let (etcd_address, nats_address) = (etcd.address(), nats.address());
    let world = World::Network(Box::new((etcd, nats)));
    let shared = Arc::<Shared>::default();
    let watching = Node::start(world.gate("g1"), true).await;
    let blind = Server::frontend("gate")
        .id("g2")
        .cluster(Cluster::from_config())
        .set_text("pitaya.cluster.sd.etcd.endpoints", proxy.address())
        .set_text("pitaya.cluster.sd.etcd.shutdowndelay", "0s")
        .set_text("pitaya.cluster.sd.etcd.revoke.timeout", "100ms")
        .set_text("pitaya.cluster.rpc.client.nats.address", &*nats_address)
        .set_text("pitaya.cluster.rpc.server.nats.address", &*nats_address);
    let blind = Node::start(blind, true).await;
    let room = world.room("r1", &shared).remotes(Slow);
    let room = room.set_text("pitaya.cluster.sd.etcd.shutdowndelay", format!("{}ms", DELAY.as_millis()));
    let room = Node::start(room, false).await;
    acquainted(&[&watching, &blind, &room]).await;
    assert_ne!(proxy.address(), etcd_address);
    proxy.hold();

    let start = Instant::now();
    let stopping = tokio::spawn(room.stop());
    eventually("its key is gone", || watching.app.servers().len() == 2).await;
    assert!(!stopping.is_finished());
    assert_eq!(blind.app.servers().len(), 3);
    let mut answered = 0;
    while blind.app.rpc("room.slow.ready", number(0)).reply::<()>().await.is_ok() {
        answered += 1;
    }
    assert!(answered > 0, "while it was stopping");
    soon("the stop", stopping).await.unwrap().unwrap();
    assert!(start.elapsed() >= DELAY, "{:?}", start.elapsed());
    proxy.pass();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k14_unwanted_types_are_in_no_list_and_not_called() {
    let world = World::network().await;
    let shared = Arc::<Shared>::default();
    // The documented spelling, and that of Go.
    for (id, key) in [("g1", "servertypesblacklist"), ("g2", "servertypeblacklist")] {
        let gate = world.gate(id).set_text(format!("pitaya.cluster.sd.etcd.{key}"), "shop, other");
        let gate = Node::start(gate, true).await;
        let shop = Node::start(world.of(Server::backend("shop")).handlers(Slow).remotes(Slow), false).await;
        let room = Node::start(world.room("r1", &shared), false).await;
        eventually("all but the shop are known", || gate.app.servers().len() == 2).await;
        eventually("the shop is known to others", || room.app.servers().len() == 3).await;
        let kinds: Vec<_> = gate.app.servers().iter().map(|server| server.kind.to_string()).collect();
        assert!(!kinds.iter().any(|kind| kind == "shop"), "{kinds:?}");
        room.app.rpc("shop.slow.ready", number(0)).reply::<()>().await.unwrap();
        let refused = gate.app.rpc("shop.slow.ready", number(0)).reply::<()>().await.unwrap_err();
        assert_eq!(refused.message(), "no servers available of this type");
        let mut raw = gate.client().await;
        let refused: Value = request(&mut raw, "shop.shop.buy", "").await.unwrap_err();
        assert_eq!(refused, json!({"code": "PIT-500", "msg": "no servers available of this type"}));
        drop(raw);
        for node in [gate, shop, room] {
            node.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k23_a_remote_that_is_too_slow_is_given_up() {
    let world = World::network().await;
    let shared = Arc::<Shared>::default();
    let gate = world.gate("g1").set_text("pitaya.cluster.rpc.client.nats.request.timeout", "300ms");
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r1", &shared).remotes(Slow), false).await;
    acquainted(&[&gate, &room]).await;
    let start = Instant::now();
    let late = gate.app.rpc("room.slow.sleep", number(0)).reply::<()>().await.unwrap_err();
    assert_eq!((late.code(), late.metadata()["route"].as_str()), ("PIT-408", "room.slow.sleep"));
    assert_eq!(late.metadata()["peer.id"], "r1");
    assert!((300..5_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // A client's message has the same time.
    let mut raw = gate.client().await;
    let late = request(&mut raw, "room.room.never", "").await.unwrap_err();
    assert_eq!((&late["code"], &late["metadata"]["peer.id"]), (&json!("PIT-408"), &json!("r1")));
}

/// Either end: the server stops by itself, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k24_k27_a_server_without_nats_ends_after_as_many_attempts() {
    for end in ["client", "server"] {
        let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
        let mut servers = (etcd, nats);
        let key = format!("pitaya.cluster.rpc.{end}.nats.maxreconnectionretries");
        let gate = Server::frontend("gate")
            .cluster(Cluster::from_config())
            .set_text("pitaya.cluster.sd.etcd.endpoints", servers.0.address())
            .set_text("pitaya.cluster.rpc.client.nats.address", servers.1.address())
            .set_text("pitaya.cluster.rpc.server.nats.address", servers.1.address())
            .set_text(&*key, "3");
        let gate = Node::start(gate, true).await;
        servers.1.kill().await;
        let ended = soon("the end", gate.serving).await.unwrap().unwrap_err();
        assert!(ended.to_string().contains(&key), "{ended}");
    }
}
