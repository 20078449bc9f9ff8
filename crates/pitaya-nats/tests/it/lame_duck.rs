//! A NATS server that is about to stop asks its clients to leave; they do without losing or doubling a message.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pitaya_core::cluster::{RpcClient as _, Topic};
use pitaya_fixtures::{Nats, Proxy};
use tokio::time::sleep;

use crate::support::{Node, eventually, soon, texts, uid};

/// How often each text arrived.
fn counts(list: &Mutex<Vec<Bytes>>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for text in texts(list) {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_change_over_without_losing_or_doubling_anything() {
    let [mut lame, other] = Nats::pair().await;
    // What goes through the proxy is connected to the first one.
    let proxy = Proxy::to(lame.address()).await;
    let (c1, r1) =
        (Node::start("connector", "c1", &proxy.address()).await, Node::start("room", "r1", &proxy.address()).await);
    let go = async_nats::connect(other.url()).await.unwrap();
    c1.subscribe("u").await;
    c1.subscribe("gone").await;
    assert_eq!(c1.call(&r1, "before").await.unwrap(), "before");
    // Messages also pass from one NATS server to the other.
    let answer = soon(go.request("pitaya/servers/room/r1", "go before".into())).await.unwrap();
    assert_eq!(answer.payload, "go before");
    assert_eq!(proxy.open_connections(), 4);

    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::SeqCst);
    let kind = "connector".try_into().unwrap();
    let user = uid("u");
    let calls = async {
        let mut count = 0;
        while !is_done() {
            let name = format!("call {count}");
            assert_eq!(c1.call(&r1, &name).await.unwrap(), name);
            count += 1;
        }
        count
    };
    let messages = async {
        let mut count = 0;
        while !is_done() {
            let name = || Bytes::from(format!("message {count}"));
            soon(r1.client.publish(Topic::Push(&kind, &user), name())).await.unwrap();
            soon(r1.client.publish(Topic::Kick(&kind, &user), name())).await.unwrap();
            soon(r1.client.publish(Topic::Bindings(&kind, 7), name())).await.unwrap();
            count += 1;
            sleep(Duration::from_millis(1)).await;
        }
        count
    };
    let foreign = async {
        let mut count = 0;
        while !is_done() {
            let name = format!("go {count}");
            let answer = soon(go.request("pitaya/servers/room/r1", name.clone().into())).await.unwrap();
            assert_eq!(answer.payload, name);
            go.publish("pitaya/connector/user/u/push", name.into()).await.unwrap();
            count += 1;
            sleep(Duration::from_millis(1)).await;
        }
        count
    };
    let change = async {
        eventually("calls are answered", || r1.seen.requests.lock().unwrap().len() > 100).await;
        lame.lame_duck().await;
        // Users come and go meanwhile.
        sleep(Duration::from_millis(500)).await;
        c1.subscribe("new").await;
        c1.unsubscribe("gone").await;
        eventually("the old connections are closed", || proxy.open_connections() == 0).await;
        lame.kill().await;
        let before = r1.seen.requests.lock().unwrap().len();
        eventually("calls are answered", || r1.seen.requests.lock().unwrap().len() > before + 100).await;
        done.store(true, Ordering::SeqCst);
    };
    let (calls, messages, foreign, ()) = tokio::join!(calls, messages, foreign, change);

    for user in ["gone", "new", "u"] {
        r1.push("connector", user, &format!("last {user}")).await.unwrap();
    }
    eventually("the last push", || texts(&c1.seen.pushes).iter().any(|text| text == "last u")).await;
    let requests = counts(&r1.seen.requests);
    let mut pushes = counts(&c1.seen.pushes);
    let binds = counts(&c1.seen.binds);
    let mut kicks = BTreeMap::<String, usize>::new();
    for (kick, _) in c1.seen.kicks.lock().unwrap().iter() {
        *kicks.entry(String::from_utf8_lossy(kick).into_owned()).or_default() += 1;
    }
    for number in 0..calls {
        assert_eq!(requests[&format!("call {number}")], 1, "call {number}");
    }
    for number in 0..messages {
        let name = format!("message {number}");
        assert_eq!((pushes[&name], kicks.get(&name), binds.get(&name)), (1, Some(&1), Some(&1)), "{name}");
    }
    for number in 0..foreign {
        let name = format!("go {number}");
        assert_eq!(requests[&name], 1, "{name}");
        // A push of a Go server has no id, so it may come by both connections.
        assert!((1..=2).contains(&pushes.remove(&name).unwrap()), "{name}");
    }
    assert!(pushes.contains_key("last new") && !pushes.contains_key("last gone"));
}

#[tokio::test]
async fn a_server_that_finds_no_other_stays_and_connects_again_later() {
    let mut nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    nats.lame_duck().await;
    for name in ["a", "b", "c"] {
        assert_eq!(c1.call(&r1, name).await.unwrap(), name);
        sleep(Duration::from_millis(50)).await;
    }
    nats.restart().await;
    c1.until_answered(&r1).await;
    let names = texts(&r1.seen.requests);
    assert_eq!(names[..3], ["a", "b", "c"]);
}
