//! NATS servers that die, freeze, and come back, and networks that fail.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use pitaya_core::{
    cluster::{RpcClient as _, RpcError, RpcServer as _, Topic},
    config::Preset,
};
use pitaya_fixtures::{Nats, Proxy};
use pitaya_nats::settings;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, Node, at, config, eventually, soon, texts, uid};

/// With more settings than the addresses.
fn with(urls: &str, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut set = at(urls);
    set.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    set
}

#[tokio::test]
async fn a_start_fails_within_its_timeout_when_nothing_answers_and_at_once_when_nothing_listens() {
    let nats = Nats::start().await;
    let black_hole = Proxy::to(nats.address()).await;
    black_hole.hold();
    for (name, address, timeout) in [
        ("pitaya.cluster.rpc.client.nats.connect", black_hole.address(), "client.nats.connection.timeout"),
        ("pitaya.cluster.rpc.server.nats.connect", black_hole.address(), "server.nats.connectiontimeout"),
        ("pitaya.cluster.rpc.client.nats.connect", "127.0.0.1:1".to_owned(), "client.nats.connectiontimeout"),
    ] {
        let timeout = format!("pitaya.cluster.rpc.{timeout}");
        let mut set: Vec<_> = at(&nats.url()).into_iter().collect();
        set.retain(|(other, _)| *other != name);
        let mut all: Vec<_> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend([(name, address.as_str()), (timeout.as_str(), "300ms")]);
        let start = Instant::now();
        let error = Node::start_by("a", "a", config(None, &all)).await.err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(&address), "{error}");
        assert!(start.elapsed() < Duration::from_secs(4), "not the default of five seconds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_dies_and_comes_back_loses_time_only() {
    let mut nats = Nats::start().await;
    let (c1, r1) = (Node::start("connector", "c1", &nats.url()).await, Node::start("room", "r1", &nats.url()).await);
    r1.subscribe("u").await;
    assert_eq!(c1.call(&r1, "before").await.unwrap(), "before");
    let waiting = c1.call(&r1, "keep");
    let killed = async {
        eventually("the call is there", || r1.seen.requests.lock().unwrap().len() == 2).await;
        nats.kill().await;
        Instant::now()
    };
    // A call in flight fails long before its time-out.
    let (failed, killed) = tokio::join!(waiting, killed);
    assert!(matches!(failed, Err(RpcError::Disconnected(_))), "{failed:?}");
    assert!(killed.elapsed() < LONG / 2);
    // From then on they fail at once.
    for name in ["1", "2", "3"] {
        let start = Instant::now();
        assert!(matches!(c1.call(&r1, name).await, Err(RpcError::Disconnected(_))));
        assert!(start.elapsed() < LONG / 2);
    }
    let kind = "room".try_into().unwrap();
    let push = soon(c1.client.publish(Topic::Push(&kind, &uid("u")), "lost".into())).await;
    assert!(matches!(push, Err(RpcError::Disconnected(_))));
    // Users come and go meanwhile.
    r1.subscribe("v").await;
    r1.unsubscribe("v").await;
    r1.subscribe("w").await;

    nats.restart().await;
    let took = c1.until_answered(&r1).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    r1.until_answered(&c1).await;
    for user in ["u", "v", "w"] {
        c1.push("room", user, user).await.unwrap();
    }
    c1.push("room", "u", "last").await.unwrap();
    assert_eq!(r1.pushes(3).await, ["u", "w", "last"]);
    let requests = texts(&r1.seen.requests);
    assert_eq!(requests[..2], ["before", "keep"]);
    assert!(!requests.iter().any(|request| request == "1" || request == "lost"), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_run_twice_or_longer_than_its_timeout_while_connections_are_cut() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let (c1, r1) =
        (Node::start("connector", "c1", &proxy.address()).await, Node::start("room", "r1", &proxy.address()).await);
    let limit = Duration::from_secs(2);
    let number = AtomicUsize::new(0);
    let end = Instant::now() + Duration::from_secs(3);
    let caller = async || {
        let (mut answered, mut failed) = (0, 0);
        while Instant::now() < end {
            let name = number.fetch_add(1, Ordering::SeqCst).to_string();
            let start = Instant::now();
            match c1.call_within(&r1, &name, limit).await {
                Ok(answer) => {
                    assert_eq!(answer, name);
                    answered += 1;
                }
                Err(RpcError::Timeout(_) | RpcError::Disconnected(_) | RpcError::NotDelivered(_)) => failed += 1,
                Err(other) => panic!("{other:?}"),
            }
            assert!(start.elapsed() < limit + LONG / 2);
        }
        (answered, failed)
    };
    let cutter = async {
        for _ in 0..5 {
            sleep(Duration::from_millis(400)).await;
            proxy.cut();
        }
    };
    let (one, two, three, ()) = tokio::join!(caller(), caller(), caller(), cutter);
    assert!([one, two, three].iter().all(|(answered, _)| *answered > 100), "{one:?} {two:?} {three:?}");
    let mut requests = texts(&r1.seen.requests);
    let count = requests.len();
    requests.sort();
    requests.dedup();
    assert_eq!(requests.len(), count, "one was run twice");
    c1.until_answered(&r1).await;
}

#[tokio::test]
async fn a_call_made_in_the_moment_of_a_break_waits_for_the_new_connection() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let (c1, r1) =
        (Node::start("connector", "c1", &proxy.address()).await, Node::start("room", "r1", &nats.url()).await);
    for round in 0..10 {
        let before = proxy.connections();
        proxy.cut();
        // The break is seen; the new connection is there in some milliseconds, which is less than half a second.
        eventually("it connects again", || proxy.connections() > before).await;
        assert_eq!(c1.call(&r1, &round.to_string()).await.unwrap(), round.to_string());
    }
}

#[tokio::test]
async fn a_frozen_nats_server_costs_each_call_its_timeout_and_is_found_out_by_pings() {
    let nats = Nats::start().await;
    let pings =
        [("pitaya.cluster.rpc.client.nats.pinginterval", "200ms"), (settings::CLIENT_CONNECTION_TIMEOUT.name(), "1s")];
    let c1 = Node::start_with("connector", "c1", &with(&nats.url(), &pings)).await.unwrap();
    let r1 = Node::start("room", "r1", &nats.url()).await;
    assert_eq!(c1.call(&r1, "x").await.unwrap(), "x");
    nats.freeze().await;
    let error = async {
        loop {
            // The signal takes a moment to be heard.
            if let Err(error) = c1.call_within(&r1, "lost", Duration::from_millis(50)).await {
                return error;
            }
        }
    };
    let error = soon(error).await;
    assert!(matches!(error, RpcError::Timeout(_)), "{error:?}");
    // A bind is not refused for it: who cannot be reached now can be later.
    r1.subscribe("u").await;
    let disconnected = async {
        while !matches!(c1.call_within(&r1, "lost", Duration::from_millis(50)).await, Err(RpcError::Disconnected(_))) {}
    };
    soon(disconnected).await;
    nats.thaw().await;
    c1.until_answered(&r1).await;
    c1.push("room", "u", "p").await.unwrap();
    assert_eq!(r1.pushes(1).await, ["p"]);
}

#[tokio::test]
async fn a_server_gives_up_after_as_many_attempts_as_are_set() {
    for (retries, preset, attempts) in [
        (Some("pitaya.cluster.rpc.client.nats.max.reconnection.attempts"), None, 2),
        (Some("pitaya.cluster.rpc.server.nats.maxreconnectionretries"), None, 2),
        (None, Some(Preset::Docs2020), 3),
    ] {
        let nats = Nats::start().await;
        let proxy = Proxy::to(nats.address()).await;
        let server = retries.is_some_and(|name| name.contains("server"));
        let (broken, other) = (proxy.address(), nats.url());
        let addresses = if server { [&other, &broken] } else { [&broken, &other] };
        let mut set = vec![
            (settings::CLIENT_CONNECT.name(), addresses[0].as_str()),
            (settings::SERVER_CONNECT.name(), addresses[1].as_str()),
        ];
        set.extend(retries.map(|name| (name, "2")));
        let node = Node::start_by("a", "a", config(preset, &set)).await.unwrap();
        let before = proxy.connections();
        proxy.refuse();
        let reason = soon(node.context.given_up()).await.to_string();
        assert!(reason.contains(&format!("after {attempts} attempts")), "{reason}");
        assert!(reason.contains("maxreconnectionretries") && reason.contains(&broken), "{reason}");
        assert_eq!(proxy.connections() - before, attempts);
        if !server {
            assert!(matches!(node.call(&node, "x").await, Err(RpcError::Closed | RpcError::Disconnected(_))));
        }
    }
}

#[tokio::test]
async fn without_a_limit_it_never_gives_up_and_with_one_it_counts_anew_after_each_success() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let quick = [
        ("pitaya.cluster.rpc.client.nats.reconnectwait", "1ms"),
        ("pitaya.cluster.rpc.server.nats.reconnectwait", "1ms"),
    ];
    let node = Node::start_with("a", "a", &with(&proxy.address(), &quick)).await.unwrap();
    proxy.refuse();
    eventually("many attempts fail", || proxy.connections() > 100).await;
    proxy.pass();
    node.until_answered(&node).await;

    let few = [
        ("pitaya.cluster.rpc.client.nats.maxreconnectionretries", "3"),
        ("pitaya.cluster.rpc.server.nats.maxreconnectionretries", "3"),
    ];
    let node = Node::start_with("b", "b", &with(&proxy.address(), &few)).await.unwrap();
    for _ in 0..5 {
        let before = proxy.connections();
        proxy.cut();
        eventually("both connect again", || proxy.connections() >= before + 2).await;
        node.until_answered(&node).await;
    }
    assert!(timeout(Duration::from_millis(100), node.context.given_up()).await.is_err());
}

/// Many users leave while NATS is away: more than the queue of the connection holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_a_broken_connection_keeps_nobody_from_leaving_or_stopping() {
    const USERS: usize = settings::QUEUE * 2 / 3;
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let set = [
        (settings::CLIENT_CONNECT.name(), nats.url()),
        (settings::SERVER_CONNECT.name(), format!("nats://{}", proxy.address())),
    ];
    let node = Node::start_with("connector", "c1", &set).await.unwrap();
    let users: Vec<_> = (0..USERS).map(|number| uid(&format!("u{number}"))).collect();
    for chunk in users.chunks(200) {
        let subscribing = futures_util::future::join_all(chunk.iter().map(|user| node.server.subscribe(user)));
        for subscribed in soon(subscribing).await {
            subscribed.unwrap();
        }
    }
    proxy.refuse();
    proxy.cut();
    let leaving = futures_util::future::join_all(users.iter().map(|user| node.server.unsubscribe(user)));
    soon(leaving).await;
    assert!(timeout(LONG, node.context.tasks.stop(LONG)).await.unwrap(), "the stop is seen");
}
