//! How connections end: what still arrives, in which order, and what is counted.

use pitaya::{CloseReason, code};
use pitaya_protocol::MessageKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::support::encode_packet;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kick,
    Close,
}

impl End {
    async fn of(self, session: &Session) -> Result<()> {
        match self {
            Self::Kick => session.kick().await,
            Self::Close => {
                session.close();
                Ok(())
            }
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Kick => "kicked",
            Self::Close => "closed",
        }
    }
}

/// Reads numbered pushes, and what the server sends behind them until it closes.
async fn pushes_and_rest<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>) -> (Vec<u32>, Vec<PacketKind>) {
    let (mut pushes, mut rest) = (Vec::new(), Vec::new());
    while let Some(packet) = raw.packet_but_heartbeat().await {
        if packet.kind == PacketKind::Data && rest.is_empty() {
            let message = Message::decode(packet.body, &pitaya_protocol::Dictionary::default(), 1 << 20).unwrap();
            assert_eq!(message.kind, MessageKind::Push);
            pushes.push(number(&message));
        } else {
            rest.push(packet.kind);
        }
    }
    (pushes, rest)
}

#[tokio::test]
async fn everything_queued_before_a_kick_or_close_arrives_in_order_and_nothing_behind_it() {
    for end in [End::Kick, End::Close] {
        let scene = scene().await;
        // The pipe holds one byte: nothing has been written when the session ends.
        let (mut raw, session) = scene.narrow("ada").await;
        for number in 0..500 {
            session.push("n", Json(number)).await.unwrap();
        }
        end.of(&session).await.unwrap();
        let late = session.push("n", Json(500)).await.unwrap_err();
        assert_eq!(late.code(), code::CLIENT_CLOSED);
        let (pushes, rest) = pushes_and_rest(&mut raw).await;
        assert_eq!(pushes, Vec::from_iter(0..500));
        assert_eq!(rest, if end == End::Kick { vec![PacketKind::Kick] } else { vec![] });
        scene.assert_closed(end.reason(), 1).await;
    }
}

/// protocol.md 1.6 and 16, item 7.
#[tokio::test]
async fn a_kick_is_these_four_bytes_and_then_the_end() {
    let scene = scene().await;
    let mut raw = Raw::established(scene.server.tcp).await;
    join(&mut raw, "ada").await;
    scene.session("ada").kick().await.unwrap();
    let mut bytes = Vec::new();
    soon("the end", raw.stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, [5, 0, 0, 0]);
}

struct Leave;

#[handlers(name = "leave")]
impl Leave {
    #[request]
    async fn kick(&self, session: Session) -> Result<Bytes> {
        for number in 0..100 {
            session.push("n", Json(number)).await?;
        }
        session.kick().await?;
        Ok(Bytes::from_static(b"too late"))
    }

    #[request]
    async fn close(&self, session: Session) -> Result<Bytes> {
        for number in 0..100 {
            session.push("n", Json(number)).await?;
        }
        session.close();
        Ok(Bytes::from_static(b"too late"))
    }
}

/// Also the answer of the handler itself comes too late, and messages behind it are not handled.
#[tokio::test]
async fn a_handler_may_end_its_own_session() {
    let scene = scene_with(|builder| builder.handlers(Leave)).await;
    for (route, reason, last) in [("leave.kick", "kicked", vec![PacketKind::Kick]), ("leave.close", "closed", vec![])] {
        let mut raw = Raw::established(scene.server.tcp).await;
        let bytes = [encode_message(&Message::request(1, route, "")), encode_message(&echo(2, "behind"))].concat();
        raw.send(&bytes).await;
        assert_eq!(pushes_and_rest(&mut raw).await, (Vec::from_iter(0..100), last));
        eventually(reason, || scene.closed(reason) == 1).await;
    }
    assert_eq!(scene.shared.calls(), 0);
}

/// Bytes that the server has not read make the kernel reset a connection that is closed at once, and what the client has
/// not read yet would be lost.
#[tokio::test]
async fn a_busy_client_gets_everything_before_the_kick() {
    let scene = scene_with(|builder| {
        builder.set(&pitaya::settings::COMPRESSION, false).set_text("pitaya.buffer.agent.bytes", "64MiB")
    })
    .await;
    let mut raw = Raw::established(scene.server.tcp).await;
    join(&mut raw, "ada").await;
    let session = scene.session("ada");
    // More than the client's kernel takes, less than both kernels take: the server has written all, the client has not
    // received it.
    let chunk = vec![b'1'; 16 * 1024];
    let mut chunks = 0;
    while chunks < 160 {
        session.push("n", chunk.clone()).await.unwrap();
        chunks += 1;
    }
    session.kick().await.unwrap();
    // And it goes on talking.
    let (mut reading, mut writing) = raw.stream.into_split();
    let talking = tokio::task::spawn(async move {
        let requests = encode_message(&echo(1, "are you there?"));
        while writing.write_all(&requests).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    eventually("the session has closed", || scene.closed("kicked") == 1).await;
    let mut received = Vec::new();
    let end = soon("the end", reading.read_to_end(&mut received)).await;
    assert!(end.is_ok(), "{end:?} after {} bytes", received.len());
    assert!(received.ends_with(&[5, 0, 0, 0]));
    assert_eq!(received.iter().filter(|byte| **byte == b'1').count(), chunks * chunk.len());
    talking.abort();
}

/// F053.
#[tokio::test]
async fn connected_clients_are_counted_and_the_count_is_never_negative() {
    let scene = scene().await;
    let connected = || scene.recorder.value("acceptor.connected_clients");
    let mut clients = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        clients.push(scene.joined(name).await);
    }
    assert_eq!(connected(), 5);
    // Closed twice, kicked twice, and both at once.
    let (first, second) = (clients[0].1.clone(), clients[1].1.clone());
    first.close();
    first.close();
    drop(first.kick().await);
    second.kick().await.unwrap();
    assert_eq!(second.kick().await.unwrap_err().code(), code::CLIENT_CLOSED);
    second.close();
    eventually("three are left", || connected() == 3).await;
    drop(clients.drain(..2));
    first.close();
    drop(second.kick().await);
    drop(clients);
    eventually("none is left", || connected() == 0).await;
    first.close();
    assert_eq!(scene.server.app.session_count(), 0);
    assert_eq!(scene.recorder.lowest("acceptor.connected_clients"), 0);
    assert_eq!([scene.closed("closed"), scene.closed("kicked"), scene.closed("client_closed")], [1, 1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_clients_that_come_and_go_leave_nothing_behind() {
    let scene = scene().await;
    let address = scene.server.tcp;
    let app = scene.server.app.clone();
    let clients: Vec<_> = (0..20)
        .map(|worker| {
            let app = app.clone();
            tokio::task::spawn(async move {
                for round in 0..50 {
                    let mut raw = Raw::connect(address).await;
                    match round % 5 {
                        // Without a word, and in the middle of the handshake.
                        0 => {}
                        1 => raw.send(b"\x01\x00\x00").await,
                        2 => {
                            raw.shake_hands().await;
                            assert_served(&mut raw, 1).await;
                        }
                        3 => {
                            // A reset instead of an end.
                            raw.shake_hands().await;
                            raw.send_message(&echo(1, "")).await;
                            raw.stream.set_zero_linger().unwrap();
                        }
                        _ => {
                            raw.shake_hands().await;
                            let name = format!("user{worker}");
                            join(&mut raw, &name).await;
                            let session = app.session_of(&name.as_str().try_into().unwrap()).unwrap();
                            session.kick().await.unwrap();
                            session.close();
                            while raw.packet().await.is_some() {}
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let total = || CloseReason::ALL.iter().map(|reason| scene.closed(reason.as_str())).sum::<i64>();
    eventually("all have closed", || total() == 1000).await;
    eventually("nobody is left", || app.session_count() == 0).await;
    assert_eq!(scene.recorder.value("acceptor.connected_clients"), 0);
    assert_eq!(scene.recorder.lowest("acceptor.connected_clients"), 0);
    assert_eq!([scene.closed("kicked"), scene.closed("client_closed")], [200, 800]);
    // What is left are the acceptors and the group store.
    eventually("every task has ended", || app.tasks().len() == 4).await;
}

/// F100: nothing panics, and each push is either accepted or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_may_end_while_many_tasks_push_to_them() {
    let scene = scene().await;
    for round in 0..50 {
        let name = format!("user{round}");
        let mut raw = Raw::established(scene.server.tcp).await;
        join(&mut raw, &name).await;
        let session = scene.session(&name);
        let pushing: Vec<_> = (0..8)
            .map(|_| {
                let session = session.clone();
                tokio::task::spawn(async move {
                    for number in 0_u32.. {
                        if let Err(error) = session.push("n", Json(number)).await {
                            return (number, error);
                        }
                        tokio::task::yield_now().await;
                    }
                    unreachable!()
                })
            })
            .collect();
        // In the middle of the pushes, in one of three ways.
        for _ in 0..20 {
            assert!(raw.message().await.is_some());
        }
        match round % 3 {
            0 => session.kick().await.unwrap(),
            1 => session.close(),
            _ => raw.stream.set_zero_linger().unwrap(),
        }
        if round % 3 < 2 {
            while raw.packet().await.is_some() {}
        }
        drop(raw);
        let mut accepted = 0;
        for task in pushing {
            let (number, error) = soon("the pushes are refused", task).await.unwrap();
            assert_eq!(error.code(), code::CLIENT_CLOSED);
            accepted += number;
        }
        assert!(accepted >= 20);
    }
    // A panic of the connection's task would be counted as `closed`.
    eventually("all are counted", || {
        ["kicked", "closed", "client_closed"].map(|reason| scene.closed(reason)) == [17, 17, 16]
    })
    .await;
    eventually("nobody is left", || scene.server.app.session_count() == 0).await;
}

/// What the client sends behind the end is not handled, and does not keep the connection.
#[tokio::test]
async fn a_client_that_is_closing_is_not_read() {
    let scene = scene().await;
    let (mut raw, session) = scene.joined("ada").await;
    session.close();
    let (notify, heartbeat) =
        (encode_message(&Message::notify("club.note", "1")), encode_packet(PacketKind::Heartbeat, b""));
    // The server may have closed its end already.
    drop(raw.stream.write_all(&[&notify[..], &heartbeat].concat()).await);
    assert_eq!(raw.packet().await, None);
    scene.assert_closed("closed", 1).await;
    assert_eq!(scene.shared.calls(), 0);
}
