//! Replacing a broken connection.

use std::time::Duration;

use pitaya_client::{Client, CloseReason, ConnectError, Reconnect, RequestError, State};
use pitaya_protocol::{Message, PacketKind};
use tokio::net::TcpListener;

use crate::support::{ACCEPTED, accept, data, end_of, handshake, listen, no_tasks_left, packet, soon};

fn quickly(attempts: Option<u32>) -> Reconnect {
    Reconnect { initial: Duration::from_millis(20), max: Duration::from_millis(100), attempts }
}

async fn connected(
    listener: &TcpListener,
    address: &str,
    reconnect: Reconnect,
) -> (Client, crate::support::Peer<tokio::net::TcpStream>) {
    let server = async {
        let mut peer = accept(listener).await;
        peer.welcome(ACCEPTED).await;
        peer
    };
    let client = Client::builder(address).reconnect(reconnect).connect();
    let (client, peer) = soon(async { tokio::join!(client, server) }).await;
    (client.unwrap(), peer)
}

#[tokio::test]
async fn a_broken_connection_is_replaced_and_ids_go_on() {
    let (listener, address) = listen().await;
    let (client, mut peer) = connected(&listener, &address, quickly(None)).await;
    let mut states = client.states();
    let mut pushes = client.pushes();
    let request = client.request_bytes("a.b", "lost");
    let server = async {
        assert_eq!(peer.message().await.unwrap().id, 1);
        drop(peer);
    };
    let (answer, ()) = soon(async { tokio::join!(request, server) }).await;
    assert!(matches!(answer, Err(RequestError::Closed(_))));
    assert!(matches!(soon(states.next()).await, Some(State::Reconnecting { attempt: 1 })));
    let meanwhile = client.request_bytes("a.b", "").await;
    assert!(matches!(meanwhile, Err(RequestError::Reconnecting)));
    let meanwhile = client.notify_bytes("a.b", "").await;
    assert!(matches!(meanwhile, Err(RequestError::Reconnecting)));

    let server = async {
        let mut peer = accept(&listener).await;
        // The new connection has a dictionary and an interval of its own.
        let json = ACCEPTED.replace("{}", r#"{"a.b":9}"#).replace("30", "40");
        peer.welcome(&json).await;
        let request = peer.packet().await.unwrap();
        assert_eq!(request.body, &b"\x01\x02\x00\x09x"[..]);
        peer.send(&data(&Message::push("p", "again"))).await;
        peer.send(&data(&Message::response(2, "y"))).await;
        peer
    };
    let again = async {
        client.connected().await.unwrap();
        client.request_bytes("a.b", "x").await.unwrap()
    };
    let (_peer, answer) = soon(async { tokio::join!(server, again) }).await;
    assert_eq!(answer, "y");
    assert_eq!(client.handshake().heartbeat, Some(Duration::from_secs(40)));
    assert_eq!(pushes.try_next().unwrap().body, "again");
    assert!(matches!(client.state(), State::Connected));
}

#[tokio::test]
async fn attempts_are_bounded() {
    let (listener, address) = listen().await;
    let (client, peer) = connected(&listener, &address, quickly(Some(3))).await;
    drop((listener, peer));
    let reason = end_of(&client).await;
    let CloseReason::ReconnectFailed { attempts: 3, last: Some(last) } = reason else {
        panic!("{reason:?}");
    };
    assert!(matches!(*last, ConnectError::Io(_)));
    no_tasks_left().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_breaks_at_once_uses_up_the_attempts() {
    let (listener, address) = listen().await;
    let reconnect = Reconnect { max: Duration::from_secs(20), ..quickly(Some(3)) };
    let (client, peer) = connected(&listener, &address, reconnect).await;
    drop(peer);
    let server = async {
        for _ in 0..3 {
            accept(&listener).await.welcome(ACCEPTED).await;
        }
    };
    let ((), reason) = soon(async { tokio::join!(server, client.closed()) }).await;
    assert!(matches!(reason, CloseReason::ReconnectFailed { attempts: 3, .. }));
}

#[tokio::test]
async fn there_is_no_reconnect_after_a_kick() {
    let (listener, address) = listen().await;
    let (client, mut peer) = connected(&listener, &address, quickly(None)).await;
    peer.send(&packet(PacketKind::Kick, b"")).await;
    assert!(matches!(end_of(&client).await, CloseReason::Kicked));
    no_tasks_left().await;

    // Nor after one that comes while the hands are shaken.
    let (client, peer) = connected(&listener, &address, quickly(None)).await;
    drop(peer);
    let server = async {
        let mut peer = accept(&listener).await;
        peer.packet().await;
        peer.send(&packet(PacketKind::Kick, b"")).await;
        peer
    };
    let (_peer, reason) = soon(async { tokio::join!(server, client.closed()) }).await;
    assert!(matches!(reason, CloseReason::Kicked));
}

#[tokio::test]
async fn a_refused_handshake_ends_the_attempts() {
    let (listener, address) = listen().await;
    let (client, peer) = connected(&listener, &address, quickly(None)).await;
    drop(peer);
    let server = async {
        let mut peer = accept(&listener).await;
        peer.packet().await;
        peer.send(&handshake(&ACCEPTED.replace("200", "400"))).await;
        peer
    };
    let (_peer, reason) = soon(async { tokio::join!(server, client.closed()) }).await;
    let CloseReason::ReconnectFailed { last: Some(last), .. } = reason else {
        panic!("{reason:?}");
    };
    assert!(matches!(*last, ConnectError::Refused { code: 400, .. }));
}

#[tokio::test]
async fn close_and_drop_end_the_attempts() {
    let slowly = Reconnect { initial: Duration::from_secs(1000), ..Reconnect::default() };
    let slowly = Reconnect { max: Duration::from_secs(1000), ..slowly };
    let (listener, address) = listen().await;
    for drop_it in [false, true] {
        let (client, peer) = connected(&listener, &address, slowly).await;
        let mut states = client.states();
        drop(peer);
        soon(states.next()).await.unwrap();
        if drop_it {
            drop(client);
        } else {
            client.close();
            assert!(matches!(end_of(&client).await, CloseReason::ClientClosed));
        }
        no_tasks_left().await;
    }
}

#[tokio::test]
async fn without_the_option_the_client_ends_with_its_connection() {
    let (listener, address) = listen().await;
    let server = async {
        let mut peer = accept(&listener).await;
        peer.welcome(ACCEPTED).await;
    };
    let (client, ()) = soon(async { tokio::join!(Client::connect(&address), server) }).await;
    assert!(matches!(end_of(&client.unwrap()).await, CloseReason::ServerClosed | CloseReason::Io(_)));
}
