//! A server as JSON: what servers of a cluster tell each other of themselves (protocol.md 8.1).

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Serialize,
    de::{Deserializer as _, IgnoredAny, MapAccess, Visitor},
};

use super::ServerInfo;
use crate::NameError;

impl ServerInfo {
    /// The longest JSON text that [`parse`](Self::parse) takes, in bytes.
    pub const MAX_JSON_LEN: usize = 64 * 1024;

    /// Writes the server as JSON, with its keys in the order of Go.
    #[must_use]
    pub fn to_json(&self) -> String {
        let server = Written {
            id: self.id.as_str(),
            kind: self.kind.as_str(),
            metadata: &self.metadata,
            frontend: self.frontend,
            hostname: &self.hostname,
        };
        // Texts, maps of texts and flags can always be written.
        serde_json::to_string(&server).unwrap_or_default()
    }

    /// Reads a server as Go does: keys in any case, unknown ones ignored, `null` as if the key were not there. Other than there,
    /// `null` instead of an object, and names that are none, are errors.
    ///
    /// # Errors
    ///
    /// It is too long, no JSON object, or its id or its type is no valid name.
    pub fn parse(json: &[u8]) -> Result<Self, ServerInfoError> {
        if json.len() > Self::MAX_JSON_LEN {
            return Err(ServerInfoError::TooLong { len: json.len() });
        }
        let invalid = |error: serde_json::Error| ServerInfoError::Json(error.to_string());
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = deserializer.deserialize_map(Fields).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        Ok(Self {
            id: read.id.try_into()?,
            kind: read.kind.try_into()?,
            frontend: read.frontend,
            metadata: read.metadata.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
            hostname: read.hostname,
        })
    }
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    metadata: &'a BTreeMap<String, String>,
    frontend: bool,
    hostname: &'a str,
}

#[derive(Default)]
struct Read {
    id: String,
    kind: String,
    metadata: BTreeMap<String, Option<String>>,
    frontend: bool,
    hostname: String,
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that describes a server")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut read = Read::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.to_ascii_lowercase().as_str() {
                "id" => set(&mut read.id, map.next_value()?),
                "type" => set(&mut read.kind, map.next_value()?),
                "metadata" => set(&mut read.metadata, map.next_value()?),
                "frontend" => set(&mut read.frontend, map.next_value()?),
                "hostname" => set(&mut read.hostname, map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(read)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Why a JSON text is no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerInfoError {
    /// It is longer than [`ServerInfo::MAX_JSON_LEN`].
    #[error("{len} bytes are over the limit of {}", ServerInfo::MAX_JSON_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It is no JSON object with the right kinds of values.
    #[error("{0}")]
    Json(String),
    /// The id or the type is no valid name.
    #[error(transparent)]
    Name(#[from] NameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_go_is_written_and_read() {
        let text = r#"{"id":"id1","type":"connector","metadata":{},"frontend":true,"hostname":"h"}"#;
        let mut server = ServerInfo::parse(text.as_bytes()).unwrap();
        assert_eq!(server.to_json(), text);
        server.metadata.insert("region".into(), "eu".into());
        server.metadata.insert("grpcHost".into(), "127.0.0.1".into());
        server.frontend = false;
        assert_eq!(
            server.to_json(),
            r#"{"id":"id1","type":"connector","metadata":{"grpcHost":"127.0.0.1","region":"eu"},"frontend":false,"hostname":"h"}"#
        );
        assert_eq!(ServerInfo::parse(server.to_json().as_bytes()), Ok(server));
    }

    #[test]
    fn keys_are_read_in_any_case_unknown_ones_are_ignored_and_null_is_nothing() {
        let text = r#" {"ID":"a","Type":"b","metadata":null,"x":{"id":[]},"FRONTEND":null,"hostName":"h","id":null}"#;
        let server = ServerInfo::parse(text.as_bytes()).unwrap();
        assert_eq!((server.id.as_str(), server.kind.as_str(), server.hostname.as_str()), ("a", "b", "h"));
        assert!(!server.frontend && server.metadata.is_empty());
        let server = ServerInfo::parse(br#"{"id":"a","type":"b","metadata":{"k":null}}"#).unwrap();
        assert_eq!((server.metadata["k"].as_str(), server.hostname.as_str()), ("", ""));
    }

    #[test]
    fn what_is_no_server_is_an_error() {
        for text in [
            "",
            "null",
            "[]",
            "{",
            "{}x",
            "\u{0}",
            r#"{"id":1,"type":"b"}"#,
            r#"{"id":"a","type":"b","frontend":"yes"}"#,
            r#"{"id":"a","type":"b","metadata":[]}"#,
            r#"{"id":"a","type":"b","metadata":{"k":1}}"#,
        ] {
            assert!(matches!(ServerInfo::parse(text.as_bytes()), Err(ServerInfoError::Json(_))), "{text}");
        }
        for text in ["{}", r#"{"id":"a"}"#, r#"{"id":"a/b","type":"b"}"#, r#"{"id":"a","type":"b.c"}"#] {
            assert!(matches!(ServerInfo::parse(text.as_bytes()), Err(ServerInfoError::Name(_))), "{text}");
        }
        let long = format!(r#"{{"id":"a","type":"b","hostname":"{}"}}"#, "h".repeat(ServerInfo::MAX_JSON_LEN));
        assert!(matches!(ServerInfo::parse(long.as_bytes()), Err(ServerInfoError::TooLong { .. })));
        assert!(ServerInfo::parse(b"\xff").is_err());
    }
}
