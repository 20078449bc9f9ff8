//! The serializer of an app: what the handshake announces and how errors are written.

use std::fmt;

use bytes::Bytes;
use serde::ser::SerializeMap as _;

use crate::Error;

/// What an app speaks with its clients.
///
/// Payloads are written and read by the extractor types ([`Json`](crate::Json), [`Protobuf`](crate::Protobuf), ..), which say by
/// [`IntoPayload::FORMAT`](crate::IntoPayload::FORMAT) which serializer they belong to; `build()` refuses an app whose
/// handlers speak another one. This trait holds the rest: the name in the handshake and the form of an error.
/// A serializer of your own is this trait for the app and one extractor type.
pub trait Serializer: Send + Sync + 'static {
    /// The name in the handshake (protocol.md 2.3), for example `json`.
    fn name(&self) -> &'static str;

    /// Writes an error as the body of an error response (protocol.md 3.4).
    fn encode_error(&self, error: &Error) -> Bytes;
}

impl fmt::Debug for dyn Serializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serializer({})", self.name())
    }
}

/// JSON, the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonSerializer;

impl Serializer for JsonSerializer {
    fn name(&self) -> &'static str {
        "json"
    }

    /// Always writes `code` and `msg`, since some clients refuse an error without them, and `metadata` when there is any.
    fn encode_error(&self, error: &Error) -> Bytes {
        // Strings as keys and values into memory: nothing here can fail.
        serde_json::to_vec(&Body(error)).unwrap_or_default().into()
    }
}

struct Body<'a>(&'a Error);

impl serde::Serialize for Body<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.0.code())?;
        map.serialize_entry("msg", self.0.message())?;
        if !self.0.metadata().is_empty() {
            map.serialize_entry("metadata", self.0.metadata())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_body_is_the_one_of_the_contract() {
        let plain = Error::not_found("pitaya/handler: room.x.y not found");
        assert_eq!(
            JsonSerializer.encode_error(&plain),
            r#"{"code":"PIT-404","msg":"pitaya/handler: room.x.y not found"}"#
        );
        let rich = Error::new("ROOM-42", "").with("k", "v");
        assert_eq!(JsonSerializer.encode_error(&rich), r#"{"code":"ROOM-42","msg":"","metadata":{"k":"v"}}"#);
    }
}
