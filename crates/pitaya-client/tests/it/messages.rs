//! Servers that misbehave once the connection works.

use std::time::Duration;

use pitaya_client::{Client, CloseReason, RequestError, Violation};
use pitaya_protocol::{Compression, InflateError, Message, MessageError, PacketError, PacketKind};
use tokio::io::DuplexStream;

use crate::support::{ACCEPTED, Peer, builder, data, end_of, packet, piped, soon};

/// Sends bytes to a client with a request in flight; returns why both ended.
async fn ended_by(bytes: &[u8]) -> CloseReason {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let request = client.request_bytes("a.b", "");
    let server = async {
        peer.message().await.unwrap();
        peer.send(bytes).await;
        assert_eq!(peer.packet().await, None);
    };
    let (answer, ()) = soon(async { tokio::join!(request, server) }).await;
    assert!(matches!(answer, Err(RequestError::Closed(_))), "{answer:?}");
    end_of(&client).await
}

/// Checks that a client lives: it asks, the server echoes.
async fn lives(client: &Client, peer: &mut Peer<DuplexStream>) {
    let server = async {
        let request = peer.message().await.unwrap();
        peer.send(&data(&Message::response(request.id, request.body))).await;
    };
    let asked = client.request_bytes("still.there", "yes");
    let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
    assert_eq!(answer.unwrap(), "yes");
}

#[tokio::test]
async fn an_undecodable_message_closes_with_a_reason() {
    for message in [
        &b""[..],
        b"\x04",
        // An id that does not end, one over 64 bits, routes past the end, unknown kinds.
        b"\x04\x80",
        b"\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x06\x05ab",
        b"\x07\x01",
        b"\x06\x02\xff\xfe",
        b"\x08\x00",
        b"\x0e\x00",
    ] {
        let reason = ended_by(&packet(PacketKind::Data, message)).await;
        assert!(
            matches!(
                reason,
                CloseReason::Protocol(Violation::Message(MessageError::Invalid(_) | MessageError::UnknownKind(_)))
            ),
            "{message:?}: {reason:?}"
        );
    }
}

#[tokio::test]
async fn a_push_on_an_unknown_code_closes_with_a_reason() {
    let reason = ended_by(&packet(PacketKind::Data, b"\x07\x01\x02{}")).await;
    assert!(matches!(reason, CloseReason::Protocol(Violation::Message(MessageError::UnknownRouteCode(0x102)))));
}

#[tokio::test]
async fn an_unknown_packet_type_closes_with_a_reason() {
    for kind in [0, 6, 0xFF] {
        let reason = ended_by(&[kind, 0, 0, 0]).await;
        assert!(matches!(reason, CloseReason::Protocol(Violation::Packet(PacketError::UnknownKind(_)))));
    }
}

#[tokio::test]
async fn an_oversize_packet_is_refused_by_its_header() {
    let (client, mut peer) = piped(builder().max_packet(1000), ACCEPTED).await;
    let fits = Message::push("p", vec![b'x'; 1000 - 3]);
    let mut pushes = client.pushes();
    peer.send(&data(&fits)).await;
    assert_eq!(soon(pushes.next()).await.unwrap().body.len(), 997);
    peer.send(&[4, 0, 0x03, 0xE9]).await;
    assert!(matches!(
        end_of(&client).await,
        CloseReason::Protocol(Violation::Packet(PacketError::TooLarge { len: 1001, limit: 1000 }))
    ));
}

#[tokio::test]
async fn a_body_bomb_and_broken_zlib_close_with_a_reason() {
    let bomb = Compression::Above { threshold: 0 }.apply(&vec![0; 20 * 1024 * 1024]).unwrap();
    let bomb = [b"\x14\x01", &bomb[..]].concat();
    let reason = ended_by(&packet(PacketKind::Data, &bomb)).await;
    assert!(matches!(
        reason,
        CloseReason::Protocol(Violation::Message(MessageError::Inflate(InflateError::TooLarge { .. })))
    ));
    for body in [&b"\x14\x01"[..], b"\x14\x01\x78\x9cxxxxxxxx", b"\x14\x01\x1f\x8b\x08"] {
        let reason = ended_by(&packet(PacketKind::Data, body)).await;
        assert!(matches!(reason, CloseReason::Protocol(Violation::Message(MessageError::Inflate(_)))));
    }
}

#[tokio::test]
async fn a_close_inside_a_packet_is_a_truncated_packet() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    peer.send(&[4, 0, 0, 9, 1]).await;
    drop(peer);
    assert!(matches!(end_of(&client).await, CloseReason::Protocol(Violation::Packet(PacketError::Truncated))));
}

#[tokio::test]
async fn a_close_between_packets_fails_what_is_in_flight() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let request = client.request_bytes("a.b", "");
    let server = async {
        peer.message().await.unwrap();
        drop(peer);
    };
    let (answer, ()) = soon(async { tokio::join!(request, server) }).await;
    assert!(matches!(answer, Err(RequestError::Closed(CloseReason::ServerClosed))));
    let later = soon(client.request_bytes("a.b", "")).await;
    assert!(matches!(later, Err(RequestError::Closed(CloseReason::ServerClosed))));
    let later = soon(client.notify_bytes("a.b", "")).await;
    assert!(matches!(later, Err(RequestError::Closed(_))));
}

#[tokio::test]
async fn a_response_for_an_unknown_id_is_ignored() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    for id in [0, 77, u64::MAX] {
        peer.send(&data(&Message::response(id, "?"))).await;
        peer.send(&data(&Message::error_response(id, "?"))).await;
    }
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn a_second_response_to_the_same_id_is_ignored() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let server = async {
        let id = peer.message().await.unwrap().id;
        let twice = ["first", "second"].map(|body| data(&Message::response(id, body)));
        peer.send(&twice.concat()).await;
    };
    let asked = client.request_bytes("a.b", "");
    let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
    assert_eq!(answer.unwrap(), "first");
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn what_only_clients_send_is_ignored() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    peer.send(&packet(PacketKind::HandshakeAck, b"")).await;
    peer.send(&data(&Message::request(1, "a.b", ""))).await;
    peer.send(&data(&Message::notify("a.b", ""))).await;
    peer.send(&packet(PacketKind::Heartbeat, b"a body")).await;
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn packets_may_be_split_and_coalesced_anywhere() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let mut pushes = client.pushes();
    let stream: Vec<u8> = (0_u8..50).flat_map(|n| data(&Message::push("p", vec![n; usize::from(n) * 7]))).collect();
    for step in [1, 3, 5, 64, 1024, stream.len()] {
        for part in stream.chunks(step) {
            peer.send(part).await;
            tokio::task::yield_now().await;
        }
        for n in 0_u8..50 {
            let push = soon(pushes.next()).await.unwrap();
            assert_eq!(push.body, vec![n; usize::from(n) * 7]);
        }
    }
    lives(&client, &mut peer).await;
}

#[tokio::test]
async fn a_kick_ends_the_client_and_what_is_behind_it_is_not_read() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let mut pushes = client.pushes();
    let parts = [
        data(&Message::push("p", "before")),
        packet(PacketKind::Kick, b"because"),
        data(&Message::push("p", "behind")),
    ];
    peer.send(&parts.concat()).await;
    assert!(matches!(end_of(&client).await, CloseReason::Kicked));
    assert_eq!(soon(pushes.next()).await.unwrap().body, "before");
    assert_eq!(soon(pushes.next()).await, None);
}

#[tokio::test]
async fn a_kick_is_seen_though_writing_fails() {
    // A pipe whose two directions end on their own: the server's reading end goes first.
    let (near_read, mut far_write) = tokio::io::simplex(4096);
    let (mut far_read, near_write) = tokio::io::simplex(4096);
    let near = tokio::io::join(near_read, near_write);
    let server = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut seen = [0; 4];
        far_read.read_exact(&mut seen).await.unwrap();
        far_write.write_all(&crate::support::handshake(ACCEPTED)).await.unwrap();
        (far_read, far_write)
    };
    let (client, (far_read, mut far_write)) = soon(async { tokio::join!(builder().connect_io(near), server) }).await;
    let client = client.unwrap();
    drop(far_read);
    tokio::io::AsyncWriteExt::write_all(&mut far_write, &packet(PacketKind::Kick, b"")).await.unwrap();
    client.notify_bytes("a.b", "into the void").await.ok();
    assert!(matches!(end_of(&client).await, CloseReason::Kicked));
}

#[tokio::test]
async fn a_server_that_writes_and_never_reads_cannot_block_us() {
    // The pipe is small, so the requests stay with us; its pushes must get through all the same.
    let (near, far) = tokio::io::duplex(1024);
    let mut peer = Peer::new(far);
    let builder = builder().request_timeout(Duration::from_millis(200));
    let (client, _) = soon(async { tokio::join!(builder.connect_io(near), peer.welcome(ACCEPTED)) }).await;
    let client = client.unwrap();
    let mut pushes = client.pushes();
    let server = async {
        for _ in 0..500 {
            peer.send(&data(&Message::push("p", vec![b'x'; 500]))).await;
        }
    };
    let requests = async {
        let big = vec![b'y'; 200 * 1024];
        for _ in 0..3 {
            let answer = client.request_bytes("a.b", big.clone()).await;
            assert!(matches!(answer, Err(RequestError::Timeout)), "{answer:?}");
        }
    };
    let received = async {
        for _ in 0..500 {
            assert!(pushes.next().await.is_some());
        }
    };
    soon(async { tokio::join!(server, requests, received) }).await;
    client.close();
    assert!(matches!(end_of(&client).await, CloseReason::ClientClosed));
}
