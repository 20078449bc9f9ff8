//! An etcd that is away, frozen, cut off, has forgotten the past, or everything.

use std::time::Duration;

use pitaya_core::cluster::Discovery as _;
use pitaya_fixtures::{Etcd, GrpcProxy, Proxy};
use tokio::time::sleep;

use crate::support::{Log, Node, config, eventually, json, timed};

#[tokio::test]
async fn servers_stay_known_while_etcd_is_dead_and_go_on_when_it_is_back() {
    let mut etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [("endpoints", &*address), ("heartbeatinterval", "3s"), ("grantlease.retryinterval", "200ms")];
    let gate = Node::start("gate", "g1", &settings).await;
    let room = Node::start("room", "r1", &settings).await;
    gate.sees(&["r1"]).await;
    etcd.kill().await;
    // Longer than the lease.
    sleep(Duration::from_secs(4)).await;
    assert_eq!((gate.knows(), room.knows()), (vec!["r1".to_owned()], vec!["g1".to_owned()]));
    etcd.restart().await;
    eventually("both are there", async || etcd.keys("servers/").await.len() == 2).await;
    etcd.put("servers/room/r2", &json("room", "r2")).await;
    gate.sees(&["r1", "r2"]).await;
    room.sees(&["g1", "r2"]).await;
    // Long enough for the leases of before, which etcd had forgotten to count while it was dead.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(etcd.keys("servers/").await.len(), 3);
    room.discovery.leave().await;
    gate.sees(&["r2"]).await;
}

#[tokio::test]
async fn an_etcd_without_its_data_is_filled_again() {
    let (log, _guard) = Log::keep();
    let mut etcd = Etcd::start().await;
    // Revisions that will not come back soon.
    for number in 0..20 {
        etcd.put("other", &number.to_string()).await;
    }
    let address = etcd.address();
    let settings = [
        ("endpoints", &*address),
        ("heartbeatinterval", "3s"),
        ("syncserversinterval", "1s"),
        ("grantlease.retryinterval", "200ms"),
    ];
    let gate = Node::start("gate", "g1", &settings).await;
    let room = Node::start("room", "r1", &settings).await;
    // One that only looks, and that only its watch can tell.
    let observer_settings = [settings[0], settings[1], ("syncserversinterval", "10m")];
    let observer = Node::new("gate", "g2", config(&observer_settings));
    observer.discovery.start(&observer.context).await.unwrap();
    etcd.put("servers/room/stale", &json("room", "stale")).await;
    gate.sees(&["r1", "stale"]).await;
    observer.sees(&["g1", "r1", "stale"]).await;
    let mut changes = gate.context.servers.watch();
    changes.mark_unchanged();
    etcd.restart_empty().await;
    eventually("both are there", async || etcd.keys("servers/").await.len() == 2).await;
    // Who has not come back is forgotten; who has was known all the time.
    let (changed, took) = timed(changes.changed()).await;
    changed.unwrap();
    assert_eq!(gate.knows(), ["r1"]);
    assert!(took > Duration::from_secs(1), "it has the time of a lease to come back: {took:?}");
    observer.sees(&["g1", "r1"]).await;
    room.sees(&["g1"]).await;
    assert_eq!(log.lines(&["WARN", "etcd has lost its data"]).len(), 3);
    etcd.put("servers/room/r2", &json("room", "r2")).await;
    gate.sees(&["r1", "r2"]).await;
    observer.sees(&["g1", "r1", "r2"]).await;
    room.sees(&["g1", "r2"]).await;
}

#[tokio::test]
async fn an_etcd_that_is_frozen_for_longer_than_the_ttl_costs_nothing_but_the_time() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [
        ("endpoints", &*address),
        ("heartbeatinterval", "1s"),
        ("dialtimeout", "500ms"),
        ("grantlease.retryinterval", "200ms"),
    ];
    let gate = Node::start("gate", "g1", &settings).await;
    let room = Node::start("room", "r1", &settings).await;
    gate.sees(&["r1"]).await;
    etcd.freeze().await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!((gate.knows(), room.knows()), (vec!["r1".to_owned()], vec!["g1".to_owned()]));
    etcd.thaw().await;
    etcd.put("servers/room/r2", &json("room", "r2")).await;
    gate.sees(&["r1", "r2"]).await;
    eventually("both are there", async || etcd.keys("servers/").await.len() == 3).await;
    // They are kept alive again.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(etcd.keys("servers/").await.len(), 3);
    gate.sees(&["r1", "r2"]).await;
}

#[tokio::test]
async fn leases_that_end_in_an_outage_empty_no_list_and_who_has_died_meanwhile_is_forgotten_later() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [
        ("endpoints", &*address),
        ("heartbeatinterval", "2s"),
        ("dialtimeout", "500ms"),
        ("grantlease.retryinterval", "200ms"),
    ];
    let gate = Node::start("gate", "g1", &settings).await;
    let (room, dying) = (Node::start("room", "r1", &settings).await, Node::start("room", "r2", &settings).await);
    gate.sees(&["r1", "r2"]).await;
    let (mut seen_by_gate, mut seen_by_room) = (gate.context.servers.watch(), room.context.servers.watch());
    // Whoever sees a list without the other has seen too much.
    let missed = async {
        tokio::select! {
            _ = seen_by_gate.wait_for(|list| list.get(&"r1".try_into().unwrap()).is_none()) => {}
            _ = seen_by_room.wait_for(|list| list.get(&"g1".try_into().unwrap()).is_none()) => {}
        }
    };
    let outage = async {
        let lease = etcd.lease("servers/gate/g1").await;
        etcd.freeze().await;
        dying.die().await;
        sleep(Duration::from_secs(4)).await;
        etcd.thaw().await;
        eventually("both are there", async || etcd.keys("servers/").await.len() == 2).await;
        eventually("with other leases", async || {
            let new = etcd.lease("servers/gate/g1").await;
            new.is_some() && new != lease
        })
        .await;
        gate.sees(&["r1"]).await;
        room.sees(&["g1"]).await;
    };
    tokio::select! {
        () = missed => panic!("a server that lives was missed"),
        () = outage => {}
    }
    // Without an outage, who leaves is gone at once.
    sleep(Duration::from_secs(3)).await;
    let ((), took) = timed(async {
        room.discovery.leave().await;
        gate.sees(&[]).await;
    })
    .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_any_more_is_found_dead() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(etcd.address()).await;
    // Nothing but the connection's own pings can tell.
    let settings = [("endpoints", &*proxy.address()), ("syncserversinterval", "10m")];
    let node = Node::start("gate", "g1", &settings).await;
    proxy.hold();
    sleep(Duration::from_secs(10)).await;
    etcd.put("servers/room/r1", &json("room", "r1")).await;
    proxy.pass();
    let ((), took) = timed(node.sees(&["r1"])).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(proxy.connections() > 1);
}

#[tokio::test]
async fn a_watch_that_is_cut_misses_nothing() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(etcd.address()).await;
    let settings = [("endpoints", &*proxy.address()), ("syncserversinterval", "10m")];
    for id in ["r1", "r2"] {
        etcd.put(&format!("servers/room/{id}"), &json("room", id)).await;
    }
    let node = Node::start("gate", "g1", &settings).await;
    proxy.refuse();
    etcd.delete("servers/room/r1").await;
    etcd.put("servers/room/r3", &json("room", "r3")).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(node.knows(), ["r1", "r2"]);
    proxy.pass();
    node.sees(&["r2", "r3"]).await;

    // The same when etcd has forgotten what happened meanwhile.
    proxy.refuse();
    etcd.delete("servers/room/r2").await;
    etcd.put("servers/room/r4", &json("room", "r4")).await;
    etcd.put("other", "x").await;
    etcd.compact().await;
    proxy.pass();
    node.sees(&["r3", "r4"]).await;
    // And the watch goes on.
    etcd.put("servers/room/r5", &json("room", "r5")).await;
    node.sees(&["r3", "r4", "r5"]).await;
    for round in 0..5 {
        proxy.cut();
        etcd.put("servers/room/again", &json("room", "again")).await;
        node.sees(&["again", "r3", "r4", "r5"]).await;
        etcd.delete("servers/room/again").await;
        node.sees(&["r3", "r4", "r5"]).await;
        assert!(etcd.get("servers/gate/g1").await.is_some(), "round {round}");
    }
}

#[tokio::test]
async fn k12_what_the_watch_does_not_see_is_seen_by_a_comparison() {
    let etcd = Etcd::start().await;
    let calls = GrpcProxy::to(etcd.address()).await;
    let proxy = Proxy::to(calls.address()).await;
    etcd.put("servers/room/r1", &json("room", "r1")).await;
    let settings = [("endpoints", &*proxy.address()), ("syncserversinterval", "1s")];
    let node = Node::start("gate", "g1", &settings).await;
    calls.hold("Watch");
    proxy.cut();
    eventually("the watch waits", async || calls.calls("Watch").len() > 1).await;
    etcd.delete("servers/room/r1").await;
    etcd.put("servers/room/r2", &json("room", "r2")).await;
    let ((), took) = timed(node.sees(&["r2"])).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    calls.pass("Watch");
    etcd.delete("servers/room/r2").await;
    node.sees(&[]).await;
}

#[tokio::test]
async fn k15_a_comparison_reads_so_many_values_at_once() {
    let etcd = Etcd::start().await;
    let ids: Vec<_> = (0..500).map(|number| format!("r{number:03}")).collect();
    for (parallelism, id) in [(1, "g1"), (8, "g8")] {
        let calls = GrpcProxy::to(etcd.address()).await;
        let proxy = Proxy::to(calls.address()).await;
        let parallel = parallelism.to_string();
        let settings = [
            ("endpoints", &*proxy.address()),
            ("syncserversinterval", "1s"),
            ("syncserversparallelism", &parallel),
            ("prefix", id),
        ];
        let node = Node::start("gate", id, &settings).await;
        calls.hold("Watch");
        calls.delay("Range", Duration::from_millis(2));
        proxy.cut();
        for id in &ids {
            etcd.put(&format!("{}servers/room/{id}", settings[3].1), &json("room", id)).await;
        }
        eventually("all are known", async || node.knows().len() == ids.len()).await;
        assert_eq!(node.knows(), ids);
        assert_eq!(calls.most_at_once("Range"), parallelism);
    }
}
