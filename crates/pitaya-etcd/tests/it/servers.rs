//! What etcd holds, and what servers see of each other.

use std::time::Duration;

use pitaya_core::{ServerInfo, cluster::Discovery as _};
use pitaya_fixtures::Etcd;

use crate::support::{Log, Node, info, json, timed};

#[tokio::test]
async fn servers_see_each_other_come_and_leave() {
    let etcd = Etcd::start().await;
    let settings = [("endpoints", &*etcd.address())];
    let gate = Node::start("gate", "g1", &settings).await;
    assert_eq!(gate.knows(), [""; 0]);
    let room = Node::start("room", "r1", &settings).await;
    // The list is full when the start has ended.
    assert_eq!(room.knows(), ["g1"]);
    let ((), seen) = timed(gate.sees(&["r1"])).await;
    assert!(seen < Duration::from_secs(1), "{seen:?}");
    let list = gate.context.servers.now();
    assert_eq!(list.of_kind("room").len(), 1);
    assert_eq!(list.get(&"r1".try_into().unwrap()), Some(room.context.me()));
    assert_eq!(list.len(), 2);

    room.discovery.leave().await;
    let ((), seen) = timed(gate.sees(&[])).await;
    assert!(seen < Duration::from_secs(1), "{seen:?}");
    assert_eq!(etcd.get("servers/room/r1").await, None);
    assert!(room.context.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn the_key_and_the_value_are_those_of_go() {
    let etcd = Etcd::start().await;
    let mut me = ServerInfo::frontend("connector").unwrap();
    me.id = "f1".try_into().unwrap();
    me.hostname = "vm".to_owned();
    me.metadata.insert("region".to_owned(), "eu".to_owned());
    me.metadata.insert("grpcPort".to_owned(), "3434".to_owned());
    let config = crate::support::config(&[("endpoints", &etcd.address()), ("prefix", "pitaya/")]);
    let node = Node::with_info(me, config);
    node.up().await.unwrap();
    assert_eq!(etcd.keys("p").await, ["pitaya/servers/connector/f1"]);
    assert_eq!(
        etcd.get("pitaya/servers/connector/f1").await.unwrap(),
        r#"{"id":"f1","type":"connector","metadata":{"grpcPort":"3434","region":"eu"},"frontend":true,"hostname":"vm"}"#
    );

    // What a Go server writes is seen as it is.
    let go = r#"{"id":"b2","type":"room","metadata":null,"frontend":false,"hostname":"vm"}"#;
    etcd.put("pitaya/servers/room/b2", go).await;
    node.sees(&["b2"]).await;
    let list = node.context.servers.now();
    let seen = list.get(&"b2".try_into().unwrap()).unwrap();
    assert_eq!((seen.kind.as_str(), seen.hostname.as_str(), seen.frontend), ("room", "vm", false));
    assert!(seen.metadata.is_empty());
}

#[tokio::test]
async fn a_server_that_changes_is_seen_changed() {
    let etcd = Etcd::start().await;
    etcd.put("servers/room/r1", &json("room", "r1")).await;
    let node = Node::start("gate", "g1", &[("endpoints", &etcd.address())]).await;
    assert_eq!(node.knows(), ["r1"]);
    let mut changes = node.context.servers.watch();
    let mut changed = info("room", "r1");
    changed.metadata.insert("version".to_owned(), "2".to_owned());
    etcd.put("servers/room/r1", &changed.to_json()).await;
    timed(changes.wait_for(|list| **list.get(&"r1".try_into().unwrap()).unwrap() == changed)).await.0.unwrap();

    // It comes back as another type; the end of its old key is not its end.
    etcd.put("servers/hall/r1", &json("hall", "r1")).await;
    timed(changes.wait_for(|list| !list.of_kind("hall").is_empty())).await.0.unwrap();
    etcd.delete("servers/room/r1").await;
    etcd.put("servers/room/r2", &json("room", "r2")).await;
    node.sees(&["r1", "r2"]).await;
    etcd.delete("servers/hall/r1").await;
    node.sees(&["r2"]).await;
}

#[tokio::test]
async fn what_is_no_server_is_left_out_and_logged_once() {
    let (log, _guard) = Log::keep();
    let etcd = Etcd::start().await;
    let bad = [
        ("servers/room/null", "null".to_owned()),
        ("servers/room/garbage", "\u{0}{".to_owned()),
        ("servers/room/other", json("room", "another")),
        ("servers/hall/type", json("room", "type")),
        ("servers/a.b/type", r#"{"id":"type","type":"a.b"}"#.to_owned()),
        ("servers/room/a/b", r#"{"id":"a/b","type":"room"}"#.to_owned()),
        ("servers/room/a b", r#"{"id":"a b","type":"room"}"#.to_owned()),
        ("servers/short", "{}".to_owned()),
        ("servers/", "{}".to_owned()),
    ];
    for (key, value) in &bad {
        etcd.put(key, value).await;
    }
    etcd.put("serverz", "not ours").await;
    let node = Node::start("gate", "g1", &[("endpoints", &etcd.address()), ("syncserversinterval", "100ms")]).await;
    assert_eq!(node.knows(), [""; 0]);
    // They come through the watch, too, and some comparisons pass.
    etcd.put("servers/room/later", "null").await;
    etcd.put("servers/room/r1", &json("room", "r1")).await;
    node.sees(&["r1"]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (key, _) in &bad {
        let lines = log.lines(&["WARN", &format!("key=\"{key}\"")]);
        assert_eq!(lines.len(), 1, "{key}: {lines:?}");
    }
    assert_eq!(log.lines(&["WARN", "servers/room/later"]).len(), 1);
    assert_eq!(log.lines(&["serverz"]).len(), 0);

    // A new revision is looked at, and logged, again.
    etcd.put("servers/room/later", "[]").await;
    etcd.put("servers/room/null", &json("room", "null")).await;
    node.sees(&["null", "r1"]).await;
    assert_eq!(log.lines(&["WARN", "servers/room/later"]).len(), 2);
    // A known server whose value is spoilt stays; one that is gone is gone.
    etcd.put("servers/room/r1", "null").await;
    etcd.delete("servers/room/null").await;
    node.sees(&["r1"]).await;
    etcd.delete("servers/room/r1").await;
    node.sees(&[]).await;
}

#[tokio::test]
async fn five_hundred_servers_are_read_at_once() {
    let etcd = Etcd::start().await;
    for number in 0..500 {
        etcd.put(&format!("servers/room/r{number:03}"), &json("room", &format!("r{number:03}"))).await;
    }
    let node = Node::new("gate", "g1", crate::support::config(&[("endpoints", &etcd.address())]));
    node.up().await.unwrap();
    assert_eq!(node.knows().len(), 500);
    assert_eq!(node.context.servers.now().of_kind("room").len(), 500);
}

#[tokio::test]
async fn the_own_key_is_written_again_when_somebody_deletes_it() {
    let etcd = Etcd::start().await;
    let settings = [("endpoints", &*etcd.address())];
    let node = Node::start("gate", "g1", &settings).await;
    let other = Node::start("room", "r1", &settings).await;
    let lease = etcd.lease("servers/gate/g1").await;
    etcd.delete("servers/gate/g1").await;
    crate::support::eventually("the key is back", async || etcd.get("servers/gate/g1").await.is_some()).await;
    assert_eq!(etcd.lease("servers/gate/g1").await, lease);
    other.sees(&["g1"]).await;
    node.discovery.leave().await;
    other.sees(&[]).await;
    assert_eq!(etcd.get("servers/gate/g1").await, None);
}
