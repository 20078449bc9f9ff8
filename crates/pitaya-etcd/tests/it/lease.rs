//! The lease: how long it lives, how it is renewed, lost, had again and given back.

use std::time::Duration;

use pitaya_core::cluster::Discovery as _;
use pitaya_fixtures::{Etcd, GrpcProxy};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Log, Node, eventually, timed};

#[tokio::test]
async fn k05_the_ttl_is_the_one_of_the_lease_and_a_dead_server_is_gone_after_it() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    // Whole seconds count.
    let settings = [("endpoints", &*address), ("heartbeatinterval", "2.9s")];
    let (dying, other) = (Node::start("room", "r1", &settings).await, Node::start("gate", "g1", &settings).await);
    let lease = etcd.lease("servers/room/r1").await.unwrap();
    assert_eq!(etcd.granted_ttl(&lease).await, 2);
    // It lives on as long as its server does.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(etcd.lease("servers/room/r1").await, Some(lease));
    dying.die().await;
    let ((), gone) = timed(other.sees(&[])).await;
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&gone), "{gone:?}");
}

#[tokio::test]
async fn k06_a_server_gives_up_when_it_cannot_register_again_in_time() {
    let etcd = Etcd::start().await;
    let settings = [
        ("endpoints", &*etcd.address()),
        ("heartbeatinterval", "1s"),
        ("grantlease.timeout", "1s"),
        ("grantlease.retryinterval", "200ms"),
    ];
    let node = Node::start("gate", "g1", &settings).await;
    etcd.freeze().await;
    let (error, took) = timed(node.context.given_up()).await;
    assert!(error.to_string().contains("grantlease.timeout"), "{error}");
    // One second until the lease is dead, one until the time is up.
    assert!((Duration::from_millis(1_500)..Duration::from_secs(20)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn k07_k08_a_server_tries_so_often_and_so_far_apart_before_it_gives_up() {
    let etcd = Etcd::start().await;
    let proxy = GrpcProxy::to(etcd.address()).await;
    let settings =
        [("endpoints", &*proxy.address()), ("grantlease.maxretries", "6"), ("grantlease.retryinterval", "500ms")];
    let node = Node::start("gate", "g1", &settings).await;
    proxy.refuse("LeaseGrant");
    proxy.count_anew();
    etcd.revoke(&etcd.lease("servers/gate/g1").await.unwrap()).await;
    let (error, _) = timed(node.context.given_up()).await;
    assert!(error.to_string().contains("grantlease.maxretries") && error.to_string().contains('6'), "{error}");
    sleep(Duration::from_secs(1)).await;
    let calls = proxy.calls("LeaseGrant");
    assert_eq!(calls.len(), 6);
    // A busy machine may delay some of them.
    let mut apart: Vec<_> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    apart.sort();
    assert!((Duration::from_millis(450)..Duration::from_secs(5)).contains(&apart[2]), "{apart:?}");
}

#[tokio::test]
async fn without_limits_a_server_tries_until_it_is_registered_again() {
    let etcd = Etcd::start().await;
    let proxy = GrpcProxy::to(etcd.address()).await;
    let settings = [("endpoints", &*proxy.address()), ("grantlease.retryinterval", "20ms")];
    let node = Node::start("gate", "g1", &settings).await;
    let lease = etcd.lease("servers/gate/g1").await.unwrap();
    proxy.refuse("LeaseGrant");
    proxy.count_anew();
    etcd.revoke(&lease).await;
    eventually("it tries more often than any preset allows", async || proxy.calls("LeaseGrant").len() > 20).await;
    assert_eq!(etcd.get("servers/gate/g1").await, None);
    proxy.pass("LeaseGrant");
    eventually("it is registered again", async || etcd.get("servers/gate/g1").await.is_some()).await;
    assert_ne!(etcd.lease("servers/gate/g1").await.unwrap(), lease);
    assert!(timeout(Duration::from_millis(50), node.context.given_up()).await.is_err());

    // Who leaves while it tries is gone at once, and stays away.
    proxy.refuse("LeaseGrant");
    etcd.revoke(&etcd.lease("servers/gate/g1").await.unwrap()).await;
    eventually("it is gone", async || etcd.get("servers/gate/g1").await.is_none()).await;
    let ((), took) = timed(node.discovery.leave()).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    proxy.pass("LeaseGrant");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(etcd.get("servers/gate/g1").await, None);
}

#[tokio::test]
async fn k09_leaving_waits_no_longer_than_it_may() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [("endpoints", &*address), ("revoke.timeout", "400ms"), ("heartbeatinterval", "5s")];
    let node = Node::start("gate", "g1", &settings).await;
    etcd.freeze().await;
    let ((), took) = timed(node.discovery.leave()).await;
    assert!((Duration::from_millis(350)..Duration::from_secs(4)).contains(&took), "{took:?}");
    etcd.thaw().await;
    eventually("the lease ends by itself", async || etcd.get("servers/gate/g1").await.is_none()).await;
    assert!(node.context.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn k10_each_renewal_is_logged_if_it_shall_be() {
    let etcd = Etcd::start().await;
    let proxy = GrpcProxy::to(etcd.address()).await;
    for wanted in ["true", "false"] {
        let (log, _guard) = Log::keep();
        let settings = [("endpoints", &*proxy.address()), ("heartbeatinterval", "1s"), ("heartbeatlog", wanted)];
        let node = Node::start("gate", wanted, &settings).await;
        proxy.count_anew();
        let lines = || log.lines(&["DEBUG", "pitaya_etcd", "lease renewed", wanted]).len();
        let begin = Instant::now();
        eventually("the lease has been renewed", async || proxy.calls("LeaseKeepAlive").len() >= 3).await;
        assert!(begin.elapsed() > Duration::from_millis(600), "a third of the TTL lies between renewals");
        if wanted == "true" {
            let is_logged = async || lines() == proxy.calls("LeaseKeepAlive").len();
            eventually("each renewal has its line", is_logged).await;
        } else {
            assert_eq!(lines(), 0);
        }
        node.discovery.leave().await;
    }
}

#[tokio::test]
async fn a_lease_that_is_lost_is_had_again_at_once() {
    let etcd = Etcd::start().await;
    let settings = [("endpoints", &*etcd.address())];
    let node = Node::start("gate", "g1", &settings).await;
    let other = Node::start("room", "r1", &settings).await;
    let lease = etcd.lease("servers/gate/g1").await.unwrap();
    etcd.revoke(&lease).await;
    // The lease lives for a minute, but the key is missed at once.
    let is_back = async || etcd.lease("servers/gate/g1").await.is_some_and(|new| new != lease);
    let ((), took) = timed(eventually("the key is back", is_back)).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    other.sees(&["g1"]).await;
    assert_eq!(etcd.keys("servers/").await.len(), 2);
    node.discovery.leave().await;
    other.sees(&[]).await;
}
