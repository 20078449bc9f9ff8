//! The HTTP request that opens a WebSocket, and its answer.

use crate::invalid;
use std::io;
use tungstenite::handshake::derive_accept_key;

/// The client's key, from the example in RFC 6455.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The empty line that ends the head of a request or of an answer.
const END: &[u8] = b"\r\n\r\n";

/// The client's request.
#[must_use]
pub fn request() -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The length of the head at the start of `input`, with its empty line, if it is complete.
#[must_use]
pub fn head_len(input: &[u8]) -> Option<usize> {
    let at = input.windows(END.len()).position(|window| window == END)?;
    Some(at + END.len())
}

/// Answers the head of a request.
///
/// # Errors
///
/// If the request has no key.
pub fn answer(head: &[u8]) -> io::Result<String> {
    let key = header(head, "sec-websocket-key").ok_or_else(|| invalid("no WebSocket key"))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    ))
}

/// Checks the head of a server's answer to [`request`].
///
/// # Errors
///
/// If the server did not upgrade, or derived another key.
pub fn check(head: &[u8]) -> io::Result<()> {
    if !head.starts_with(b"HTTP/1.1 101 ") {
        let text = String::from_utf8_lossy(head);
        return Err(invalid(&format!("no WebSocket here: {}", text.lines().next().unwrap_or(""))));
    }
    match header(head, "sec-websocket-accept") {
        Some(key) if key == derive_accept_key(KEY.as_bytes()) => Ok(()),
        _ => Err(invalid("wrong Sec-WebSocket-Accept")),
    }
}

/// The value of a header in `head`.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_agree() {
        let request = request();
        assert_eq!(head_len(request.as_bytes()), Some(request.len()));
        let answer = answer(request.as_bytes()).unwrap();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        check(answer.as_bytes()).unwrap();
        assert!(check(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(head_len(b"GET / HTTP/1.1\r\n").is_none());
    }
}
