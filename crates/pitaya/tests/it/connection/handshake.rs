//! The handshake: what it must be, what the server answers, and what a handler can learn of it (protocol.md 2).

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use pitaya::{
    Serializer,
    acceptor::Incoming,
    config::{Preset, Size},
    settings,
};
use pitaya_protocol::{Dictionary, HandshakeData, HandshakeResponse, inflate};
use serde_json::{Value, json};
use tokio::{io::ReadBuf, time::Duration};

use super::*;
use crate::support::encode_packet;

/// A packet of a client.
type Sent = (PacketKind, &'static [u8]);

const HANDSHAKE: Sent = (PacketKind::Handshake, b"{}");
const ACK: Sent = (PacketKind::HandshakeAck, b"");
/// A request and a notify that would be counted.
const REQUEST: Sent = (PacketKind::Data, b"\x00\x01\x09club.echo1");
const NOTIFY: Sent = (PacketKind::Data, b"\x02\x09club.note1");

/// F092, and protocol.md 15.1, items 6 and 7.
#[tokio::test]
async fn packets_out_of_place_close_and_call_no_handler() {
    let scene = scene().await;
    let cases: [(&str, &[Sent]); 7] = [
        ("a request first", &[REQUEST]),
        ("a notify first", &[NOTIFY]),
        ("a request before the Ack", &[HANDSHAKE, REQUEST]),
        ("a notify before the Ack", &[HANDSHAKE, NOTIFY]),
        ("an Ack without handshake", &[ACK, NOTIFY]),
        ("a second handshake before the Ack", &[HANDSHAKE, HANDSHAKE, ACK, NOTIFY]),
        ("a second handshake behind the Ack", &[HANDSHAKE, ACK, HANDSHAKE, ACK, NOTIFY]),
    ];
    for (count, (name, packets)) in (1..).zip(cases) {
        // In one segment: nothing behind the wrong packet may be looked at.
        let bytes: Vec<u8> = packets.iter().flat_map(|(kind, body)| encode_packet(*kind, body)).collect();
        let mut raw = scene.raw().await;
        raw.send(&bytes).await;
        let mut answers = Vec::new();
        while let Some(packet) = raw.packet().await {
            answers.push(packet.kind);
        }
        let expected = packets.first().filter(|first| first.0 == PacketKind::Handshake).map(|first| first.0);
        assert_eq!(answers, Vec::from_iter(expected), "{name}");
        scene.assert_closed("protocol", count).await;
        assert_eq!(scene.shared.calls(), 0, "{name}");
    }
    assert_eq!(scene.server.app.session_count(), 0);
}

/// They have no effect in any state (protocol.md 2.1), so they open nothing and break nothing.
#[tokio::test]
async fn heartbeats_and_kicks_of_a_client_change_nothing_before_the_handshake() {
    let scene = scene().await;
    let mut raw = scene.raw().await;
    for kind in [PacketKind::Heartbeat, PacketKind::Kick] {
        raw.send_packet(kind, b"").await;
    }
    raw.shake_hands().await;
    assert_served(&mut raw, 1).await;
}

#[tokio::test]
async fn a_client_need_not_wait_for_the_handshake_response() {
    let scene = scene().await;
    let mut raw = scene.server.raw().await;
    let packets = [HANDSHAKE, ACK, REQUEST, NOTIFY];
    raw.send(&packets.map(|(kind, body)| encode_packet(kind, body)).concat()).await;
    assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake);
    assert_eq!(raw.message().await, Some(Message::response(1, "1")));
    eventually("both are handled", || scene.shared.calls() == 2).await;
}

struct Visitor;

#[handlers(name = "visitor")]
impl Visitor {
    /// What the client said of itself.
    #[request]
    async fn handshake(&self, session: Session) -> Result<Json<Value>> {
        let HandshakeData { sys, user } = session.handshake().map_err(Error::internal)?;
        let sys = [sys.platform, sys.lib_version, sys.client_build_number, sys.client_version];
        Ok(Json(json!({"sys": sys, "user": user})))
    }
}

/// F093.
#[tokio::test]
async fn a_handler_reads_what_the_client_said_in_its_handshake() {
    let server = serve(Server::frontend("game").handlers(Visitor)).await;
    let full = r#"{"sys":{"platform":"mac","libVersion":"0.3.5-release","clientBuildNumber":"20","clientVersion":"2.1"},
        "user":{"age":30,"tags":["a",{"b":null}]}}"#;
    let without_user = r#"{"sys":{"platform":"mac"},"protoVersion":7}"#;
    let cases = [
        (full, json!({"sys": ["mac", "0.3.5-release", "20", "2.1"], "user": {"age": 30, "tags": ["a", {"b": null}]}})),
        (without_user, json!({"sys": ["mac", "", "", ""], "user": {}})),
        ("{\"SYS\":{\"Platform\":\"ios\"}} \n", json!({"sys": ["ios", "", "", ""], "user": {}})),
        ("{}", json!({"sys": ["", "", "", ""], "user": {}})),
        ("null", json!({"sys": ["", "", "", ""], "user": {}})),
        (r#"{"sys":null,"user":null}"#, json!({"sys": ["", "", "", ""], "user": {}})),
    ];
    for (body, expected) in cases {
        let mut raw = server.pipes.raw().await;
        raw.send_packet(PacketKind::Handshake, body.as_bytes()).await;
        assert_eq!(raw.packet().await.unwrap().kind, PacketKind::Handshake, "{body}");
        raw.send_packet(PacketKind::HandshakeAck, b"").await;
        raw.send_message(&Message::request(1, "visitor.handshake", "")).await;
        let answer = raw.message().await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_no_json_object_is_refused_with_400() {
    let scene = scene().await;
    let bodies: [&[u8]; 8] = [
        b"",
        b"hello",
        b"[]",
        b"{",
        b"{} x",
        br#"{"sys":{"platform":1}}"#,
        br#"{"user":[]}"#,
        b"\x00\x01\x09club.echo1",
    ];
    for (count, body) in (1..).zip(bodies) {
        let mut raw = scene.raw().await;
        let packets = [(PacketKind::Handshake, body), ACK, NOTIFY, HANDSHAKE, ACK, NOTIFY];
        raw.send(&packets.map(|(kind, body)| encode_packet(kind, body)).concat()).await;
        let answer = raw.packet().await.unwrap();
        assert_eq!(answer.kind, PacketKind::Handshake);
        let response = HandshakeResponse::parse(&answer.body, 1 << 16).unwrap();
        assert_eq!((response.code, response.heartbeat), (400, Some(Duration::from_secs(10))));
        assert_eq!(raw.packet().await, None);
        scene.assert_closed("handshake_refused", count).await;
    }
    assert_eq!(scene.shared.calls(), 0);
}

/// The response as it lies on the wire, recorded from Go (protocol.md 2.9).
#[tokio::test]
async fn under_the_go_preset_the_response_is_the_one_of_go_byte_for_byte() {
    let server = serve(Server::frontend("game").handlers(Visitor).preset(Preset::GoV3)).await;
    for (request, code) in [("{}", 200), ("[]", 400)] {
        let mut raw = server.pipes.raw().await;
        raw.send_packet(PacketKind::Handshake, request.as_bytes()).await;
        let answer = raw.packet().await.unwrap();
        let expected = format!(r#"{{"code":{code},"sys":{{"dict":{{}},"heartbeat":30,"serializer":"json"}}}}"#);
        assert_eq!(answer.body, expected);
    }
}

#[derive(Debug)]
struct Brief;

impl Serializer for Brief {
    fn name(&self) -> &'static str {
        "brief"
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        format!("!{}", error.code()).into()
    }
}

struct Bytewise;

#[handlers(name = "bytewise")]
impl Bytewise {
    #[request]
    async fn fail(&self) -> Result<Bytes> {
        Err(Error::new("MINE-1", "on purpose"))
    }
}

/// F094: Go keeps one response for the whole process.
#[tokio::test]
async fn two_apps_of_one_process_announce_their_own_settings() {
    let first = Server::frontend("game").handlers(Bytewise).dictionary([("game.room.join", 1), ("onMessage", 2)]);
    let second = Server::frontend("game").handlers(Bytewise).dictionary([("game.room.leave", 1)]);
    let first = serve(first.set(&settings::HEARTBEAT_INTERVAL, Duration::from_secs(3))).await;
    let second = serve(second.set(&settings::HEARTBEAT_INTERVAL, Duration::from_secs(70)).serializer(Brief)).await;
    let expected = [
        (&first, 3, vec![("game.room.join", 1), ("onMessage", 2)], "json", r#"{"code":"MINE-1","msg":"on purpose"}"#),
        (&second, 70, vec![("game.room.leave", 1)], "brief", "!MINE-1"),
    ];
    for (server, seconds, dictionary, serializer, error) in expected {
        let client = server.client().await;
        let handshake = client.handshake();
        assert_eq!(handshake.code, 200);
        assert_eq!(handshake.heartbeat, Some(Duration::from_secs(seconds)));
        assert_eq!(handshake.dictionary, Dictionary::new(dictionary).unwrap());
        assert_eq!(handshake.serializer, serializer);
        let mut raw = server.pipes.established().await;
        raw.send_message(&Message::request(1, "bytewise.fail", "")).await;
        assert_eq!(raw.message().await, Some(Message::error_response(1, error)));
    }
}

/// The server's end of a pipe that notes what is written at once.
struct Noted {
    pipe: DuplexStream,
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        if let Poll::Ready(Ok(len)) = written {
            self.writes.lock().unwrap().push(bytes[..len].to_vec());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// protocol.md 16, item 1: Go's client reads the response once, in steps of 1024 bytes.
#[tokio::test]
async fn the_response_is_the_first_packet_in_one_write_and_never_fills_a_step_of_the_go_client() {
    // With one route that grows byte by byte over twenty others, some response would fill a step exactly.
    let mut filled = 0;
    for (len, compression) in (1..=60).flat_map(|len| [(len, false), (len, true)]) {
        let others = (1..=20).map(|code| (format!("{code}.{}", "x".repeat(37)), code));
        let routes = others.chain([("y".repeat(len), 100)]);
        let server = serve(Server::frontend("game").dictionary(routes).set(&settings::COMPRESSION, compression)).await;
        let (ours, pipe) = tokio::io::duplex(1 << 16);
        let writes = Arc::new(Mutex::default());
        server.pipes.arrive(Incoming::ready(None, Noted { pipe, writes: Arc::clone(&writes) })).await;
        let mut raw = Raw::over(ours);
        raw.send_packet(PacketKind::Handshake, b"{}").await;
        let response = raw.packet().await.unwrap();
        assert_eq!(response.kind, PacketKind::Handshake);
        let written = writes.lock().unwrap().clone();
        assert_eq!(written.len(), 1, "one write");
        assert_eq!(written[0], encode_packet(PacketKind::Handshake, &response.body));
        assert_ne!(written[0].len() % 1024, 0, "with a route of {len} bytes");
        let json = if compression { inflate(&response.body, 1 << 16).unwrap() } else { response.body.to_vec() };
        filled += usize::from(!compression && (json.trim_ascii_end().len() + 4) % 1024 == 0);
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["sys"]["heartbeat"], json!(10), "an integer");
        assert_eq!(json["sys"]["dict"].as_object().unwrap().len(), 21);
    }
    assert_eq!(filled, 1, "so many would have filled a step");
}

/// protocol.md 2.3: zlib, and only if shorter; there is no flag for it.
#[tokio::test]
async fn the_response_is_compressed_only_where_that_is_shorter() {
    let routes = |count: u16| (1..=count).map(|code| (format!("game.some.route{code}"), code));
    for (count, compression, compressed) in [(0, true, false), (50, true, true), (50, false, false)] {
        let builder = Server::frontend("game").dictionary(routes(count)).set(&settings::COMPRESSION, compression);
        let server = serve(builder).await;
        let mut raw = server.pipes.raw().await;
        raw.send_packet(PacketKind::Handshake, b"{}").await;
        let body = raw.packet().await.unwrap().body;
        assert_eq!(body.starts_with(b"\x78"), compressed, "{count} routes");
        assert_eq!(HandshakeResponse::parse(&body, 1 << 16).unwrap().dictionary.len(), usize::from(count));
    }
}

/// The kept handshake is the first one: a second closes before it is looked at.
#[tokio::test]
async fn a_second_handshake_does_not_replace_the_first() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let at_close = Arc::clone(&seen);
    let scene = scene_with(|builder| {
        builder.on_close(move |session, _| {
            at_close.lock().unwrap().push(session.handshake().unwrap().sys.platform);
            async {}
        })
    })
    .await;
    let mut raw = scene.raw().await;
    raw.send_packet(PacketKind::Handshake, br#"{"sys":{"platform":"first"}}"#).await;
    raw.send_packet(PacketKind::Handshake, br#"{"sys":{"platform":"second"}}"#).await;
    while raw.packet().await.is_some() {}
    eventually("the callback has run", || !seen.lock().unwrap().is_empty()).await;
    assert_eq!(*seen.lock().unwrap(), ["first"]);
}

#[tokio::test]
async fn a_handshake_with_much_user_data_needs_a_larger_limit() {
    let body = format!(r#"{{"user":{{"picture":"{}"}}}}"#, "x".repeat(5000));
    for (limit, accepted) in [(None, false), (Some(Size::kib(8)), true)] {
        let scene = scene_with(|builder| match limit {
            Some(limit) => builder.set(&settings::HANDSHAKE_MAX_SIZE, limit),
            None => builder,
        })
        .await;
        let mut raw = scene.raw().await;
        raw.send_packet(PacketKind::Handshake, body.as_bytes()).await;
        assert_eq!(raw.packet().await.is_some(), accepted);
    }
}
