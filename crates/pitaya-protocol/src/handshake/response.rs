//! What a server tells its clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::HandshakeError;
use crate::compression::{Compression, inflate, looks_compressed};
use crate::dictionary::Dictionary;
use crate::packet::HEADER_LEN;

/// Longest interval that every client can read: libpitaya keeps seconds in 32 bits.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(i32::MAX as u64);

/// Intervals below this are taken for none, lest a server makes its clients spin.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(1);

/// Step in bytes in which Go's client reads the response.
const GO_READ_STEP: usize = 1024;

/// The server's answer to a handshake (protocol.md section 2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// 200, or 400 for a refused handshake.
    pub code: u16,
    /// Interval of heartbeats; `None` sends none, which a server cannot ask for.
    pub heartbeat: Option<Duration>,
    /// Route codes that the server understands and may use.
    pub dictionary: Dictionary,
    /// Serializer of message bodies, `json` or `protobuf`.
    pub serializer: String,
    /// Why the handshake was refused, if the server says so. Go's servers do not, and other clients read over it.
    pub reason: Option<HandshakeReason>,
}

/// Why a server refused a handshake: the key `error` of the response, which is an addition of ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HandshakeReason {
    /// The code of the error.
    pub code: String,
    /// The text for a person.
    pub msg: String,
}

impl HandshakeResponse {
    /// Code of an accepted handshake.
    pub const OK: u16 = 200;
    /// Code of a refused handshake.
    pub const REFUSED: u16 = 400;

    /// Writes the body of the server's Handshake packet, with the keys in Go's order.
    ///
    /// With `compression` it is a zlib stream if that is strictly shorter. White space is added behind the JSON where
    /// the packet's length would be a multiple of 1024 bytes: Go's client reads in steps of that size and waits for
    /// ever if the packet ends with a step (protocol.md section 2.3).
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Heartbeat`] unless the interval is whole seconds, 1 to 2^31 - 1: Go's client refuses a
    /// fraction and panics on 0.
    pub fn encode(&self, compression: bool) -> Result<Vec<u8>, HandshakeError> {
        let seconds = self
            .heartbeat
            .filter(|interval| interval.subsec_nanos() == 0 && !interval.is_zero() && *interval <= LONGEST_HEARTBEAT)
            .ok_or(HandshakeError::Heartbeat(self.heartbeat))?
            .as_secs();
        let dict: BTreeMap<&str, u16> = self.dictionary.iter().collect();
        let dict: Vec<String> = dict.into_iter().map(|(route, code)| format!("{}:{code}", text(route))).collect();
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| {
            format!(r#""error":{{"code":{},"msg":{}}},"#, text(&reason.code), text(&reason.msg))
        });
        let json = format!(
            r#"{{"code":{},{reason}"sys":{{"dict":{{{}}},"heartbeat":{seconds},"serializer":{}}}}}"#,
            self.code,
            dict.join(","),
            text(&self.serializer),
        );
        let compression = if compression { Compression::Above { threshold: 0 } } else { Compression::Off };
        Ok(avoid_read_step(json.into_bytes(), compression))
    }

    /// Reads the body of the server's Handshake packet.
    ///
    /// A zlib stream is recognised by its first bytes and may inflate to at most `max_inflated` bytes. A missing
    /// dictionary is empty, a missing serializer is `json`. A missing or negative interval, and one below a
    /// millisecond, is `None`; more than 2^31 - 1 seconds count as that.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Inflate`], [`HandshakeError::Json`] (also for a missing code and values of the wrong type),
    /// [`HandshakeError::Dictionary`].
    pub fn parse(body: &[u8], max_inflated: usize) -> Result<Self, HandshakeError> {
        let inflated;
        let json = if looks_compressed(body) {
            inflated = inflate(body, max_inflated)?;
            &inflated[..]
        } else {
            body
        };
        let wire: Wire = serde_json::from_slice(json).map_err(HandshakeError::Json)?;
        let sys = wire.sys.unwrap_or_default();
        Ok(Self {
            code: wire.code,
            heartbeat: sys.heartbeat.and_then(interval),
            dictionary: Dictionary::new(sys.dict.unwrap_or_default().0)?,
            serializer: sys.serializer.unwrap_or_else(|| String::from("json")),
            reason: wire.error,
        })
    }
}

/// A JSON string.
fn text(text: &str) -> Value {
    Value::from(text)
}

/// Deflates and pads until the packet does not end with a step of Go's client.
fn avoid_read_step(mut json: Vec<u8>, compression: Compression) -> Vec<u8> {
    let bad = |body: &[u8]| (HEADER_LEN + body.len()).is_multiple_of(GO_READ_STEP);
    // One space more changes the deflated length sooner or later; the bound only excludes an endless loop.
    for _ in 0..GO_READ_STEP {
        match compression.apply(&json) {
            Some(deflated) if !bad(&deflated) => return deflated,
            None if !bad(&json) => return json,
            Some(_) | None => json.push(b' '),
        }
    }
    if bad(&json) {
        json.push(b' ');
    }
    json
}

/// Converts an interval in seconds, which may be anything that JSON can express.
fn interval(seconds: f64) -> Option<Duration> {
    if seconds >= LONGEST_HEARTBEAT.as_secs_f64() {
        return Some(LONGEST_HEARTBEAT);
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|interval| *interval >= SHORTEST_HEARTBEAT)
}

#[derive(serde::Deserialize)]
struct Wire {
    code: u16,
    sys: Option<WireSys>,
    error: Option<HandshakeReason>,
}

#[derive(Default, serde::Deserialize)]
struct WireSys {
    heartbeat: Option<f64>,
    dict: Option<Entries>,
    serializer: Option<String>,
}

/// The entries of a JSON object including repeated keys, which a map would hide.
#[derive(Default)]
struct Entries(Vec<(String, u16)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of routes and their codes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests;
