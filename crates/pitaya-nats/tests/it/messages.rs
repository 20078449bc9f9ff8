//! Pushes, kicks and binds.

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use pitaya_core::{
    ServerInfo,
    cluster::{RpcClient as _, RpcServer as _, Topic},
};
use pitaya_fixtures::Nats;

use crate::support::{LONG, Node, eventually, soon, texts, uid};

#[tokio::test]
async fn pushes_and_kicks_come_to_who_has_the_user_and_binds_to_all_of_a_type() {
    let nats = Nats::start().await;
    let (c1, c2) =
        (Node::start("connector", "c1", &nats.url()).await, Node::start("connector", "c2", &nats.url()).await);
    let r1 = Node::start("room", "r1", &nats.url()).await;
    c1.subscribe("u1").await;
    c2.subscribe("u.2").await;
    c2.subscribe("u3").await;
    for user in ["u1", "u.2", "u3", "u1", "u4"] {
        r1.push("connector", user, user).await.unwrap();
    }
    r1.push("room", "u1", "other type").await.unwrap();
    assert_eq!(c1.pushes(2).await, ["u1", "u1"]);
    assert_eq!(c2.pushes(2).await, ["u.2", "u3"]);

    let kind = "connector".try_into().unwrap();
    soon(r1.client.publish(Topic::Kick(&kind, &uid("u3")), "kick u3".into())).await.unwrap();
    soon(c1.client.publish(Topic::Bindings(&kind, 7), "bind".into())).await.unwrap();
    eventually("all have come", || {
        [&c1, &c2].iter().all(|node| node.seen.binds.lock().unwrap().len() == 1)
            && c2.seen.kicks.lock().unwrap().len() == 1
    })
    .await;
    // Bytes are handed over as they are, and nobody waits for an answer to this kick.
    assert_eq!(c2.seen.kicks.lock().unwrap()[0], (Bytes::from("kick u3"), false));
    assert_eq!(texts(&c1.seen.binds), ["bind"]);
    assert!(c1.seen.kicks.lock().unwrap().is_empty() && r1.seen.binds.lock().unwrap().is_empty());
    assert_eq!((c1.seen.pushes.lock().unwrap().len(), r1.seen.pushes.lock().unwrap().len()), (2, 0));
}

#[tokio::test]
async fn who_subscribed_twice_gets_pushes_once_and_until_both_have_ended() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    c1.subscribe("u").await;
    c1.subscribe("u").await;
    c1.push("connector", "u", "1").await.unwrap();
    assert_eq!(c1.pushes(1).await, ["1"]);
    c1.unsubscribe("u").await;
    c1.push("connector", "u", "2").await.unwrap();
    assert_eq!(c1.pushes(2).await, ["1", "2"]);
    c1.unsubscribe("u").await;
    c1.unsubscribe("u").await;
    c1.subscribe("other").await;
    c1.push("connector", "u", "3").await.unwrap();
    c1.push("connector", "other", "4").await.unwrap();
    assert_eq!(c1.pushes(3).await, ["1", "2", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_replaces_another_loses_and_doubles_nothing() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let r1 = Node::start("room", "r1", &nats.url()).await;
    for round in 0..200 {
        // The end of the old one and the new one at the same moment, in both orders.
        let (old, new) = (c1.unsubscribe("u"), c1.subscribe("u"));
        if round % 2 == 0 {
            tokio::join!(old, new);
        } else {
            tokio::join!(new, old);
        }
        if round % 2 == 1 {
            c1.subscribe("u").await;
            c1.unsubscribe("u").await;
        }
        c1.subscribe("u").await;
        let text = round.to_string();
        r1.push("connector", "u", &text).await.unwrap();
        assert_eq!(*c1.pushes(round + 1).await.last().unwrap(), text);
        c1.unsubscribe("u").await;
    }
    assert_eq!(c1.seen.pushes.lock().unwrap().len(), 200);
}

#[tokio::test]
async fn a_subscription_that_is_given_up_is_undone() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    for _ in 0..20 {
        let user = uid("u");
        let mut subscribing = c1.server.subscribe(&user);
        // It has been asked for, and nobody waits for it.
        assert!((&mut subscribing).now_or_never().is_none());
    }
    c1.subscribe("other").await;
    c1.push("connector", "u", "lost").await.unwrap();
    c1.push("connector", "other", "seen").await.unwrap();
    assert_eq!(c1.pushes(1).await, ["seen"]);
}

#[tokio::test]
async fn ten_thousand_pushes_arrive_in_order() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let r1 = Node::start("room", "r1", &nats.url()).await;
    c1.subscribe("u").await;
    let texts: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    for text in &texts {
        r1.push("connector", "u", text).await.unwrap();
    }
    assert_eq!(c1.pushes(10_000).await, texts);
    assert_eq!(c1.dropped.count(), 0);
}

#[tokio::test]
async fn foreign_peers_are_understood() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let go = async_nats::connect(nats.url()).await.unwrap();
    c1.subscribe("u1").await;
    // A kick that waits for an answer, as servers in Rust and C++ send it.
    let kicked = soon(go.request("pitaya/connector/user/u1/kick", b"\x0a\x02u1".as_slice().into())).await.unwrap();
    assert_eq!(kicked.payload, "kicked");
    // A call without reply subject is run; garbage is the engine's to judge.
    go.publish("pitaya/servers/connector/c1", b"\xff\xff".as_slice().into()).await.unwrap();
    go.publish("pitaya/connector/user/u1/push", b"\xff".as_slice().into()).await.unwrap();
    eventually("both have come", || {
        !c1.seen.requests.lock().unwrap().is_empty() && !c1.seen.pushes.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(c1.seen.requests.lock().unwrap()[0], b"\xff\xff".as_slice());
    assert_eq!(c1.seen.pushes.lock().unwrap()[0], b"\xff".as_slice());
    assert_eq!(c1.seen.kicks.lock().unwrap()[0], (Bytes::from_static(b"\x0a\x02u1"), true));

    // What we send is on the subjects of every Pitaya, as it was handed over.
    let mut servers = go.subscribe("pitaya/servers/room/r9").await.unwrap();
    let (kind, user) = ("room".try_into().unwrap(), uid("u9"));
    let mut pushes = go.subscribe("pitaya/room/user/u9/push").await.unwrap();
    let mut binds = go.subscribe("pitaya/room/bindings").await.unwrap();
    // An answer to this proves that NATS knows of the subscriptions.
    soon(go.request("pitaya/servers/connector/c1", "known".into())).await.unwrap();
    soon(c1.client.publish(Topic::Push(&kind, &user), "p".into())).await.unwrap();
    soon(c1.client.publish(Topic::Bindings(&kind, 7), "b".into())).await.unwrap();
    let (push, bind) = soon(async { (pushes.next().await.unwrap(), binds.next().await.unwrap()) }).await;
    assert_eq!((push.payload, push.reply, bind.payload), (Bytes::from("p"), None, Bytes::from("b")));
    let ids: Vec<_> = [push.headers, bind.headers]
        .map(|headers| headers.unwrap().get("Pitaya-Id").unwrap().as_str().to_owned())
        .into();
    assert_ne!(ids[0], ids[1]);
    let mut r9 = ServerInfo::backend("room").unwrap();
    r9.id = "r9".try_into().unwrap();
    let call = c1.client.call(&r9, "c".into(), LONG);
    let answer = async {
        let call = servers.next().await.unwrap();
        assert_eq!((call.payload, call.headers), (Bytes::from("c"), None));
        go.publish(call.reply.unwrap(), "answer".into()).await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(call, answer) }).await;
    assert_eq!(answer.unwrap(), "answer");
}

/// More than may wait of one subscription.
const MANY: usize = (1 << 18) + 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_library_throws_away_is_counted() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let go = async_nats::connect(nats.url()).await.unwrap();
    // An engine that breaks its promise never to wait.
    let seen = std::sync::Arc::clone(&c1.seen);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (locked, lock) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _blocked = seen.blocked.lock().unwrap();
        locked.send(()).unwrap();
        // An error if the test has failed.
        let _ = released.recv();
    });
    lock.await.unwrap();
    go.publish("pitaya/servers/connector/c1", "block".into()).await.unwrap();
    let some = async {
        for _ in 0..MANY {
            go.publish("pitaya/servers/connector/c1", "x".into()).await.unwrap();
        }
    };
    soon(some).await;
    eventually("messages are thrown away", || c1.dropped.count() > 0).await;
    release.send(()).unwrap();
    eventually("the others have come", || c1.seen.requests.lock().unwrap().len() > 1 << 18).await;
    assert!(c1.seen.requests.lock().unwrap().len() < MANY + 1);
    c1.until_answered(&c1).await;
}
