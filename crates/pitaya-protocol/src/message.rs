//! Messages, the body of Data packets: flag, id, route, body (protocol.md section 3).

mod head;
mod owned;

use thiserror::Error;

use crate::compression::InflateError;
use crate::dictionary::Dictionary;

pub use head::{Head, HeadBuf, MAX_HEAD_LEN, ResponseHead};
pub use owned::{EncodeOptions, Message};

/// Longest route name in bytes: its length is one byte (protocol.md section 3.1).
pub const MAX_ROUTE_LEN: usize = 255;

/// What a message is (protocol.md section 3.1).
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Wants a Response with the same id; id 0 is carried out but never answered.
    Request = 0,
    /// Wants no answer.
    Notify = 1,
    /// Answers a Request; has no route.
    Response = 2,
    /// Sent by the server of its own accord.
    Push = 3,
}

impl MessageKind {
    /// Tells whether messages of this kind carry an id.
    #[inline]
    #[must_use]
    pub fn has_id(self) -> bool {
        matches!(self, Self::Request | Self::Response)
    }

    /// Tells whether messages of this kind carry a route.
    #[inline]
    #[must_use]
    pub fn has_route(self) -> bool {
        !matches!(self, Self::Response)
    }
}

/// The route of a message as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteRef<'a> {
    /// No route: a Response.
    None,
    /// The name, possibly empty, at most [`MAX_ROUTE_LEN`] bytes. It is not checked against the grammar of routes.
    Name(&'a str),
    /// A code of the [`Dictionary`].
    Code(u16),
}

impl<'a> RouteRef<'a> {
    /// Returns the code of `name` if the dictionary has one, else the name.
    #[inline]
    #[must_use]
    pub fn shorten(name: &'a str, dictionary: &Dictionary) -> Self {
        match dictionary.code(name) {
            Some(code) => Self::Code(code),
            None => Self::Name(name),
        }
    }

    /// Returns the name; empty for [`RouteRef::None`].
    ///
    /// # Errors
    ///
    /// [`MessageError::UnknownRouteCode`] if the dictionary does not have the code. The connection must be closed
    /// (protocol.md section 3.1).
    #[inline]
    pub fn resolve(self, dictionary: &'a Dictionary) -> Result<&'a str, MessageError> {
        match self {
            Self::None => Ok(""),
            Self::Name(name) => Ok(name),
            Self::Code(code) => dictionary.route(code).ok_or(MessageError::UnknownRouteCode(code)),
        }
    }
}

/// Why bytes are not a message, or a message cannot be written.
///
/// All of them close the connection on the receiving side (protocol.md section 1.5).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes do not follow the layout of section 3.1.
    #[error("invalid message: {0}")]
    Invalid(InvalidReason),
    /// The type bits of the flag say 4 to 7.
    #[error("unknown message type {0}")]
    UnknownKind(u8),
    /// The route to be sent is longer than [`MAX_ROUTE_LEN`] bytes.
    #[error("route of {len} bytes is over the limit of {MAX_ROUTE_LEN}")]
    RouteTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The message to be sent needs a route and has none.
    #[error("message has no route")]
    MissingRoute,
    /// The code of the route is not in the dictionary.
    #[error("route code {0} is not in the dictionary")]
    UnknownRouteCode(u16),
    /// The compressed body cannot be inflated.
    #[error("cannot inflate message body")]
    Inflate(#[source] InflateError),
}

/// Which rule of the layout is broken (protocol.md section 3.6, table of edge cases).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidReason {
    /// Fewer than two bytes.
    #[error("too short")]
    TooShort,
    /// The id ends with the message.
    #[error("unterminated id")]
    IdUnterminated,
    /// The id takes more than 10 bytes or 64 bits.
    #[error("id over 64 bits")]
    IdTooLong,
    /// The route runs past the end, or is not there at all.
    #[error("route runs past the end")]
    RouteTruncated,
    /// The route is not UTF-8.
    #[error("route is not UTF-8")]
    RouteNotUtf8,
}

impl From<InvalidReason> for MessageError {
    fn from(reason: InvalidReason) -> Self {
        Self::Invalid(reason)
    }
}

impl From<InflateError> for MessageError {
    fn from(error: InflateError) -> Self {
        Self::Inflate(error)
    }
}
