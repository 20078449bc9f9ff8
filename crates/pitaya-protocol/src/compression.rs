//! zlib bodies: deflated when that helps, inflated up to a limit (protocol.md sections 2.3 and 3.2).

use std::cell::RefCell;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// Length in bytes of the shortest zlib stream that holds any data: 2 header, 3 block, 4 checksum.
const SHORTEST_STREAM: usize = 9;

/// Fewest bytes by which the output of inflating grows, unless the limit is nearer.
const SMALLEST_STEP: usize = 64;

thread_local! {
    // Setting up the tables anew costs as much as deflating or inflating a small body.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(flate2::Compression::default(), true));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(true));
}

/// Which bodies a sender tries to deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// None.
    #[default]
    Off,
    /// Bodies of at least `threshold` bytes; 0 tries all, as Go Pitaya does with compression on.
    Above {
        /// Shortest body, in bytes, that is worth a try.
        threshold: usize,
    },
}

impl Compression {
    /// Deflates `body` to a zlib stream at the default level; `None` if the body is to be sent as it is.
    ///
    /// The result is always strictly shorter than `body` (protocol.md section 3.2).
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        match *self {
            Self::Above { threshold } if body.len() >= threshold => deflate_if_shorter(body),
            Self::Above { .. } | Self::Off => None,
        }
    }
}

fn deflate_if_shorter(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() <= SHORTEST_STREAM {
        return None;
    }
    // With room for one byte less than the input, running out of room is the answer "not shorter".
    let mut deflated = Vec::with_capacity(body.len() - 1);
    let status = COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress.compress_vec(body, &mut deflated, FlushCompress::Finish)
    });
    match status {
        Ok(Status::StreamEnd) if deflated.len() < body.len() => Some(deflated),
        Ok(_) | Err(_) => None,
    }
}

/// Inflates a zlib stream to at most `limit` bytes.
///
/// Never allocates more than `limit` bytes plus one. gzip and raw deflate are [`InflateError::Corrupt`]. Bytes behind
/// the end of the stream are ignored, because Go's reader ignores them too and a client that pads would otherwise work
/// with one server and not with the other.
///
/// # Errors
///
/// [`InflateError::TooLarge`] when more than `limit` bytes come out, [`InflateError::Truncated`] when the stream does
/// not end (so also for an empty `body`), [`InflateError::Corrupt`] when it is not zlib or its checksum is wrong.
pub fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(true);
        inflate_with(decompress, body, limit)
    })
}

fn inflate_with(decompress: &mut Decompress, body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    // One byte of room more than allowed tells "exactly at the limit" from "over it".
    let most = limit.saturating_add(1);
    let guess = body.len().saturating_mul(4).max(SMALLEST_STEP);
    let mut inflated = Vec::with_capacity(guess.min(most));
    loop {
        let read = usize::try_from(decompress.total_in()).unwrap_or(usize::MAX);
        let rest = body.get(read..).unwrap_or_default();
        let status =
            decompress.decompress_vec(rest, &mut inflated, FlushDecompress::None).map_err(|_| InflateError::Corrupt)?;
        if inflated.len() > limit {
            return Err(InflateError::TooLarge { limit });
        }
        match status {
            Status::StreamEnd => return Ok(inflated),
            Status::Ok | Status::BufError if inflated.len() < inflated.capacity() => {
                return Err(InflateError::Truncated);
            }
            Status::Ok | Status::BufError => {
                let double = inflated.len().max(SMALLEST_STEP);
                inflated.reserve_exact(double.min(most - inflated.len()));
            }
        }
    }
}

/// Tells whether a handshake body is a zlib stream, by its first two bytes (protocol.md section 2.3).
///
/// The handshake has no flag for it. JSON cannot be mistaken: it never starts with `x`.
#[inline]
#[must_use]
pub fn looks_compressed(body: &[u8]) -> bool {
    matches!(body, [0x78, 0x01 | 0x5E | 0x9C | 0xDA, _, ..])
}

/// Why a body marked as compressed cannot be inflated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InflateError {
    /// More bytes come out than the receiver allows.
    #[error("inflated body is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Not a zlib stream, or damaged.
    #[error("body is not a valid zlib stream")]
    Corrupt,
    /// The stream ends before its end mark.
    #[error("zlib stream is cut short")]
    Truncated,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Compression = Compression::Above { threshold: 0 };

    #[test]
    fn tiny_and_random_bodies_stay_plain() {
        assert_eq!(ALL.apply(b""), None);
        assert_eq!(ALL.apply(b"aaaaaaaaa"), None);
        assert_eq!(ALL.apply(b"no repetition: dwfk"), None);
    }

    #[test]
    fn the_threshold_is_inclusive() {
        let body = [b'a'; 64];
        assert!(Compression::Above { threshold: 64 }.apply(&body).is_some());
        assert!(Compression::Above { threshold: 65 }.apply(&body).is_none());
        assert!(Compression::Off.apply(&body).is_none());
    }

    #[test]
    fn the_limit_is_exact() {
        for len in [0, 1, 63, 64, 65, 1000, 100_000] {
            let body = vec![b'a'; len];
            let mut deflated = Vec::with_capacity(len + 64);
            Compress::new(flate2::Compression::default(), true)
                .compress_vec(&body, &mut deflated, FlushCompress::Finish)
                .unwrap();
            assert_eq!(inflate(&deflated, len).as_deref(), Ok(&body[..]));
            assert_eq!(inflate(&deflated, usize::MAX).as_deref(), Ok(&body[..]));
            if let Some(limit) = len.checked_sub(1) {
                assert_eq!(inflate(&deflated, limit), Err(InflateError::TooLarge { limit }));
            }
        }
    }

    #[test]
    fn errors_tell_cut_from_corrupt() {
        let deflated = ALL.apply(&[b'a'; 500]).unwrap();
        for end in 0..deflated.len() {
            assert_eq!(inflate(&deflated[..end], 500), Err(InflateError::Truncated));
        }
        let gzip = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
        assert_eq!(inflate(&gzip, 500), Err(InflateError::Corrupt));
        let mut wrong_sum = deflated.clone();
        *wrong_sum.last_mut().unwrap() ^= 1;
        assert_eq!(inflate(&wrong_sum, 500), Err(InflateError::Corrupt));
        let mut padded = deflated;
        padded.extend_from_slice(b"padding");
        assert_eq!(inflate(&padded, 500).unwrap().len(), 500);
    }

    #[test]
    fn handshake_bodies_are_recognised_by_two_bytes() {
        for second in [0x01, 0x5E, 0x9C, 0xDA] {
            assert!(looks_compressed(&[0x78, second, 0]));
            assert!(!looks_compressed(&[0x78, second]));
        }
        assert!(!looks_compressed(b"{\"code\":200}"));
        assert!(!looks_compressed(&[0x1F, 0x8B, 8]));
    }
}
