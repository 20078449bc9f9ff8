//! Traffic recorded between Go Pitaya servers and their clients: every packet decodes to what the recorder saw, encodes
//! back to the same bytes, and is what both state machines expect.

#![allow(clippy::unwrap_used, reason = "also in the helpers of tests")]
#![allow(clippy::disallowed_types, reason = "time is an argument of the state machine")]

#[path = "support/hex.rs"]
mod hex;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hex::hex;
use pitaya_protocol::{
    Connection, Dictionary, EncodeOptions, Event, HandshakeData, HandshakeResponse, Head, Message, MessageKind, Packet,
    PacketCodec, PacketKind, PomeloCodec, Role, State, Timeouts, looks_compressed,
};
use serde_json::Value;

const LIMIT: usize = 1 << 16;

/// The client packets of one recording, in order; `packet` is `None` where the connection closed.
struct TcpEvent {
    conn: String,
    to_server: bool,
    packet: Option<(Vec<u8>, Value)>,
}

/// Returns all recordings by file name.
fn recordings() -> Vec<(String, Vec<TcpEvent>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let recording: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let events = recording["events"].as_array().unwrap().iter();
        let events = events.filter(|event| event["at"] == "tcp").map(tcp_event);
        (name, events.collect())
    };
    files.iter().map(|path| read(path)).collect()
}

fn tcp_event(event: &Value) -> TcpEvent {
    let packet = event["hex"].as_str().map(|text| (hex(text), event["decoded"].clone()));
    assert!(packet.is_some() || event["op"] == "closed", "{event}");
    TcpEvent { conn: event["conn"].as_str().unwrap().to_owned(), to_server: event["dir"] == "c2s", packet }
}

fn decode(bytes: &[u8]) -> Packet {
    let mut buffer = BytesMut::from(bytes);
    PomeloCodec.decode_message(&mut buffer, LIMIT).unwrap()
}

fn encode(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    PomeloCodec.encode(kind, &[body], &mut buffer).unwrap();
    buffer.to_vec()
}

#[test]
fn packets_decode_to_what_was_recorded() {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (file, events) in recordings() {
        for event in events {
            let Some((bytes, decoded)) = event.packet else {
                continue;
            };
            let context = format!("{file}: {decoded}");
            let packet = decode(&bytes);
            let name = match packet.kind {
                PacketKind::Handshake => "handshake",
                PacketKind::HandshakeAck => "handshakeAck",
                PacketKind::Heartbeat => "heartbeat",
                PacketKind::Data => "data",
                PacketKind::Kick => "kick",
            };
            assert_eq!(decoded["packet"], name, "{context}");
            assert_eq!(encode(packet.kind, &packet.body), bytes, "{context}");
            match packet.kind {
                PacketKind::Handshake if event.to_server => check_request(&packet.body),
                PacketKind::Handshake => check_response(&packet.body, &decoded),
                PacketKind::Data => check_message(&packet.body, &decoded, &context),
                PacketKind::HandshakeAck | PacketKind::Heartbeat | PacketKind::Kick => {
                    assert!(packet.body.is_empty(), "{context}");
                }
            }
            *counts.entry(name).or_default() += 1;
        }
    }
    // So that a lost folder or a renamed field does not pass unnoticed.
    assert_eq!(counts["handshake"], 10);
    assert_eq!(counts["handshakeAck"], 5);
    assert_eq!(counts["kick"], 13);
    assert_eq!(counts["data"], 246);
}

/// The recorded clients are Go's, whose order of keys is ours.
fn check_request(body: &[u8]) {
    let data = HandshakeData::parse(body).unwrap();
    assert_eq!(data.sys.lib_version, "0.3.5-release");
    assert_eq!(data.to_json(), body);
}

fn check_response(body: &[u8], decoded: &Value) {
    let zlib = decoded["zlib"].as_bool().unwrap();
    assert_eq!(looks_compressed(body), zlib);
    let response = HandshakeResponse::parse(body, LIMIT).unwrap();
    let json: Value = serde_json::from_slice(&response.encode(false).unwrap()).unwrap();
    assert_eq!(json, decoded["json"]);
    if !zlib {
        assert_eq!(response.encode(true).unwrap(), body);
    }
}

fn check_message(bytes: &Bytes, decoded: &Value, context: &str) {
    let zlib = decoded["zlib"].as_bool().unwrap_or_default();
    assert_eq!(Head::decode(bytes).unwrap().compressed, zlib, "{context}");
    let message = Message::decode(bytes.clone(), &Dictionary::default(), LIMIT).unwrap();
    let kind = match message.kind {
        MessageKind::Request => "Request",
        MessageKind::Notify => "Notify",
        MessageKind::Response => "Response",
        MessageKind::Push => "Push",
    };
    assert_eq!(decoded["type"], kind, "{context}");
    assert_eq!(decoded["id"].as_u64().unwrap_or_default(), message.id, "{context}");
    assert_eq!(decoded["route"].as_str().unwrap_or_default(), message.route, "{context}");
    assert_eq!(decoded["error"].as_bool().unwrap_or_default(), message.error, "{context}");

    let body = &decoded["body"];
    if let Some(json) = body.get("json") {
        let found: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(found, *json, "{context}");
    } else if let Some(text) = body.get("text") {
        assert_eq!(message.body, text.as_str().unwrap(), "{context}");
    } else if let Some(bytes) = body.get("hex") {
        assert_eq!(message.body, hex(bytes.as_str().unwrap()), "{context}");
    } else {
        // A protobuf message: its fields are no matter of this crate.
        assert!(body.is_object(), "{context}");
    }
    if !zlib {
        assert_eq!(message.encode(&EncodeOptions::default()).unwrap(), *bytes, "{context}");
    }
}

/// Both ends of a recorded conversation.
struct Pair {
    server: Connection,
    client: Connection,
}

impl Pair {
    fn new(now: Instant) -> Self {
        let timeouts = Timeouts {
            handshake: Duration::from_secs(10),
            partial_packet: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
            idle: Duration::from_secs(75),
        };
        Self {
            server: Connection::new(Role::Server, timeouts, now),
            client: Connection::new(Role::Client, timeouts, now),
        }
    }

    fn deliver_to_server(&mut self, packet: Packet, now: Instant) {
        let Packet { kind, body } = packet.clone();
        let expected = match kind {
            PacketKind::Handshake => Event::Handshake(body),
            PacketKind::HandshakeAck => {
                self.client.accept_handshake(now).unwrap();
                Event::Established
            }
            PacketKind::Heartbeat => Event::Heartbeat,
            PacketKind::Data => Event::Data(body),
            PacketKind::Kick => Event::Ignored,
        };
        assert_eq!(self.server.handle_packet(packet, now), Ok(expected));
    }

    fn deliver_to_client(&mut self, packet: Packet, now: Instant) {
        let Packet { kind, body } = packet.clone();
        let expected = match kind {
            PacketKind::Handshake => {
                self.server.accept_handshake(now).unwrap();
                Event::Handshake(body)
            }
            PacketKind::HandshakeAck => Event::Ignored,
            PacketKind::Heartbeat => Event::Heartbeat,
            PacketKind::Data => Event::Data(body),
            PacketKind::Kick => Event::Kicked(body),
        };
        assert_eq!(self.client.handle_packet(packet, now), Ok(expected));
    }
}

#[test]
fn conversations_run_through_both_state_machines() {
    let start = Instant::now();
    let mut conversations = 0;
    let mut packets = 0;
    for (_, events) in recordings() {
        let mut pairs: HashMap<String, Pair> = HashMap::new();
        for (event, second) in events.into_iter().zip(0..) {
            let now = start + Duration::from_secs(second);
            let Some((bytes, _)) = event.packet else {
                if let Some(mut pair) = pairs.remove(&event.conn) {
                    pair.server.close();
                    pair.client.close();
                    assert_eq!((pair.server.deadline(), pair.client.deadline()), (None, None));
                }
                continue;
            };
            let packet = decode(&bytes);
            if event.to_server && packet.kind == PacketKind::Handshake {
                conversations += 1;
                let before = pairs.insert(event.conn.clone(), Pair::new(now));
                assert!(before.is_none(), "two handshakes on one connection");
            }
            // Most recordings begin in the middle of a conversation; those have no machines.
            if let Some(pair) = pairs.get_mut(&event.conn) {
                packets += 1;
                if event.to_server {
                    pair.deliver_to_server(packet, now);
                } else {
                    pair.deliver_to_client(packet, now);
                }
            }
        }
        for pair in pairs.values() {
            let states = (pair.server.state(), pair.client.state());
            assert_eq!(states, (State::Working, State::Working));
        }
    }
    assert_eq!(conversations, 5);
    assert!(packets > 30, "{packets} packets");
}
