//! Whole messages: convenient where a copy of the route does not matter.

use bytes::{Buf, Bytes};

use super::{Head, HeadBuf, MessageError, MessageKind, RouteRef};
use crate::compression::{Compression, inflate};
use crate::dictionary::Dictionary;

/// One message with its route by name and its body inflated.
///
/// The hot path of a server works with [`Head`] instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the message is.
    pub kind: MessageKind,
    /// Which request it is or answers; 0 for Notify and Push.
    pub id: u64,
    /// Where it goes; empty for a Response.
    pub route: String,
    /// The body, never compressed.
    pub body: Bytes,
    /// The body is an error payload.
    pub error: bool,
}

/// How [`Message::encode`] writes; the default has no dictionary and no compression.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncodeOptions<'a> {
    /// Routes to be written as codes.
    pub dictionary: Option<&'a Dictionary>,
    /// Which bodies to deflate.
    pub compression: Compression,
}

impl Message {
    fn new(kind: MessageKind, id: u64, route: String, body: Bytes) -> Self {
        Self { kind, id, route, body, error: false }
    }

    /// Returns a Request; ids start at 1, because 0 is never answered.
    #[must_use]
    pub fn request(id: u64, route: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(MessageKind::Request, id, route.into(), body.into())
    }

    /// Returns a Notify.
    #[must_use]
    pub fn notify(route: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(MessageKind::Notify, 0, route.into(), body.into())
    }

    /// Returns the Response to request `id`.
    #[must_use]
    pub fn response(id: u64, body: impl Into<Bytes>) -> Self {
        Self::new(MessageKind::Response, id, String::new(), body.into())
    }

    /// Returns the Response that says request `id` failed; the body is an error payload (protocol.md section 3.4).
    #[must_use]
    pub fn error_response(id: u64, body: impl Into<Bytes>) -> Self {
        Self { error: true, ..Self::response(id, body) }
    }

    /// Returns a Push.
    #[must_use]
    pub fn push(route: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(MessageKind::Push, 0, route.into(), body.into())
    }

    /// Reads the body of a Data packet.
    ///
    /// A compressed body may inflate to at most `max_inflated` bytes; a plain one is a slice of `bytes` and not limited
    /// again.
    ///
    /// # Errors
    ///
    /// As [`Head::decode`], [`MessageError::UnknownRouteCode`] and [`MessageError::Inflate`].
    pub fn decode(mut bytes: Bytes, dictionary: &Dictionary, max_inflated: usize) -> Result<Self, MessageError> {
        let Head { kind, id, route, error, compressed, body_at } = Head::decode(&bytes)?;
        let route = route.resolve(dictionary)?.to_owned();
        bytes.advance(body_at);
        let body = if compressed { inflate(&bytes, max_inflated)?.into() } else { bytes };
        Ok(Self { kind, id, route, body, error })
    }

    /// Writes the body of a Data packet.
    ///
    /// # Errors
    ///
    /// [`MessageError::RouteTooLong`] for a route over 255 bytes.
    pub fn encode(&self, options: &EncodeOptions<'_>) -> Result<Bytes, MessageError> {
        let route = match options.dictionary {
            Some(dictionary) => RouteRef::shorten(&self.route, dictionary),
            None => RouteRef::Name(&self.route),
        };
        let deflated = options.compression.apply(&self.body);
        let head = Head { error: self.error, compressed: deflated.is_some(), ..Head::new(self.kind, self.id, route) };
        let mut buf = HeadBuf::new();
        let head = head.encode(&mut buf)?;
        let body = deflated.as_deref().unwrap_or(&self.body);
        Ok([head, body].concat().into())
    }
}
