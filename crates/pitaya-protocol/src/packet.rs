//! Packets, the outermost layer: one type byte, three length bytes, the body (protocol.md section 1).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Length of a packet header in bytes (protocol.md section 1.1).
pub const HEADER_LEN: usize = 4;

/// Longest body in bytes that the three length bytes can announce: 2^24 - 1 (protocol.md section 1.2).
///
/// Go's encoder accepts one byte more and then writes length 0; we refuse it.
pub const MAX_BODY_LEN: usize = 0xFF_FFFF;

/// What a packet is for (protocol.md section 1.1).
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// The client's introduction, or the server's answer to it; the body is JSON.
    Handshake = 1,
    /// The client accepts the server's answer; the body is ignored.
    HandshakeAck = 2,
    /// Sign of life, both directions; the body is ignored.
    Heartbeat = 3,
    /// The body is one message.
    Data = 4,
    /// The server ends the connection; the body is ignored.
    Kick = 5,
}

impl TryFrom<u8> for PacketKind {
    type Error = PacketError;

    #[inline]
    fn try_from(byte: u8) -> Result<Self, PacketError> {
        match byte {
            1 => Ok(Self::Handshake),
            2 => Ok(Self::HandshakeAck),
            3 => Ok(Self::Heartbeat),
            4 => Ok(Self::Data),
            5 => Ok(Self::Kick),
            other => Err(PacketError::UnknownKind(other)),
        }
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "handshake",
            Self::HandshakeAck => "handshake ack",
            Self::Heartbeat => "heartbeat",
            Self::Data => "data",
            Self::Kick => "kick",
        })
    }
}

/// One packet, its body a slice of the buffer it was read into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What the packet is for.
    pub kind: PacketKind,
    /// The bytes after the header; at most [`MAX_BODY_LEN`].
    pub body: Bytes,
}

/// Turns bytes into packets and back; a server or client holds one for all its connections.
///
/// The trait exists so that an application with its own framing can replace [`PomeloCodec`]. An implementation must
/// not allocate by a length that it has read but not checked.
pub trait PacketCodec: fmt::Debug + Send + Sync + 'static {
    /// Takes the next packet off the front of `src`; `Ok(None)` means that more bytes are needed.
    ///
    /// `max_body` is the longest acceptable body in bytes. The body is split off, not copied. Bytes behind the packet
    /// stay in `src`.
    ///
    /// # Errors
    ///
    /// [`PacketError::UnknownKind`] and [`PacketError::TooLarge`], both as soon as the header is complete. The stream
    /// has no place to resume at, so the connection must be closed.
    fn decode(&self, src: &mut BytesMut, max_body: usize) -> Result<Option<Packet>, PacketError>;

    /// Returns how many bytes [`encode`](Self::encode) appends for a body of `body_len` bytes.
    fn encoded_len(&self, body_len: usize) -> usize;

    /// Appends one packet to `dst`; the body is the concatenation of the slices in `body`.
    ///
    /// # Errors
    ///
    /// [`PacketError::TooLarge`] if the body does not fit the format; `dst` is untouched then.
    fn encode(&self, kind: PacketKind, body: &[&[u8]], dst: &mut BytesMut) -> Result<(), PacketError>;

    /// Takes the one packet that a WebSocket message carries (protocol.md section 1.4).
    ///
    /// # Errors
    ///
    /// What [`decode`](Self::decode) returns, [`PacketError::Truncated`] if the message ends before the packet, and
    /// [`PacketError::TrailingBytes`] if the packet ends before the message.
    fn decode_message(&self, message: &mut BytesMut, max_body: usize) -> Result<Packet, PacketError> {
        let packet = self.decode(message, max_body)?.ok_or(PacketError::Truncated)?;
        if message.is_empty() { Ok(packet) } else { Err(PacketError::TrailingBytes { extra: message.len() }) }
    }
}

/// The framing of Pomelo and Pitaya (protocol.md section 1.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct PomeloCodec;

impl PacketCodec for PomeloCodec {
    #[inline]
    fn decode(&self, src: &mut BytesMut, max_body: usize) -> Result<Option<Packet>, PacketError> {
        let Some((kind, len)) = header(src, max_body)? else { return Ok(None) };
        if src.len() - HEADER_LEN < len {
            return Ok(None);
        }
        if len == 0 {
            // A split would turn the buffer into a shared one, which costs an allocation per heartbeat.
            src.advance(HEADER_LEN);
            return Ok(Some(Packet { kind, body: Bytes::new() }));
        }
        let mut body = src.split_to(HEADER_LEN + len).freeze();
        body.advance(HEADER_LEN);
        Ok(Some(Packet { kind, body }))
    }

    #[inline]
    fn decode_message(&self, message: &mut BytesMut, max_body: usize) -> Result<Packet, PacketError> {
        let (kind, len) = header(message, max_body)?.ok_or(PacketError::Truncated)?;
        match (message.len() - HEADER_LEN).checked_sub(len) {
            None => Err(PacketError::Truncated),
            Some(0) => {
                message.advance(HEADER_LEN);
                // The whole message is the packet, so it is given away without sharing it.
                Ok(Packet { kind, body: std::mem::take(message).freeze() })
            }
            Some(extra) => Err(PacketError::TrailingBytes { extra }),
        }
    }

    #[inline]
    fn encoded_len(&self, body_len: usize) -> usize {
        body_len.saturating_add(HEADER_LEN)
    }

    #[inline]
    fn encode(&self, kind: PacketKind, body: &[&[u8]], dst: &mut BytesMut) -> Result<(), PacketError> {
        let len = body.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if len > MAX_BODY_LEN {
            return Err(PacketError::TooLarge { len, limit: MAX_BODY_LEN });
        }
        dst.reserve(HEADER_LEN + len);
        // The kind is the high byte and the length fills the low three: one store for the whole header.
        dst.put_u32((kind as u32) << 24 | len as u32);
        for part in body {
            dst.extend_from_slice(part);
        }
        Ok(())
    }
}

/// Reads the header at the front of `src`; `None` if it is not complete.
#[inline]
fn header(src: &[u8], max_body: usize) -> Result<Option<(PacketKind, usize)>, PacketError> {
    let Some(&[kind, high, middle, low]) = src.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let kind = PacketKind::try_from(kind)?;
    let len = u32::from_be_bytes([0, high, middle, low]) as usize;
    if len > max_body {
        return Err(PacketError::TooLarge { len, limit: max_body });
    }
    Ok(Some((kind, len)))
}

/// Why bytes are not a packet, or a packet cannot be written (protocol.md section 1.3).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The type byte is not one of 1 to 5.
    #[error("unknown packet type {0:#04x}")]
    UnknownKind(u8),
    /// The body is longer than the receiver accepts or the format can express; both in bytes.
    #[error("packet body of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length of the body, as announced or as given.
        len: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// A WebSocket message ends inside the packet.
    #[error("message ends before its packet is complete")]
    Truncated,
    /// A WebSocket message goes on behind its packet.
    #[error("{extra} bytes follow the packet in its message")]
    TrailingBytes {
        /// How many bytes are too many.
        extra: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_one_to_five() {
        for byte in 0..=u8::MAX {
            match PacketKind::try_from(byte) {
                Ok(kind) => assert_eq!(kind as u8, byte),
                Err(error) => {
                    assert!(!(1..=5).contains(&byte));
                    assert_eq!(error, PacketError::UnknownKind(byte));
                }
            }
        }
    }

    #[test]
    fn encode_refuses_two_to_the_24_and_leaves_the_buffer() {
        let half = vec![0; MAX_BODY_LEN.div_ceil(2)];
        let mut dst = BytesMut::from(&b"kept"[..]);
        let error = PomeloCodec.encode(PacketKind::Data, &[&half, &half], &mut dst);
        assert_eq!(error, Err(PacketError::TooLarge { len: 1 << 24, limit: MAX_BODY_LEN }));
        assert_eq!(dst, &b"kept"[..]);

        PomeloCodec.encode(PacketKind::Data, &[&half, &half[1..]], &mut dst).unwrap();
        assert_eq!(&dst[4..8], [4, 0xFF, 0xFF, 0xFF]);
        assert_eq!(dst.len(), 4 + PomeloCodec.encoded_len(MAX_BODY_LEN));
    }

    #[test]
    fn the_body_is_not_copied() {
        let mut src = BytesMut::from(&[4, 0, 0, 3, 7, 8, 9][..]);
        let body_at = src.as_ptr() as usize + HEADER_LEN;
        let packet = PomeloCodec.decode(&mut src, 3).unwrap().unwrap();
        assert_eq!(packet.body.as_ptr() as usize, body_at);
    }

    /// A codec of an application, which leaves the rule of WebSocket messages to the trait.
    #[derive(Debug)]
    struct Custom;

    impl PacketCodec for Custom {
        fn decode(&self, src: &mut BytesMut, max_body: usize) -> Result<Option<Packet>, PacketError> {
            PomeloCodec.decode(src, max_body)
        }

        fn encoded_len(&self, body_len: usize) -> usize {
            PomeloCodec.encoded_len(body_len)
        }

        fn encode(&self, kind: PacketKind, body: &[&[u8]], dst: &mut BytesMut) -> Result<(), PacketError> {
            PomeloCodec.encode(kind, body, dst)
        }
    }

    #[test]
    fn a_message_is_exactly_one_packet_for_our_codec_and_for_any_other() {
        let codecs: [&dyn PacketCodec; 2] = [&PomeloCodec, &Custom];
        for codec in codecs {
            let decode = |bytes: &[u8]| codec.decode_message(&mut BytesMut::from(bytes), 3);
            let packet = Packet { kind: PacketKind::Data, body: Bytes::from_static(&[7, 8]) };
            assert_eq!(decode(&[4, 0, 0, 2, 7, 8]), Ok(packet), "{codec:?}");
            assert_eq!(decode(&[4, 0, 0]), Err(PacketError::Truncated), "{codec:?}");
            assert_eq!(decode(&[4, 0, 0, 2, 7]), Err(PacketError::Truncated), "{codec:?}");
            assert_eq!(decode(&[4, 0, 0, 1, 7, 8]), Err(PacketError::TrailingBytes { extra: 1 }), "{codec:?}");
            assert_eq!(decode(&[4, 0, 0, 9]), Err(PacketError::TooLarge { len: 9, limit: 3 }), "{codec:?}");
        }
    }
}
