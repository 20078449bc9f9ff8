//! Heartbeats and silence, on a paused clock.

use std::time::Duration;

use pitaya_client::CloseReason;
use pitaya_protocol::{Message, PacketKind};
use tokio::time::{Instant, sleep};

use crate::support::{ACCEPTED, builder, data, packet, piped};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_every_interval_whatever_else_is_sent() {
    let (client, mut peer) = piped(builder().silence(None), ACCEPTED).await;
    let started = Instant::now();
    for n in 1..=5 {
        client.notify_bytes("a.b", "").await.unwrap();
        assert_eq!(peer.packet().await.unwrap().kind, PacketKind::Data);
        assert_eq!(peer.packet().await.unwrap().kind, PacketKind::Heartbeat);
        let passed = started.elapsed();
        assert!(passed.abs_diff(seconds(30 * n)) < Duration::from_millis(5), "{passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_three_intervals() {
    let (client, _peer) = piped(builder(), ACCEPTED).await;
    let started = Instant::now();
    assert!(matches!(client.closed().await, CloseReason::Silence));
    let passed = started.elapsed();
    assert!(passed.abs_diff(seconds(90)) < Duration::from_millis(5), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn any_packet_counts_as_a_sign_of_life() {
    let (client, mut peer) = piped(builder().silence(Some(2)), ACCEPTED).await;
    let started = Instant::now();
    for n in 0..10 {
        sleep(seconds(50)).await;
        let sign = if n % 2 == 0 { packet(PacketKind::Heartbeat, b"") } else { data(&Message::push("p", "")) };
        peer.send(&sign).await;
    }
    assert!(matches!(client.closed().await, CloseReason::Silence));
    assert_eq!(started.elapsed().as_secs(), 560);
}

#[tokio::test(start_paused = true)]
async fn half_a_packet_and_then_silence_ends_the_connection() {
    for silence in [None, Some(3)] {
        let (client, mut peer) = piped(builder().silence(silence), ACCEPTED).await;
        let started = Instant::now();
        peer.send(&[4, 0, 0, 9, 1]).await;
        assert!(matches!(client.closed().await, CloseReason::HalfPacket));
        assert_eq!(started.elapsed().as_secs(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_packet_byte_by_byte_cannot_stretch_its_time() {
    let (client, mut peer) = piped(builder().packet_timeout(seconds(7)), ACCEPTED).await;
    let started = Instant::now();
    let server = async {
        peer.send(&[4, 0, 0, 200]).await;
        for _ in 0..100 {
            sleep(seconds(1)).await;
            if tokio::io::AsyncWriteExt::write_all(&mut peer.io, &[0]).await.is_err() {
                break;
            }
        }
    };
    let (reason, ()) = tokio::join!(client.closed(), server);
    assert!(matches!(reason, CloseReason::HalfPacket));
    assert!(started.elapsed().as_secs() <= 9);
}

#[tokio::test(start_paused = true)]
async fn absurd_heartbeats_neither_spin_nor_crash_nor_kill() {
    for heartbeat in [
        "0",
        "-1",
        "-1e300",
        "1e300",
        "1e-300",
        "0.000001",
        "0.001",
        "0.0011",
        "1.5",
        "2147483648",
        "18446744073709551616",
        "null",
    ] {
        let json = ACCEPTED.replace(":30", &format!(":{heartbeat}"));
        let (client, mut peer) = piped(builder(), &json).await;
        let started = Instant::now();
        let mut heartbeats = 0;
        // The server is not silent, so the client must live; and it must not send more than ten a second.
        while started.elapsed() < seconds(10) {
            peer.send(&packet(PacketKind::Heartbeat, b"")).await;
            let tick = tokio::time::timeout(Duration::from_millis(500), async {
                while let Some(packet) = peer.packet().await {
                    assert_eq!(packet.kind, PacketKind::Heartbeat);
                    heartbeats += 1;
                }
            });
            assert!(tick.await.is_err(), "closed with {heartbeat}");
        }
        assert!(heartbeats <= 101, "{heartbeats} with {heartbeat}");
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_announced_interval_nothing_is_sent_and_nobody_given_up() {
    let json = ACCEPTED.replace("\"heartbeat\":30,", "");
    let (client, mut peer) = piped(builder(), &json).await;
    assert_eq!(client.handshake().heartbeat, None);
    let quiet = tokio::time::timeout(seconds(1_000_000), async {
        tokio::select! {
            packet = peer.packet() => panic!("{packet:?}"),
            reason = client.closed() => panic!("{reason:?}"),
        }
    });
    assert!(quiet.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_longest_silence_is_no_overflow() {
    let json = ACCEPTED.replace(":30", ":1e300");
    let (client, _peer) = piped(builder().silence(Some(u32::MAX)), &json).await;
    let quiet = tokio::time::timeout(seconds(1_000_000), client.closed());
    assert!(quiet.await.is_err());
}
