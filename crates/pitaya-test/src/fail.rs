//! How an assertion fails: with the line of the test and what came instead.

use std::{error::Error, fmt::Display, panic::Location};

use pitaya_client::Push;

/// The longest part of a body that a text shows, in characters.
const SHOWN: usize = 200;

/// Fails the test. A panic in a future names the line of this crate where it happened; the text names the one that the
/// reader looks for.
pub(crate) fn fail(at: &Location<'_>, text: impl Display) -> ! {
    panic!("{text}\n  asserted at {at}")
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A body as far as it fits.
pub(crate) fn body(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::from("(empty)");
    }
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], bytes.len()),
        None => text.into_owned(),
    }
}

/// Pushes, one a line.
pub(crate) fn list<'a>(pushes: impl IntoIterator<Item = &'a Push>) -> String {
    pushes.into_iter().map(|push| format!("\n  {} {}", push.route, body(&push.body))).collect()
}
