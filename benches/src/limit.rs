//! The limit: the least work that answers the requests.
//!
//! No sessions, no routing, no hooks, no timers, and nothing is allocated for a message but what
//! serde returns. It is the same for both cases: *suspends once* is compared with a loop that
//! does not suspend, because suspending is our server's business and not the client's.

use crate::packet::{self, kind};
use crate::{Transport, handshake, invalid, payload::Chat, websocket};
use std::io;

/// What happens to a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decoded and encoded again by `serde_json`, as every server must: the limit.
    Json,
    /// Copied: what the packets and the system calls alone cost. The limit is held against it.
    Echo,
    /// As the limit; and clients that join get what one of them broadcasts, see `limit-server`'s `broadcast.rs`.
    Broadcast,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "echo" => Ok(Self::Echo),
            "broadcast" => Ok(Self::Broadcast),
            _ => Err(format!("unknown mode `{text}`: json, echo or broadcast")),
        }
    }
}

/// How one connection of the limit server answers.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What happens to bodies.
    pub mode: Mode,
    /// How packets are framed.
    pub transport: Transport,
}

impl Limit {
    /// Answers the complete packets at the start of `input` into `out`; returns how many bytes
    /// they took.
    ///
    /// # Errors
    ///
    /// If the bytes break the protocol or the body is not an [`Chat`].
    pub fn answer(self, input: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        match self.transport {
            Transport::Tcp => self.answer_packets(input, out),
            Transport::WebSocket => self.answer_frames(input, out),
        }
    }

    fn answer_packets(self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut used = 0;
        while let Some((kind, body, length)) = packet::split(&input[used..]) {
            self.answer_packet(kind, body, out)?;
            used += length;
        }
        Ok(used)
    }

    fn answer_frames(self, input: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut used = 0;
        while let Some(frame) = websocket::peek(&input[used..])? {
            let mask = frame.mask.ok_or_else(|| invalid("frame is not masked"))?;
            let start = used + frame.header;
            used = start + frame.payload;
            let payload = &mut input[start..used];
            websocket::apply_mask(payload, mask);
            match packet::split(payload) {
                Some((kind, body, length)) if length == payload.len() => {
                    self.answer_packet(kind, body, out)?;
                }
                _ => return Err(invalid("a frame is not one packet")),
            }
        }
        Ok(used)
    }

    fn answer_packet(self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match kind {
            kind::DATA => self.answer_request(body, out),
            kind::HANDSHAKE => {
                let frame = websocket::begin(out, self.transport);
                packet::put(out, kind::HANDSHAKE, handshake::response_body());
                websocket::end_server(out, self.transport, frame);
                Ok(())
            }
            kind::HANDSHAKE_ACK | kind::HEARTBEAT => Ok(()),
            _ => Err(invalid("wrong packet type")),
        }
    }

    fn answer_request(self, message: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let (id, _, body) = packet::parse_request(message)?;
        let frame = websocket::begin(out, self.transport);
        let start = packet::begin(out, kind::DATA);
        packet::put_response_head(out, id);
        match self.mode {
            Mode::Json | Mode::Broadcast => {
                let chat: Chat = serde_json::from_slice(body)?;
                serde_json::to_writer(&mut *out, &chat)?;
            }
            Mode::Echo => out.extend_from_slice(body),
        }
        packet::end(out, start);
        websocket::end_server(out, self.transport, frame);
        Ok(())
    }
}
