//! WebSocket connections, seen by a foreign peer: tokio-tungstenite (protocol.md 1.4).

use futures_util::{SinkExt as _, StreamExt as _};
use pitaya::{Json, Server, Session, handlers, settings};
use pitaya_protocol::{Dictionary, Message, MessageKind, Packet, PacketCodec as _, PacketKind, PomeloCodec};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error, Message as Frames,
        error::ProtocolError,
        protocol::{
            CloseFrame, Role,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use crate::support::{Recorder, Running, desk, encode_message, encode_packet, eventually, serve, soon};

/// The foreign peer, speaking packets.
struct Peer<S> {
    socket: WebSocketStream<S>,
}

impl Peer<MaybeTlsStream<TcpStream>> {
    async fn connect(server: &Running) -> Self {
        let connecting = tokio_tungstenite::connect_async(format!("ws://{}/any/path", server.ws));
        let (socket, _) = soon("connect", connecting).await.unwrap();
        Self { socket }
    }

    async fn established(server: &Running) -> Self {
        let mut peer = Self::connect(server).await;
        peer.shake_hands().await;
        peer
    }
}

impl Peer<DuplexStream> {
    async fn through_memory(server: &Running) -> Self {
        let stream = server.pipes.websocket().await;
        let mut peer = Self { socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await };
        peer.shake_hands().await;
        peer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn shake_hands(&mut self) {
        self.send(encode_packet(PacketKind::Handshake, b"{}")).await;
        assert_eq!(self.packet().await.unwrap().kind, PacketKind::Handshake);
        self.send(encode_packet(PacketKind::HandshakeAck, b"")).await;
    }

    /// Sends bytes as one binary message.
    async fn send(&mut self, bytes: impl Into<pitaya::Bytes>) {
        self.send_frames(Frames::Binary(bytes.into())).await;
    }

    async fn send_frames(&mut self, frames: Frames) {
        self.socket.send(frames).await.unwrap();
    }

    /// What comes next; `None` when the server has closed the TCP connection, with or without a word.
    async fn next(&mut self) -> Option<Frames> {
        match soon("a message or the end", self.socket.next()).await {
            None | Some(Err(Error::ConnectionClosed | Error::Io(_))) => None,
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => None,
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(frames)) => Some(frames),
        }
    }

    /// The packet in the next message, which must be a binary one with exactly that in it.
    async fn packet(&mut self) -> Option<Packet> {
        match self.next().await? {
            Frames::Binary(bytes) => {
                let packet = PomeloCodec.decode_message(&mut bytes.into(), pitaya_protocol::MAX_BODY_LEN);
                Some(packet.expect("one packet in one message"))
            }
            other => panic!("not a binary message: {other:?}"),
        }
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            let packet = self.packet().await?;
            if packet.kind != PacketKind::Heartbeat {
                assert_eq!(packet.kind, PacketKind::Data);
                return Some(Message::decode(packet.body, &Dictionary::default(), 1 << 20).unwrap());
            }
        }
    }

    /// Sends a request and waits for its answer.
    async fn assert_served(&mut self, id: u64) {
        self.send(encode_message(&Message::request(id, "desk.echo", "hi"))).await;
        assert_eq!(self.message().await, Some(Message::response(id, "hi")));
    }

    async fn assert_closed(&mut self) {
        let next = self.next().await;
        assert!(next.is_none(), "{next:?}");
    }
}

fn echo(id: u64, body: &str) -> pitaya::Bytes {
    encode_message(&Message::request(id, "desk.echo", body.to_owned())).freeze()
}

fn data_frame(kind: Data, payload: &[u8], is_final: bool) -> Frames {
    Frames::Frame(Frame::message(payload.to_vec(), OpCode::Data(kind), is_final))
}

#[tokio::test]
async fn a_foreign_client_is_answered() {
    let server = serve(desk()).await;
    let mut peer = Peer::established(&server).await;
    for id in [1, 2, 300] {
        peer.assert_served(id).await;
    }
    peer.send(encode_message(&Message::request(301, "desk.none", ""))).await;
    let answer = peer.message().await.unwrap();
    assert!(answer.error && answer.id == 301, "{answer:?}");
}

#[tokio::test]
async fn text_messages_are_read_like_binary_ones_and_answers_are_binary() {
    let server = serve(desk()).await;
    let mut peer = Peer::connect(&server).await;
    let texts = [
        encode_packet(PacketKind::Handshake, b"{}"),
        encode_packet(PacketKind::HandshakeAck, b""),
        echo(1, "hi")[..].into(),
    ];
    for text in texts {
        peer.send_frames(Frames::text(String::from_utf8(text.to_vec()).unwrap())).await;
    }
    assert_eq!(peer.packet().await.unwrap().kind, PacketKind::Handshake);
    assert_eq!(peer.message().await, Some(Message::response(1, "hi")));
}

#[tokio::test]
async fn fragments_are_joined_with_a_ping_between_them() {
    let server = serve(desk()).await;
    let mut peer = Peer::established(&server).await;
    let packet = echo(1, "fragments");
    for (at, byte) in packet.iter().enumerate() {
        let kind = if at == 0 { Data::Binary } else { Data::Continue };
        peer.send_frames(data_frame(kind, &[*byte], at + 1 == packet.len())).await;
        if at == 5 {
            peer.send_frames(Frames::Ping("between".into())).await;
            assert_eq!(peer.next().await, Some(Frames::Pong("between".into())));
        }
    }
    assert_eq!(peer.message().await, Some(Message::response(1, "fragments")));
    // An empty frame may begin or end a message.
    peer.send_frames(data_frame(Data::Binary, &[], false)).await;
    peer.send_frames(data_frame(Data::Continue, &echo(2, "x"), false)).await;
    peer.send_frames(data_frame(Data::Continue, &[], true)).await;
    assert_eq!(peer.message().await, Some(Message::response(2, "x")));
}

#[tokio::test]
async fn pings_are_answered_in_order_with_what_they_hold() {
    let server = serve(desk()).await;
    let mut peer = Peer::connect(&server).await;
    for payload in [vec![], b"before the handshake".to_vec(), vec![7; 125]] {
        peer.send_frames(Frames::Ping(payload.clone().into())).await;
        assert_eq!(peer.next().await, Some(Frames::Pong(payload.into())));
    }
    peer.shake_hands().await;
    for id in 1..=20 {
        peer.send_frames(Frames::Ping(vec![id as u8].into())).await;
        peer.send_frames(Frames::Pong("unasked".into())).await;
        peer.send(echo(id, "hi")).await;
    }
    for id in 1..=20 {
        assert_eq!(peer.next().await, Some(Frames::Pong(vec![id as u8].into())));
        assert_eq!(peer.message().await, Some(Message::response(id, "hi")));
    }
}

/// Only packets count as life (protocol.md 1.4, 2.6).
#[tokio::test(start_paused = true)]
async fn pings_do_not_keep_a_connection_alive() {
    let recorder = Recorder::default();
    let interval = Duration::from_secs(4);
    let server = serve(desk().reporter(recorder.clone()).set(&settings::HEARTBEAT_INTERVAL, interval)).await;
    let start = Instant::now();
    let mut peer = Peer::through_memory(&server).await;
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(1), peer.next()).await {
            Err(_) => peer.send_frames(Frames::Ping("alive?".into())).await,
            Ok(Some(Frames::Pong(_) | Frames::Binary(_))) => {}
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => break start.elapsed(),
        }
        assert!(start.elapsed() < 4 * interval, "it lives on pings");
    };
    assert!((2 * interval..3 * interval).contains(&end), "{end:?}");
    eventually("it is counted", || recorder.value("session.closed{idle}") == 1).await;
}

#[tokio::test]
async fn a_close_frame_is_answered_and_ends_the_connection() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let frame = CloseFrame { code: CloseCode::Away, reason: "good night".into() };
    for (count, close) in (1..).zip([Some(frame), None]) {
        let mut peer = Peer::established(&server).await;
        peer.assert_served(1).await;
        // What was asked before is still answered.
        peer.send(echo(2, "last")).await;
        peer.send_frames(Frames::Close(close.clone())).await;
        assert_eq!(peer.message().await, Some(Message::response(2, "last")));
        assert_eq!(peer.next().await, Some(Frames::Close(close)));
        peer.assert_closed().await;
        eventually("the client has closed", || recorder.value("session.closed{client_closed}") == count).await;
    }
    assert_eq!(recorder.value("session.closed{protocol}"), 0);
}

/// One message carries one packet, whole (protocol.md 1.4).
#[tokio::test]
async fn a_message_that_is_not_exactly_one_packet_closes() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let mut bystander = Peer::established(&server).await;
    let two = [echo(1, "a"), echo(2, "b")].concat();
    let short = &echo(1, "shorter")[..12];
    let cases: [(&str, &[u8]); 6] = [
        ("two packets", &two),
        ("a packet and a byte", &[3, 0, 0, 0, 9]),
        ("shorter than its header says", short),
        ("shorter than a header", &[4, 0, 0]),
        ("empty", &[]),
        ("of an unknown type", &[6, 0, 0, 0]),
    ];
    for (count, (name, message)) in (1..).zip(cases) {
        let mut peer = Peer::established(&server).await;
        peer.send(message.to_vec()).await;
        peer.assert_closed().await;
        eventually(name, || recorder.value("session.closed{protocol}") == count).await;
    }
    bystander.assert_served(1).await;
}

#[tokio::test]
async fn a_frame_that_a_client_must_not_send_closes() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone()).set_text("pitaya.packet.maxsize", "64KiB")).await;
    let too_large = [&[0x82, 0x80 | 127][..], &(64 * 1024 + 5_u64).to_be_bytes(), &[0; 4]].concat();
    let begun = 60 * 1024_u64;
    let mut fragments_too_large = [&[0x02, 0x80 | 127][..], &begun.to_be_bytes(), &[0; 4]].concat();
    fragments_too_large.extend(vec![4; begun as usize]);
    fragments_too_large.extend([&[0x80, 0x80 | 127][..], &(8 * 1024_u64).to_be_bytes(), &[0; 4]].concat());
    let cases: [(&str, &[u8]); 8] = [
        ("not masked", &[0x82, 4, 3, 0, 0, 0]),
        ("a reserved bit", &[0xC2, 0x84, 0, 0, 0, 0, 3, 0, 0, 0]),
        ("a reserved opcode", &[0x83, 0x84, 0, 0, 0, 0, 3, 0, 0, 0]),
        ("a continuation of nothing", &[0x80, 0x84, 0, 0, 0, 0, 3, 0, 0, 0]),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0]),
        ("a long ping", &[0x89, 0x80 | 126, 0, 126, 0, 0, 0, 0]),
        // Its header is enough: the rest never comes.
        ("a message over the limit", &too_large),
        ("fragments over the limit", &fragments_too_large),
    ];
    for (count, (name, bytes)) in (1..).zip(cases) {
        let mut peer = Peer::established(&server).await;
        peer.socket.get_mut().write_all(bytes).await.unwrap();
        peer.assert_closed().await;
        eventually(name, || recorder.value("session.closed{protocol}") == count).await;
    }
}

/// Before the handshake the limit is the small one, and it counts the fragments together.
#[tokio::test]
async fn a_message_over_the_limit_of_the_handshake_closes() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let mut peer = Peer::connect(&server).await;
    let header = [&[0x82, 0x80 | 126][..], &(4 * 1024 + 5_u16).to_be_bytes(), &[0; 4]].concat();
    peer.socket.get_mut().write_all(&header).await.unwrap();
    peer.assert_closed().await;
    let mut peer = Peer::connect(&server).await;
    let handshake = encode_packet(PacketKind::Handshake, format!("{{}}{}", " ".repeat(4 * 1024)).as_bytes());
    peer.send_frames(data_frame(Data::Binary, &handshake[..4000], false)).await;
    peer.send_frames(data_frame(Data::Continue, &handshake[4000..], true)).await;
    peer.assert_closed().await;
    eventually("both are counted", || recorder.value("session.closed{protocol}") == 2).await;
}

/// Fragments are parts of a packet: together they have its deadline, whatever comes between them.
#[tokio::test(start_paused = true)]
async fn a_message_whose_fragments_do_not_end_is_closed_at_the_deadline_of_a_packet() {
    let recorder = Recorder::default();
    let timeout = Duration::from_secs(9);
    let server = serve(desk().reporter(recorder.clone()).set(&settings::PACKET_TIMEOUT, timeout)).await;
    let mut peer = Peer::through_memory(&server).await;
    let start = Instant::now();
    peer.send_frames(data_frame(Data::Binary, b"\x04", false)).await;
    loop {
        match tokio::time::timeout(Duration::from_secs(2), peer.next()).await {
            Ok(None) => break,
            Ok(Some(next)) => assert!(matches!(next, Frames::Pong(_)), "{next:?}"),
            // One fragment more, and a ping.
            Err(_) => {
                peer.send_frames(data_frame(Data::Continue, b"\x00", false)).await;
                peer.send_frames(Frames::Ping("".into())).await;
            }
        }
        assert!(start.elapsed() < 2 * timeout, "it lives on fragments");
    }
    assert_eq!(start.elapsed().as_secs(), 9);
    eventually("it is counted", || recorder.value("session.closed{partial_packet}") == 1).await;
}

#[tokio::test]
async fn the_longest_packet_fits_a_message() {
    let server = serve(desk()).await;
    let mut peer = Peer::established(&server).await;
    let head = echo(1, "").len() - 4;
    let body = "x".repeat(64 * 1024 - head);
    peer.send(echo(1, &body)).await;
    assert_eq!(peer.message().await.unwrap().body, body);
    peer.send(echo(2, &(body + "x"))).await;
    peer.assert_closed().await;
}

struct Burst;

#[handlers(name = "burst")]
impl Burst {
    #[request]
    async fn push(&self, session: Session, Json(count): Json<u32>) -> pitaya::Result<Json<u32>> {
        for number in 1..=count {
            // Of every length class of frames, the longest last.
            let text = "x".repeat(number as usize * 700);
            session.push("burst", Json((number, text))).await?;
        }
        Ok(Json(count))
    }
}

#[tokio::test]
async fn each_packet_of_a_burst_arrives_in_a_message_of_its_own_and_in_order() {
    let builder = Server::frontend("game").handlers(Burst).set(&settings::COMPRESSION, false);
    let server = serve(builder.set_text("pitaya.buffer.agent.bytes", "64MiB")).await;
    let mut peer = Peer::established(&server).await;
    peer.send(encode_message(&Message::request(1, "burst.push", "200"))).await;
    for expected in 1..=200 {
        // `packet` refuses a message that holds anything but one packet.
        let push = peer.message().await.unwrap();
        assert_eq!((push.kind, push.route.as_str()), (MessageKind::Push, "burst"));
        let (number, text): (u32, String) = serde_json::from_slice(&push.body).unwrap();
        assert_eq!((number, text.len()), (expected, expected as usize * 700));
    }
    assert_eq!(peer.message().await, Some(Message::response(1, "200")));
}

/// A kick is a packet like any other; the TCP connection closes behind it without a close frame.
#[tokio::test]
async fn a_kick_is_the_last_message() {
    let server = serve(desk()).await;
    let mut peer = Peer::established(&server).await;
    peer.assert_served(1).await;
    server.stop().await.unwrap();
    let packet = peer.packet().await.unwrap();
    assert_eq!((packet.kind, packet.body.len()), (PacketKind::Kick, 0));
    peer.assert_closed().await;
}
