//! What a client tells about itself.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::HandshakeError;

/// The client's handshake (protocol.md section 2.2).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HandshakeData {
    /// What the client library says about itself.
    pub sys: HandshakeSys,
    /// Free for the application.
    pub user: Map<String, Value>,
}

/// What a client library says about itself; all texts are free and may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandshakeSys {
    /// `platform`, such as `mac`.
    pub platform: String,
    /// `libVersion`, such as `0.3.5-release`.
    pub lib_version: String,
    /// `clientBuildNumber`, such as `20`.
    pub client_build_number: String,
    /// `clientVersion`, such as `1.0.0`.
    pub client_version: String,
}

impl HandshakeData {
    /// Reads the body of a client's Handshake packet, as leniently as Go does.
    ///
    /// Keys match whatever their case, unknown ones are ignored, missing ones and `null` leave the default, of several
    /// equal ones the last wins. Bytes that are not UTF-8 become U+FFFD inside texts.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Json`] for an empty body, anything but an object or `null`, a value of the wrong type, and
    /// anything but white space behind the object.
    pub fn parse(body: &[u8]) -> Result<Self, HandshakeError> {
        let text = String::from_utf8_lossy(body);
        let mut data = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        Object(&mut data)
            .deserialize(&mut deserializer)
            .and_then(|()| deserializer.end())
            .map_err(HandshakeError::Json)?;
        Ok(data)
    }

    /// Writes the body of a client's Handshake packet; `user` is left out when empty.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // By hand, because the order of the keys is Go's and because writing a `Value` cannot fail.
        let text = |text: &str| Value::from(text);
        let mut json = format!(
            r#"{{"sys":{{"platform":{},"libVersion":{},"clientBuildNumber":{},"clientVersion":{}}}"#,
            text(&self.sys.platform),
            text(&self.sys.lib_version),
            text(&self.sys.client_build_number),
            text(&self.sys.client_version),
        );
        if !self.user.is_empty() {
            json.push_str(r#","user":"#);
            json.push_str(&Value::Object(self.user.clone()).to_string());
        }
        json.push('}');
        json.into_bytes()
    }
}

/// Something that a JSON object fills key by key, on top of what is there: Go's way of reading into a struct.
trait Fill {
    fn fill<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;

    /// What `null` does: nothing, except to maps.
    fn clear(&mut self) {}
}

struct Object<'a, T>(&'a mut T);

impl<'de, T: Fill> DeserializeSeed<'de> for Object<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Fill> Visitor<'de> for Object<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.clear();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.0.fill(&key, &mut map)?;
        }
        Ok(())
    }
}

impl Fill for HandshakeData {
    fn fill<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if key.eq_ignore_ascii_case("sys") {
            map.next_value_seed(Object(&mut self.sys))
        } else if key.eq_ignore_ascii_case("user") {
            map.next_value_seed(Object(&mut self.user))
        } else {
            map.next_value::<IgnoredAny>().map(|_| ())
        }
    }
}

impl Fill for HandshakeSys {
    fn fill<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let fields = [
            ("platform", &mut self.platform),
            ("libVersion", &mut self.lib_version),
            ("clientBuildNumber", &mut self.client_build_number),
            ("clientVersion", &mut self.client_version),
        ];
        for (name, field) in fields {
            if key.eq_ignore_ascii_case(name) {
                if let Some(text) = map.next_value::<Option<String>>()? {
                    *field = text;
                }
                return Ok(());
            }
        }
        map.next_value::<IgnoredAny>().map(|_| ())
    }
}

impl Fill for Map<String, Value> {
    fn fill<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let value = map.next_value()?;
        self.insert(key.to_owned(), value);
        Ok(())
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<HandshakeData> {
        HandshakeData::parse(body.as_bytes()).ok()
    }

    #[test]
    fn absent_things_are_empty() {
        for body in [
            "null",
            "{}",
            r#"{"sys":null,"user":null}"#,
            r#"{"sys":{"platform":null}}"#,
            " {\t} \n",
            r#"{"other":[1,{"a":[]}],"sys":{"protoVersion":7}}"#,
        ] {
            assert_eq!(parse(body), Some(HandshakeData::default()), "{body}");
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        for body in [
            "",
            " ",
            "[]",
            "1",
            "\"x\"",
            "true",
            "{",
            "{} x",
            "{}{}",
            "null null",
            r#"{"sys":{"platform":1}}"#,
            r#"{"sys":[]}"#,
            r#"{"sys":""}"#,
            r#"{"user":[]}"#,
            r#"{"user":"x"}"#,
            r#"{"other":x}"#,
        ] {
            assert_eq!(parse(body), None, "{body}");
        }
        assert!(HandshakeData::parse(b"\xff{}").is_err());
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_wins() {
        let data = parse(
            r#"{"SYS":{"PLATFORM":"a","platform":"b","platform":null},"sys":{"libversion":"c"},
                "User":{"x":1,"X":2},"user":{"x":3}}"#,
        )
        .unwrap();
        assert_eq!((&*data.sys.platform, &*data.sys.lib_version), ("b", "c"));
        assert_eq!(Value::Object(data.user), serde_json::json!({"x": 3, "X": 2}));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_inside_texts() {
        let data = HandshakeData::parse(b"{\"sys\":{\"platform\":\"m\xffc\"}}").unwrap();
        assert_eq!(data.sys.platform, "m\u{FFFD}c");
    }

    #[test]
    fn own_json_is_read_back() {
        let mut data = HandshakeData::default();
        assert_eq!(HandshakeData::parse(&data.to_json()).unwrap(), data);
        data.sys.platform = String::from("a\"\\\u{7}é");
        data.user.insert(String::from("k"), Value::from(1.5));
        assert_eq!(HandshakeData::parse(&data.to_json()).unwrap(), data);
    }
}
