//! The payload: what a client of a game might send many times a second.

use serde::{Deserialize, Serialize};

/// The size of a request's JSON, and of its answer's.
pub const BODY_LEN: usize = 100;

/// The smallest [`Chat::id`]; ids keep ten digits so that every body has the same size.
const FIRST_ID: u64 = 1_000_000_000;

/// The body of the first request. The digits of the id are the only part that changes.
const TEMPLATE: &[u8; BODY_LEN] =
    br#"{"id":1000000000,"text":"Meet me at the northern gate when the moon is up, and bring your torch. A"}"#;

/// Where the digits of the id stand in [`TEMPLATE`].
const ID_DIGITS: std::ops::Range<usize> = 6..16;

/// A line of chat. Servers decode it and send it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Which request this is.
    pub id: u64,
    /// What is said.
    pub text: String,
}

/// Appends the JSON of request number `sequence`.
pub fn put_body(out: &mut Vec<u8>, sequence: u32) {
    let start = out.len();
    out.extend_from_slice(TEMPLATE);
    let mut id = FIRST_ID + u64::from(sequence) % FIRST_ID;
    for digit in out[start..][ID_DIGITS].iter_mut().rev() {
        *digit = b'0' + (id % 10) as u8;
        id /= 10;
    }
}

/// Whether `body` is the JSON of request number `sequence`, byte for byte.
#[must_use]
pub fn is_body(body: &[u8], sequence: u32) -> bool {
    if body.len() != BODY_LEN
        || body[..ID_DIGITS.start] != TEMPLATE[..ID_DIGITS.start]
        || body[ID_DIGITS.end..] != TEMPLATE[ID_DIGITS.end..]
    {
        return false;
    }
    let id = body[ID_DIGITS]
        .iter()
        .fold(0, |id: u64, digit| id.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
    id == FIRST_ID + u64::from(sequence) % FIRST_ID
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_gives_back_the_same_bytes() {
        for sequence in [0, 1, 77_123, u32::MAX] {
            let mut body = Vec::new();
            put_body(&mut body, sequence);
            assert_eq!(body.len(), BODY_LEN);
            let chat: Chat = serde_json::from_slice(&body).unwrap();
            assert_eq!(serde_json::to_vec(&chat).unwrap(), body);
            assert!(is_body(&body, sequence));
            assert!(!is_body(&body, sequence ^ 1));
        }
    }

    #[test]
    fn another_body_is_noticed() {
        let mut body = Vec::new();
        put_body(&mut body, 5);
        assert!(!is_body(&body[..99], 5));
        body[60] ^= 1;
        assert!(!is_body(&body, 5));
    }
}
