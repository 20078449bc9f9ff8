//! WebSocket frames in the connection's own buffers, server side (RFC 6455).
//!
//! Headers are read and written here: each packet has one, and the codecs of the libraries cost more than the packet's own
//! header and its unmasking together.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// What a frame is (RFC 6455, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum OpCode {
    Continue = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// What the next bytes of a client hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WsEvent {
    /// A whole message, its fragments joined; the opcode is not looked at (protocol.md 1.4).
    Message(BytesMut),
    /// To be answered with a pong of the same content.
    Ping(BytesMut),
    /// Nothing to do.
    Pong,
    /// The client says goodbye.
    Close(BytesMut),
}

/// What a client must not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WsError {
    #[error("a frame of a client is not masked")]
    NotMasked,
    #[error("a frame has reserved bits or a reserved opcode")]
    Reserved,
    #[error("a control frame is fragmented or longer than 125 bytes")]
    BadControl,
    #[error("a message continues that has not begun, or begins inside another")]
    BadContinuation,
    #[error("a message of {len} bytes is longer than {limit}")]
    TooLarge { len: u64, limit: usize },
}

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// Takes frames off the front of the read buffer. Holds bytes only while a message comes in fragments.
#[derive(Debug, Default)]
pub(super) struct WsDecoder {
    fragments: Option<BytesMut>,
}

impl WsDecoder {
    /// The next event; `None` when more bytes are needed. A message longer than `limit` is refused as soon as the header
    /// that makes it so is there.
    pub(super) fn decode(&mut self, src: &mut BytesMut, limit: usize) -> Result<Option<WsEvent>, WsError> {
        loop {
            let Some((header, payload)) = next_frame(src, self.fragments.as_ref().map_or(0, BytesMut::len), limit)?
            else {
                return Ok(None);
            };
            match header.opcode {
                OpCode::Ping => return Ok(Some(WsEvent::Ping(payload))),
                OpCode::Pong => return Ok(Some(WsEvent::Pong)),
                OpCode::Close => return Ok(Some(WsEvent::Close(payload))),
                OpCode::Continue | OpCode::Text | OpCode::Binary => {
                    let begins = header.opcode != OpCode::Continue;
                    match (&mut self.fragments, begins, header.is_final) {
                        (None, true, true) => return Ok(Some(WsEvent::Message(payload))),
                        (fragments @ None, true, false) => *fragments = Some(payload),
                        (Some(fragments), false, is_final) => {
                            fragments.unsplit(payload);
                            if is_final {
                                return Ok(self.fragments.take().map(WsEvent::Message));
                            }
                        }
                        (None, false, _) | (Some(_), true, _) => return Err(WsError::BadContinuation),
                    }
                }
            }
        }
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        self.fragments.is_some()
    }
}

/// Takes one frame, unmasked. `before` is the length of the fragments that it may continue.
fn next_frame(src: &mut BytesMut, before: usize, limit: usize) -> Result<Option<(Header, BytesMut)>, WsError> {
    let Some(header) = Header::parse(src)? else { return Ok(None) };
    let is_control = header.opcode as u8 >= OpCode::Close as u8;
    let len = header.len.saturating_add(before as u64);
    if is_control && (header.len > MAX_CONTROL || !header.is_final) {
        return Err(WsError::BadControl);
    }
    if !is_control && len > limit as u64 {
        return Err(WsError::TooLarge { len, limit });
    }
    // At most `limit` or 125, so it fits a usize.
    let len = header.len as usize;
    if src.len() - header.size < len {
        return Ok(None);
    }
    src.advance(header.size);
    let mut payload = src.split_to(len);
    unmask(&mut payload, header.mask);
    Ok(Some((header, payload)))
}

/// The header of a client's frame.
struct Header {
    is_final: bool,
    opcode: OpCode,
    mask: [u8; 4],
    /// The length of the payload.
    len: u64,
    /// The length of the header itself.
    size: usize,
}

impl Header {
    /// Reads the header at the front of `src`; `None` if it is not complete. What is wrong is told as soon as it is there.
    #[inline]
    fn parse(src: &[u8]) -> Result<Option<Self>, WsError> {
        let Some(&[first, second]) = src.first_chunk() else { return Ok(None) };
        let opcode = match first & 0x7f {
            0 => OpCode::Continue,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            // Another opcode, or one of the bits that extensions use.
            _ => return Err(WsError::Reserved),
        };
        if second & 0x80 == 0 {
            return Err(WsError::NotMasked);
        }
        let (len, mask_at) = match second & 0x7f {
            126 => match src.get(2..4).and_then(<[u8]>::first_chunk) {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
                None => return Ok(None),
            },
            127 => match src.get(2..10).and_then(<[u8]>::first_chunk) {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(None),
            },
            len => (u64::from(len), 2),
        };
        let mask = src.get(mask_at..mask_at + 4).and_then(<[u8]>::first_chunk);
        Ok(mask.map(|mask| Self { is_final: first & 0x80 != 0, opcode, mask: *mask, len, size: mask_at + 4 }))
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide | (wide << 32);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes the header of an unfragmented frame of a server, which is never masked (RFC 6455, 5.2).
#[inline]
pub(super) fn put_header(opcode: OpCode, len: usize, dst: &mut BytesMut) {
    let first = 0x80 | opcode as u8;
    match len {
        0..=125 => dst.put_u16(u16::from_be_bytes([first, len as u8])),
        126..=0xffff => {
            dst.put_slice(&[first, 126]);
            dst.put_u16(len as u16);
        }
        _ => {
            dst.put_slice(&[first, 127]);
            dst.put_u64(len as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tungstenite::protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode as Foreign},
    };

    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn frame(opcode: Foreign, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { is_final, rsv1: false, rsv2: false, rsv3: false, opcode, mask: Some(MASK) };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).unwrap();
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn binary(is_final: bool, payload: &[u8]) -> Vec<u8> {
        frame(Foreign::Data(Data::Binary), is_final, payload)
    }

    fn decode_all(bytes: &[u8], limit: usize) -> Result<Vec<WsEvent>, WsError> {
        let (mut decoder, mut src, mut events) = (WsDecoder::default(), BytesMut::from(bytes), Vec::new());
        while let Some(event) = decoder.decode(&mut src, limit)? {
            events.push(event);
        }
        Ok(events)
    }

    fn message(payload: &[u8]) -> WsEvent {
        WsEvent::Message(payload.into())
    }

    #[test]
    fn messages_of_every_length_class_are_unmasked() {
        for len in [0, 1, 7, 8, 9, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(decode_all(&binary(true, &payload), 1 << 20), Ok(vec![message(&payload)]), "{len}");
        }
    }

    #[test]
    fn frames_may_arrive_byte_by_byte() {
        let bytes =
            [binary(true, b"one"), frame(Foreign::Control(Control::Ping), true, b"p"), binary(true, b"two")].concat();
        let (mut decoder, mut src, mut events) = (WsDecoder::default(), BytesMut::new(), Vec::new());
        for byte in bytes {
            src.put_u8(byte);
            while let Some(event) = decoder.decode(&mut src, 100).unwrap() {
                events.push(event);
            }
        }
        assert_eq!(events, [message(b"one"), WsEvent::Ping(b"p"[..].into()), message(b"two")]);
    }

    #[test]
    fn fragments_are_joined_with_control_frames_between_them() {
        let more = |is_final, payload| frame(Foreign::Data(Data::Continue), is_final, payload);
        let bytes = [
            binary(false, b"a"),
            more(false, b"b"),
            frame(Foreign::Control(Control::Ping), true, b""),
            more(true, b"c"),
        ]
        .concat();
        assert_eq!(decode_all(&bytes, 100), Ok(vec![WsEvent::Ping(BytesMut::new()), message(b"abc")]));
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        let mut unmasked = binary(true, b"x");
        unmasked[1] &= 0x7f;
        let mut reserved_bit = binary(true, b"x");
        reserved_bit[0] |= 0x40;
        let mut reserved_opcode = binary(true, b"x");
        reserved_opcode[0] = 0x83;
        let cases = [
            (unmasked, WsError::NotMasked),
            (reserved_bit, WsError::Reserved),
            (reserved_opcode, WsError::Reserved),
            (frame(Foreign::Control(Control::Ping), false, b""), WsError::BadControl),
            (frame(Foreign::Control(Control::Ping), true, &[0; 126]), WsError::BadControl),
            (frame(Foreign::Data(Data::Continue), true, b""), WsError::BadContinuation),
            ([binary(false, b"a"), binary(true, b"b")].concat(), WsError::BadContinuation),
            (binary(true, &[0; 101]), WsError::TooLarge { len: 101, limit: 100 }),
            (
                [binary(false, &[0; 60]), frame(Foreign::Data(Data::Continue), true, &[0; 60])].concat(),
                WsError::TooLarge { len: 120, limit: 100 },
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode_all(&bytes, 100), Err(expected), "{expected}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_header_alone() {
        let mut header = vec![0x82, 0x80 | 127];
        header.extend(u64::MAX.to_be_bytes());
        header.extend(MASK);
        assert_eq!(decode_all(&header, 100), Err(WsError::TooLarge { len: u64::MAX, limit: 100 }));
    }

    proptest! {
        /// A client decides about every byte: none of them may panic, and nothing is kept beyond the limit.
        #[test]
        fn arbitrary_bytes_are_refused_or_understood(chunks in vec(vec(any::<u8>(), 0..40), 0..40)) {
            let (mut decoder, mut src) = (WsDecoder::default(), BytesMut::new());
            'stream: for chunk in chunks {
                src.extend_from_slice(&chunk);
                loop {
                    match decoder.decode(&mut src, 50) {
                        Ok(Some(WsEvent::Message(message))) => prop_assert!(message.len() <= 50),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
                prop_assert!(decoder.fragments.as_ref().is_none_or(|fragments| fragments.len() <= 50));
            }
        }

        /// However a message is cut into frames and the frames into chunks, it comes out whole, and so do pings in it.
        #[test]
        fn fragments_and_chunks_do_not_matter(
            parts in vec((vec(any::<u8>(), 0..200), any::<bool>()), 1..8),
            chunk in 1_usize..64,
        ) {
            let last = parts.len() - 1;
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (index, (part, ping)) in parts.iter().enumerate() {
                if *ping {
                    bytes.extend(frame(Foreign::Control(Control::Ping), true, &part[..part.len().min(125)]));
                    expected.push(WsEvent::Ping(part[..part.len().min(125)].into()));
                }
                let opcode = Foreign::Data(if index == 0 { Data::Binary } else { Data::Continue });
                bytes.extend(frame(opcode, index == last, part));
            }
            expected.push(WsEvent::Message(parts.iter().flat_map(|(part, _)| part.clone()).collect::<Vec<_>>()[..].into()));
            let (mut decoder, mut src, mut events) = (WsDecoder::default(), BytesMut::new(), Vec::new());
            for chunk in bytes.chunks(chunk) {
                src.extend_from_slice(chunk);
                while let Some(event) = decoder.decode(&mut src, 4_096).unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(events, expected);
            prop_assert!(src.is_empty() && !decoder.is_partial());
        }
    }

    #[test]
    fn the_header_that_we_write_is_the_one_of_the_rfc() {
        for (len, expected) in
            [(5, &[0x82, 5][..]), (126, &[0x82, 126, 0, 126]), (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0])]
        {
            let mut dst = BytesMut::new();
            put_header(OpCode::Binary, len, &mut dst);
            assert_eq!(&dst[..], expected);
        }
    }
}
