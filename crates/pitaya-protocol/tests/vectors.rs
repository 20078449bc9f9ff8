//! Every vector of protocol.md sections 1 to 4, byte for byte.

#![allow(clippy::unwrap_used, reason = "also in the helpers of tests")]

#[path = "support/hex.rs"]
mod hex;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hex::hex;
use pitaya_protocol::{
    Compression, Dictionary, EncodeOptions, HandshakeData, HandshakeResponse, Head, InvalidReason, Message,
    MessageError, MessageKind, Packet, PacketCodec, PacketError, PacketKind, PomeloCodec, Route, RouteError, inflate,
    looks_compressed,
};

const LIMIT: usize = 4096;
const PLAIN: EncodeOptions<'_> = EncodeOptions { dictionary: None, compression: Compression::Off };

fn packet(text: &str) -> Packet {
    let mut bytes = BytesMut::from(&hex(text)[..]);
    let packet = PomeloCodec.decode(&mut bytes, LIMIT).unwrap().unwrap();
    assert!(bytes.is_empty());
    packet
}

fn encoded(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    PomeloCodec.encode(kind, &[body], &mut bytes).unwrap();
    assert_eq!(bytes.len(), PomeloCodec.encoded_len(body.len()));
    bytes.to_vec()
}

/// Section 1.6.
mod packets {
    use super::*;

    #[test]
    fn empty_packets() {
        for (text, kind) in [
            ("02000000", PacketKind::HandshakeAck),
            ("03000000", PacketKind::Heartbeat),
            ("05000000", PacketKind::Kick),
        ] {
            let body = Bytes::new();
            assert_eq!(packet(text), Packet { kind, body });
            assert_eq!(encoded(kind, b""), hex(text));
        }
    }

    #[test]
    fn two_packets_and_a_stray_byte() {
        let mut bytes = BytesMut::from(&hex("04000003 000000 04000001 ff 04")[..]);
        for expected in [&[0, 0, 0][..], &[0xFF]] {
            let packet = PomeloCodec.decode(&mut bytes, LIMIT).unwrap().unwrap();
            assert_eq!(packet.kind, PacketKind::Data);
            assert_eq!(packet.body, expected);
        }
        assert_eq!(PomeloCodec.decode(&mut bytes, LIMIT), Ok(None));
        assert_eq!(bytes, &[4][..]);
    }

    /// Go's slice decoder throws the good packet away; a stream has already delivered it.
    #[test]
    fn a_bad_type_behind_a_heartbeat() {
        let mut bytes = BytesMut::from(&hex("03000000 06000000")[..]);
        let first = PomeloCodec.decode(&mut bytes, LIMIT).unwrap().unwrap();
        assert_eq!(first.kind, PacketKind::Heartbeat);
        let error = Err(PacketError::UnknownKind(6));
        assert_eq!(PomeloCodec.decode(&mut bytes, LIMIT), error);
    }

    #[test]
    fn an_incomplete_packet_is_no_error() {
        let mut bytes = BytesMut::from(&hex("04000003 aabb")[..]);
        assert_eq!(PomeloCodec.decode(&mut bytes, LIMIT), Ok(None));
        assert_eq!(bytes.len(), 6);
    }

    #[test]
    fn a_request() {
        let text = "04000013 00010e726f6f6d2e726f6f6d2e6a6f696e7b7d";
        let packet = packet(text);
        let message = Message::decode(packet.body, &Dictionary::default(), LIMIT).unwrap();
        assert_eq!(message, Message::request(1, "room.room.join", "{}"));
        let body = message.encode(&PLAIN).unwrap();
        assert_eq!(encoded(PacketKind::Data, &body), hex(text));
    }
}

/// Section 2.9.
mod handshakes {
    use super::*;

    const OK: &str = "01000041 7b22636f6465223a3230302c22737973223a7b2264696374223a7b7d2c22686561727462656174223a33302c2273657269616c697a6572223a226a736f6e227d7d";

    fn response(code: u16, dictionary: Dictionary) -> HandshakeResponse {
        HandshakeResponse {
            code,
            heartbeat: Some(Duration::from_secs(30)),
            dictionary,
            serializer: String::from("json"),
            reason: None,
        }
    }

    #[test]
    fn the_request_of_the_go_client() {
        let text = "01000078 7b22737973223a7b22706c6174666f726d223a226d6163222c226c696256657273696f6e223a22302e332e352d72656c65617365222c22636c69656e744275696c644e756d626572223a223230222c22636c69656e7456657273696f6e223a22322e31227d2c2275736572223a7b22616765223a33307d7d";
        let packet = packet(text);
        assert_eq!(packet.kind, PacketKind::Handshake);
        let data = HandshakeData::parse(&packet.body).unwrap();
        assert_eq!(data.sys.platform, "mac");
        assert_eq!(data.sys.lib_version, "0.3.5-release");
        assert_eq!(data.sys.client_build_number, "20");
        assert_eq!(data.sys.client_version, "2.1");
        assert_eq!(data.user["age"], 30);
        assert_eq!(encoded(PacketKind::Handshake, &data.to_json()), hex(text));
    }

    #[test]
    fn the_default_response_stays_plain() {
        let packet = packet(OK);
        assert!(!looks_compressed(&packet.body));
        let parsed = HandshakeResponse::parse(&packet.body, LIMIT).unwrap();
        assert_eq!(parsed, response(200, Dictionary::default()));
        for compression in [false, true] {
            let body = parsed.encode(compression).unwrap();
            assert_eq!(encoded(PacketKind::Handshake, &body), hex(OK));
        }
    }

    #[test]
    fn a_refusal_differs_in_the_code() {
        let body = response(400, Dictionary::default()).encode(true).unwrap();
        let expected = OK.replacen("3a323030", "3a343030", 1);
        assert_eq!(encoded(PacketKind::Handshake, &body), hex(&expected));
        let start = hex("01000041 7b22636f6465223a3430302c");
        assert!(hex(&expected).starts_with(&start));
        assert_eq!(HandshakeResponse::parse(&body, LIMIT).unwrap().code, 400);
    }

    #[test]
    fn a_response_with_a_dictionary_is_deflated() {
        let json = br#"{"code":200,"sys":{"dict":{"connector.getsessiondata":1,"connector.setsessiondata":2,"onMembers":5,"onMessage":4,"room.room.getsessiondata":3},"heartbeat":30,"serializer":"json"}}"#;
        assert_eq!(json.len(), 179);
        let packet = packet(
            "01000082 789c5c8e41aac3300c44ef326b13f293df8deed04328b6485d1a0b246ddae0bb97b49b92cd0cc383e1edc85a04348d63823f1db4a3d41c47676d4d72a80dab848b7bd5563818f4977ea09fe094a0ed2adb22e6a0cb77b9f32aa0ff0453dd864f9c5fe79e7013b6588403341f4662951ff52506c2ddb5a1f777000000ffffbe583e3b",
        );
        assert!(looks_compressed(&packet.body));
        assert_eq!(inflate(&packet.body, LIMIT).unwrap(), json);

        let dictionary = Dictionary::new([
            ("connector.getsessiondata", 1),
            ("connector.setsessiondata", 2),
            ("room.room.getsessiondata", 3),
            ("onMessage", 4),
            ("onMembers", 5),
        ])
        .unwrap();
        let expected = response(200, dictionary);
        let parsed = HandshakeResponse::parse(&packet.body, LIMIT).unwrap();
        assert_eq!(parsed, expected);
        assert_eq!(expected.encode(false).unwrap(), json);
        let ours = expected.encode(true).unwrap();
        assert!(ours.len() < json.len());
        assert!(looks_compressed(&ours));
        assert_eq!(inflate(&ours, LIMIT).unwrap(), json);
    }
}

/// Section 3.6, first table.
mod messages {
    use super::*;

    fn check(text: &str, dictionary: &Dictionary, expected: &Message) {
        let bytes = Bytes::from(hex(text));
        let message = Message::decode(bytes.clone(), dictionary, LIMIT).unwrap();
        assert_eq!(message, *expected, "{text}");
        let options = EncodeOptions { dictionary: Some(dictionary), ..PLAIN };
        if !Head::decode(&bytes).unwrap().compressed {
            assert_eq!(message.encode(&options).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn routes_by_name() {
        let empty = Dictionary::default();
        let join = Message::request(1, "room.room.join", "{}");
        check("00 01 0e 726f6f6d2e726f6f6d2e6a6f696e 7b7d", &empty, &join);
        check("00 8001 03 612e62", &empty, &Message::request(128, "a.b", ""));
        let hi = Message::request(300, "connector.entry.hi", "x");
        check("00 ac02 12 636f6e6e6563746f722e656e7472792e6869 78", &empty, &hi);
        check("02 03 612e62 6869", &empty, &Message::notify("a.b", "hi"));
        let push = Message::push("onMessage", r#"{"a":1}"#);
        check("06 09 6f6e4d657373616765 7b2261223a317d", &empty, &push);
    }

    #[test]
    fn routes_by_code() {
        let dictionary = Dictionary::new([("room.room.join", 1), ("onMessage", 258)]).unwrap();
        let join = Message::request(1, "room.room.join", "{}");
        check("01 01 0001 7b7d", &dictionary, &join);
        check("07 0102 7b7d", &dictionary, &Message::push("onMessage", "{}"));
        let unknown = Message::decode(hex("01 01 0002 7b7d").into(), &dictionary, LIMIT);
        assert_eq!(unknown, Err(MessageError::UnknownRouteCode(2)));
    }

    #[test]
    fn responses() {
        let empty = Dictionary::default();
        let zero = Message::response(1, r#"{"code":0}"#);
        check("04 01 7b22636f6465223a307d", &empty, &zero);
        let last = Message::response(u64::MAX, "");
        check("04 ffffffffffffffffff01", &empty, &last);
    }

    #[test]
    fn compressed_bodies() {
        let empty = Dictionary::default();
        let pitaya = Message::response(5, "pitaya ".repeat(8));
        check("14 05 789c2ac82c49ac4c54209902040000ffff65ce1541", &empty, &pitaya);
        let push = Message::push("p", "a".repeat(64));
        check("16 01 70 789c4aa41000020000ffff148d1841", &empty, &push);
        for message in [pitaya, push] {
            let options = EncodeOptions { dictionary: None, compression: Compression::Above { threshold: 0 } };
            let bytes = message.encode(&options).unwrap();
            assert!(Head::decode(&bytes).unwrap().compressed);
            assert_eq!(Message::decode(bytes, &empty, LIMIT), Ok(message));
        }
    }

    #[test]
    fn error_responses() {
        let json = r#"{"code":"PIT-404","msg":"pitaya/handler: room.x.y not found"}"#;
        let protobuf = b"\x0a\x07PIT-404\x12\x22pitaya/handler: room.x.y not found";
        for (text, body) in [
            (
                "0400003f 24 02 7b22636f6465223a225049542d343034222c226d7367223a227069746179612f68616e646c65723a20726f6f6d2e782e79206e6f7420666f756e64227d",
                json.as_bytes(),
            ),
            (
                "0400002f 24 02 0a075049542d34303412227069746179612f68616e646c65723a20726f6f6d2e782e79206e6f7420666f756e64",
                protobuf,
            ),
        ] {
            let expected = Message::error_response(2, body);
            let message = Message::decode(packet(text).body, &Dictionary::default(), LIMIT);
            assert_eq!(message.as_ref(), Ok(&expected));
            let bytes = expected.encode(&PLAIN).unwrap();
            assert_eq!(encoded(PacketKind::Data, &bytes), hex(text));
        }
    }
}

/// Section 3.6, the table of edge cases: its last column.
mod edge_cases {
    use super::*;

    fn decode(text: &str) -> Result<Message, MessageError> {
        Message::decode(hex(text).into(), &Dictionary::default(), LIMIT)
    }

    #[test]
    fn invalid_messages() {
        let check = |text, reason| {
            assert_eq!(decode(text), Err(MessageError::Invalid(reason)), "{text}");
        };
        check("", InvalidReason::TooShort);
        check("00", InvalidReason::TooShort);
        check("0001", InvalidReason::RouteTruncated);
        check("0480", InvalidReason::IdUnterminated);
        check("000180", InvalidReason::RouteTruncated);
        check("0301", InvalidReason::RouteTruncated);
        check("0210 61", InvalidReason::RouteTruncated);
        // Before v2.7.2 Go panicked on every overrun.
        check("00 01 03 6162", InvalidReason::RouteTruncated);
        check("06 09 6f", InvalidReason::RouteTruncated);
        check("01 01 00", InvalidReason::RouteTruncated);
        check("01 01", InvalidReason::RouteTruncated);
        check("07 01", InvalidReason::RouteTruncated);
        // Not in the table: a route must be UTF-8, an id must fit 64 bits.
        check("02 01 ff", InvalidReason::RouteNotUtf8);
        check("00 80808080808080808080 01 00", InvalidReason::IdTooLong);
    }

    #[test]
    fn valid_oddities() {
        assert_eq!(decode("0200"), Ok(Message::notify("", "")));
        assert_eq!(Route::parse(""), Err(RouteError::Empty));
        assert_eq!(decode("0400"), Ok(Message::response(0, "")));
        assert_eq!(decode("040a"), Ok(Message::response(10, "")));
        assert_eq!(decode("05 01 61"), Ok(Message::response(1, "a")));
        assert_eq!(decode("c2 03 612e62 6869"), Ok(Message::notify("a.b", "hi")));
    }

    #[test]
    fn wrong_types() {
        assert_eq!(decode("0a00"), Err(MessageError::UnknownKind(5)));
        for (flag, kind) in [("08", 4), ("0a", 5), ("0c", 6), ("0e", 7)] {
            let text = format!("{flag} 00 00");
            assert_eq!(decode(&text), Err(MessageError::UnknownKind(kind)));
        }
    }
}

/// Section 4.
mod routes {
    use super::*;

    #[test]
    fn grammar() {
        let route = Route::parse("room.join").unwrap();
        assert_eq!(route.server_type(), None);
        assert_eq!((route.service(), route.method()), ("room", "join"));
        assert_eq!(Route::parse("a.b.c.d"), Err(RouteError::Invalid));
        for text in ["a..c", "", ". ."] {
            assert_eq!(Route::parse(text), Err(RouteError::Empty), "{text}");
        }
    }

    #[test]
    fn answers_to_bad_requests() {
        let request = packet("04000003 000100");
        let head = Head::decode(&request.body).unwrap();
        assert_eq!((head.kind, head.id), (MessageKind::Request, 1));
        let name = head.route.resolve(&Dictionary::default()).map(str::to_owned);
        assert_eq!(name.as_deref(), Ok(""));

        let empty_route = RouteError::Empty.to_string();
        for (text, code, msg) in [
            (
                "04000039 24 01 7b22636f6465223a225049542d343030222c226d7367223a22726f757465206669656c642063616e206e6f7420626520656d707479227d",
                "PIT-400",
                &*empty_route,
            ),
            (
                "0400003e 24 01 7b22636f6465223a225049542d353030222c226d7367223a226e6f207365727665727320617661696c61626c65206f6620746869732074797065227d",
                "PIT-500",
                "no servers available of this type",
            ),
        ] {
            let body = format!(r#"{{"code":"{code}","msg":"{msg}"}}"#);
            let answer = Message::error_response(1, body);
            // Compression is on in the recorded server and does not help here.
            let options = EncodeOptions { dictionary: None, compression: Compression::Above { threshold: 0 } };
            let bytes = answer.encode(&options).unwrap();
            assert_eq!(encoded(PacketKind::Data, &bytes), hex(text));
        }
    }
}
