//! What is special about WebSockets.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pitaya_client::{Client, CloseReason, Violation};
use pitaya_protocol::{Message, PacketError, PacketKind};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};

use crate::support::{WebPeer, data, end_of, packet, piped_web, soon, web};

/// Sends one WebSocket message to a client; returns why it ended.
async fn ended_by(message: tungstenite::Message) -> CloseReason {
    let (client, mut peer) = web(|url| Client::builder(url).max_packet(1000)).await;
    peer.socket.send(message).await.unwrap();
    let served = async { while peer.packet().await.is_some() {} };
    soon(async { tokio::join!(end_of(&client), served) }).await.0
}

/// Checks that a client lives: it asks, the server echoes.
async fn lives(client: &Client, peer: &mut WebPeer) {
    let server = async {
        let request = peer.message().await.unwrap();
        peer.send(data(&Message::response(request.id, request.body))).await;
    };
    let asked = client.request_bytes("still.there", "yes");
    let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
    assert_eq!(answer.unwrap(), "yes");
}

#[tokio::test]
async fn one_message_is_one_packet() {
    let two = [packet(PacketKind::Heartbeat, b""), packet(PacketKind::Heartbeat, b"")].concat();
    let reason = ended_by(tungstenite::Message::binary(two)).await;
    assert!(matches!(reason, CloseReason::Protocol(Violation::Packet(PacketError::TrailingBytes { extra: 4 }))));
    for part in [&b""[..], b"\x04\x00", b"\x04\x00\x00\x05ab"] {
        let reason = ended_by(tungstenite::Message::binary(part.to_vec())).await;
        assert!(matches!(reason, CloseReason::Protocol(Violation::Packet(PacketError::Truncated))));
    }
}

#[tokio::test]
async fn an_oversize_message_is_refused() {
    for message in [
        // Over the limit of the socket, and within it but over that of a packet by its header.
        tungstenite::Message::binary(vec![4; 100_000]),
        tungstenite::Message::binary(vec![4, 0xFF, 0xFF, 0xFF]),
    ] {
        let reason = ended_by(message).await;
        assert!(matches!(reason, CloseReason::Protocol(Violation::Packet(PacketError::TooLarge { .. }))), "{reason:?}");
    }
}

#[tokio::test]
async fn a_text_message_is_taken_as_bytes() {
    let (client, mut peer) = web(Client::builder).await;
    let mut pushes = client.pushes();
    let text = String::from_utf8(data(&Message::push("p", "hi"))).unwrap();
    peer.socket.send(text.into()).await.unwrap();
    assert_eq!(soon(pushes.next()).await.unwrap().body, "hi");
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn pings_are_answered_and_pongs_ignored() {
    let (client, mut peer) = web(Client::builder).await;
    for _ in 0..3 {
        let ping = tungstenite::Message::Ping(b"ping".to_vec().into());
        peer.socket.send(ping).await.unwrap();
        let pong = soon(peer.socket.next()).await;
        let Some(Ok(tungstenite::Message::Pong(body))) = pong else {
            panic!("{pong:?}");
        };
        assert_eq!(&body[..], b"ping");
    }
    let pong = tungstenite::Message::Pong(Vec::new().into());
    peer.socket.send(pong).await.unwrap();
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn a_close_frame_closes() {
    let frame = CloseFrame { code: CloseCode::Away, reason: "restart".into() };
    for frame in [None, Some(frame)] {
        let reason = ended_by(tungstenite::Message::Close(frame)).await;
        assert!(matches!(reason, CloseReason::ServerClosed), "{reason:?}");
    }
}

#[tokio::test]
async fn broken_framing_is_a_violation() {
    // A masked frame, an unknown opcode, a reserved bit, an endless ping, text that is not UTF-8.
    for bytes in [&b"\x82\x81\x00\x00\x00\x00x"[..], b"\x83\x00", b"\xf2\x00", b"\x89\x7e\x01\x00", b"\x81\x02\xff\xfe"]
    {
        let (client, mut peer) = web(Client::builder).await;
        peer.socket.get_mut().write_all(bytes).await.unwrap();
        let reason = end_of(&client).await;
        assert!(matches!(reason, CloseReason::Protocol(Violation::WebSocket(_))), "{bytes:?}: {reason:?}");
    }
}

#[tokio::test]
async fn a_close_of_the_socket_without_a_frame_closes() {
    let (client, peer) = web(Client::builder).await;
    drop(peer);
    assert!(matches!(end_of(&client).await, CloseReason::ServerClosed | CloseReason::Io(_)));
}

#[tokio::test]
async fn fragments_are_put_together_within_the_limit() {
    let (client, mut peer) = web(|url| Client::builder(url).max_packet(1000)).await;
    let mut pushes = client.pushes();
    let push = data(&Message::push("p", "in parts"));
    let (first, rest) = push.split_at(5);
    // Opcode binary without the final bit, a ping in between, a continuation with it.
    let mut frames = vec![0x02, first.len() as u8];
    frames.extend_from_slice(first);
    frames.extend_from_slice(b"\x89\x00\x80");
    frames.push(rest.len() as u8);
    frames.extend_from_slice(rest);
    peer.socket.get_mut().write_all(&frames).await.unwrap();
    assert_eq!(soon(pushes.next()).await.unwrap().body, "in parts");

    // Fragments without end, each of 100 bytes.
    let mut endless = vec![0x02, 100];
    endless.extend([4; 100]);
    for _ in 0..20 {
        endless.extend([0x00, 100]);
        endless.extend([4; 100]);
    }
    peer.socket.get_mut().write_all(&endless).await.unwrap();
    let reason = end_of(&client).await;
    assert!(matches!(reason, CloseReason::Protocol(Violation::Packet(PacketError::TooLarge { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_from_a_server_that_does_not_read_is_held_back() {
    let (client, mut socket) = piped_web().await;
    let mut ping = vec![0x89, 125];
    ping.extend([0; 125]);
    // Once the pipe is full of pongs the client stops reading, and the flood gets stuck instead of filling memory.
    let mut pings = 0;
    let write = async |socket: &mut WebSocketStream<DuplexStream>| {
        socket.get_mut().write_all(&ping).await.unwrap();
    };
    while tokio::time::timeout(Duration::from_millis(200), write(&mut socket)).await.is_ok() {
        pings += 1;
        assert!(pings < 1000, "pings are taken without end");
    }
    client.close();
    assert!(matches!(end_of(&client).await, CloseReason::ClientClosed));
}

#[tokio::test(start_paused = true)]
async fn pings_are_no_sign_of_life() {
    let (client, mut socket) = piped_web().await;
    let started = tokio::time::Instant::now();
    let pinging = async {
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let ping = tungstenite::Message::Ping(Vec::new().into());
            if socket.send(ping).await.is_err() {
                return;
            }
        }
    };
    let (reason, ()) = tokio::join!(client.closed(), pinging);
    assert!(matches!(reason, CloseReason::Silence));
    assert!(started.elapsed() < Duration::from_secs(120));
}
