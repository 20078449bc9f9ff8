//! Hex text to bytes.

#![allow(clippy::unwrap_used, reason = "a helper of tests")]

/// Reads hex digits; spaces are for the eye.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| u8::from_str_radix(digit.encode_utf8(&mut [0; 4]), 16).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "odd number of hex digits");
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
