//! Clients that do not read: bounded, disconnected, and never waited for (protocol.md 15.2, design.md 3).

use std::sync::Arc;

use pitaya::{Component, Error, code, config::Size, settings};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Duration, Instant},
};

use super::*;
use crate::support::ConfigFile;

/// Pushes numbers until one is refused; returns how many were accepted.
async fn push_until_refused(session: &Session, most: u32) -> u32 {
    for number in 0..most {
        if let Err(error) = session.push("n", Json(number)).await {
            assert_eq!(error.code(), code::CLIENT_CLOSED);
            return number;
        }
    }
    most
}

#[tokio::test]
async fn at_one_message_more_than_the_bound_a_client_is_a_slow_consumer() {
    for bound in [1, 2, 10, 333] {
        let file = ConfigFile::toml(&format!("pitaya.buffer.agent.messages = {bound}"));
        let scene = scene_with(|builder| builder.config_file(file.path())).await;
        let (_raw, session) = scene.narrow("ada").await;
        assert_eq!(push_until_refused(&session, 1000).await as usize, bound);
        scene.assert_closed("slow_consumer", 1).await;
        assert_eq!(session.push("n", Json(0)).await.unwrap_err().code(), code::CLIENT_CLOSED);
        soon("the session closes", session.closed()).await;
    }
}

/// The bound that holds for everybody who sets nothing (K71).
#[tokio::test]
async fn the_default_bound_is_16384_messages() {
    let scene = scene().await;
    let (_raw, session) = scene.narrow("ada").await;
    assert_eq!(push_until_refused(&session, 100_000).await, 16_384);
    scene.assert_closed("slow_consumer", 1).await;
}

#[tokio::test]
async fn at_the_bound_in_bytes_a_client_is_a_slow_consumer() {
    let scene =
        scene_with(|builder| builder.set(&settings::OUTBOX_BYTES, Size::kib(10)).set(&settings::COMPRESSION, false))
            .await;
    let (_raw, session) = scene.narrow("ada").await;
    // Ten of these reach the bound, the eleventh finds it reached.
    let kib = vec![b'x'; 1024];
    for number in 0..10 {
        assert!(session.push("n", kib.clone()).await.is_ok(), "{number}");
    }
    assert_eq!(session.push("n", kib).await.unwrap_err().code(), code::CLIENT_CLOSED);
    scene.assert_closed("slow_consumer", 1).await;
}

#[tokio::test]
async fn the_default_bound_is_4_mib() {
    let scene = scene_with(|builder| builder.set(&settings::COMPRESSION, false)).await;
    let (_raw, session) = scene.narrow("ada").await;
    let chunk = vec![b'x'; 64 * 1024];
    let mut accepted = 0;
    while session.push("n", chunk.clone()).await.is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 64);
    scene.assert_closed("slow_consumer", 1).await;
}

#[tokio::test]
async fn the_smallest_bounds_still_serve_a_client_that_reads() {
    let scene =
        scene_with(|builder| builder.set(&settings::OUTBOX_MESSAGES, 1).set(&settings::OUTBOX_BYTES, Size(1))).await;
    let mut raw = scene.established().await;
    for id in 1..=100 {
        assert_served(&mut raw, id).await;
    }
}

/// What the client reads makes room again.
#[tokio::test]
async fn a_client_that_reads_may_get_any_number_of_messages() {
    let scene = scene_with(|builder| builder.set(&settings::OUTBOX_MESSAGES, 10)).await;
    let (mut raw, session) = scene.narrow("ada").await;
    for round in 0..100 {
        for number in 0..10 {
            session.push("n", Json(round * 10 + number)).await.unwrap();
        }
        for expected in 0..10 {
            assert_eq!(number(&raw.message().await.unwrap()), round * 10 + expected);
        }
        // The last byte has been read; that the server knows is what the next answer says.
        assert_served(&mut raw, u64::from(round) + 1).await;
    }
}

struct Flood;

#[handlers(name = "flood")]
impl Flood {
    /// Pushes more than the client may have, and answers with the code of the error.
    #[request]
    async fn start(&self, shared: State<Shared>, session: Session) -> Bytes {
        let accepted = push_until_refused(&session, 100_000).await;
        shared.calls.fetch_add(accepted as usize, Ordering::SeqCst);
        Bytes::new()
    }
}

/// A handler that pushes without pause lets its connection write: a client that reads gets everything.
#[tokio::test]
async fn a_handler_does_not_overrun_a_client_that_reads() {
    let burst = async |session: Session| {
        for number in 0..10_000 {
            session.push("n", Json(number)).await?;
        }
        Ok::<_, Error>(Json("done"))
    };
    let component = Component::builder("burst", Arc::new(())).request("start", burst).build();
    let scene = scene_with(|builder| builder.component(component).set(&settings::OUTBOX_MESSAGES, 50)).await;
    let mut raw = Raw::established(scene.server.tcp).await;
    raw.send_message(&Message::request(1, "burst.start", "")).await;
    for expected in 0..10_000 {
        assert_eq!(number(&raw.message().await.unwrap()), expected);
    }
    assert_eq!(raw.message().await.unwrap().id, 1);
}

/// A handler that pushes without pause to a client that does not read goes on and learns that the client is gone.
#[tokio::test]
async fn a_handler_that_floods_its_own_client_gets_errors() {
    let scene = scene_with(|builder| builder.handlers(Flood).set(&settings::OUTBOX_MESSAGES, 50)).await;
    let mut raw = scene.established().await;
    raw.send_message(&Message::request(1, "flood.start", "")).await;
    scene.assert_closed("slow_consumer", 1).await;
    assert!((50..100_000).contains(&scene.shared.calls()));
    while raw.packet().await.is_some() {}
}

/// On a real socket: the kernel takes what it can, then the queue fills.
#[tokio::test]
async fn a_client_that_does_not_read_its_socket_is_disconnected() {
    let scene =
        scene_with(|builder| builder.set(&settings::OUTBOX_BYTES, Size::mib(1)).set(&settings::COMPRESSION, false))
            .await;
    let mut raw = Raw::established(scene.server.tcp).await;
    join(&mut raw, "ada").await;
    let session = scene.session("ada");
    let chunk = vec![b'x'; 32 * 1024];
    let mut accepted = 0_usize;
    while session.push("n", chunk.clone()).await.is_ok() {
        accepted += 1;
        assert!(accepted < 10_000, "300 MiB are more than any socket buffer");
        tokio::task::yield_now().await;
    }
    assert!(accepted >= 32, "the queue alone holds as many");
    scene.assert_closed("slow_consumer", 1).await;
    // The client finds whole packets, in order, and then the end.
    let mut received = 0;
    while let Some(packet) = raw.packet().await {
        if packet.kind == PacketKind::Data {
            received += 1;
        }
    }
    assert!(received < accepted);
}

/// On a paused clock nothing can wait for anybody without time passing.
#[tokio::test(start_paused = true)]
async fn a_broadcast_waits_for_nobody_and_the_others_get_everything() {
    const PUSHES: u32 = 1000;
    let scene = scene_with(|builder| builder.set(&settings::OUTBOX_MESSAGES, 2 * PUSHES as usize)).await;
    let (_stuck, _) = scene.narrow("stuck").await;
    let mut readers = Vec::new();
    for name in ["ada", "bob"] {
        let (mut raw, _) = scene.joined(name).await;
        readers.push(tokio::task::spawn(async move {
            for expected in 0..3 * PUSHES {
                assert_eq!(number(&raw.message().await.unwrap()), expected);
            }
            raw
        }));
    }
    let group = scene.server.app.group("all");
    group.create().await.unwrap();
    for name in ["ada", "stuck", "bob"] {
        group.add(&name.try_into().unwrap()).await.unwrap();
    }
    let start = Instant::now();
    for number in 0..3 * PUSHES {
        let delivery = group.broadcast("game", "n", Json(number)).await.unwrap();
        let failed: Vec<_> = delivery.failed.iter().map(|uid| uid.as_str()).collect();
        let expected = if number < 2 * PUSHES { vec![] } else { vec!["stuck"] };
        assert_eq!(failed, expected, "{number}");
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "somebody was waited for");
    let mut still_open = Vec::new();
    for reader in readers {
        still_open.push(reader.await.unwrap());
    }
    scene.assert_closed("slow_consumer", 1).await;
    assert_eq!(scene.server.app.session_count(), 2);
}

/// A client that asks faster than it reads is no slow consumer: it is not read, until it reads.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_faster_than_it_reads_is_not_read_and_loses_nothing() {
    const REQUESTS: u64 = 1000;
    let scene =
        scene_with(|builder| builder.set(&settings::OUTBOX_MESSAGES, 20).set(&settings::COMPRESSION, false)).await;
    let raw = scene.established().await;
    let body = "x".repeat(500);
    let bytes: Vec<u8> = (1..=REQUESTS).flat_map(|id| encode_message(&echo(id, &body))).collect();
    let (reading, mut writing) = tokio::io::split(raw.stream);
    let writing = tokio::task::spawn(async move { writing.write_all(&bytes).await.unwrap() });
    // A paused clock moves on only when nothing else can.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let handled = scene.shared.calls() as u64;
    assert!(handled < REQUESTS / 4, "{handled} requests were handled though no answer was read");
    assert!(!writing.is_finished());

    let start = Instant::now();
    let mut raw = Raw::over(tokio::io::join(reading, tokio::io::sink()));
    for id in 1..=REQUESTS {
        assert_eq!(raw.message().await, Some(Message::response(id, body.clone())));
    }
    writing.await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "what the client reads lets the server go on at once");
    assert_eq!(scene.closed("slow_consumer"), 0);
}
