//! The limit of a cluster: what two hand-written servers do with one request, without their sockets.
//!
//! The frontend makes a [`protos::Request`] of a client's packet, with the metadata that servers of a cluster send, and a
//! packet of the [`protos::Response`]. The backend does the reverse, and decodes and encodes the body with the calls that a
//! handler's arguments and results take, too. The messages are those of the framework, since there is but one library that
//! writes them; everything else is not.

use std::{
    io,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use pitaya::cluster::protos::{self, MsgType, RpcType};
use prost::Message as _;
use serde::Deserialize;

use crate::{
    args::Args,
    invalid,
    packet::{self, kind},
    payload::Chat,
};

/// The type of the frontend.
pub const FRONT: &str = "front";

/// The type of the backend: the first part of the route that is asked for.
pub const BACK: &str = "back";

/// What a process of a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The frontend.
    Front,
    /// The backend.
    Back,
    /// Both, in one process and without a network between them.
    Both,
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "front" => Ok(Self::Front),
            "back" => Ok(Self::Back),
            "both" => Ok(Self::Both),
            _ => Err(format!("unknown role `{text}`: front, back or both")),
        }
    }
}

/// The arguments that the programs of both pairs understand.
#[derive(Clone, Debug)]
pub struct PairArgs {
    /// `--role`: front, back or both.
    pub role: Role,
    /// `--name`: tells the pairs on one nats-server apart.
    pub name: String,
    /// `--nats`: where nats-server listens, as `127.0.0.1:4222`.
    pub nats: String,
    /// `--etcd`: where etcd listens, as `127.0.0.1:2379`.
    pub etcd: String,
}

impl PairArgs {
    /// Takes these arguments off the command line.
    ///
    /// # Errors
    ///
    /// If a value cannot be parsed.
    pub fn take(args: &mut Args) -> Result<Self, String> {
        Ok(Self {
            role: args.value("--role")?.unwrap_or(Role::Both),
            name: args.value("--name")?.unwrap_or_else(|| "pair".to_owned()),
            nats: args.value("--nats")?.unwrap_or_else(|| "127.0.0.1:4222".to_owned()),
            etcd: args.value("--etcd")?.unwrap_or_else(|| "127.0.0.1:2379".to_owned()),
        })
    }
}

/// The metadata of a request, as far as every backend has to look at it.
#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(rename = "req-start-time")]
    start: u64,
    #[serde(rename = "reqTimeout")]
    timeout: &'a str,
    #[serde(rename = "request.id")]
    request_id: &'a str,
}

/// A client's session on the limit's frontend.
#[derive(Clone, Debug)]
pub struct Client {
    session: protos::Session,
    frontend: String,
}

impl Client {
    /// The client of this number, on the frontend of this name.
    #[must_use]
    pub fn new(number: i64, frontend: String) -> Self {
        let data = Bytes::from_static(br#"{"ipversion":"ipv4"}"#);
        Self { session: protos::Session { id: number, uid: String::new(), data }, frontend }
    }

    /// Makes the backend's request of the client's: its id, and the bytes.
    ///
    /// # Errors
    ///
    /// If the message is not a request.
    pub fn request(&self, message: &[u8]) -> io::Result<(u32, Bytes)> {
        let (id, route, body) = packet::parse_request(message)?;
        let route = std::str::from_utf8(route).map_err(|_| invalid("a route that is no text"))?;
        let request = protos::Request {
            r#type: RpcType::Sys.into(),
            session: Some(self.session.clone()),
            msg: Some(protos::Msg {
                id: id.into(),
                route: route.to_owned(),
                data: Bytes::copy_from_slice(body),
                r#type: MsgType::Request.into(),
                ..protos::Msg::default()
            }),
            frontend_id: self.frontend.clone(),
            metadata: self.metadata(route, id).into(),
        };
        Ok((id, request.encode_to_vec().into()))
    }

    fn metadata(&self, route: &str, id: u32) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (frontend, session) = (&self.frontend, self.session.id);
        // A request id of 22 characters.
        format!(
            r#"{{"peer.id":"{frontend}","peer.service":"{FRONT}","req-route":"{route}","req-start-time":{now},"reqTimeout":"5s","request.id":"{session:011}{id:011}"}}"#
        )
    }
}

/// Appends the packet that answers a client's request, made of the backend's response.
///
/// # Errors
///
/// If it is no response, or an error.
pub fn put_answer(out: &mut Vec<u8>, id: u32, response: Bytes) -> io::Result<()> {
    let response = protos::Response::decode(response)?;
    if let Some(error) = response.error {
        return Err(invalid(&error.msg));
    }
    let start = packet::begin(out, kind::DATA);
    packet::put_response_head(out, id);
    out.extend_from_slice(&response.data);
    packet::end(out, start);
    Ok(())
}

/// What the backend does: its response to a request.
///
/// # Errors
///
/// If the request, its metadata or its body cannot be read.
pub fn respond(request: Bytes) -> io::Result<Bytes> {
    let request = protos::Request::decode(request)?;
    let metadata: Metadata<'_> = serde_json::from_slice(&request.metadata)?;
    if metadata.start == 0 || metadata.timeout.is_empty() || metadata.request_id.is_empty() {
        return Err(invalid("metadata without what belongs in it"));
    }
    let (Some(_), Some(msg)) = (request.session, request.msg) else {
        return Err(invalid("a request without session or message"));
    };
    let chat: Chat = serde_json::from_slice(&msg.data)?;
    Ok(protos::Response::of(serde_json::to_vec(&chat)?).encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;

    #[test]
    fn a_request_is_answered_through_the_backend() {
        let mut message = Vec::new();
        packet::put_request_head(&mut message, 7, "back.bench.echo");
        payload::put_body(&mut message, 7);
        let (id, request) = Client::new(1, "front-limit".to_owned()).request(&message).unwrap();
        let sent = protos::Request::decode(request.clone()).unwrap();
        pitaya::cluster::Metadata::parse(sent.metadata).expect("the framework reads this metadata as well");
        let mut answer = Vec::new();
        put_answer(&mut answer, id, respond(request).unwrap()).unwrap();
        let (_, message, _) = packet::split(&answer).unwrap();
        let (id, body) = packet::parse_response(message).unwrap();
        assert!(id == 7 && payload::is_body(body, 7));
    }

    #[test]
    fn metadata_is_looked_at() {
        let mut request = protos::Request { metadata: "{}".into(), ..protos::Request::default() };
        assert!(respond(request.encode_to_vec().into()).is_err());
        request.metadata = Bytes::new();
        assert!(respond(request.encode_to_vec().into()).is_err());
    }
}
