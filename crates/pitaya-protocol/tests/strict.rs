//! Where Go Pitaya is weak (protocol.md section 15.1, items 1 to 7): one test each.

#![allow(clippy::unwrap_used, reason = "also in the helpers of tests")]
#![allow(clippy::disallowed_types, reason = "time is an argument of the state machine")]

#[path = "support/hex.rs"]
mod hex;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hex::hex;
use pitaya_protocol::{
    CloseReason, Compression, Connection, Dictionary, Event, HandshakeError, HandshakeResponse, Head, InflateError,
    InvalidReason, Limits, Message, MessageError, Packet, PacketCodec, PacketError, PacketKind, PomeloCodec,
    ProtocolError, Role, State, TimeoutAction, Timeouts, inflate,
};

const MIB: usize = 1 << 20;
const TIMEOUTS: Timeouts = Timeouts {
    handshake: Duration::from_secs(10),
    partial_packet: Duration::from_secs(5),
    heartbeat: Duration::from_secs(30),
    idle: Duration::from_secs(75),
};

fn packet(kind: PacketKind) -> Packet {
    let body = Bytes::new();
    Packet { kind, body }
}

fn server(now: Instant) -> Connection {
    Connection::new(Role::Server, TIMEOUTS, now)
}

fn unexpected(kind: PacketKind, state: State) -> ProtocolError {
    let role = Role::Server;
    ProtocolError::Unexpected { role, kind, state }
}

#[test]
fn item_1_a_message_cut_anywhere_is_an_error_or_a_shorter_body() {
    let mut bytes = BytesMut::from(&hex("04000002 0001")[..]);
    let packet = PomeloCodec.decode(&mut bytes, 64).unwrap().unwrap();
    let error = MessageError::Invalid(InvalidReason::RouteTruncated);
    assert_eq!(Head::decode(&packet.body), Err(error));

    for whole in ["00 ac02 03 612e62", "01 ac02 0001", "02 03 612e62", "03 0001", "06 03 612e62"] {
        let whole = hex(whole);
        assert_eq!(Head::decode(&whole).unwrap().body_at, whole.len());
        for end in 0..whole.len() {
            let cut = Head::decode(&whole[..end]);
            assert!(matches!(cut, Err(MessageError::Invalid(_))), "{whole:x?} at {end}");
        }
    }
}

#[test]
fn item_2_an_id_must_end_and_fit_64_bits() {
    let check = |text: &str, reason| {
        let error = MessageError::Invalid(reason);
        assert_eq!(Head::decode(&hex(text)), Err(error), "{text}");
    };
    check("00 80", InvalidReason::IdUnterminated);
    check("00 ff ff ff", InvalidReason::IdUnterminated);
    check("04 ffffffffffffffffff", InvalidReason::IdUnterminated);
    check("04 ffffffffffffffffff02", InvalidReason::IdTooLong);
    check("04 ffffffffffffffffff81 00", InvalidReason::IdTooLong);
    check("04 80808080808080808080 01", InvalidReason::IdTooLong);
    let bytes = hex("04 ffffffffffffffffff01");
    assert_eq!(Head::decode(&bytes).unwrap().id, u64::MAX);
}

#[test]
fn item_3_inflating_stops_at_the_limit() {
    let bomb = Compression::Above { threshold: 0 }.apply(&vec![0; 16 * MIB]).unwrap();
    assert!(bomb.len() < MIB / 32);
    let error = InflateError::TooLarge { limit: MIB };
    assert_eq!(inflate(&bomb, MIB), Err(error.clone()));

    let message = Bytes::from([&hex("16 01 70"), &bomb[..]].concat());
    let message = Message::decode(message, &Dictionary::default(), MIB);
    assert_eq!(message, Err(MessageError::Inflate(error.clone())));

    let handshake = HandshakeResponse::parse(&bomb, MIB);
    assert!(matches!(handshake, Err(HandshakeError::Inflate(given)) if given == error));
}

#[test]
fn item_4_before_the_handshake_packets_are_small_and_reads_have_a_deadline() {
    let start = Instant::now();
    let mut connection = server(start);
    let limits = Limits { handshake: 4096, packet: 16 * MIB };
    // Four bytes are enough to refuse; nothing has been allocated for the announced body.
    let mut bytes = BytesMut::from(&hex("01ffffff")[..]);
    let capacity = bytes.capacity();
    let result = PomeloCodec.decode(&mut bytes, connection.max_body(&limits));
    let error = PacketError::TooLarge { len: 0xFF_FFFF, limit: 4096 };
    assert_eq!(result, Err(error));
    assert_eq!(bytes.capacity(), capacity);

    connection.partial_packet(true, start);
    let action = connection.handle_timeout(start + Duration::from_secs(5));
    let reason = CloseReason::PartialPacketTimeout;
    assert_eq!(action, Some(TimeoutAction::Close(reason)));

    let mut silent = server(start);
    let action = silent.handle_timeout(start + Duration::from_secs(10));
    let reason = CloseReason::HandshakeTimeout;
    assert_eq!(action, Some(TimeoutAction::Close(reason)));
}

/// The bound on the buffered message is the server's; this is the part that sees whole messages.
#[test]
fn item_5_a_websocket_message_is_one_packet_within_the_limit() {
    let check = |text: &str, expected: Result<&[u8], PacketError>| {
        let mut message = BytesMut::from(&hex(text)[..]);
        let packet = PomeloCodec.decode_message(&mut message, 3);
        assert_eq!(packet.as_ref().map(|packet| &packet.body[..]), expected.as_ref().copied());
    };
    check("04000003 aabbcc", Ok(&[0xAA, 0xBB, 0xCC]));
    check("03000000", Ok(&[]));
    check("", Err(PacketError::Truncated));
    check("040000", Err(PacketError::Truncated));
    check("04000003 aabb", Err(PacketError::Truncated));
    check("03000000 03000000", Err(PacketError::TrailingBytes { extra: 4 }));
    check("07000000", Err(PacketError::UnknownKind(7)));
    let error = PacketError::TooLarge { len: 4, limit: 3 };
    check("04000004 aabbccdd", Err(error));
}

#[test]
fn item_6_no_ack_without_an_accepted_handshake() {
    let now = Instant::now();
    let ack = PacketKind::HandshakeAck;

    let mut connection = server(now);
    let error = unexpected(ack, State::Handshake);
    assert_eq!(connection.handle_packet(packet(ack), now), Err(error));
    assert_eq!(connection.state(), State::Closed);

    // The validators have not decided yet.
    let mut connection = server(now);
    connection.handle_packet(packet(PacketKind::Handshake), now).unwrap();
    let error = unexpected(ack, State::Accepting);
    assert_eq!(connection.handle_packet(packet(ack), now), Err(error));
    assert!(connection.accept_handshake(now).is_err());

    // They have refused.
    let mut connection = server(now);
    connection.handle_packet(packet(PacketKind::Handshake), now).unwrap();
    connection.refuse_handshake();
    let error = unexpected(ack, State::Closed);
    assert_eq!(connection.handle_packet(packet(ack), now), Err(error));

    // And no data without the Ack.
    let mut connection = server(now);
    connection.handle_packet(packet(PacketKind::Handshake), now).unwrap();
    connection.accept_handshake(now).unwrap();
    let error = unexpected(PacketKind::Data, State::AwaitingAck);
    assert_eq!(connection.handle_packet(packet(PacketKind::Data), now), Err(error));
}

#[test]
fn item_7_one_handshake_per_connection_and_closed_is_closed() {
    let now = Instant::now();
    let working = || {
        let mut connection = server(now);
        let event = connection.handle_packet(packet(PacketKind::Handshake), now);
        assert_eq!(event, Ok(Event::Handshake(Bytes::new())));
        connection.accept_handshake(now).unwrap();
        let event = connection.handle_packet(packet(PacketKind::HandshakeAck), now);
        assert_eq!(event, Ok(Event::Established));
        connection
    };

    let mut connection = working();
    let error = unexpected(PacketKind::Handshake, State::Working);
    assert_eq!(connection.handle_packet(packet(PacketKind::Handshake), now), Err(error));
    assert_eq!(connection.state(), State::Closed);

    // A repeated Ack is harmless.
    let mut connection = working();
    let event = connection.handle_packet(packet(PacketKind::HandshakeAck), now);
    assert_eq!(event, Ok(Event::Ignored));
    assert_eq!(connection.state(), State::Working);

    connection.close();
    let far = now + Duration::from_secs(1000);
    for kind in
        [PacketKind::Handshake, PacketKind::HandshakeAck, PacketKind::Heartbeat, PacketKind::Data, PacketKind::Kick]
    {
        let error = unexpected(kind, State::Closed);
        assert_eq!(connection.handle_packet(packet(kind), now), Err(error));
        assert!(connection.accept_handshake(now).is_err());
        assert_eq!(connection.handle_timeout(far), None);
        assert_eq!(connection.state(), State::Closed);
    }
}
