//! The recording of what servers write to etcd: some have metadata, and some die.

use std::time::Duration;

use pitaya::{Server, ServerBuilder, config::Preset};
use pitaya_fixtures::{Etcd, Nats};
use serde_json::Value;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    compare,
    recording::{Recording, What},
    replay::{PATIENCE, registered},
    servers::{Node, Recipe},
    tap::Log,
};

const TTL: &str = "pitaya.cluster.sd.etcd.heartbeat.ttl";

/// A key with its value and the seconds of its lease.
type Written = (String, Value, u64);

/// What the recording says was written, in order.
fn written() -> Vec<Written> {
    let recording = Recording::load("etcd-registration");
    let events = recording.events.into_iter().filter_map(|event| match event.what {
        What::Written { key, value, ttl } => Some((key, value, ttl)),
        _ => None,
    });
    events.collect()
}

async fn gone(etcd: &Etcd, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    while etcd.get(key).await.is_some() {
        assert!(Instant::now() < deadline, "{key} stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server on a runtime of its own, with which it dies as by a kill.
async fn mortal(builder: ServerBuilder, recipe: &Recipe<'_>) -> (Runtime, Node) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let starting = std::pin::pin!(Node::start_with(builder, "", false, recipe));
    let mut starting = starting;
    // Whatever it spawns is of that runtime.
    let node = std::future::poll_fn(|cx| {
        let _entered = runtime.enter();
        starting.as_mut().poll(cx)
    });
    let node = node.await;
    (runtime, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_registration() {
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let (log, written) = (Log::new(), written());
    let recipe = |settings| Recipe {
        etcd: &etcd,
        nats: nats.address(),
        log: &log,
        preset: Preset::GoV2,
        protobuf: false,
        settings,
    };
    let [f1, b1, b2, unnamed, again] = &written[..] else { panic!("{written:?}") };
    let same = async |(key, go, ttl): &Written| {
        let ours = registered(&etcd, key, *ttl).await;
        let differences = compare::differences(go, &ours, &mut compare::Ids::new());
        assert!(differences.is_empty(), "{key}: {differences:?}");
    };

    let builder = Server::frontend("connector").id("f1");
    let builder = builder.metadata("grpcHost", "127.0.0.1").metadata("grpcPort", "3434").metadata("region", "eu");
    let frontend = Node::start_with(builder, "f1", true, &recipe(&[])).await;
    same(f1).await;
    let settings = [("", TTL, "20.9s")];
    let first = Node::start_with(Server::backend("room").id("b1"), "b1", false, &recipe(&settings)).await;
    same(b1).await;

    // Go's nil and an empty map are the same to whoever reads.
    let (killed, second) = mortal(Server::backend("room").id("b2"), &recipe(&[])).await;
    same(b2).await;
    // Without a name: a random one, under which it is found.
    let settings = [("", TTL, "3s")];
    let (short, nameless) = mortal(Server::backend("game"), &recipe(&settings)).await;
    let key = format!("pitaya/servers/game/{}", nameless.app.server().id);
    let mut ours = registered(&etcd, &key, unnamed.2).await;
    assert_eq!(ours["id"], nameless.app.server().id.as_str());
    ours["id"] = unnamed.1["id"].clone();
    assert_eq!(compare::differences(&unnamed.1, &ours, &mut compare::Ids::new()), []);

    first.stop().await;
    gone(&etcd, &b1.0).await;
    short.shutdown_background();
    gone(&etcd, &key).await;
    let lease = etcd.lease(&b2.0).await;
    killed.shutdown_background();
    let third = Node::start_with(Server::backend("room").id("b2"), "b2", false, &recipe(&[])).await;
    same(again).await;
    assert_ne!(etcd.lease(&b2.0).await, lease);
    third.stop().await;
    frontend.stop().await;
    drop((second, nameless));
}
