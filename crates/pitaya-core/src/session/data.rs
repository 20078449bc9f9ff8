//! The values that an application keeps in a session.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::remote::parse_data;
use crate::Result;

const IP_VERSION: &str = "ipversion";

/// The data of a session. Every session holds `ipversion` (protocol.md 2.2); the map is made when something else is
/// stored, since it costs more than the rest of an idle session.
#[derive(Debug, Default)]
pub(super) struct SessionData(Option<Box<Map<String, Value>>>);

/// The data of a session in which nothing was stored.
const EMPTY: [&str; 2] = ["{\"ipversion\":\"ipv4\"}", "{\"ipversion\":\"ipv6\"}"];

impl SessionData {
    pub(super) fn get(&self, key: &str, peer: Option<SocketAddr>) -> Option<Value> {
        match &self.0 {
            Some(map) => map.get(key).cloned(),
            None if key == IP_VERSION => Some(ip_version(peer)),
            None => None,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.as_ref().map_or(key == IP_VERSION, |map| map.contains_key(key))
    }

    /// All values, as they travel to other servers.
    pub(super) fn to_json(&self, peer: Option<SocketAddr>) -> Bytes {
        match &self.0 {
            None => Bytes::from_static(EMPTY[usize::from(is_v6(peer))].as_bytes()),
            // A map with text as keys can always be written.
            Some(map) => serde_json::to_vec(map).unwrap_or_default().into(),
        }
    }

    /// Takes what has travelled.
    pub(super) fn set_json(&mut self, encoded: &Bytes) -> Result<()> {
        // Most sessions hold nothing else.
        self.0 = if *encoded == EMPTY[0] { None } else { Some(Box::new(parse_data(encoded)?)) };
        Ok(())
    }

    pub(super) fn map(&mut self, peer: Option<SocketAddr>) -> &mut Map<String, Value> {
        self.0.get_or_insert_with(|| {
            let mut map = Map::new();
            map.insert(IP_VERSION.to_owned(), ip_version(peer));
            Box::new(map)
        })
    }
}

fn ip_version(peer: Option<SocketAddr>) -> Value {
    Value::from(if is_v6(peer) { "ipv6" } else { "ipv4" })
}

fn is_v6(peer: Option<SocketAddr>) -> bool {
    peer.is_some_and(|peer| peer.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ip_version_is_there_before_and_after_the_map_is_made() {
        let peer = Some("[::1]:1".parse().unwrap());
        let mut data = SessionData::default();
        assert_eq!(data.get(IP_VERSION, peer), Some(Value::from("ipv6")));
        assert_eq!(data.get("x", peer), None);
        data.map(peer).insert("x".into(), Value::from(1));
        assert_eq!(data.get(IP_VERSION, peer), Some(Value::from("ipv6")));
        assert_eq!(data.get("x", peer), Some(Value::from(1)));
        data.map(peer).clear();
        assert_eq!(data.get(IP_VERSION, peer), None);
    }
}
