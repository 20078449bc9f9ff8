//! Endpoints, fail-over, log-in and TLS.

use std::{sync::Arc, time::Duration};

use pitaya_core::cluster::Discovery as _;
use pitaya_etcd::EtcdDiscovery;
use pitaya_fixtures::{Certificates, Etcd, Proxy};
use tokio::net::TcpListener;

use crate::support::{Log, Node, config, eventually, json, timed};

/// An address that refuses connections.
async fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn k01_an_address_that_accepts_and_never_answers_is_an_error_in_time() {
    let black_hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = black_hole.local_addr().unwrap().to_string();
    let node = Node::new("gate", "g1", config(&[("endpoints", &address), ("dialtimeout", "500ms")]));
    let (result, took) = timed(node.up()).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("no etcd can be reached") && error.contains(&address) && error.contains("500ms"), "{error}");
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");

    let node = Node::new("gate", "g1", config(&[("endpoints", &closed().await)]));
    let error = node.up().await.unwrap_err().to_string();
    assert!(error.contains("no etcd can be reached") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn k02_dead_endpoints_are_passed_over() {
    let etcd = Etcd::start().await;
    let black_hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = [closed().await, black_hole.local_addr().unwrap().to_string()];
    for endpoints in [
        format!("{},{}", dead[0], etcd.address()),
        format!("http://{}, http://{}", dead[1], etcd.address()),
        format!("{},{},{}", etcd.address(), dead[0], dead[1]),
    ] {
        let node = Node::start("gate", "g1", &[("endpoints", &endpoints), ("dialtimeout", "2s")]).await;
        assert!(etcd.get("servers/gate/g1").await.is_some(), "{endpoints}");
        node.discovery.leave().await;
    }
}

#[tokio::test]
async fn the_next_member_takes_over_when_one_dies_or_freezes() {
    let mut members = Etcd::cluster::<3>().await;
    let addresses = members.each_ref().map(Etcd::address);
    let mut proxies = Vec::new();
    for address in &addresses {
        proxies.push(Proxy::to(address.clone()).await);
    }
    let endpoints = proxies.iter().map(Proxy::address).collect::<Vec<_>>().join(",");
    for member in &members {
        member.put("other", "they have found a leader").await;
    }
    let settings = [("endpoints", &*endpoints), ("heartbeatinterval", "6s")];
    let node = Node::start("gate", "g1", &settings).await;
    let lease = members[0].lease("servers/gate/g1").await;
    assert!(lease.is_some());
    assert_eq!(proxies.iter().map(Proxy::connections).collect::<Vec<_>>(), [1, 0, 0], "one member is used");

    // A member whose connection still stands and which says nothing.
    proxies[0].hold();
    eventually("the next member is used", async || proxies[1].connections() > 0).await;
    members[2].put("servers/room/r1", &json("room", "r1")).await;
    node.sees(&["r1"]).await;

    // A member that dies.
    proxies[0].pass();
    members[1].kill().await;
    eventually("the last member is used", async || proxies[2].connections() > 0).await;
    members[2].put("servers/room/r2", &json("room", "r2")).await;
    node.sees(&["r1", "r2"]).await;
    assert_eq!(members[2].lease("servers/gate/g1").await, lease, "the lease has lived through all this");
}

#[tokio::test]
async fn k03_k04_users_log_in_and_nobody_else_gets_in() {
    let (log, _guard) = Log::keep();
    let mut etcd = Etcd::start().await;
    etcd.enable_users("ada", "hunter2hunter2", "game/").await;
    let (address, password) = (etcd.address(), "hunter2hunter2");
    let with = |user: &str, pass: &str| {
        config(&[("endpoints", &address), ("prefix", "game/"), ("user", user), ("pass", pass)])
    };
    let node = Node::new("gate", "g1", with("ada", password));
    node.up().await.unwrap();
    assert_eq!(etcd.keys("game/").await, ["game/servers/gate/g1"]);
    for (user, pass) in [("ada", "wrongwrongwrong"), ("bob", password), ("", ""), ("ada", ""), ("", password)] {
        let node = Node::new("gate", "g2", with(user, pass));
        let error = node.up().await.unwrap_err();
        let text = format!("{error} {error:?} {:?}", node.discovery);
        assert!(text.contains("pitaya.cluster.sd.etcd.user"), "{user} {pass}: {text}");
        assert!(!text.contains(password) && !text.contains("wrongwrongwrong"), "{text}");
    }
    // A user who has no right to these keys.
    let node = Node::new("gate", "g3", config(&[("endpoints", &address), ("user", "ada"), ("pass", password)]));
    assert!(node.up().await.unwrap_err().to_string().contains("permission denied"));
    let text = log.text();
    assert!(!text.contains(password) && !text.contains("wrongwrongwrong"), "a password is in the log");
}

/// As much as a server of Go needs: nothing but the keys of servers.
#[tokio::test]
async fn a_user_with_the_keys_of_servers_only_is_enough() {
    let mut etcd = Etcd::start().await;
    etcd.enable_users("ada", "secret", "game/servers/").await;
    let settings = [("endpoints", &*etcd.address()), ("prefix", "game/"), ("user", "ada"), ("pass", "secret")];
    let node = Node::start("gate", "g1", &settings).await;
    assert!(etcd.get("game/servers/gate/g1").await.is_some());
    let other = Node::start("room", "r1", &settings).await;
    node.sees(&["r1"]).await;
    other.discovery.leave().await;
    node.sees(&[]).await;
}

#[tokio::test]
async fn a_log_in_that_expires_is_renewed() {
    let mut etcd = Etcd::start_with(&["--auth-token-ttl=1"]).await;
    etcd.enable_users("ada", "secret", "game/").await;
    let proxy = Proxy::to(etcd.address()).await;
    let settings = [
        ("endpoints", &*proxy.address()),
        ("prefix", "game/"),
        ("user", "ada"),
        ("pass", "secret"),
        ("heartbeatinterval", "30s"),
        ("syncserversinterval", "3s"),
    ];
    let node = Node::start("gate", "g1", &settings).await;
    // Nothing happens until the token is no longer good; the comparison that follows needs a new one.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let other = Node::start("room", "r1", &settings).await;
    node.sees(&["r1"]).await;
    // The same for a key that is written, and for a watch that is made anew.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    etcd.delete("game/servers/gate/g1").await;
    eventually("the key is back", async || etcd.get("game/servers/gate/g1").await.is_some()).await;
    other.sees(&["g1"]).await;
    assert_eq!(proxy.connections(), 2, "one each: a new log-in needs no new connection");
    proxy.cut();
    other.discovery.leave().await;
    node.sees(&[]).await;
}

#[tokio::test]
async fn a_log_in_that_etcd_does_not_need_does_no_harm() {
    let etcd = Etcd::start().await;
    let settings = [("endpoints", &*etcd.address()), ("user", "ada"), ("pass", "secret")];
    let _node = Node::start("gate", "g1", &settings).await;
    assert!(etcd.get("servers/gate/g1").await.is_some());
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_the_own_certificate() {
    let certificates = Arc::new(Certificates::new());
    let etcd = Etcd::start_tls(&certificates).await;
    let endpoint = format!("https://{}", etcd.address());
    let (ca, cert, key) = (certificates.authority(), certificates.client_certificate(), certificates.client_key());
    let all = [("endpoints", &*endpoint), ("tls.ca", &ca), ("tls.cert", &cert), ("tls.key", &key)];
    let node = Node::start("gate", "g1", &all).await;
    let other = Node::start("room", "r1", &all).await;
    node.sees(&["r1"]).await;
    assert_eq!(other.knows(), ["g1"]);

    let others = Certificates::new();
    let foreign = others.authority();
    let stranger = [("endpoints", &*endpoint), ("tls.ca", &foreign), ("tls.cert", &cert), ("tls.key", &key)];
    for settings in [&stranger[..], &all[..2], &[("endpoints", &*etcd.address())]] {
        let node = Node::new("gate", "g2", config(settings));
        assert!(node.up().await.is_err(), "{settings:?}");
    }
}

#[tokio::test]
async fn what_is_no_endpoint_is_an_error_that_names_the_key() {
    for (settings, part) in [
        (&[("endpoints", "ftp://localhost")][..], "sd.etcd.endpoints: ftp://localhost"),
        (&[("endpoints", "local host")], "sd.etcd.endpoints: local host"),
        (&[("endpoints", "http://ada:hunter2@localhost")], "sd.etcd.endpoints: user and password"),
        (&[("tls.ca", "/nowhere/ca.pem")], "sd.etcd.tls.ca = /nowhere/ca.pem"),
        (&[("tls.key", "/nowhere/key.pem")], "sd.etcd.tls.key = /nowhere/key.pem"),
    ] {
        let error = EtcdDiscovery::new(&config(settings)).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}
