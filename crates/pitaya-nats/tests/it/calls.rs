//! Calls and their answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{Either, join_all, ready},
};
use pitaya_core::{
    ServerInfo,
    cluster::{RpcClient as _, RpcError, RpcServer as _, Topic, protos::Response},
    code,
};
use pitaya_fixtures::{Nats, Proxy};
use pitaya_nats::{NatsClient, NatsServer, settings};
use prost::Message as _;
use tokio::time::{Instant, sleep};

use crate::support::{LONG, Node, config, eventually, soon, texts, uid};

#[tokio::test]
async fn a_call_is_answered_by_the_server_that_it_names() {
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let r2 = Node::start("room", "r2", &nats.url()).await;
    assert_eq!(c1.call(&r1, "one").await.unwrap(), "one");
    assert_eq!(r1.call(&c1, "two").await.unwrap(), "two");
    assert_eq!(r1.call(&r1, "").await.unwrap(), "");
    assert_eq!(texts(&r1.seen.requests), ["one", ""]);
    assert!(r2.seen.requests.lock().unwrap().is_empty());
}

/// A server that comes back under its id is known to the others all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_answers_from_its_first_call_on() {
    let nats = Nats::start().await;
    let c1 = Arc::new(Node::start("connector", "c1", &nats.url()).await);
    for round in 0..10 {
        let id = format!("r{round}");
        let mut room = ServerInfo::frontend("room").unwrap();
        room.id = id.as_str().try_into().unwrap();
        let callers = (0..16).map(|_| {
            let (c1, room) = (Arc::clone(&c1), room.clone());
            tokio::spawn(async move {
                loop {
                    match c1.client.call(&room, Bytes::from_static(b"hello"), Duration::from_secs(5)).await {
                        Err(RpcError::NotDelivered(_)) => tokio::task::yield_now().await,
                        other => return other,
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let started = Node::start("room", &id, &nats.url()).await;
        for answer in soon(join_all(callers)).await {
            assert_eq!(answer.unwrap().unwrap(), "hello", "round {round}");
        }
        drop(started);
    }
}

#[tokio::test]
async fn each_end_has_its_own_address_with_or_without_scheme_one_of_a_list() {
    let (one, two) = (Nats::start().await, Nats::start().await);
    let dead = "127.0.0.1:1";
    let set = |client: &str, server: &str| {
        vec![(settings::CLIENT_CONNECT.name(), client.to_owned()), (settings::SERVER_CONNECT.name(), server.to_owned())]
    };
    let a = Node::start_with("a", "a", &set(&format!("{dead}, {}", one.url()), &two.address())).await.unwrap();
    let b = Node::start_with("b", "b", &set(&two.url(), &format!("{},{dead}", one.address()))).await.unwrap();
    assert_eq!(a.call(&b, "to one").await.unwrap(), "to one");
    assert_eq!(b.call(&a, "to two").await.unwrap(), "to two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_arrive_in_the_order_in_which_they_were_polled() {
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let names: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    let answers = join_all(names.iter().map(|name| {
        let mut call = c1.client.call(r1.info(), Bytes::copy_from_slice(name.as_bytes()), LONG);
        match (&mut call).now_or_never() {
            // It was answered within the first poll.
            Some(answer) => Either::Left(ready(answer)),
            None => Either::Right(call),
        }
    }));
    let answers = soon(answers).await;
    assert_eq!(texts(&r1.seen.requests), names);
    for (answer, name) in answers.into_iter().zip(names) {
        assert_eq!(answer.unwrap(), name);
    }
    assert_eq!(r1.dropped.count(), 0);
}

#[tokio::test]
async fn who_does_not_listen_is_known_at_once() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let nobody = ServerInfo::backend("room").unwrap();
    let start = Instant::now();
    let error = soon(c1.client.call(&nobody, "x".into(), LONG)).await.unwrap_err();
    assert!(matches!(&error, RpcError::NotDelivered(id) if *id == nobody.id) && error.is_undelivered());
    assert!(start.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_call_waits_as_long_as_it_is_told() {
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let start = Instant::now();
    let limit = Duration::from_millis(100);
    let error = c1.call_within(&r1, "keep", limit).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout(waited) if waited == limit));
    assert!(start.elapsed() >= limit);
    // An answer that comes too late disturbs nobody.
    let late = r1.seen.kept.lock().unwrap().pop().unwrap();
    late.send("late".into()).await;
    assert_eq!(c1.call(&r1, "next").await.unwrap(), "next");
    assert_eq!(c1.client.timeout(), Duration::from_secs(5));
    let other = config(None, &[("pitaya.cluster.rpc.client.nats.request.timeout", "1.5")]);
    assert_eq!(NatsClient::new(&other).unwrap().timeout(), Duration::from_millis(1500));
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_an_answer_that_is_becomes_an_error() {
    let nats = Nats::start_with(&["-c", &small_payloads()]).await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let error = c1.call(&r1, &"x".repeat(4097)).await.unwrap_err();
    assert!(matches!(error, RpcError::TooLarge { len: 4097, limit: 4096 }), "{error:?}");
    assert_eq!(c1.call(&r1, &"x".repeat(4096)).await.unwrap().len(), 4096);
    assert_eq!(r1.seen.requests.lock().unwrap().len(), 1);
    assert_eq!(c1.call(&r1, "large 4096").await.unwrap().len(), 4096);
    let failure = Response::decode(c1.call(&r1, "large 4097").await.unwrap()).unwrap().into_result().unwrap_err();
    assert_eq!(failure.code(), code::INTERNAL);
    assert!(failure.message().contains("4097"), "{failure}");

    r1.subscribe("u").await;
    // One that fits only without its id is sent as well.
    c1.push("room", "u", &"x".repeat(4090)).await.unwrap();
    assert_eq!(r1.pushes(1).await[0].len(), 4090);
    let error = c1.push("room", "u", &"x".repeat(4097)).await.unwrap_err();
    assert!(matches!(error, RpcError::TooLarge { len: 4097, limit: 4096 }), "{error:?}");
}

/// A configuration file of a NATS server that takes short messages only.
fn small_payloads() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/small.conf").to_owned()
}

#[tokio::test]
async fn a_panic_of_the_engine_loses_one_call_only() {
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    assert!(c1.call_within(&r1, "panic", Duration::from_millis(50)).await.is_err());
    assert_eq!(c1.call(&r1, "next").await.unwrap(), "next");
}

#[tokio::test]
async fn nothing_is_sent_before_the_start_or_after_the_stop() {
    let nats = Nats::start().await;
    let config = config(None, &[("pitaya.cluster.rpc.client.nats.connect", &nats.url())]);
    let (client, server) = (NatsClient::new(&config).unwrap(), NatsServer::new(&config).unwrap());
    let nobody = ServerInfo::backend("room").unwrap();
    let error = client.call(&nobody, "x".into(), LONG).await.unwrap_err();
    assert!(matches!(error, RpcError::Disconnected(_)));
    assert!(server.subscribe(&"u".try_into().unwrap()).await.is_err());

    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    assert_eq!(c1.call(&r1, "x").await.unwrap(), "x");
    assert!(soon(c1.context.tasks.stop(LONG)).await, "all tasks end");
    assert!(matches!(c1.call(&r1, "x").await, Err(RpcError::Closed)));
    assert!(c1.server.subscribe(&"u".try_into().unwrap()).await.is_err());
    // Its connections are closed: nobody listens for its calls.
    assert!(matches!(r1.call(&c1, "x").await, Err(RpcError::NotDelivered(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_during_a_drain_are_answered_or_known_as_not_delivered() {
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let calls = async {
        let mut refused = false;
        let mut answered = 0;
        while !refused {
            let batch = (0..50).map(|_| c1.call(&r1, "x"));
            for answer in join_all(batch).await {
                match answer {
                    Ok(_) => answered += 1,
                    Err(RpcError::NotDelivered(_)) => refused = true,
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        answered
    };
    let drain = async {
        eventually("calls arrive", || r1.seen.requests.lock().unwrap().len() > 500).await;
        soon(r1.server.drain()).await;
        r1.seen.requests.lock().unwrap().len()
    };
    let (answered, at_the_end) = soon(async { tokio::join!(calls, drain) }).await;
    assert_eq!(answered, r1.seen.requests.lock().unwrap().len());
    assert_eq!(answered, at_the_end, "nothing came after the drain");
    // It can still call, and be pushed to.
    assert_eq!(r1.call(&c1, "y").await.unwrap(), "y");
    r1.subscribe("u").await;
    c1.push("room", "u", "p").await.unwrap();
    assert_eq!(r1.pushes(1).await, ["p"]);
}

#[tokio::test]
async fn a_call_that_is_given_up_does_not_keep_the_others() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let (c1, r1) =
        (Node::start("connector", "c1", &proxy.address()).await, Node::start("room", "r1", &nats.url()).await);
    for _ in 0..100 {
        let mut call = c1.client.call(r1.info(), "keep".into(), LONG);
        assert!((&mut call).now_or_never().is_none());
    }
    assert_eq!(c1.call(&r1, "x").await.unwrap(), "x");
    assert_eq!(r1.seen.requests.lock().unwrap().len(), 101);
}

/// More is to be sent than the queue of the connection holds. Those who wait for room have been polled once, and nobody polls
/// them again when there is some: they still come before the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_room_arrive_in_the_order_of_their_first_polls() {
    const WAITING: usize = 100;
    let nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    let (kind, nobody, payload) = ("connector".try_into().unwrap(), uid("nobody"), Bytes::from(vec![0; 1_000]));
    let fits = || c1.client.publish(Topic::Push(&kind, &nobody), payload.clone()).now_or_never().is_some();
    nats.freeze().await;
    // The connection takes some more from the queue for a while.
    let mut refused = 0;
    while refused < 50 {
        if fits() {
            refused = 0;
        } else {
            refused += 1;
            sleep(Duration::from_millis(2)).await;
        }
    }
    let call = |number: usize| {
        let mut call = c1.client.call(r1.info(), Bytes::from(number.to_string()), LONG);
        assert!((&mut call).now_or_never().is_none());
        call
    };
    let mut calls: Vec<_> = (0..WAITING).map(call).collect();
    // One that is given up is not sent.
    drop(calls.remove(WAITING / 2));
    nats.thaw().await;
    soon(async {
        while !fits() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    calls.push(call(WAITING));
    for answer in soon(join_all(calls)).await {
        answer.unwrap();
    }
    let expected = (0..=WAITING).filter(|number| *number != WAITING / 2).map(|number| number.to_string());
    assert_eq!(texts(&r1.seen.requests), expected.collect::<Vec<_>>());
}
