//! Bytes and packets: however they are cut, and whatever is wrong with them (protocol.md 1, 3.6).

use std::collections::HashMap;

use pitaya::{Json, settings};
use pitaya_protocol::{Compression, EncodeOptions, MAX_BODY_LEN, MessageKind};

use super::*;
use crate::support::encode_packet;

fn handshake_and_ack() -> Vec<u8> {
    [&encode_packet(PacketKind::Handshake, b"{}")[..], &encode_packet(PacketKind::HandshakeAck, b"")].concat()
}

#[tokio::test]
async fn packets_may_share_a_segment() {
    let scene = scene().await;
    let mut bytes = handshake_and_ack();
    for id in 1..=10 {
        bytes.extend(encode_message(&echo(id, &format!("body {id}"))));
        bytes.extend(encode_packet(PacketKind::Heartbeat, b""));
        bytes.extend(encode_message(&Message::notify("club.note", "1")));
    }
    let mut raw = scene.server.raw().await;
    raw.send(&bytes).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    for id in 1..=10 {
        assert_eq!(raw.message().await, Some(Message::response(id, format!("body {id}"))));
    }
    eventually("every message is handled", || scene.shared.calls() == 20).await;
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte() {
    let scene = scene().await;
    // A pipe of one byte: each read of the server gets one.
    let mut raw = scene.server.pipes.raw_with(1).await;
    raw.shake_hands().await;
    for id in [1, 300] {
        assert_served(&mut raw, id).await;
    }
    // And through a socket, with the packet boundary in the middle of a segment.
    let mut raw = Raw::established(scene.server.tcp).await;
    let bytes = [encode_message(&echo(1, "first")), encode_message(&echo(2, "second"))].concat();
    for piece in bytes.chunks(7) {
        raw.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.message().await, Some(Message::response(1, "first")));
    assert_eq!(raw.message().await, Some(Message::response(2, "second")));
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_closes_its_connection_only() {
    let scene = scene().await;
    let mut bystander = scene.established().await;
    let ten = [0x80; 10];
    let endless_id = [&[0][..], &ten, &[1, 3], b"a.b"].concat();
    let cases: [(&str, &[u8]); 13] = [
        ("empty", b""),
        ("a flag and nothing", b"\x00"),
        ("a request that ends with its id", b"\x00\x01"),
        ("a response whose id does not end", b"\x04\x80"),
        ("a request whose id does not end", b"\x00\x01\x80"),
        ("an id of more than 64 bits", &endless_id),
        ("a code that is cut short", b"\x03\x01"),
        ("a route that is cut short", b"\x02\x10a"),
        ("a route that is not UTF-8", b"\x02\x01\xff"),
        ("a code without dictionary", b"\x01\x01\x00\x01{}"),
        ("type 4", b"\x08\x00"),
        ("type 5", b"\x0a\x00"),
        ("type 7", b"\x0e\x00"),
    ];
    for (count, (name, message)) in (1..).zip(cases) {
        let mut raw = scene.established().await;
        raw.send_packet(PacketKind::Data, message).await;
        assert_eq!(raw.packet().await, None, "{name}");
        scene.assert_closed("protocol", count).await;
        assert_eq!(scene.recorder.value("handler.refused_messages{undecodable}"), count, "{name}");
    }
    assert_served(&mut bystander, 1).await;
}

/// Odd, but no reason to close (protocol.md 1.1, 3.6, 4).
#[tokio::test]
async fn what_means_nothing_is_tolerated() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let silent: [&[u8]; 6] = [
        b"\x02\x00",                  // a notify without route
        b"\x02\x03a.bhi",             // to nobody
        b"\xc2\x03a.bhi",             // with the two high bits of the flag
        b"\x04\x00",                  // a response with id 0
        b"\x22\x09club.note",         // a notify that says that its body is an error
        b"\x06\x09club.note12345678", // a push: handled like a notify
    ];
    for message in silent {
        raw.send_packet(PacketKind::Data, message).await;
    }
    for kind in [PacketKind::HandshakeAck, PacketKind::Heartbeat, PacketKind::Kick] {
        raw.send_packet(kind, b"ignored").await;
    }
    // The bit of a compressed route has no meaning in a response; it is answered, since it has an id.
    raw.send_packet(PacketKind::Data, b"\x05\x07{}").await;
    let answer = raw.message().await.unwrap();
    assert_eq!((answer.kind, answer.id, answer.error), (MessageKind::Response, 7, true));
    assert_served(&mut raw, 8).await;
    assert_eq!(scene.shared.calls(), 8 + 1, "the push and the echo");
    assert_eq!(scene.recorder.value("handler.refused_messages{undecodable}"), 0);
}

/// Ids are 64 bits, in any encoding that Go reads (protocol.md 3.1).
#[tokio::test]
async fn a_request_is_answered_under_its_id_whatever_that_is() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    for id in [1, 127, 128, u64::from(u32::MAX), u64::MAX] {
        assert_served(&mut raw, id).await;
    }
    // Over-long encodings of 5, and the same id twice.
    for _ in 0..2 {
        raw.send_packet(PacketKind::Data, b"\x00\x85\x80\x80\x00\x09club.echolong").await;
    }
    for _ in 0..2 {
        assert_eq!(raw.message().await, Some(Message::response(5, "long")));
    }
}

#[tokio::test]
async fn a_packet_of_an_unknown_type_closes() {
    let scene = scene().await;
    for (count, kind) in (1..).zip([0_u8, 6, 7, 0x16, 0xff]) {
        let mut raw = if count % 2 == 0 { scene.raw().await } else { scene.established().await };
        raw.send(&[kind, 0, 0, 0]).await;
        assert_eq!(raw.packet().await, None, "{kind}");
        scene.assert_closed("protocol", count).await;
    }
}

#[tokio::test]
async fn what_came_before_a_bad_packet_is_answered() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let bytes = [&encode_message(&echo(1, "good"))[..], &[6, 0, 0, 0], &encode_message(&echo(2, "late"))].concat();
    raw.send(&bytes).await;
    assert_eq!(raw.message().await, Some(Message::response(1, "good")));
    assert_eq!(raw.packet().await, None);
    assert_eq!(scene.shared.calls(), 1);
}

/// The header alone closes: the server never waits for, nor keeps, what it would not accept.
#[tokio::test]
async fn a_packet_over_the_limit_is_refused_by_its_header() {
    let scene = scene_with(|builder| {
        builder
            .set(&settings::HANDSHAKE_MAX_SIZE, pitaya::config::Size(100))
            .set(&settings::PACKET_MAX_SIZE, pitaya::config::Size(1000))
    })
    .await;
    let header = |kind: PacketKind, len: usize| {
        let len = (len as u32).to_be_bytes();
        [kind as u8, len[1], len[2], len[3]]
    };
    let padded = |len: usize| format!("{{}}{}", " ".repeat(len - 2));
    let body_of = |len: usize| "x".repeat(len - (encode_message(&echo(1, "")).len() - 4));

    // Exactly at the limits.
    let mut raw = scene.raw().await;
    raw.send_packet(PacketKind::Handshake, padded(100).as_bytes()).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    raw.send_packet(PacketKind::HandshakeAck, b"").await;
    raw.send_message(&echo(1, &body_of(1000))).await;
    assert_eq!(raw.message().await.unwrap().body, body_of(1000));

    // One byte more, of which only the header is sent.
    raw.send(&header(PacketKind::Data, 1001)).await;
    assert_eq!(raw.packet().await, None);
    for (count, kind, len) in
        [(2, PacketKind::Handshake, 101), (3, PacketKind::Handshake, MAX_BODY_LEN), (4, PacketKind::Data, 101)]
    {
        let mut raw = scene.raw().await;
        raw.send(&header(kind, len)).await;
        assert_eq!(raw.packet().await, None, "{kind} of {len}");
        scene.assert_closed("protocol", count).await;
    }
    // Before the Ack the small limit holds, behind it the large one, even in the same segment.
    let mut raw = scene.raw().await;
    raw.send_packet(PacketKind::Handshake, b"{}").await;
    raw.send(&header(PacketKind::HandshakeAck, 101)).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    assert_eq!(raw.packet().await, None);
    let mut raw = scene.raw().await;
    raw.send(&[&handshake_and_ack()[..], &encode_message(&echo(1, &body_of(1000)))].concat()).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    assert_eq!(raw.message().await.unwrap().body, body_of(1000));
}

#[tokio::test]
async fn a_client_that_leaves_inside_a_packet_has_closed() {
    let scene = scene().await;
    for (count, bytes) in (1..).zip([&b""[..], b"\x04", b"\x04\x00\x00", b"\x04\x00\x00\x09half"]) {
        let mut raw = scene.established().await;
        raw.send(bytes).await;
        drop(raw);
        scene.assert_closed("client_closed", count).await;
    }
    assert_eq!(scene.server.app.session_count(), 0);
}

/// F100: however many tasks push at once, each packet stays whole and each task's pushes stay in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_of_many_tasks_never_interleave() {
    const TASKS: u32 = 32;
    const PUSHES: u32 = 200;
    let scene = scene_with(|builder| builder.set_text("pitaya.buffer.agent.bytes", "1GiB")).await;
    let mut raw = Raw::established(scene.server.tcp).await;
    join(&mut raw, "ada").await;
    let session = scene.session("ada");
    let pushing: Vec<_> = (0..TASKS)
        .map(|task| {
            let session = session.clone();
            tokio::task::spawn(async move {
                for number in 0..PUSHES {
                    // Short and long ones, some of them compressed.
                    let filler = "x".repeat((number * (task + 1) % 3000) as usize);
                    session.push("work", Json((task, number, filler))).await.unwrap();
                    if number % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    // Answers of the connection's own task come in between.
    for id in 1..=100 {
        raw.send_message(&echo(id, "between")).await;
    }
    let mut next: HashMap<u32, u32> = HashMap::new();
    let mut answered = 0;
    for _ in 0..TASKS * PUSHES + 100 {
        let message = raw.message().await.unwrap();
        if message.kind == MessageKind::Response {
            answered += 1;
            assert_eq!((message.id, &message.body[..]), (answered, &b"between"[..]));
            continue;
        }
        let (task, number, filler): (u32, u32, String) = serde_json::from_slice(&message.body).unwrap();
        let expected = next.entry(task).or_default();
        assert_eq!((number, filler.len()), (*expected, (number * (task + 1) % 3000) as usize), "of task {task}");
        *expected += 1;
    }
    assert!(answered == 100 && next.len() == TASKS as usize && next.values().all(|count| *count == PUSHES));
    for task in pushing {
        soon("the task", task).await.unwrap();
    }
}

/// A client may use all that messages have: a compressed body under a long route does not confuse the framing.
#[tokio::test]
async fn a_message_with_the_longest_route_and_a_compressed_body_is_framed_right() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let unknown = Message::request(1, format!("club.{}", "é".repeat(125)), "x".repeat(5000));
    let compressed = EncodeOptions { compression: Compression::Above { threshold: 0 }, ..EncodeOptions::default() };
    let body = unknown.encode(&compressed).unwrap();
    assert!(unknown.route.len() == 255 && body.len() < 400);
    raw.send_packet(PacketKind::Data, &body).await;
    assert!(raw.message().await.unwrap().error);
    assert_served(&mut raw, 2).await;
}
