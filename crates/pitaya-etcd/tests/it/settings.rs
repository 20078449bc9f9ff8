//! Names and defaults of the settings, and the effects that are not about connections and leases.

use std::time::Duration;

use pitaya_core::{
    cluster::Discovery as _,
    config::{Preset, Table, Value as _},
};
use pitaya_etcd::{EtcdDiscovery, settings};
use pitaya_fixtures::Etcd;

use crate::support::{KEY, Node, config, preset, problems};

#[test]
fn every_spelling_is_known_and_every_preset_has_its_defaults() {
    let table = Table::new(settings::rows());
    // The key of the documentation; the other spellings; the defaults: ours, docs-2020, go-v2, go-v3.
    let rows: [(&str, &[&str], [&str; 4]); 15] = [
        ("dialtimeout", &[], ["5s"; 4]),
        ("endpoints", &[], ["localhost:2379"; 4]),
        ("user", &[], [""; 4]),
        ("pass", &[], [""; 4]),
        ("heartbeatinterval", &["heartbeat.ttl"], ["60s"; 4]),
        ("grantlease.timeout", &[], ["none", "60s", "60s", "60s"]),
        ("grantlease.maxretries", &[], ["none", "5", "15", "15"]),
        ("grantlease.retryinterval", &[], ["5s"; 4]),
        ("revoke.timeout", &[], ["60s", "60s", "5s", "5s"]),
        ("heartbeatlog", &["heartbeat.log"], ["false"; 4]),
        ("prefix", &[], ["", "", "pitaya/", "pitaya/"]),
        ("syncserversinterval", &["syncservers.interval"], ["10s", "10s", "120s", "120s"]),
        ("shutdowndelay", &["shutdown.delay"], ["10s", "10s", "300ms", "300ms"]),
        ("servertypesblacklist", &["servertypeblacklist"], [""; 4]),
        ("syncserversparallelism", &["syncservers.parallelism"], ["1", "1", "10", "10"]),
    ];
    for (name, aliases, defaults) in rows {
        let row = table.find(&format!("{KEY}{name}")).unwrap();
        assert_eq!(row.name(), format!("{KEY}{name}"));
        for alias in aliases {
            assert_eq!(table.find(&format!("{KEY}{alias}")).unwrap().name(), row.name());
        }
        let presets = [None, Some(Preset::Docs2020), Some(Preset::GoV2), Some(Preset::GoV3)];
        // A duration can be written in several ways.
        let same = |text: &str| Duration::parse(text).map_or_else(|| text.to_owned(), |duration| duration.show());
        assert_eq!(presets.map(|preset| same(&row.default_text(preset))), defaults.map(same), "{name}");
    }
    assert_eq!(table.rows().len(), rows.len() + 4, "and three for TLS, and the preset");
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    for (name, value) in [
        ("dialtimeout", "0"),
        ("endpoints", ""),
        ("heartbeatinterval", "900ms"),
        ("grantlease.timeout", "0s"),
        ("grantlease.maxretries", "0"),
        ("grantlease.retryinterval", "0"),
        ("syncserversinterval", "0"),
        ("syncserversparallelism", "0"),
        ("servertypesblacklist", "room, a/b"),
        ("endpoints", "a:1,,b:1"),
    ] {
        let problems = problems(name, value);
        assert_eq!(problems.len(), 1, "{name}");
        assert!(problems[0].to_string().contains(name), "{problems:?}");
    }
}

#[tokio::test]
async fn k11_servers_of_different_prefixes_do_not_see_each_other() {
    let etcd = Etcd::start().await;
    let mut nodes = Vec::new();
    for (prefix, id) in [("", "n1"), ("a/", "a1"), ("a/", "a2"), ("a/b/", "b1")] {
        nodes.push(Node::start("gate", id, &[("endpoints", &etcd.address()), ("prefix", prefix)]).await);
    }
    let mut keys = etcd.keys("a/").await;
    keys.extend(etcd.keys("s").await);
    assert_eq!(keys, ["a/b/servers/gate/b1", "a/servers/gate/a1", "a/servers/gate/a2", "servers/gate/n1"]);
    nodes[1].sees(&["a2"]).await;
    assert_eq!(
        nodes.iter().map(Node::knows).collect::<Vec<_>>(),
        [&[][..], &["a2".to_owned()], &["a1".to_owned()], &[]]
    );
}

#[tokio::test]
async fn k13_a_delay_at_the_end_is_only_for_those_who_know_others() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [("endpoints", &*address), ("shutdowndelay", "700ms")];
    assert_eq!(EtcdDiscovery::new(&config(&settings)).unwrap().spreading(), Duration::ZERO);
    let node = Node::start("gate", "g1", &settings).await;
    assert_eq!(node.discovery.spreading(), Duration::ZERO);
    let other = Node::new("room", "r1", preset(Preset::GoV3, &[("endpoints", &address), ("prefix", "")]));
    other.up().await.unwrap();
    node.sees(&["r1"]).await;
    assert_eq!(node.discovery.spreading(), Duration::from_millis(700));
    assert_eq!(other.discovery.spreading(), Duration::from_millis(300));
    // It still knows the others after it has left.
    node.discovery.leave().await;
    assert_eq!(node.discovery.spreading(), Duration::from_millis(700));
}

#[tokio::test]
async fn k14_servers_of_unwanted_types_are_not_known() {
    let etcd = Etcd::start().await;
    let address = etcd.address();
    let settings = [("endpoints", &*address), ("servertypesblacklist", "b, gate"), ("syncserversinterval", "100ms")];
    let before = Node::start("b", "b1", &settings[..1]).await;
    let node = Node::start("gate", "g1", &settings).await;
    let after = Node::start("b", "b2", &settings[..1]).await;
    let wanted = Node::start("room", "r1", &settings[..1]).await;
    node.sees(&["r1"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let list = node.context.servers.now();
    assert!(list.of_kind("b").is_empty() && list.get(&"b1".try_into().unwrap()).is_none());
    // It knows itself, and the others know it.
    assert_eq!(list.of_kind("gate").len(), 1);
    for other in [&before, &after] {
        assert!(other.knows().contains(&"g1".to_owned()));
    }
    assert_eq!(wanted.knows(), ["b1", "b2", "g1"]);
}
