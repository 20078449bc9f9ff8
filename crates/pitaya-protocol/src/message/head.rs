//! The part of a message before its body, read and written without allocation.

use super::{InvalidReason, MAX_ROUTE_LEN, MessageError, MessageKind, RouteRef};

const ROUTE_IS_CODE: u8 = 0x01;
const KIND_SHIFT: u8 = 1;
const KIND_MASK: u8 = 0x07;
const COMPRESSED: u8 = 0x10;
const ERROR: u8 = 0x20;

/// Most bytes that a 64-bit id takes.
const MAX_ID_LEN: usize = 10;

/// Longest head in bytes: flag, id, length of the route, route.
pub const MAX_HEAD_LEN: usize = 1 + MAX_ID_LEN + 1 + MAX_ROUTE_LEN;

/// Everything of a message but its body (protocol.md section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// What the message is.
    pub kind: MessageKind,
    /// Which request it is or answers; 0 for the kinds without id.
    pub id: u64,
    /// Where it goes; [`RouteRef::None`] exactly for a Response.
    pub route: RouteRef<'a>,
    /// The body is an error payload; only meaningful in a Response.
    pub error: bool,
    /// The body is a zlib stream.
    pub compressed: bool,
    /// Where the body starts, in bytes from the start of the message. Not looked at by [`encode`](Self::encode).
    pub body_at: usize,
}

impl<'a> Head<'a> {
    /// Returns a head with the given fields, no flags set, and `body_at` 0.
    #[inline]
    #[must_use]
    pub fn new(kind: MessageKind, id: u64, route: RouteRef<'a>) -> Self {
        Self { kind, id, route, error: false, compressed: false, body_at: 0 }
    }

    /// Reads the head of a message; the body is `bytes[head.body_at..]`, which may be empty.
    ///
    /// The two high bits of the flag are ignored, and so is the dictionary bit of a Response.
    ///
    /// # Errors
    ///
    /// [`MessageError::Invalid`] for anything that runs past the end, an id of more than 10 bytes or 64 bits, and a
    /// route that is not UTF-8; [`MessageError::UnknownKind`]. Stricter than Go, which reads an unterminated id as
    /// part of the route (protocol.md section 15.1, items 1 and 2).
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MessageError> {
        Self::decode_with(bytes, |_| None)
    }

    /// As [`decode`](Self::decode), for a receiver that knows most names: what `known` returns for the bytes of a name is
    /// that name, and only names that it does not know are checked.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    #[inline]
    pub fn decode_with(bytes: &'a [u8], known: impl FnOnce(&'a [u8]) -> Option<&'a str>) -> Result<Self, MessageError> {
        let &[flag, _, ..] = bytes else {
            return Err(InvalidReason::TooShort.into());
        };
        let kind = match (flag >> KIND_SHIFT) & KIND_MASK {
            0 => MessageKind::Request,
            1 => MessageKind::Notify,
            2 => MessageKind::Response,
            3 => MessageKind::Push,
            other => return Err(MessageError::UnknownKind(other)),
        };
        let mut rest = &bytes[1..];
        let id = if kind.has_id() { take_id(&mut rest)? } else { 0 };
        let route = if !kind.has_route() {
            RouteRef::None
        } else if flag & ROUTE_IS_CODE != 0 {
            take_code(&mut rest)?
        } else {
            take_name(&mut rest, known)?
        };
        Ok(Self {
            kind,
            id,
            route,
            error: flag & ERROR != 0,
            compressed: flag & COMPRESSED != 0,
            body_at: bytes.len() - rest.len(),
        })
    }

    /// Writes the head into `buf` and returns the written bytes; the body belongs right behind them.
    ///
    /// Fields that the kind does not have on the wire (the id of a Notify or Push, the route of a Response) are left
    /// out.
    ///
    /// # Errors
    ///
    /// [`MessageError::RouteTooLong`] for a name over [`MAX_ROUTE_LEN`] bytes, [`MessageError::MissingRoute`] for
    /// [`RouteRef::None`] in any kind but Response.
    #[inline]
    pub fn encode<'b>(&self, buf: &'b mut HeadBuf) -> Result<&'b [u8], MessageError> {
        let mut flag = (self.kind as u8) << KIND_SHIFT;
        if self.error {
            flag |= ERROR;
        }
        if self.compressed {
            flag |= COMPRESSED;
        }
        buf.len = 0;
        buf.push(&[flag]);
        if self.kind.has_id() {
            buf.push_id(self.id);
        }
        if self.kind.has_route() {
            match self.route {
                RouteRef::Name(name) => {
                    let len = u8::try_from(name.len()).map_err(|_| MessageError::RouteTooLong { len: name.len() })?;
                    buf.push(&[len]);
                    buf.push(name.as_bytes());
                }
                RouteRef::Code(code) => {
                    buf.bytes[0] |= ROUTE_IS_CODE;
                    buf.push(&code.to_be_bytes());
                }
                RouteRef::None => return Err(MessageError::MissingRoute),
            }
        }
        Ok(&buf.bytes[..buf.len])
    }
}

/// The head of a Response, encoded: it has no route, so it is short, and always fits.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead {
    bytes: [u8; 1 + MAX_ID_LEN],
    len: usize,
}

impl ResponseHead {
    /// Writes the head of the answer to the request with this id.
    #[inline]
    #[must_use]
    pub fn new(mut id: u64, error: bool, compressed: bool) -> Self {
        let mut bytes = [0; 1 + MAX_ID_LEN];
        bytes[0] = (MessageKind::Response as u8) << KIND_SHIFT
            | if error { ERROR } else { 0 }
            | if compressed { COMPRESSED } else { 0 };
        let mut len = 1;
        while id >= 0x80 {
            bytes[len] = id as u8 | 0x80;
            id >>= 7;
            len += 1;
        }
        bytes[len] = id as u8;
        Self { bytes, len: len + 1 }
    }

    /// The bytes; the body belongs right behind them.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Room for one encoded head, meant for the stack of the sender and usable again and again.
#[derive(Debug, Clone)]
pub struct HeadBuf {
    bytes: [u8; MAX_HEAD_LEN],
    len: usize,
}

impl HeadBuf {
    /// Returns an empty buffer.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_HEAD_LEN], len: 0 }
    }

    /// Appends; the callers never exceed [`MAX_HEAD_LEN`] together.
    #[inline]
    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    #[inline]
    fn push_id(&mut self, mut id: u64) {
        while id >= 0x80 {
            self.push(&[id as u8 | 0x80]);
            id >>= 7;
        }
        self.push(&[id as u8]);
    }
}

impl Default for HeadBuf {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads the id; over-long encodings are accepted as long as they fit 10 bytes, because Go accepts them.
#[inline]
fn take_id(rest: &mut &[u8]) -> Result<u64, InvalidReason> {
    let mut id = 0_u64;
    for (at, &byte) in rest.iter().enumerate().take(MAX_ID_LEN) {
        // Nine bytes hold 63 bits, so the tenth has room for one.
        if at == MAX_ID_LEN - 1 && byte > 1 {
            return Err(InvalidReason::IdTooLong);
        }
        id |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Ok(id);
        }
    }
    Err(InvalidReason::IdUnterminated)
}

#[inline]
fn take_code<'a>(rest: &mut &'a [u8]) -> Result<RouteRef<'a>, InvalidReason> {
    let (code, after) = rest.split_first_chunk::<2>().ok_or(InvalidReason::RouteTruncated)?;
    *rest = after;
    Ok(RouteRef::Code(u16::from_be_bytes(*code)))
}

#[inline]
fn take_name<'a>(
    rest: &mut &'a [u8],
    known: impl FnOnce(&'a [u8]) -> Option<&'a str>,
) -> Result<RouteRef<'a>, InvalidReason> {
    let (&len, after) = rest.split_first().ok_or(InvalidReason::RouteTruncated)?;
    let (name, after) = after.split_at_checked(usize::from(len)).ok_or(InvalidReason::RouteTruncated)?;
    *rest = after;
    let name = match known(name) {
        Some(name) => name,
        None => std::str::from_utf8(name).map_err(|_| InvalidReason::RouteNotUtf8)?,
    };
    Ok(RouteRef::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_one_to_ten_bytes() {
        let mut buf = HeadBuf::new();
        for bits in 0..=64 {
            for id in [1_u64.checked_shl(bits).unwrap_or(0), 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1)] {
                let head = Head::new(MessageKind::Response, id, RouteRef::None);
                let bytes = head.encode(&mut buf).unwrap();
                let decoded = Head::decode(bytes).unwrap();
                assert_eq!(decoded.id, id);
                assert_eq!(decoded.body_at, bytes.len());
            }
        }
    }

    #[test]
    fn the_head_of_a_response_is_that_of_any_message() {
        let mut buf = HeadBuf::new();
        for id in (0..64).map(|bits| 1 << bits).chain([0, 127, 16_383, u64::MAX]) {
            for (error, compressed) in [(false, false), (false, true), (true, false), (true, true)] {
                let head = Head { error, compressed, ..Head::new(MessageKind::Response, id, RouteRef::None) };
                assert_eq!(ResponseHead::new(id, error, compressed).as_slice(), head.encode(&mut buf).unwrap());
            }
        }
    }

    #[test]
    fn ids_over_64_bits_are_refused() {
        let check = |id: &[u8], expected: Result<u64, InvalidReason>| {
            let bytes = [&[4], id].concat();
            let decoded = Head::decode(&bytes).map(|head| head.id);
            assert_eq!(decoded, expected.map_err(MessageError::Invalid), "{id:x?}");
        };
        check(&[0x80, 0], Ok(0));
        let nine = [0x80; 9];
        check(&[&nine[..], &[0]].concat(), Ok(0));
        check(&[&nine[..], &[1]].concat(), Ok(1 << 63));
        check(&[&nine[..], &[2]].concat(), Err(InvalidReason::IdTooLong));
        check(&[&nine[..], &[0x80, 1]].concat(), Err(InvalidReason::IdTooLong));
        check(&nine, Err(InvalidReason::IdUnterminated));
        check(&[&nine[..], &[0x80]].concat(), Err(InvalidReason::IdTooLong));
    }

    #[test]
    fn the_longest_head_fits() {
        let route = "x".repeat(MAX_ROUTE_LEN);
        let mut buf = HeadBuf::new();
        let head = Head::new(MessageKind::Request, u64::MAX, RouteRef::Name(&route));
        assert_eq!(head.encode(&mut buf).unwrap().len(), MAX_HEAD_LEN);
        let route = "x".repeat(MAX_ROUTE_LEN + 1);
        let head = Head::new(MessageKind::Push, 0, RouteRef::Name(&route));
        let error = MessageError::RouteTooLong { len: 256 };
        assert_eq!(head.encode(&mut buf), Err(error));
        let head = Head::new(MessageKind::Push, 0, RouteRef::None);
        assert_eq!(head.encode(&mut buf), Err(MessageError::MissingRoute));
    }
}
