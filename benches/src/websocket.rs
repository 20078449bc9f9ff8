//! WebSocket frames, read and written in the buffers that hold the packets.

use crate::{Transport, invalid};
use std::io;

/// The key that the load generator masks with. A real client draws one for each frame;
/// drawing it is the client's work, not the server's, so it is left out here.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first byte of a binary message that fits in one frame.
const BINARY: u8 = 0x82;

/// The bit of the second byte that says that a key follows.
const MASKED: u8 = 0x80;

/// The longest payload whose length fits in the second byte.
const SHORT: usize = 125;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes of the header.
    pub header: usize,
    /// The bytes of the payload.
    pub payload: usize,
    /// The key, if the sender masked.
    pub mask: Option<[u8; 4]>,
}

/// Reads the header at the start of `input` if the whole frame is there.
///
/// # Errors
///
/// If it is not a whole binary message: nothing else is sent in the benchmark.
pub fn peek(input: &[u8]) -> io::Result<Option<Frame>> {
    let &[first, second, ..] = input else {
        return Ok(None);
    };
    if first != BINARY {
        return Err(invalid("not a whole binary message"));
    }
    let (mut header, payload) = match usize::from(second & !MASKED) {
        126 => match input.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => return Err(invalid("frame too long")),
        payload => (2, payload),
    };
    let mut mask = None;
    if second & MASKED != 0 {
        let Some(&[a, b, c, d]) = input.get(header..header + 4) else {
            return Ok(None);
        };
        mask = Some([a, b, c, d]);
        header += 4;
    }
    let complete = input.len() >= header + payload;
    Ok(complete.then_some(Frame { header, payload, mask }))
}

/// Masks or unmasks `payload`, which begins at the start of the key.
pub fn apply_mask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// Opens a frame, if the transport has frames; [`end_server`] or [`end_client`] closes it.
#[must_use]
pub fn begin(out: &mut Vec<u8>, transport: Transport) -> usize {
    let start = out.len();
    if transport == Transport::WebSocket {
        out.extend_from_slice(&[BINARY, 0]);
    }
    start
}

/// Closes a server's frame, which is not masked.
pub fn end_server(out: &mut Vec<u8>, transport: Transport, start: usize) {
    if transport == Transport::WebSocket {
        put_length(out, start, 0, &[]);
    }
}

/// Closes a client's frame and masks it.
pub fn end_client(out: &mut Vec<u8>, transport: Transport, start: usize) {
    if transport == Transport::WebSocket {
        let payload = put_length(out, start, MASKED, &MASK);
        apply_mask(&mut out[payload..], MASK);
    }
}

/// Writes the length and the key of the frame at `start`; returns where its payload is now.
/// The payload moves only if it is masked or long; the server's answers are neither.
fn put_length(out: &mut Vec<u8>, start: usize, bit: u8, key: &[u8]) -> usize {
    let payload = start + 2;
    let length = out.len() - payload;
    let mut extra = [0; 6];
    let used = if length <= SHORT {
        out[start + 1] = bit | length as u8;
        0
    } else {
        out[start + 1] = bit | 126;
        extra[..2].copy_from_slice(&(length as u16).to_be_bytes());
        2
    };
    let extra = &mut extra[..used + key.len()];
    extra[used..].copy_from_slice(key);
    if !extra.is_empty() {
        out.splice(payload..payload, extra.iter().copied());
    }
    payload + extra.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, client: bool) -> Vec<u8> {
        let mut out = vec![7; 3];
        let start = begin(&mut out, Transport::WebSocket);
        out.extend((0..length).map(|i| i as u8));
        if client {
            end_client(&mut out, Transport::WebSocket, start);
        } else {
            end_server(&mut out, Transport::WebSocket, start);
        }
        out.split_off(3)
    }

    #[test]
    fn frames_survive() {
        for length in [0, 1, 7, 8, 9, 125, 126, 300] {
            for client in [false, true] {
                let mut bytes = frame(length, client);
                let whole = bytes.len();
                for cut in 0..whole {
                    assert_eq!(peek(&bytes[..cut]).unwrap(), None);
                }
                let frame = peek(&bytes).unwrap().unwrap();
                assert_eq!(frame.header + frame.payload, whole);
                assert_eq!(frame.mask, client.then_some(MASK));
                let payload = &mut bytes[frame.header..];
                if let Some(mask) = frame.mask {
                    apply_mask(payload, mask);
                }
                assert!(payload.iter().enumerate().all(|(i, byte)| *byte == i as u8));
            }
        }
    }

    #[test]
    fn other_frames_are_refused() {
        assert!(peek(b"\x81\x01a").is_err());
        assert!(peek(b"\x02\x01a").is_err());
    }
}
