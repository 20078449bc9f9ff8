//! How much may wait of what other servers send.

use std::sync::Arc;

use pitaya_core::cluster::{Capacity, RpcServer as _};
use pitaya_fixtures::Nats;
use pitaya_nats::{NatsServer, settings};

use crate::support::{Node, Seen, at, config, eventually, soon};

/// As many as the client library holds of one subscription.
const HELD: usize = 1 << 18;

/// How many are sent besides.
const MORE: usize = 5_000;

/// How many pushes of [`HELD`] and [`MORE`] come through while the engine, against its promise, waits in the first of them.
async fn pushes_that_come_through(buffer: usize) -> usize {
    let nats = Nats::start().await;
    let mut set = at(&nats.url());
    set.push((settings::BUFFER_PUSH.name(), buffer.to_string()));
    let c1 = Node::start_with("connector", "c1", &set).await.unwrap();
    c1.subscribe("u").await;
    let go = async_nats::connect(nats.url()).await.unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (locked, lock) = tokio::sync::oneshot::channel();
    let seen: Arc<Seen> = Arc::clone(&c1.seen);
    std::thread::spawn(move || {
        let _blocked = seen.blocked.lock().unwrap();
        locked.send(()).unwrap();
        // An error if the test has failed.
        let _ = released.recv();
    });
    lock.await.unwrap();
    go.publish("pitaya/connector/user/u/push", "block".into()).await.unwrap();
    c1.pushes(1).await;
    let sending = async {
        for _ in 0..HELD + MORE {
            go.publish("pitaya/connector/user/u/push", "x".into()).await.unwrap();
        }
    };
    soon(sending).await;
    // A call behind them is answered when the connection has read them all.
    soon(go.request("pitaya/servers/connector/c1", "known".into())).await.unwrap();
    assert_eq!(c1.dropped.count() > 0, buffer < MORE);
    release.send(()).unwrap();
    // Those are handed over; then there is room for a last one.
    eventually("the others have come", || c1.seen.pushes.lock().unwrap().len() > HELD).await;
    go.publish("pitaya/connector/user/u/push", "last".into()).await.unwrap();
    eventually("the last has come", || c1.seen.pushes.lock().unwrap().last().unwrap() == "last").await;
    c1.seen.pushes.lock().unwrap().iter().filter(|push| *push == "x").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k17_as_many_pushes_wait_as_may_before_any_is_left_to_the_library() {
    assert_eq!(pushes_that_come_through(MORE).await, HELD + MORE);
    assert_eq!(pushes_that_come_through(100).await, HELD + 100);
}

#[test]
fn k16_k29_what_may_run_and_wait_is_what_the_engine_is_told() {
    let of = |set: &[(&str, &str)]| NatsServer::new(&config(None, set)).unwrap().capacity();
    assert_eq!(of(&[]), Capacity { running: 65_536, waiting: 16_384 });
    let set = [("pitaya.concurrency.remote.service", "3"), ("pitaya.buffer.cluster.grpc.server.nats.messages", "5")];
    assert_eq!(of(&set), Capacity { running: 3, waiting: 5 });
}
