//! What was sent, as a tree of fields, and how two of them differ.

use std::collections::HashMap;

use bytes::Bytes;
use pitaya::{PacketKind, cluster::protos};
use pitaya_protocol::{Dictionary, Head, Message, MessageKind, Packet};
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::servers::{TestRequest, TestResponse};

/// The fields of a message between servers. `hint` is what the recorder read in the recorded one: it says what bytes within
/// are.
pub(crate) fn message(kind: &str, payload: &[u8], hint: &Value) -> Value {
    let payload = Bytes::copy_from_slice(payload);
    let tree = match kind {
        "Request" => protos::Request::decode(payload.clone()).ok().map(|request| self::request(request, hint)),
        "Response" => protos::Response::decode(payload.clone()).ok().map(|answer| response(&answer, hint)),
        "Push" => protos::Push::decode(payload.clone())
            .ok()
            .map(|push| json!({"route": push.route, "uid": push.uid, "data": body(&push.data, &hint["data"])})),
        "KickMsg" => protos::KickMsg::decode(payload.clone()).ok().map(|kick| json!({"userId": kick.user_id})),
        "BindMsg" => {
            protos::BindMsg::decode(payload.clone()).ok().map(|bind| json!({"uid": bind.uid, "fid": bind.fid}))
        }
        _ => None,
    };
    unfolded(tree.unwrap_or_else(|| hex(&payload)))
}

fn request(request: protos::Request, hint: &Value) -> Value {
    json!({
        "type": request.r#type,
        "session": request.session.map(|session| self::session(&session, &hint["session"])),
        "msg": request.msg.map(|msg| json!({
            "id": msg.id, "route": msg.route, "type": msg.r#type, "reply": msg.reply,
            "data": body(&msg.data, &hint["msg"]["data"]),
        })),
        "frontendID": request.frontend_id,
        "metadata": serde_json::from_slice(&request.metadata).unwrap_or_else(|_| hex(&request.metadata)),
    })
}

fn session(session: &protos::Session, hint: &Value) -> Value {
    json!({"id": session.id, "uid": session.uid, "data": body(&session.data, &hint["data"])})
}

fn response(response: &protos::Response, hint: &Value) -> Value {
    json!({"data": body(&response.data, &hint["data"]), "error": response.error.as_ref().map(error)})
}

fn error(error: &protos::Error) -> Value {
    json!({"code": error.code, "msg": error.msg, "metadata": error.metadata})
}

/// Bytes as what the recorder took them for; in hexadecimal if they are something else.
fn body(bytes: &Bytes, hint: &Value) -> Value {
    let kind = hint.as_object().and_then(|hint| hint.keys().next()).map_or("", String::as_str);
    let tree = match kind {
        "json" => serde_json::from_slice(bytes).ok(),
        "text" => String::from_utf8(bytes.to_vec()).ok().map(Value::String),
        "TestRequest" => TestRequest::decode(bytes.clone()).ok().map(|message| json!({"msg": message.msg})),
        "TestResponse" => {
            TestResponse::decode(bytes.clone()).ok().map(|message| json!({"code": message.code, "msg": message.msg}))
        }
        "Session" => protos::Session::decode(bytes.clone()).ok().map(|inner| session(&inner, &hint[kind])),
        "Response" => protos::Response::decode(bytes.clone()).ok().map(|inner| response(&inner, &hint[kind])),
        "Error" => protos::Error::decode(bytes.clone()).ok().as_ref().map(error),
        "KickMsg" => protos::KickMsg::decode(bytes.clone()).ok().map(|kick| json!({"userId": kick.user_id})),
        "KickAnswer" => protos::KickAnswer::decode(bytes.clone()).ok().map(|answer| json!({"kicked": answer.kicked})),
        _ => None,
    };
    tree.unwrap_or_else(|| hex(bytes))
}

fn hex(bytes: &[u8]) -> Value {
    json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
}

/// The fields of a packet to a client.
pub(crate) fn packet(packet: &Packet, hint: &Value) -> Value {
    match packet.kind {
        PacketKind::Handshake => {
            json!({"packet": "handshake", "json": serde_json::from_slice(&packet.body).unwrap_or_else(|_| hex(&packet.body))})
        }
        PacketKind::Data => {
            let message = read(packet);
            let zlib = Head::decode(&packet.body).unwrap().compressed;
            unfolded(json!({
                "id": message.id, "route": message.route, "error": message.error, "zlib": zlib,
                "body": body(&message.body, &hint["body"]),
            }))
        }
        PacketKind::HandshakeAck | PacketKind::Heartbeat | PacketKind::Kick => hex(&packet.body),
    }
}

/// The message of a packet.
pub(crate) fn read(packet: &Packet) -> Message {
    Message::decode(packet.body.clone(), &Dictionary::default(), 1 << 24).unwrap()
}

/// What a packet is, without its contents.
pub(crate) fn packet_name(packet: &Packet) -> String {
    if packet.kind != PacketKind::Data {
        return format!("{:?}", packet.kind);
    }
    let message = read(packet);
    match message.kind {
        MessageKind::Response => format!("Response {}", message.id),
        kind => format!("{kind:?} {}", message.route),
    }
}

/// Contexts travel as text within answers as well: they are compared as what they are.
fn unfolded(tree: Value) -> Value {
    match tree {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) if text.starts_with('{') => unfolded(Value::Object(map)),
            _ => Value::String(text),
        },
        Value::Array(list) => list.into_iter().map(unfolded).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, unfolded(value))).collect::<Map<_, _>>())
        }
        tree => tree,
    }
}

/// Names of requests that were made up: which of ours is which of the recording's.
pub(crate) type Ids = HashMap<String, String>;

/// Where two trees differ, and what stands there: path, Go's, ours.
pub(crate) fn differences(go: &Value, ours: &Value, ids: &mut Ids) -> Vec<(String, String)> {
    let mut found = Vec::new();
    compare("", go, ours, ids, &mut found);
    found
}

fn compare(path: &str, go: &Value, ours: &Value, ids: &mut Ids, found: &mut Vec<(String, String)>) {
    if let (Value::Object(one), Value::Object(other)) = (go, ours) {
        let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            // Span keys, and a key of our own.
            if matches!(key.as_str(), "opentracing-span" | "otel-span" | "session-delta") {
                continue;
            }
            let (one, other) = (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&path, one, other, ids, found);
        }
        return;
    }
    let same = match path.rsplit_once('.').map_or(path, |(_, key)| key) {
        // A clock; Go writes it as a rounded float at times.
        _ if path.ends_with("req-start-time") => go.is_number() == ours.is_number(),
        _ if path.ends_with("request.id") => match (go.as_str(), ours.as_str()) {
            // One of the recording may come back in what a recorded server says.
            (Some(go), Some(ours)) => go == ours || ids.entry(go.to_owned()).or_insert_with(|| ours.to_owned()) == ours,
            _ => go == ours,
        },
        "msg" if go.as_str().is_some_and(quotes_a_parser) => ours.as_str().is_some_and(|ours| !ours.is_empty()),
        // Nothing and an empty text are the same in protobuf; so are an empty map and none.
        _ => go == ours || is_empty(go) && is_empty(ours),
    };
    if !same {
        found.push((path.to_owned(), format!("{path}: Go {go}, ours {ours}")));
    }
}

fn is_empty(tree: &Value) -> bool {
    match tree {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Texts that Go's libraries made.
fn quotes_a_parser(text: &str) -> bool {
    let starts = [
        "invalid character",
        "unexpected end of JSON",
        "json: ",
        "proto:",
        "protobuf: ",
        "time: ",
        "string field contains",
    ];
    starts.iter().any(|start| text.starts_with(start))
}
