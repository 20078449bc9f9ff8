//! Handshake validators: they may wait, refuse with a reason, and bind at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pitaya::{CloseReason, Error, Json, Result, ServerBuilder, Session, handlers, settings};
use pitaya_client::{Client, ConnectError};
use pitaya_protocol::{HandshakeData, HandshakeResponse, Message, PacketKind};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant, sleep},
};

use crate::support::{Events, PATIENCE, Running, desk, encode_message, encode_packet, eventually, serve};

struct Me;

#[handlers(name = "me")]
impl Me {
    #[request]
    async fn uid(&self, session: Session) -> Result<Json<String>> {
        Ok(Json(session.uid()?.as_str().to_owned()))
    }
}

fn game() -> ServerBuilder {
    desk().handlers(Me)
}

async fn connect_as(server: &Running, user: serde_json::Value) -> Result<Client, ConnectError> {
    Client::builder(&format!("tcp://{}", server.tcp)).user(user).connect_timeout(PATIENCE).connect().await
}

#[tokio::test]
async fn a_validator_binds_at_once_and_the_first_request_is_bound() {
    let server = serve(game().handshake_validator("token", |session, handshake| async move {
        let token = handshake.user.get("token").and_then(|token| token.as_str()).ok_or("no token")?;
        session.bind(token).await?;
        session.push("welcome", Json(token)).await
    }))
    .await;
    let client = connect_as(&server, json!({"token": "ada"})).await.unwrap();
    let uid: String = client.request("me.uid", &()).await.unwrap();
    assert_eq!(uid, "ada");
    assert!(server.app.session_of(&"ada".try_into().unwrap()).is_some());
}

#[tokio::test]
async fn what_a_validator_pushes_arrives_behind_the_handshake() {
    let server =
        serve(game().handshake_validator("greet", |session, _| async move { session.push("welcome", Json(1)).await }))
            .await;
    let mut raw = server.raw().await;
    raw.shake_hands().await;
    let push = raw.message().await.unwrap();
    assert_eq!((push.route.as_str(), &push.body[..]), ("welcome", &b"1"[..]));
}

#[tokio::test]
async fn a_refusal_tells_code_and_reason_and_closes() {
    let events = Events::default();
    let told = events.clone();
    let server = serve(
        game()
            .handshake_validator("version", |_, handshake| async move {
                if handshake.sys.client_version == "old" {
                    return Err(Error::new("VERSION-1", "update your game"));
                }
                Ok(())
            })
            .on_close(move |_, reason| {
                told.add(format!("{reason:?}"));
                async {}
            }),
    )
    .await;
    let mut old = HandshakeData::default();
    old.sys.client_version = "old".into();
    let refused = Client::builder(&format!("tcp://{}", server.tcp)).handshake(old.clone()).connect().await;
    let Err(ConnectError::Refused { code: 400, reason: Some(reason) }) = refused else { panic!("{refused:?}") };
    assert_eq!((reason.code.as_str(), reason.msg.as_str()), ("VERSION-1", "update your game"));
    eventually("the session has closed", || events.all() == ["HandshakeRefused"]).await;
    eventually("nobody is left", || server.app.session_count() == 0).await;

    // On the wire: one packet, then the end.
    let mut raw = server.raw().await;
    raw.send_packet(PacketKind::Handshake, &old.to_json()).await;
    let answer = raw.packet().await.unwrap();
    assert_eq!(answer.kind, PacketKind::Handshake);
    let response = HandshakeResponse::parse(&answer.body, 1 << 16).unwrap();
    assert_eq!((response.code, response.serializer.as_str()), (400, "json"));
    assert_eq!(response.reason.unwrap().code, "VERSION-1");
    assert_eq!(raw.packet().await, None);
    // Everybody else is welcome.
    assert!(connect_as(&server, json!({})).await.is_ok());
}

#[tokio::test]
async fn validators_run_in_order_until_the_first_that_refuses() {
    let events = Events::default();
    let validator = |name: &'static str, fine: bool| {
        let events = events.clone();
        move |_: Session, _: Arc<HandshakeData>| {
            events.add(name);
            async move { if fine { Ok(()) } else { Err(Error::plain(name)) } }
        }
    };
    let server = serve(
        game()
            .handshake_validator("a", validator("a", true))
            .handshake_validator("b", validator("b", false))
            .handshake_validator("c", validator("c", true)),
    )
    .await;
    let refused = connect_as(&server, json!({})).await;
    assert!(matches!(refused, Err(ConnectError::Refused { reason: Some(reason), .. }) if reason.msg == "b"));
    assert_eq!(events.all(), ["a", "b"]);
}

#[tokio::test]
async fn the_cause_of_an_internal_error_and_of_a_panic_stay_with_us() {
    let server = serve(game().handshake_validator("broken", |_, handshake| async move {
        match handshake.user.is_empty() {
            true => Err(Error::internal(std::io::Error::other("password is hunter2"))),
            false => panic!("hunter2 on purpose"),
        }
    }))
    .await;
    for user in [json!({}), json!({"a": 1})] {
        let Err(ConnectError::Refused { reason: Some(reason), .. }) = connect_as(&server, user).await else { panic!() };
        assert_eq!(reason.code, "PIT-500");
        assert!(!reason.msg.contains("hunter2"), "{}", reason.msg);
    }
    assert_eq!(server.app.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_a_validator_waits_nothing_of_the_client_is_handled() {
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opens, counts) = (Arc::clone(&gate), Arc::clone(&calls));
    let server = serve(
        game()
            .handshake_validator("slow", move |_, _| {
                let gate = Arc::clone(&opens);
                async move {
                    gate.acquire().await.map_err(Error::internal)?.forget();
                    Ok(())
                }
            })
            .layer(pitaya::from_fn(move |request, next| {
                counts.fetch_add(1, Ordering::SeqCst);
                next.run(request)
            })),
    )
    .await;
    let mut raw = server.pipes.raw().await;
    // All at once, as a client that knows what comes would.
    let mut bytes = encode_packet(PacketKind::Handshake, &HandshakeData::default().to_json());
    bytes.extend_from_slice(&encode_packet(PacketKind::HandshakeAck, b""));
    bytes.extend_from_slice(&encode_message(&Message::request(1, "desk.echo", "hello")));
    raw.send(&bytes).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    gate.add_permits(1);
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    assert_eq!(&raw.message().await.unwrap().body[..], b"hello");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_validator_that_takes_too_long_ends_with_the_handshake_or_the_step() {
    let cases = [
        (Duration::from_secs(4), Duration::from_secs(60), CloseReason::HandshakeTimeout),
        (Duration::from_secs(60), Duration::from_secs(4), CloseReason::HandshakeRefused),
    ];
    for (handshake, step, expected) in cases {
        let events = Events::default();
        let told = events.clone();
        let server = serve(
            game()
                .set(&settings::HANDSHAKE_TIMEOUT, handshake)
                .set(&settings::SESSION_STEP_TIMEOUT, step)
                .handshake_validator("never", |_, _| std::future::pending())
                .on_close(move |_, reason| {
                    told.add(format!("{reason:?}"));
                    async {}
                }),
        )
        .await;
        let start = Instant::now();
        let mut raw = server.pipes.raw().await;
        raw.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
        while raw.packet().await.is_some() {}
        assert_eq!(start.elapsed().as_secs(), 4);
        assert_eq!(events.all(), [format!("{expected:?}")]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_a_validator_waits_leaves_nothing() {
    let server = serve(game().handshake_validator("never", |session, _| async move {
        session.bind("ada").await?;
        std::future::pending().await
    }))
    .await;
    let mut raw = server.pipes.raw().await;
    raw.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    eventually("it is bound", || server.app.session_of(&"ada".try_into().unwrap()).is_some()).await;
    drop(raw);
    eventually("it is gone", || server.app.session_count() == 0).await;
    assert!(server.app.session_of(&"ada".try_into().unwrap()).is_none());
    server.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_validator() {
    let server = serve(game().handshake_validator("never", |_, _| std::future::pending())).await;
    let mut raw = server.pipes.raw().await;
    raw.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    eventually("the client is there", || server.app.session_count() == 1).await;
    let start = Instant::now();
    let leaves = async move { while raw.packet().await.is_some() {} };
    let (stopped, ()) = tokio::join!(server.stop(), leaves);
    stopped.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_validator_may_close_instead_of_refusing() {
    let server = serve(game().handshake_validator("closes", |session: Session, _| async move {
        session.close();
        Ok(())
    }))
    .await;
    let failed = Client::builder(&format!("tcp://{}", server.tcp)).connect().await;
    assert!(failed.is_err());
    eventually("nobody is left", || server.app.session_count() == 0).await;
}

/// What a validator holds is free before the callbacks of the close run.
#[tokio::test(start_paused = true)]
async fn a_validator_is_dropped_when_its_client_leaves() {
    let (events, tables) = (Events::default(), Arc::new(Semaphore::new(1)));
    let (told, left) = (events.clone(), Arc::clone(&tables));
    let server = serve(
        game()
            .handshake_validator("slow", move |_, _| {
                let tables = Arc::clone(&tables);
                async move {
                    let _table = tables.acquire().await.map_err(Error::internal)?;
                    std::future::pending().await
                }
            })
            .on_close(move |_, reason| {
                let (told, left) = (told.clone(), Arc::clone(&left));
                async move {
                    drop(left.acquire().await);
                    told.add(format!("{reason:?}"));
                }
            }),
    )
    .await;
    let mut raw = server.pipes.raw().await;
    raw.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    eventually("the session is there", || server.app.session_count() == 1).await;
    drop(raw);
    let start = Instant::now();
    eventually("the callback has ended", || events.all() == ["ClientClosed"]).await;
    assert!(start.elapsed().as_secs() == 0, "{:?}", start.elapsed());
}
