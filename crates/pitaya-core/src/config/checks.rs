//! Checks that many settings share, for [`Setting::checked`](super::Setting::checked).

use std::time::Duration;

/// Longer waits are none, and would overflow the clock.
pub const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Takes durations that are more than zero and at most [`LONGEST`].
///
/// # Errors
///
/// Says what is allowed.
pub fn not_zero(value: &Duration) -> Result<(), &'static str> {
    let fits = !value.is_zero() && *value <= LONGEST;
    fits.then_some(()).ok_or("more than zero, at most ten years")
}

/// Takes durations of at most [`LONGEST`].
///
/// # Errors
///
/// Says what is allowed.
pub fn not_endless(value: &Duration) -> Result<(), &'static str> {
    if *value <= LONGEST { Ok(()) } else { Err("at most ten years") }
}
