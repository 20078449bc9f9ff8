//! The servers start, die, come back and freeze; the proxy passes, holds, cuts and refuses.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use pitaya_fixtures::{Etcd, Nats, PATIENCE, Proxy};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// The connection of a NATS client, in its text protocol.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: &str) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        assert!(client.line().await.unwrap().starts_with("INFO "));
        client
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap();
        read.is_ok_and(|read| read > 0).then_some(line)
    }

    /// Whether a ping is answered in a moment.
    async fn ping(&mut self) -> bool {
        self.0.write_all(b"PING\r\n").await.unwrap();
        let mut line = String::new();
        timeout(Duration::from_millis(300), self.0.read_line(&mut line)).await.is_ok_and(|_| line == "PONG\r\n")
    }
}

#[tokio::test]
async fn a_nats_server_dies_comes_back_and_freezes() {
    let mut nats = Nats::start().await;
    let other = Nats::start().await;
    assert_ne!(nats.url(), other.url());
    let mut client = Client::connect(&nats.address()).await;
    assert!(client.ping().await);
    nats.freeze().await;
    assert!(!client.ping().await);
    nats.thaw().await;
    assert_eq!(client.line().await.unwrap(), "PONG\r\n");
    nats.kill().await;
    assert_eq!(client.line().await, None);
    assert!(TcpStream::connect(nats.address()).await.is_err());
    nats.restart().await;
    assert!(Client::connect(&nats.address()).await.ping().await);
}

#[tokio::test]
async fn two_nats_servers_are_a_cluster_and_one_of_them_asks_its_clients_to_leave() {
    let [one, two] = Nats::pair().await;
    let (mut lame, mut other) = (Client::connect(&one.address()).await, Client::connect(&two.address()).await);
    lame.0.write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\n").await.unwrap();
    assert!(lame.ping().await && other.ping().await);
    one.lame_duck().await;
    while !lame.line().await.unwrap().contains("\"ldm\":true") {}
    assert!(TcpStream::connect(one.address()).await.is_err());
    assert!(other.ping().await);
}

#[tokio::test]
async fn an_etcd_dies_and_comes_back() {
    let mut etcd = Etcd::start().await;
    TcpStream::connect(etcd.address()).await.unwrap();
    etcd.kill().await;
    assert!(TcpStream::connect(etcd.address()).await.is_err());
    etcd.restart_empty().await;
    TcpStream::connect(etcd.address()).await.unwrap();
}

#[tokio::test]
async fn a_proxy_passes_holds_cuts_and_refuses() {
    let nats = Nats::start().await;
    let proxy = Proxy::to(nats.address()).await;
    let mut client = Client::connect(&proxy.address()).await;
    assert!(client.ping().await);
    proxy.hold();
    assert!(!client.ping().await);
    proxy.pass();
    assert_eq!(client.line().await.unwrap(), "PONG\r\n");
    proxy.cut();
    assert_eq!(client.line().await, None);
    assert!(Client::connect(&proxy.address()).await.ping().await);
    proxy.refuse();
    let mut refused = Client(BufReader::new(TcpStream::connect(proxy.address()).await.unwrap()));
    assert_eq!(refused.line().await, None);
    assert_eq!(proxy.connections(), 3);
    while proxy.open_connections() > 0 {
        tokio::task::yield_now().await;
    }
}
