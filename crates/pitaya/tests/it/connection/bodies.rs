//! Bodies and routes on the wire: compressed, coded, wrong, and how errors look (protocol.md 3).

use pitaya::{
    Error,
    config::{Preset, Size},
    settings,
};
use pitaya_protocol::{Compression, Dictionary, EncodeOptions, Head, MessageKind, RouteRef};
use serde_json::Value;

use super::*;
use crate::support::ConfigFile;

/// A message whose body is compressed if that makes it shorter.
fn deflated(message: &Message) -> Bytes {
    let options = EncodeOptions { compression: Compression::Above { threshold: 0 }, ..EncodeOptions::default() };
    message.encode(&options).unwrap()
}

/// A message with codes for the routes of a dictionary.
fn coded(message: &Message, dictionary: &Dictionary) -> Bytes {
    message.encode(&EncodeOptions { dictionary: Some(dictionary), ..EncodeOptions::default() }).unwrap()
}

/// A request with a body that claims to be a zlib stream.
fn claimed(id: u8, body: &[u8]) -> Vec<u8> {
    [&[0x10, id, 9][..], b"club.echo", body].concat()
}

/// The next Data packet: its flag byte says how the body was sent.
async fn data<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>) -> Bytes {
    let packet = raw.packet_but_heartbeat().await.unwrap();
    assert_eq!(packet.kind, PacketKind::Data);
    packet.body
}

fn is_compressed(message: &[u8]) -> bool {
    let head = Head::decode(message).unwrap();
    if head.compressed {
        assert!(message[head.body_at..].starts_with(b"\x78"), "zlib, never gzip");
    }
    head.compressed
}

/// Bytes without repetition, which no compression makes shorter.
fn noise(len: usize) -> String {
    let mut state = 1_u32;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b' ' + (state % 95) as u8)
    });
    random.take(len).collect()
}

#[tokio::test]
async fn a_request_with_the_id_zero_closes_and_is_counted() {
    let scene = scene().await;
    for (count, id) in (1..).zip([&b"\x00"[..], b"\x80\x00"]) {
        let mut raw = scene.established().await;
        // What was asked before is answered.
        raw.send_message(&echo(1, "before")).await;
        raw.send_packet(PacketKind::Data, &[b"\x00", id, b"\x09club.echohi"].concat()).await;
        assert_eq!(raw.message().await, Some(Message::response(1, "before")));
        assert_eq!(raw.packet().await, None);
        scene.assert_closed("protocol", count).await;
        assert_eq!(scene.recorder.value("handler.refused_messages{request_id_zero}"), count);
        assert_eq!(scene.shared.calls() as i64, count, "only the request before");
    }
}

#[tokio::test]
async fn compressed_bodies_are_understood_whatever_the_server_does_itself() {
    for compression in [true, false] {
        let scene = scene_with(|builder| builder.set(&settings::COMPRESSION, compression)).await;
        let mut raw = scene.established().await;
        let body = "again and ".repeat(100);
        let request = deflated(&echo(1, &body));
        assert!(is_compressed(&request));
        raw.send_packet(PacketKind::Data, &request).await;
        assert_eq!(raw.message().await, Some(Message::response(1, body.clone())));
        let notify = deflated(&Message::notify("club.note", body));
        assert!(is_compressed(&notify));
        raw.send_packet(PacketKind::Data, &notify).await;
        scene.shared.notified.notified().await;
        assert_eq!(scene.shared.calls(), 1 + 1000, "the notify had its whole body");
        // As Go writes it, with an empty block at the end (protocol.md 3.2 and 3.6).
        let of_go = b"\x78\x9c\x2a\xc8\x2c\x49\xac\x4c\x54\x20\x99\x02\x04\x00\x00\xff\xff\x65\xce\x15\x41";
        raw.send_packet(PacketKind::Data, &claimed(2, of_go)).await;
        assert_eq!(raw.message().await, Some(Message::response(2, "pitaya ".repeat(8))));
    }
}

#[tokio::test]
async fn a_body_may_inflate_to_the_limit_and_no_further() {
    let limit = 10_000;
    let scene = scene_with(|builder| builder.set(&settings::MESSAGE_MAX_INFLATED, Size(limit))).await;
    let mut raw = scene.established().await;
    raw.send_packet(PacketKind::Data, &deflated(&echo(1, &"x".repeat(limit)))).await;
    assert_eq!(raw.message().await.unwrap().body.len(), limit);
    for (count, message) in
        (1..).zip([echo(2, &"x".repeat(limit + 1)), Message::notify("club.note", "x".repeat(1 << 22))])
    {
        let mut raw = scene.established().await;
        let bomb = deflated(&message);
        assert!(bomb.len() < 64 * 1024, "the packet itself is allowed");
        raw.send_packet(PacketKind::Data, &bomb).await;
        assert_eq!(raw.packet().await, None);
        scene.assert_closed("protocol", count).await;
    }
    assert_eq!(scene.shared.calls(), 1);
}

/// At the defaults: a packet of 64 KiB could become 64 MiB.
#[tokio::test]
async fn an_inflate_bomb_closes_by_default() {
    let scene = scene().await;
    let mut raw = scene.established().await;
    raw.send_packet(PacketKind::Data, &deflated(&echo(1, &"x".repeat((1 << 20) + 1)))).await;
    assert_eq!(raw.packet().await, None);
    scene.assert_closed("protocol", 1).await;
}

#[tokio::test]
async fn a_body_that_is_no_zlib_stream_closes() {
    let scene = scene().await;
    let whole = deflated(&echo(1, &"x".repeat(100)));
    let body_at = Head::decode(&whole).unwrap().body_at;
    let cut = &whole[body_at..whole.len() - 1];
    let mut wrong_sum = whole[body_at..].to_vec();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let cases = [("empty", &b""[..]), ("plain", b"{}"), ("gzip", gzip), ("cut short", cut), ("damaged", &wrong_sum)];
    for (count, (name, body)) in (1..).zip(cases) {
        let mut raw = scene.established().await;
        raw.send_packet(PacketKind::Data, &claimed(1, body)).await;
        assert_eq!(raw.packet().await, None, "{name}");
        scene.assert_closed("protocol", count).await;
        assert_eq!(scene.recorder.value("handler.refused_messages{undecodable}"), count, "{name}");
    }
    assert_eq!(scene.shared.calls(), 0);
}

struct Sizes;

#[handlers(name = "sizes")]
impl Sizes {
    /// Pushes the body back, then answers with it.
    #[request]
    async fn both(&self, session: Session, body: Bytes) -> Result<Bytes> {
        session.push("back", body.clone()).await?;
        Ok(body)
    }

    /// Fails with the body as the text.
    #[request]
    async fn fail(&self, body: Bytes) -> Result<Bytes> {
        Err(Error::new("MINE-1", String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Sends a body there and back, and returns whether push and answer were compressed.
async fn round_trip(raw: &mut Raw<DuplexStream>, body: &str) -> [bool; 2] {
    raw.send_message(&Message::request(1, "sizes.both", body.to_owned())).await;
    let (push, answer) = (data(raw).await, data(raw).await);
    for (sent, kind) in [(&push, MessageKind::Push), (&answer, MessageKind::Response)] {
        let message = Message::decode(sent.clone(), &Dictionary::default(), 1 << 20).unwrap();
        assert_eq!((message.kind, message.body.as_ref()), (kind, body.as_bytes()));
    }
    [is_compressed(&push), is_compressed(&answer)]
}

#[tokio::test]
async fn bodies_from_the_threshold_on_are_compressed_where_that_is_shorter() {
    for (threshold, builder) in [
        (512, Server::frontend("game")),
        (100, Server::frontend("game").set(&settings::COMPRESSION_THRESHOLD, Size(100))),
        (0, Server::frontend("game").preset(Preset::GoV3)),
    ] {
        let server = serve(builder.handlers(Sizes)).await;
        let mut raw = server.pipes.established().await;
        for len in [0, 1, 30, 99, 100, 511, 512, 513, 20_000] {
            // What is long enough to gain, and tried.
            let expected = len >= threshold && len >= 30;
            assert_eq!(round_trip(&mut raw, &"x".repeat(len)).await, [expected; 2], "{len} at {threshold}");
            // Not shorter: sent as it is. (Ninety-five letters fit into seven bits, so long texts do gain.)
            if len <= 100 {
                assert_eq!(round_trip(&mut raw, &noise(len)).await, [false; 2], "{len} at {threshold}");
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_do_not_get_shorter_are_sent_as_they_are() {
    let server = serve(Server::frontend("game").handlers(Sizes)).await;
    let mut raw = server.pipes.established().await;
    // What is compressed already does not get shorter again.
    let compressed = deflated(&echo(1, &noise(8_000)));
    assert!(is_compressed(&compressed) && compressed.len() > 4_000);
    raw.send_message(&Message::request(2, "sizes.both", compressed.clone())).await;
    for _ in 0..2 {
        let sent = data(&mut raw).await;
        assert!(!is_compressed(&sent) && sent.ends_with(&compressed));
    }
}

#[tokio::test]
async fn without_compression_nothing_is_compressed() {
    let file = ConfigFile::toml("[pitaya.handler.messages]\ncompression = \"none\"");
    let server = serve(Server::frontend("game").handlers(Sizes).config_file(file.path())).await;
    let mut raw = server.pipes.established().await;
    assert_eq!(round_trip(&mut raw, &"x".repeat(20_000)).await, [false; 2]);
    raw.send_message(&Message::request(1, "sizes.fail", "x".repeat(20_000))).await;
    assert!(!is_compressed(&data(&mut raw).await));
}

#[tokio::test]
async fn long_errors_are_compressed_like_answers() {
    let server = serve(Server::frontend("game").handlers(Sizes)).await;
    let mut raw = server.pipes.established().await;
    raw.send_message(&Message::request(1, "sizes.fail", "x".repeat(2000))).await;
    let sent = data(&mut raw).await;
    assert!(is_compressed(&sent));
    let error = Message::decode(sent, &Dictionary::default(), 1 << 20).unwrap();
    assert!(error.error);
    let body: Value = serde_json::from_slice(&error.body).unwrap();
    assert_eq!((&body["code"], body["msg"].as_str().unwrap().len()), (&Value::from("MINE-1"), 2000));
}

const ROUTES: [(&str, u16); 4] = [("game.club.echo", 1), ("club.note", 500), ("news", 7), ("game.club.gone", 65_535)];

#[tokio::test]
async fn codes_of_the_dictionary_are_understood() {
    let scene = scene_with(|builder| builder.dictionary(ROUTES)).await;
    let dictionary = Dictionary::new(ROUTES).unwrap();
    let mut raw = scene.established().await;
    let request = coded(&Message::request(1, "game.club.echo", "hi"), &dictionary);
    assert_eq!(request[..4], [0x01, 1, 0, 1]);
    raw.send_packet(PacketKind::Data, &request).await;
    assert_eq!(data(&mut raw).await, [&[0x04, 1][..], b"hi"].concat(), "a response has no route");
    raw.send_packet(PacketKind::Data, &coded(&Message::notify("club.note", "123"), &dictionary)).await;
    scene.shared.notified.notified().await;
    assert_eq!(scene.shared.calls(), 1 + 3);
    // Names still work, and so does a code whose route has no handler: it is answered.
    assert_served(&mut raw, 2).await;
    raw.send_packet(PacketKind::Data, &coded(&Message::request(3, "game.club.gone", ""), &dictionary)).await;
    let answer = raw.message().await.unwrap();
    assert!(answer.error && answer.id == 3);
}

#[tokio::test]
async fn a_code_that_is_not_in_the_dictionary_closes() {
    let scene = scene_with(|builder| builder.dictionary(ROUTES)).await;
    for (count, code) in (1..).zip([0_u16, 2, 256, 65_534]) {
        let mut raw = scene.established().await;
        let [high, low] = code.to_be_bytes();
        raw.send_packet(PacketKind::Data, &[1, 1, high, low, b'x']).await;
        assert_eq!(raw.packet().await, None, "{code}");
        scene.assert_closed("protocol", count).await;
    }
    assert_eq!(scene.shared.calls(), 0);
}

/// libpitaya cannot read codes (protocol.md 2.5), so they are used only where the application says so.
#[tokio::test]
async fn pushes_carry_names_unless_codes_are_switched_on() {
    for codes in [false, true] {
        let scene = scene_with(|builder| {
            let builder = builder.dictionary(ROUTES);
            if codes { builder.push_codes() } else { builder }
        })
        .await;
        let (mut raw, session) = scene.joined("ada").await;
        for (route, code) in [("news", Some(7)), ("other", None)] {
            session.push(route, Json(1)).await.unwrap();
            let sent = data(&mut raw).await;
            let expected = code.filter(|_| codes).map_or(RouteRef::Name(route), RouteRef::Code);
            assert_eq!(Head::decode(&sent).unwrap().route, expected);
        }
        // The client of this workspace reads both.
        let client = scene.server.client().await;
        client.request_bytes("club.join", "\"bob\"").await.unwrap();
        scene.session("bob").push("news", Json("hello")).await.unwrap();
        assert_eq!(soon("the push", client.on("news").next()).await.unwrap().json::<String>().unwrap(), "hello");
    }
}

struct Faults;

#[handlers(name = "faults")]
impl Faults {
    #[request]
    async fn number(&self, Json(number): Json<u32>) -> Json<u32> {
        Json(number)
    }

    #[request]
    async fn panic(&self) -> Bytes {
        panic!("on purpose")
    }

    #[request]
    async fn empty(&self) -> Result<Bytes> {
        Err(Error::new("", ""))
    }

    #[request]
    async fn internal(&self) -> Result<Bytes> {
        Err(Error::internal("the password is hunter2"))
    }

    #[request]
    async fn nothing(&self) -> Option<Bytes> {
        None
    }

    #[request]
    async fn huge(&self) -> Bytes {
        vec![0; 1 << 24].into()
    }

    #[notify]
    async fn note(&self) {}
}

/// protocol.md 16, item 3: clients look for both, whatever the error is. And item 6: exactly one answer each.
#[tokio::test]
async fn every_error_has_a_code_and_a_text_and_is_answered_once() {
    let server = serve(Server::frontend("game").handlers(Faults).set(&settings::COMPRESSION, false)).await;
    let mut raw = server.pipes.established().await;
    let cases = [
        ("", "", "PIT-400"),
        ("faults", "", "PIT-400"),
        ("a.b.c.d", "", "PIT-400"),
        ("faults..number", "", "PIT-400"),
        ("faults.none", "", "PIT-404"),
        ("game.faults.none", "", "PIT-404"),
        ("none.number", "", "PIT-404"),
        ("Faults.number", "", "PIT-404"),
        ("shop.faults.number", "", "PIT-500"),
        ("faults.note", "", "PIT-400"),
        ("faults.number", "", "PIT-400"),
        ("faults.number", "x", "PIT-400"),
        ("faults.number", "-1", "PIT-400"),
        ("faults.panic", "", "PIT-500"),
        ("faults.internal", "", "PIT-500"),
        ("faults.huge", "", "PIT-500"),
        ("faults.empty", "", "PIT-000"),
        ("faults.nothing", "", "PIT-000"),
    ];
    for (id, (route, body, code)) in (1..).zip(cases) {
        raw.send_message(&Message::request(id, route, body)).await;
        // A notify that is as wrong is not answered.
        raw.send_message(&Message::notify(route, body)).await;
        let answer = raw.message().await.unwrap();
        assert_eq!((answer.kind, answer.id, answer.error), (MessageKind::Response, id, true), "{route:?}");
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["code"], code, "{route:?} {body:?}: {error}");
        assert!(error["msg"].is_string() && !error.to_string().contains("hunter2"), "{error}");
    }
    raw.send_message(&Message::request(100, "faults.number", "5")).await;
    assert_eq!(raw.message().await, Some(Message::response(100, "5")), "nothing came in between");
}
