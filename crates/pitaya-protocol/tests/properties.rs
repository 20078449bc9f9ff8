//! What must hold for all inputs.

#![allow(clippy::unwrap_used, reason = "also in the helpers of tests")]

use bytes::{Bytes, BytesMut};
use pitaya_protocol::{
    Compression, Dictionary, EncodeOptions, HandshakeData, HandshakeReason, HandshakeResponse, Head, HeadBuf,
    InflateError, Message, Packet, PacketCodec, PacketKind, PomeloCodec, Route, inflate,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 4096;

fn packet_kind() -> impl Strategy<Value = PacketKind> {
    (1_u8..=5).prop_map(|byte| PacketKind::try_from(byte).unwrap())
}

fn packets() -> impl Strategy<Value = Vec<(PacketKind, Vec<u8>)>> {
    vec((packet_kind(), vec(any::<u8>(), 0..300)), 0..12)
}

/// Bodies of which some deflate well and some do not.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        (vec(any::<u8>(), 1..20), 0_usize..60).prop_map(|(part, times)| part.repeat(times)),
    ]
}

fn route() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]\\.[a-c]", "\\PC{0,60}", "x{200,255}"]
}

fn message() -> impl Strategy<Value = Message> {
    (0..5, any::<u64>(), 0_u32..64, route(), body()).prop_map(|(kind, id, shift, route, body)| {
        // Shifted, so that all lengths of ids are equally likely.
        let id = id >> shift;
        match kind {
            0 => Message::request(id, route, body),
            1 => Message::notify(route, body),
            2 => Message::response(id, body),
            3 => Message::error_response(id, body),
            _ => Message::push(route, body),
        }
    })
}

/// A dictionary over the short routes that [`route`] makes.
fn dictionary() -> impl Strategy<Value = Dictionary> {
    (vec(any::<bool>(), 9), 1_u16..65_000).prop_map(|(chosen, first)| {
        let routes =
            ["a", "b", "c"].into_iter().flat_map(|service| ["a", "b", "c"].map(|method| format!("{service}.{method}")));
        let entries =
            routes.zip(chosen).zip(first..).filter_map(|((route, chosen), code)| chosen.then_some((route, code)));
        Dictionary::new(entries).unwrap()
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Off), (0_usize..300).prop_map(|threshold| Compression::Above { threshold }),]
}

fn encode_all(packets: &[(PacketKind, Vec<u8>)]) -> BytesMut {
    let mut stream = BytesMut::new();
    for (kind, body) in packets {
        let before = stream.len();
        let (first, second) = body.split_at(body.len() / 3);
        PomeloCodec.encode(*kind, &[first, b"", second], &mut stream).unwrap();
        assert_eq!(stream.len() - before, PomeloCodec.encoded_len(body.len()));
    }
    stream
}

proptest! {
    #[test]
    fn packets_survive_any_chunking(
        packets in packets(),
        chunks in vec(1_usize..100, 1..20),
    ) {
        let mut stream = encode_all(&packets);
        let mut buffer = BytesMut::new();
        let mut decoded = Vec::new();
        for len in chunks.into_iter().cycle() {
            if stream.is_empty() {
                break;
            }
            buffer.unsplit(stream.split_to(len.min(stream.len())));
            while let Some(packet) = PomeloCodec.decode(&mut buffer, 300).unwrap() {
                decoded.push((packet.kind, packet.body.to_vec()));
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(decoded, packets);
    }

    #[test]
    fn a_packet_is_one_message(kind in packet_kind(), body in vec(any::<u8>(), 0..300)) {
        let mut message = encode_all(&[(kind, body.clone())]);
        let packet = PomeloCodec.decode_message(&mut message, body.len());
        prop_assert_eq!(packet, Ok(Packet { kind, body: body.into() }));
    }

    #[test]
    fn messages_survive(
        message in message(),
        dictionary in dictionary(),
        compression in compression(),
    ) {
        let options = EncodeOptions { dictionary: Some(&dictionary), compression };
        let bytes = message.encode(&options).unwrap();
        let plain = message.encode(&EncodeOptions::default()).unwrap();
        prop_assert!(bytes.len() <= plain.len());
        prop_assert_eq!(&Message::decode(bytes, &dictionary, LIMIT).unwrap(), &message);
        prop_assert_eq!(Message::decode(plain, &Dictionary::default(), 0).unwrap(), message);
    }

    #[test]
    fn compression_is_worth_it_or_not_done(body in body(), compression in compression()) {
        if let Some(deflated) = compression.apply(&body) {
            prop_assert!(deflated.len() < body.len());
            prop_assert_eq!(inflate(&deflated, body.len()).unwrap(), body);
        }
    }

    #[test]
    fn inflating_never_exceeds_the_limit(
        body in body(),
        limit in 0_usize..1500,
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let Some(mut stream) = (Compression::Above { threshold: 0 }).apply(&body) else {
            return Ok(());
        };
        if let Some((at, byte)) = damage {
            *at.get_mut(&mut stream) = byte;
            if let Ok(inflated) = inflate(&stream, limit) {
                prop_assert!(inflated.len() <= limit);
            }
            return Ok(());
        }
        match inflate(&stream, limit) {
            Ok(inflated) => {
                prop_assert!(body.len() <= limit);
                prop_assert!(inflated.capacity() <= limit + 1);
                prop_assert_eq!(inflated, body);
            }
            Err(error) => {
                prop_assert!(body.len() > limit);
                prop_assert_eq!(error, InflateError::TooLarge { limit });
            }
        }
    }

    #[test]
    fn decoders_do_not_panic(bytes in vec(any::<u8>(), 0..400), limit in 0_usize..500) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(packet)) = PomeloCodec.decode(&mut buffer, limit) {
            prop_assert!(packet.body.len() <= limit);
        }
        let mut message = BytesMut::from(&bytes[..]);
        let _ = PomeloCodec.decode_message(&mut message, limit);
        let _ = inflate(&bytes, limit);
        let _ = HandshakeData::parse(&bytes);
        let _ = HandshakeResponse::parse(&bytes, limit);
        let _ = Message::decode(bytes.into(), &Dictionary::default(), limit);
    }

    #[test]
    fn a_decoded_head_means_the_same_when_written_again(
        flag in any::<u8>(),
        rest in vec(any::<u8>(), 0..300),
    ) {
        let bytes = [&[flag], &rest[..]].concat();
        if let Ok(head) = Head::decode(&bytes) {
            prop_assert!(head.body_at <= bytes.len());
            let mut buf = HeadBuf::new();
            let written = head.encode(&mut buf).unwrap();
            // Never longer: only over-long ids shrink.
            prop_assert!(written.len() <= head.body_at);
            let again = Head { body_at: head.body_at, ..Head::decode(written).unwrap() };
            prop_assert_eq!(again, head);
        }
    }

    #[test]
    fn damaged_handshakes_do_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let request = br#"{"sys":{"platform":"mac","clientVersion":null},"user":{"age":30}}"#;
        let response = br#"{"code":200,"sys":{"dict":{"a.b":1},"heartbeat":30}}"#;
        let mut request = request.to_vec();
        *at.get_mut(&mut request) = byte;
        let _ = HandshakeData::parse(&request);
        let mut response = response.to_vec();
        *at.get_mut(&mut response) = byte;
        let _ = HandshakeResponse::parse(&response, LIMIT);
    }

    #[test]
    fn handshake_data_survives(
        texts in vec("\\PC{0,20}", 4),
        user in proptest::collection::btree_map("\\PC{0,8}", any::<i64>(), 0..5),
    ) {
        let mut data = HandshakeData::default();
        data.sys.platform.clone_from(&texts[0]);
        data.sys.lib_version.clone_from(&texts[1]);
        data.sys.client_build_number.clone_from(&texts[2]);
        data.sys.client_version.clone_from(&texts[3]);
        data.user = user.into_iter().map(|(key, value)| (key, value.into())).collect();
        prop_assert_eq!(HandshakeData::parse(&data.to_json()).unwrap(), data);
    }

    #[test]
    fn handshake_responses_survive(
        code in any::<u16>(),
        seconds in 1..=i32::MAX as u64,
        dictionary in dictionary(),
        serializer in "\\PC{0,20}",
        reason in proptest::option::of(("\\PC{0,20}", "\\PC{0,20}")),
        compression in any::<bool>(),
    ) {
        let heartbeat = Some(std::time::Duration::from_secs(seconds));
        let reason = reason.map(|(code, msg)| HandshakeReason { code, msg });
        let response = HandshakeResponse { code, heartbeat, dictionary, serializer, reason };
        let body = response.encode(compression).unwrap();
        prop_assert_eq!(HandshakeResponse::parse(&body, LIMIT).unwrap(), response);
    }

    #[test]
    fn a_route_is_its_parts(text in "[a. \\t\u{a0}]{0,12}") {
        if let Ok(route) = Route::parse(&text) {
            let again = Route::new(route.server_type(), route.service(), route.method());
            prop_assert_eq!(again, Ok(route.clone()));
            prop_assert_eq!(route.as_str(), text);
            let short = format!("{}.{}", route.service(), route.method());
            prop_assert_eq!(route.short(), short);
        }
    }
}

#[test]
fn a_message_body_is_not_copied() {
    let bytes = Bytes::from_static(b"\x02\x03a.bbody");
    let message = Message::decode(bytes.clone(), &Dictionary::default(), 0).unwrap();
    assert_eq!(message.body.as_ptr() as usize, bytes.as_ptr() as usize + 5);
}
