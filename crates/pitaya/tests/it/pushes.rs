//! Pushes: when they go out, and in which order.

use pitaya::{Json, Server, SessionId, handlers};
use pitaya_protocol::{HandshakeData, PacketKind};

use crate::support::{Raw, eventually, serve};

struct Nothing;

#[handlers(name = "nothing")]
impl Nothing {
    #[notify]
    async fn at_all(&self) {}
}

/// A client that waits for the handshake response takes nothing else for it (protocol.md 2.5), so what is pushed to a
/// session before is kept until the Ack, and comes then in order.
#[tokio::test]
async fn what_is_pushed_before_the_handshake_comes_after_it() {
    let server = serve(Server::frontend("game").handlers(Nothing)).await;
    let mut raw = Raw::connect(server.tcp).await;
    let id = SessionId::new(1);
    eventually("the session is there", || server.app.session(id).is_some()).await;
    let session = server.app.session(id).unwrap();
    session.push("early", Json(1)).await.unwrap();

    raw.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    session.push("early", Json(2)).await.unwrap();
    raw.send_packet(PacketKind::HandshakeAck, b"").await;
    let first = raw.message().await.unwrap();
    session.push("late", Json(3)).await.unwrap();
    let rest = [raw.message().await.unwrap(), raw.message().await.unwrap()];
    let seen: Vec<_> = std::iter::once(first).chain(rest).map(|push| (push.route, push.body)).collect();
    assert_eq!(seen, [("early".into(), "1".into()), ("early".into(), "2".into()), ("late".into(), "3".into())]);
}
