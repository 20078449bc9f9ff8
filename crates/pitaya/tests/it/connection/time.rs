//! What happens because time passes: heartbeats and deadlines, on a paused clock (protocol.md 2.6).

use pitaya::settings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Duration, Instant, sleep, timeout},
};

use super::*;
use crate::support::encode_packet;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Timers are rounded up to milliseconds.
fn assert_at(start: Instant, expected: Duration) {
    let elapsed = start.elapsed();
    assert!((expected..expected + Duration::from_millis(5)).contains(&elapsed), "{elapsed:?}, not {expected:?}");
}

/// Reads heartbeats until the server closes.
async fn until_closed<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>) {
    while let Some(packet) = raw.packet().await {
        assert_eq!(packet.kind, PacketKind::Heartbeat);
    }
}

/// Lets the client send a packet now and then, and checks that it stays connected.
async fn assert_lives(scene: &Scene, raw: &mut Raw<DuplexStream>, times: u32, every: Duration, packet: &[u8]) {
    for _ in 0..times {
        let quiet = timeout(every, until_closed(raw)).await;
        assert!(quiet.is_err(), "the server has closed");
        raw.send(packet).await;
    }
    assert_eq!(scene.server.app.session_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_each_interval_after_the_handshake_and_none_before() {
    for interval in [1, 10, 25] {
        let scene = scene_with(|builder| {
            builder.set(&settings::HEARTBEAT_INTERVAL, secs(interval)).set(&settings::HANDSHAKE_TIMEOUT, secs(1000))
        })
        .await;
        // Before the handshake, for as long as a connection may be silent: only the client's own heartbeats.
        let mut raw = scene.raw().await;
        for _ in 0..3 {
            let early = timeout(2 * secs(interval), raw.packet()).await;
            assert!(early.is_err(), "{early:?}");
            raw.send_packet(PacketKind::Heartbeat, b"").await;
        }
        raw.shake_hands().await;
        let start = Instant::now();
        for beat in 1..=20 {
            let packet = raw.packet().await.unwrap();
            assert_eq!((packet.kind, packet.body.len()), (PacketKind::Heartbeat, 0));
            assert_at(start, beat * secs(interval));
            raw.send_packet(PacketKind::Heartbeat, b"").await;
        }
    }
}

/// On the wire a heartbeat is these four bytes (protocol.md 1.6).
#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_an_empty_packet() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let mut bytes = [0; 4];
    soon("a heartbeat", raw.stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, [3, 0, 0, 0]);
}

/// K42.
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped_between_two_and_three_intervals() {
    for (count, interval) in (1..).zip([1, 10, 25]) {
        let scene = scene_with(|builder| builder.set(&settings::HEARTBEAT_INTERVAL, secs(interval))).await;
        let mut raw = scene.established().await;
        let start = Instant::now();
        until_closed(&mut raw).await;
        let silence = start.elapsed();
        assert!(silence > 2 * secs(interval) && silence < 3 * secs(interval), "{count}: {silence:?} of {interval} s");
        scene.assert_closed("idle", 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_packet_counts_as_life() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let packets = [
        encode_packet(PacketKind::Heartbeat, b""),
        encode_packet(PacketKind::HandshakeAck, b""),
        encode_packet(PacketKind::Kick, b""),
        encode_message(&Message::notify("club.note", "1")),
        encode_message(&Message::notify("no.such", "")),
    ];
    for packet in &packets {
        // Twice the interval is within the time, so this is long beyond it.
        assert_lives(&scene, &mut raw, 20, secs(20), packet).await;
    }
    let start = Instant::now();
    until_closed(&mut raw).await;
    assert_at(start, secs(25));
    scene.assert_closed("idle", 1).await;
}

#[tokio::test(start_paused = true)]
async fn requests_count_as_life() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    for id in 1..=20 {
        sleep(secs(20)).await;
        assert_served(&mut raw, id).await;
    }
}

/// Only whole packets count, and one that was begun has a deadline of its own.
#[tokio::test(start_paused = true)]
async fn a_packet_that_dribbles_in_is_closed_at_its_deadline() {
    let scene = scene_with(|builder| builder.set(&settings::PACKET_TIMEOUT, secs(15))).await;
    for (count, begin) in (1..).zip([1, 4, 9]) {
        let raw = scene.established().await;
        // It has been silent for a while, but that is not what closes.
        sleep(secs(8)).await;
        let bytes = encode_message(&echo(1, &"x".repeat(100)));
        let start = Instant::now();
        let (mut rest, mut writing) = tokio::io::split(raw.stream);
        writing.write_all(&bytes[..begin]).await.unwrap();
        let dribbling = async {
            for byte in &bytes[begin..] {
                sleep(secs(1)).await;
                if writing.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        };
        let closed = async {
            let mut received = Vec::new();
            rest.read_to_end(&mut received).await.unwrap();
            start.elapsed()
        };
        let (_, at) = tokio::join!(dribbling, closed);
        assert!(at >= secs(15) && at < secs(16), "{at:?}");
        scene.assert_closed("partial_packet", count).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_is_whole_in_time_is_handled() {
    let scene = scene_with(|builder| builder.set(&settings::PACKET_TIMEOUT, secs(5))).await;
    let mut raw = scene.established().await;
    for id in 1..=10 {
        let bytes = encode_message(&echo(id, "slow"));
        // The next packet begins in the same segment in which this one ends: it gets the whole time again.
        raw.send(&bytes[..7]).await;
        sleep(secs(4)).await;
        raw.send(&bytes[7..]).await;
        assert_eq!(raw.message().await, Some(Message::response(id, "slow")));
    }
}

#[tokio::test(start_paused = true)]
async fn each_packet_has_the_whole_time() {
    let scene = scene_with(|builder| builder.set(&settings::PACKET_TIMEOUT, secs(5))).await;
    let mut raw = scene.established().await;
    let bytes: Vec<u8> = (1..=10).flat_map(|id| encode_message(&echo(id, "slow"))).collect();
    let len = bytes.len() / 10;
    // Each segment ends inside a packet.
    raw.send(&bytes[..7]).await;
    for id in 1..=10 {
        sleep(secs(4)).await;
        let end = (id * len + 7).min(bytes.len());
        raw.send(&bytes[(id - 1) * len + 7..end]).await;
        assert_eq!(raw.message().await, Some(Message::response(id as u64, "slow")));
    }
}

/// Back-pressure is our doing: a session that is not read cannot be silent.
#[tokio::test(start_paused = true)]
async fn the_idle_deadline_stands_still_while_a_session_is_not_read() {
    let scene = scene_with(|builder| builder.set(&settings::SESSION_UNFINISHED, 2)).await;
    let mut raw = scene.established().await;
    for id in 1..=2 {
        raw.send_message(&Message::request(id, "club.wait", "")).await;
    }
    eventually("both wait", || scene.shared.calls() == 2).await;
    let start = Instant::now();
    let hours = timeout(secs(10_000), until_closed(&mut raw)).await;
    assert!(hours.is_err(), "the server has closed");
    assert_at(start, secs(10_000));

    // One has ended: the session is read again, and its silence counts from here.
    scene.shared.gate.add_permits(1);
    assert!(raw.message().await.is_some());
    let start = Instant::now();
    until_closed(&mut raw).await;
    let silence = start.elapsed();
    assert!(silence > secs(20) && silence < secs(30), "{silence:?}");
    scene.assert_closed("idle", 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_idle_deadline_runs_while_a_session_has_room_for_handlers() {
    let scene = scene_with(|builder| builder.set(&settings::SESSION_UNFINISHED, 2)).await;
    let mut raw = scene.established().await;
    raw.send_message(&Message::request(1, "club.wait", "")).await;
    let start = Instant::now();
    until_closed(&mut raw).await;
    assert_at(start, secs(25));
    scene.assert_closed("idle", 1).await;
}

/// The packet that has begun is in the socket, where we do not look.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_packet_stands_still_while_a_session_is_not_read() {
    let scene =
        scene_with(|builder| builder.set(&settings::SESSION_UNFINISHED, 1).set(&settings::PACKET_TIMEOUT, secs(5)))
            .await;
    let mut raw = scene.established().await;
    let next = encode_message(&echo(2, "next"));
    raw.send(&[&encode_message(&Message::request(1, "club.wait", ""))[..], &next[..7]].concat()).await;
    let hour = timeout(secs(3_600), until_closed(&mut raw)).await;
    assert!(hour.is_err(), "the server has closed");
    scene.shared.gate.add_permits(1);
    assert_eq!(raw.message().await, Some(Message::response(1, "")));
    sleep(secs(4)).await;
    raw.send(&next[7..]).await;
    assert_eq!(raw.message().await, Some(Message::response(2, "next")));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_makes_no_progress_is_given_up() {
    let scene = scene_with(|builder| builder.set(&settings::WRITE_TIMEOUT, secs(7))).await;
    let (raw, session) = scene.narrow("ada").await;
    // The client is alive, it only does not read.
    let (_reading, mut writing) = tokio::io::split(raw.stream);
    session.push("news", Json("more than a byte")).await.unwrap();
    let start = Instant::now();
    let closed = async {
        session.closed().await;
        start.elapsed()
    };
    let heartbeats = async {
        while writing.write_all(&encode_packet(PacketKind::Heartbeat, b"")).await.is_ok() {
            sleep(secs(1)).await;
        }
    };
    let (at, ()) = tokio::join!(closed, heartbeats);
    assert!(at >= secs(7) && at < secs(8), "{at:?}");
    scene.assert_closed("write_timeout", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_but_reads_is_kept() {
    let scene = scene_with(|builder| builder.set(&settings::WRITE_TIMEOUT, secs(7))).await;
    let (mut raw, session) = scene.narrow("ada").await;
    session.push("news", Json("a text of some length")).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"length\"") {
        sleep(secs(6)).await;
        received.push(soon("a byte", raw.stream.read_u8()).await.unwrap());
        raw.send(&encode_packet(PacketKind::Heartbeat, b"")).await;
    }
    assert_served(&mut raw, 1).await;
    assert_eq!(scene.closed("write_timeout"), 0);
}

/// Between two heartbeats nothing else is written: an idle connection costs four bytes each interval.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_only_heartbeats_stays() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    let start = Instant::now();
    assert_lives(&scene, &mut raw, 500, secs(10), &encode_packet(PacketKind::Heartbeat, b"")).await;
    assert!(start.elapsed() >= secs(5_000));
    assert_served(&mut raw, 1).await;
}
