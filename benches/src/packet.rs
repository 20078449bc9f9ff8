//! Packets and messages, written by hand: only what an echo needs.

use crate::invalid;
use std::io;

/// The packet types of the protocol.
pub mod kind {
    /// The client's greeting and the server's answer, JSON.
    pub const HANDSHAKE: u8 = 1;
    /// The client has read the answer.
    pub const HANDSHAKE_ACK: u8 = 2;
    /// Nothing to say, still here.
    pub const HEARTBEAT: u8 = 3;
    /// One message.
    pub const DATA: u8 = 4;
    /// The server will close the connection.
    pub const KICK: u8 = 5;
}

/// A packet's header: one byte type, three bytes length.
pub const HEADER_LEN: usize = 4;

/// The flag byte of a request without compression and dictionary.
const REQUEST: u8 = 0x00;

/// The flag byte of a response that is neither compressed nor an error.
const RESPONSE: u8 = 0x04;

/// The flag byte of a push that is not compressed.
const PUSH: u8 = 0x06;

/// The bit that says that a body is compressed.
const COMPRESSED: u8 = 0x10;

/// Takes the first packet off `input`: its type, its body and how many bytes it took.
/// `None` if it is not complete yet.
#[must_use]
pub fn split(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let &[kind, a, b, c, ..] = input else {
        return None;
    };
    let end = HEADER_LEN + u32::from_be_bytes([0, a, b, c]) as usize;
    Some((kind, input.get(HEADER_LEN..end)?, end))
}

/// Appends a header whose length is not known yet; [`end`] fills it in.
#[must_use]
pub fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0]);
    start
}

/// Fills in the length of the packet that [`begin`] opened at `start`.
pub fn end(out: &mut [u8], start: usize) {
    let length = ((out.len() - start - HEADER_LEN) as u32).to_be_bytes();
    out[start + 1..start + HEADER_LEN].copy_from_slice(&length[1..]);
}

/// Appends a whole packet.
pub fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let start = begin(out, kind);
    out.extend_from_slice(body);
    end(out, start);
}

/// Appends a request's flag, id and route; its body follows.
pub fn put_request_head(out: &mut Vec<u8>, id: u32, route: &str) {
    out.push(REQUEST);
    put_varint(out, id);
    // Routes of the benchmark are constants far below 256 bytes.
    out.push(route.len() as u8);
    out.extend_from_slice(route.as_bytes());
}

/// Appends a response's flag and id; its body follows.
pub fn put_response_head(out: &mut Vec<u8>, id: u32) {
    out.push(RESPONSE);
    put_varint(out, id);
}

/// Appends a push's flag and route; its body follows.
pub fn put_push_head(out: &mut Vec<u8>, route: &str) {
    out.push(PUSH);
    out.push(route.len() as u8);
    out.extend_from_slice(route.as_bytes());
}

/// Reads a request: its id, its route and its body. For an echo the limit has but one answer, whatever the route.
///
/// # Errors
///
/// If the message is not a request, or short.
pub fn parse_request(message: &[u8]) -> io::Result<(u32, &[u8], &[u8])> {
    let (&flag, rest) = message.split_first().ok_or_else(|| invalid("empty message"))?;
    if flag != REQUEST {
        return Err(invalid("not a plain request"));
    }
    let (id, rest) = take_varint(rest)?;
    let (&length, rest) = rest.split_first().ok_or_else(|| invalid("no route"))?;
    let (route, body) = rest.split_at_checked(usize::from(length)).ok_or_else(|| invalid("short route"))?;
    Ok((id, route, body))
}

/// Reads a push, if the message is one: its route, and its body as it is on the wire.
#[must_use]
pub fn parse_push(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&flag, rest) = message.split_first()?;
    if flag & !COMPRESSED != PUSH {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// Reads a response: its id and its body.
///
/// # Errors
///
/// If the message is not a response, is an error or is compressed.
pub fn parse_response(message: &[u8]) -> io::Result<(u32, &[u8])> {
    match message.split_first() {
        Some((&RESPONSE, rest)) => take_varint(rest),
        Some((flag, rest)) => {
            let text = String::from_utf8_lossy(rest);
            Err(invalid(&format!("not a plain response: flag {flag:#04x}, {text}")))
        }
        None => Err(invalid("empty message")),
    }
}

/// Appends `value`, seven bits in a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number of at most five bytes off `input`.
fn take_varint(input: &[u8]) -> io::Result<(u32, &[u8])> {
    let mut value = 0;
    for (i, byte) in input.iter().take(5).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((value, &input[i + 1..]));
        }
    }
    Err(invalid("id without end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_documented_bytes() {
        let mut out = Vec::new();
        let start = begin(&mut out, kind::DATA);
        put_request_head(&mut out, 1, "room.room.join");
        out.extend_from_slice(b"{}");
        end(&mut out, start);
        assert_eq!(out, b"\x04\0\0\x13\0\x01\x0eroom.room.join{}");
        let (kind, message, used) = split(&out).unwrap();
        assert_eq!((kind, used), (kind::DATA, out.len()));
        assert_eq!(parse_request(message).unwrap(), (1, &b"room.room.join"[..], &b"{}"[..]));
        assert!(split(&out[..out.len() - 1]).is_none());
    }

    #[test]
    fn an_id_survives() {
        for id in [0, 127, 128, 300, u32::MAX] {
            let mut out = Vec::new();
            put_response_head(&mut out, id);
            assert_eq!(parse_response(&out).unwrap(), (id, &[][..]));
        }
        assert!(take_varint(&[0x80; 9]).is_err());
    }

    #[test]
    fn a_push_has_the_documented_bytes() {
        let mut out = Vec::new();
        put_push_head(&mut out, "onChat");
        out.extend_from_slice(b"{}");
        assert_eq!(out, b"\x06\x06onChat{}");
        assert_eq!(parse_push(&out), Some((&b"onChat"[..], &b"{}"[..])));
        assert_eq!(parse_push(b"\x16\x01azz"), Some((&b"a"[..], &b"zz"[..])));
        assert_eq!(parse_push(b"\x04\x01{}"), None);
        assert_eq!(parse_push(b"\x06\x09a"), None);
    }

    #[test]
    fn an_error_is_not_a_response() {
        assert!(parse_response(b"\x24\x01{}").is_err());
        assert!(parse_response(b"\x14\x01zz").is_err());
    }
}
