//! The first packets of a connection, as constants.

use crate::packet::{self, kind};

/// What the load generator says of itself.
const CLIENT: &[u8] =
    br#"{"sys":{"platform":"linux","libVersion":"0.1.0","clientBuildNumber":"1","clientVersion":"0.1"},"user":{}}"#;

/// The limit's answer: thirty seconds, no dictionary, JSON.
const SERVER: &[u8] = br#"{"code":200,"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#;

/// The client's handshake packet.
#[must_use]
pub fn request() -> Vec<u8> {
    let mut out = Vec::new();
    packet::put(&mut out, kind::HANDSHAKE, CLIENT);
    out
}

/// The client's acknowledgement.
#[must_use]
pub fn ack() -> Vec<u8> {
    let mut out = Vec::new();
    packet::put(&mut out, kind::HANDSHAKE_ACK, &[]);
    out
}

/// The body of the limit's answer.
#[must_use]
pub fn response_body() -> &'static [u8] {
    SERVER
}

/// Whether the body of a server's handshake packet lets the client in.
#[must_use]
pub fn accepted(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Answer {
        code: u16,
    }
    serde_json::from_slice(body).is_ok_and(|answer: Answer| answer.code == 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_accepted() {
        assert!(accepted(response_body()));
        assert!(!accepted(br#"{"code":400}"#));
        assert!(!accepted(b""));
        assert_eq!(ack(), b"\x02\0\0\0");
    }
}
