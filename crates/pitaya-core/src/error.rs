//! The error that crosses the wire.

use std::{borrow::Cow, collections::BTreeMap, convert::Infallible, error::Error as StdError, fmt, sync::Arc};

use pitaya_protocol::HandshakeError;

/// The result of a handler, a hook or a framework call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error codes of the framework (protocol.md 3.5; `PIT-401` and `PIT-429` are ours). Applications use their own freely.
pub mod code {
    /// An error without a code of its own.
    pub const UNKNOWN: &str = "PIT-000";
    /// The client's message cannot be understood: route, argument, or kind of message.
    pub const BAD_REQUEST: &str = "PIT-400";
    /// The client has to log in first.
    pub const UNAUTHORIZED: &str = "PIT-401";
    /// No such handler.
    pub const NOT_FOUND: &str = "PIT-404";
    /// Somebody was waited for too long.
    pub const TIMEOUT: &str = "PIT-408";
    /// Too many ask at once: try again later.
    pub const TOO_MANY: &str = "PIT-429";
    /// The client is gone.
    pub const CLIENT_CLOSED: &str = "PIT-499";
    /// The server failed: routing, a panic, an internal error.
    pub const INTERNAL: &str = "PIT-500";
}

/// An error as a client or another server receives it: a code, a message and metadata.
///
/// It is one pointer wide. A foreign error does not convert by itself: [`Error::internal`] keeps it as the source, so
/// that the log has the whole chain, and the client gets a general text and the id of the request instead.
///
/// ```
/// use pitaya_core::Error;
///
/// let error = Error::new("SHOP-042", "not enough gold").with("missing", 12);
/// assert_eq!(error.code(), "SHOP-042");
/// assert_eq!(error.metadata()["missing"], "12");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    metadata: BTreeMap<String, String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of a code and a message. An empty code becomes [`code::UNKNOWN`].
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let mut code = code.into();
        if code.is_empty() {
            code = Cow::Borrowed(code::UNKNOWN);
        }
        Self(Box::new(Inner { code, message: message.into(), metadata: BTreeMap::new(), source: None }))
    }

    /// An error without a code of its own: the client sees `PIT-000` and the text.
    #[must_use]
    pub fn plain(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::UNKNOWN, message)
    }

    /// The client's message is wrong: `PIT-400`.
    #[must_use]
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::BAD_REQUEST, message)
    }

    /// There is no such thing: `PIT-404`.
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::NOT_FOUND, message)
    }

    /// The server failed for a reason that is not the client's business: `PIT-500`.
    ///
    /// The source is logged with the id of the request; the client gets that id and a general text.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let mut error = Self::new(code::INTERNAL, "internal error");
        error.0.source = Some(Arc::from(source.into()));
        error
    }

    /// Adds an entry of metadata.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.0.metadata.insert(key.into(), value.to_string());
        self
    }

    /// Replaces the message and keeps code and metadata.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The code, never empty.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The text for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What else the client should know, by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("code", &self.0.code).field("message", &self.0.message);
        if !self.0.metadata.is_empty() {
            out.field("metadata", &self.0.metadata);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<&'static str> for Error {
    fn from(message: &'static str) -> Self {
        Self::plain(message)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::plain(message)
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        Self::plain(format!("no valid handshake: {error}"))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn an_empty_code_is_the_unknown_code() {
        assert_eq!(Error::new("", "x").code(), code::UNKNOWN);
    }

    #[test]
    fn the_source_stays_reachable_and_out_of_the_text() {
        let error = Error::internal(std::io::Error::other("password is hunter2"));
        assert!(!error.to_string().contains("hunter2"));
        assert!(StdError::source(&error).unwrap().to_string().contains("hunter2"));
    }
}
