//! What travels with a call beside its payload: a JSON object that each server hands on (protocol.md 6.6).

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{Error, code, config::Value as _};

/// The metadata of a call: which request it belongs to, how long its caller waits, and whatever the application adds. A call
/// that is made in its course carries the same entries.
///
/// Kept as the bytes that arrived until somebody changes it: few calls look at more than the time-out.
#[derive(Clone, Default)]
pub struct Metadata {
    entries: Entries,
    timeout: Option<Duration>,
}

#[derive(Clone)]
enum Entries {
    /// Known to be a JSON object.
    Encoded(Bytes),
    Map(Arc<Map<String, Value>>),
}

impl Metadata {
    /// The longest that is accepted, in bytes.
    pub const MAX_LEN: usize = 64 * 1024;

    /// The id of the caller.
    pub const PEER_ID: &'static str = "peer.id";
    /// The type of the caller.
    pub const PEER_SERVICE: &'static str = "peer.service";
    /// The id of the client's request that all this is about.
    pub const REQUEST_ID: &'static str = "request.id";
    /// The route, for metrics.
    pub const ROUTE: &'static str = "req-route";
    /// When the client's request was read, in nanoseconds of Unix time.
    pub const START_TIME: &'static str = "req-start-time";
    /// How long the caller waits, as Go writes durations.
    pub const TIMEOUT: &'static str = "reqTimeout";

    /// Reads the metadata of a call.
    ///
    /// # Errors
    ///
    /// It is empty, too long, no JSON object, or its time-out is no duration (protocol.md 6.3).
    pub fn parse(encoded: Bytes) -> Result<Self, MetadataError> {
        let Scanned { timeout, .. } = scan(&encoded, "")?;
        Ok(Self { entries: Entries::Encoded(encoded), timeout })
    }

    /// Reads the metadata of a call as the one who is called: `req-route` is what is called here, and a call without
    /// `request.id` gets one.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn received(encoded: Bytes, route: &str) -> Result<Self, MetadataError> {
        let Scanned { timeout, names_route, has_request_id } = scan(&encoded, route)?;
        let mut metadata = Self { entries: Entries::Encoded(encoded), timeout };
        if !names_route {
            metadata.set(Self::ROUTE, route);
        }
        if !has_request_id {
            metadata.set(Self::REQUEST_ID, new_request_id(None));
        }
        Ok(metadata)
    }

    /// The metadata as it travels. Never empty.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        match &self.entries {
            Entries::Encoded(bytes) => bytes.clone(),
            // A map with text as keys can always be written.
            Entries::Map(map) => serde_json::to_vec(&**map).unwrap_or_else(|_| b"{}".to_vec()).into(),
        }
    }

    /// How long the caller waits for the answer, from when it asked.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Says how long the caller waits.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
        self.map().insert(Self::TIMEOUT.into(), timeout.show().into());
    }

    /// The value of an entry. The whole object is parsed for it unless it was changed here.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        match &self.entries {
            Entries::Encoded(bytes) => parsed(bytes).remove(key),
            Entries::Map(map) => map.get(key).cloned(),
        }
    }

    /// The text of an entry; none if it is something else.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Adds an entry, or replaces it. Calls that follow carry it. A time-out that is no duration is ignored.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        if key == Self::TIMEOUT {
            // Anything else would make calls fail at their targets.
            if let Some(timeout) = value.as_str().and_then(|text| go_duration(text).ok()) {
                self.set_timeout(timeout);
            }
            return;
        }
        self.map().insert(key, value);
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> Map<String, Value> {
        match &self.entries {
            Entries::Encoded(bytes) => parsed(bytes),
            Entries::Map(map) => Map::clone(map),
        }
    }

    fn map(&mut self) -> &mut Map<String, Value> {
        if let Entries::Encoded(bytes) = &self.entries {
            self.entries = Entries::Map(Arc::new(parsed(bytes)));
        }
        match &mut self.entries {
            Entries::Map(map) => Arc::make_mut(map),
            Entries::Encoded(_) => unreachable!("it has just been made a map"),
        }
    }
}

/// Bytes that were found to be an object when they arrived.
fn parsed(bytes: &Bytes) -> Map<String, Value> {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Two are equal if their entries are.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries()).finish()
    }
}

impl Default for Entries {
    fn default() -> Self {
        Self::Encoded(Bytes::from_static(b"{}"))
    }
}

/// What the framework looks at in metadata that arrives.
#[derive(Default)]
struct Scanned {
    timeout: Option<Duration>,
    /// Whether `req-route` is the route that was asked for.
    names_route: bool,
    has_request_id: bool,
}

/// Checks metadata, and looks at it without keeping what it says.
fn scan(encoded: &Bytes, route: &str) -> Result<Scanned, MetadataError> {
    if encoded.is_empty() {
        return Err(MetadataError::Empty);
    }
    if encoded.len() > Metadata::MAX_LEN {
        return Err(MetadataError::TooLong { len: encoded.len() });
    }
    let json = |error: serde_json::Error| MetadataError::Json(error.to_string());
    let mut deserializer = serde_json::Deserializer::from_slice(encoded);
    let (timeout, mut scanned) = deserializer.deserialize_map(Known(route)).map_err(json)?;
    deserializer.end().map_err(json)?;
    scanned.timeout = timeout.map(|text| go_duration(&text)).transpose()?;
    Ok(scanned)
}

/// Looks through an object for the entries that the framework acts on. Of an entry that is there twice the last counts.
struct Known<'a>(&'a str);

impl<'de> Visitor<'de> for Known<'_> {
    type Value = (Option<String>, Scanned);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut timeout, mut scanned) = (None, Scanned::default());
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                Metadata::TIMEOUT => {
                    timeout = match map.next_value::<Value>()? {
                        Value::String(text) => Some(text),
                        _ => return Err(A::Error::custom("reqTimeout is no text")),
                    };
                }
                Metadata::ROUTE => scanned.names_route = map.next_value::<Value>()? == self.0,
                Metadata::REQUEST_ID => {
                    scanned.has_request_id = map.next_value::<Value>()?.as_str().is_some_and(|id| !id.is_empty());
                }
                _ => {
                    map.next_value::<Checked>()?;
                }
            }
        }
        Ok((timeout, scanned))
    }
}

/// Any value, read as a [`Value`] would be, and thrown away. What is only skipped (as serde's `IgnoredAny` does) may be a number that
/// is none, text that is no text, or too deep; all entries would be lost when they are parsed.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Cow<'de, str>, Self>()?.is_some() {}
        Ok(self)
    }
}

/// 22 letters and digits, as long as those of Go Pitaya: at random, or always the same for one seed.
pub(crate) fn new_request_id(seed: Option<u64>) -> String {
    let mut id = String::with_capacity(22);
    push_request_id(&mut id, seed);
    id
}

/// Writes a [`new_request_id`].
pub(crate) fn push_request_id(text: &mut String, seed: Option<u64>) {
    // One generator for all letters: the shared one is looked up at each use.
    let mut random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    text.extend((0..22).map(|_| random.alphanumeric()));
}

/// Reads a duration as Go does: each number needs its unit.
fn go_duration(text: &str) -> Result<Duration, MetadataError> {
    let error = || MetadataError::Timeout(text.chars().take(32).collect());
    let has_unit = text == "0" || text.ends_with(|last: char| last.is_ascii_alphabetic());
    if let Some(positive) = text.strip_prefix('-') {
        // Whoever waits for less than nothing does not wait.
        return go_duration(positive).map(|_| Duration::ZERO);
    }
    if has_unit { Duration::parse(text).ok_or_else(error) } else { Err(error()) }
}

/// Why metadata is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// There is none.
    #[error("no context found")]
    Empty,
    /// It is longer than [`Metadata::MAX_LEN`].
    #[error("metadata of {len} bytes is over the limit of {}", Metadata::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It is no JSON object.
    #[error("metadata is no JSON object: {0}")]
    Json(String),
    /// `reqTimeout` is no duration.
    #[error("reqTimeout: {0:?} is no duration with a unit")]
    Timeout(String),
}

impl From<MetadataError> for Error {
    fn from(error: MetadataError) -> Self {
        Self::new(code::INTERNAL, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Metadata, MetadataError> {
        Metadata::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn an_object_is_kept_as_it_came_and_its_timeout_is_read() {
        let text = "{\"peer.id\":\"c1\",\"req-start-time\":1588888888000000000,\"reqTimeout\":\"1m30s\",\"x\":{\"y\":[1,null]}}";
        let metadata = parse(text).unwrap();
        assert_eq!(metadata.to_json(), text);
        assert_eq!(metadata.timeout(), Some(Duration::from_secs(90)));
        assert_eq!(metadata.text(Metadata::PEER_ID).as_deref(), Some("c1"));
        assert_eq!(metadata.get(Metadata::START_TIME).unwrap().as_u64(), Some(1_588_888_888_000_000_000));
        assert_eq!((metadata.text(Metadata::START_TIME), metadata.get("z")), (None, None));
        for (text, timeout) in
            [("5s", 5_000), ("1.5s", 1_500), ("300ms", 300), ("1h0m1s", 3_601_000), ("0", 0), ("-5s", 0)]
        {
            let parsed = parse(&format!("{{\"reqTimeout\":\"{text}\"}}")).unwrap();
            assert_eq!(parsed.timeout(), Some(Duration::from_millis(timeout)), "{text}");
        }
    }

    #[test]
    fn what_crashes_the_original_is_an_error() {
        let empty = parse("").unwrap_err();
        assert_eq!(Error::from(empty).to_string(), "PIT-500: no context found");
        for text in ["null", "[]", "1", "\"x\"", "{", "{}x", "{\"reqTimeout\":5}", "{\"reqTimeout\":null}", "\u{0}"] {
            assert!(matches!(parse(text), Err(MetadataError::Json(_))), "{text}");
        }
        for text in ["5", "", "soon", "5s5", "-5", "1e400h"] {
            let parsed = parse(&format!("{{\"reqTimeout\":\"{text}\"}}"));
            assert!(matches!(parsed, Err(MetadataError::Timeout(_))), "{text}");
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(parse(&deep), Err(MetadataError::Json(_))));
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(Metadata::MAX_LEN));
        assert!(matches!(parse(&long), Err(MetadataError::TooLong { .. })));
    }

    /// What was skipped when it came must not make all entries vanish later.
    #[test]
    fn what_is_accepted_can_be_parsed() {
        for wrong in [
            &b"{\"x\":1e999,\"request.id\":\"a\"}"[..],
            b"{\"x\":[{\"y\":-1e400}],\"request.id\":\"a\"}",
            b"{\"x\":\"\xff\",\"request.id\":\"a\"}",
            b"{\"x\":{\"\xff\":1}}",
            b"{\"x\":\"\\ud800\"}",
        ] {
            let parsed = Metadata::parse(Bytes::copy_from_slice(wrong));
            assert!(matches!(parsed, Err(MetadataError::Json(_))), "{}", String::from_utf8_lossy(wrong));
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(120), "]".repeat(120));
        for right in [deep.as_str(), "{\"x\":\"\\ud83d\\ude00\",\"y\":18446744073709551615,\"z\":-1.5e3}"] {
            let metadata = parse(right).unwrap();
            assert!(metadata.get("x").is_some(), "{right}");
        }
    }

    #[test]
    fn numbers_keep_their_value_on_each_hop() {
        let text = "{\"a\":0.30000000000000004,\"b\":-9223372036854775808,\"c\":18446744073709551615,\"d\":1.7976931348623157e308}";
        let mut metadata = parse(text).unwrap();
        // Numbers that a parser which is content with almost the right one gets wrong.
        let floats = [64.84460571394222_f64, 2.638344616030823e-13, 8.4e-25, 1.0e-308, 123_456.789_012_345_67];
        for (index, float) in floats.iter().enumerate() {
            metadata.set(format!("f{index}"), *float);
        }
        for _ in 0..10 {
            metadata = Metadata::parse(metadata.to_json()).unwrap();
            metadata.set("hop", 1);
        }
        assert_eq!(metadata.get("a").unwrap().as_f64(), Some(0.1 + 0.2));
        assert_eq!(metadata.get("b").unwrap().as_i64(), Some(i64::MIN));
        assert_eq!(metadata.get("c").unwrap().as_u64(), Some(u64::MAX));
        assert_eq!(metadata.get("d").unwrap().as_f64(), Some(f64::MAX));
        for (index, float) in floats.iter().enumerate() {
            assert_eq!(metadata.get(&format!("f{index}")).unwrap().as_f64(), Some(*float));
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let float = f64::from_bits(random.u64(..));
            if float.is_finite() {
                let mut metadata = Metadata::default();
                metadata.set("x", float);
                let read = Metadata::parse(metadata.to_json()).unwrap().get("x").unwrap().as_f64();
                assert_eq!(read, Some(float));
            }
        }
    }

    #[test]
    fn who_is_called_puts_its_route_in_and_an_id_where_there_is_none() {
        let received =
            |text: &'static str| Metadata::received(Bytes::from_static(text.as_bytes()), "room.room.a").unwrap();
        let right = "{\"request.id\":\"x\",\"req-route\":\"room.room.a\",\"k\":[1]}";
        assert_eq!(received(right).to_json(), right, "nothing to change");
        let other = received("{\"req-route\":\"gate.gate.b\",\"request.id\":\"x\",\"reqTimeout\":\"2s\"}");
        assert_eq!(other.to_json(), "{\"req-route\":\"room.room.a\",\"reqTimeout\":\"2s\",\"request.id\":\"x\"}");
        assert_eq!(other.timeout(), Some(Duration::from_secs(2)));
        for without in ["{}", "{\"request.id\":\"\"}", "{\"request.id\":7,\"req-route\":null}"] {
            let metadata = received(without);
            assert_eq!(metadata.text(Metadata::REQUEST_ID).unwrap().len(), 22, "{without}");
            assert_eq!(metadata.text(Metadata::ROUTE).as_deref(), Some("room.room.a"), "{without}");
        }
    }

    #[test]
    fn changes_are_of_one_copy_only_and_a_wrong_timeout_changes_nothing() {
        let before = parse("{\"b\":1,\"a\":\"x\"}").unwrap();
        let mut after = before.clone();
        after.set("c", true);
        after.set("b", "changed");
        after.set_timeout(Duration::from_millis(1500));
        assert_eq!(after.to_json(), "{\"a\":\"x\",\"b\":\"changed\",\"c\":true,\"reqTimeout\":\"1.5s\"}");
        assert_eq!(before.to_json(), "{\"b\":1,\"a\":\"x\"}");
        after.set(Metadata::TIMEOUT, 5);
        assert_eq!(after.timeout(), Some(Duration::from_millis(1500)));
        after.set(Metadata::TIMEOUT, "2s");
        assert_eq!(
            parse(std::str::from_utf8(&after.to_json()).unwrap()).unwrap().timeout(),
            Some(Duration::from_secs(2))
        );
        assert_eq!(Metadata::default().to_json(), "{}");
    }
}
