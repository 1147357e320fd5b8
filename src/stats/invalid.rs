//! Why a statistic is refused.
//!
//! Used by the sequential half of `stats`. Its rule: numbers that mean nothing (NaN, a probability of zero) are refused with
//! their name; nothing panics and nothing is silently left out. The way not taken: NaN as an answer, which no alert notices.

use std::ops::RangeInclusive;

/// A number that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} is {found}; it must be {wanted}")]
pub struct Invalid {
    /// Which number.
    pub what: &'static str,
    /// What it was.
    pub found: f64,
    /// What would do.
    pub wanted: &'static str,
}

/// The number, if it lies in the range.
///
/// # Errors
/// When it does not, or is NaN.
pub fn within(
    what: &'static str,
    found: f64,
    range: RangeInclusive<f64>,
    wanted: &'static str,
) -> Result<f64, Invalid> {
    if range.contains(&found) { Ok(found) } else { Err(Invalid { what, found, wanted }) }
}

/// The number, if it is a loss or a rate.
///
/// # Errors
/// When it is not in [0, 1].
pub fn unit(what: &'static str, found: f64) -> Result<f64, Invalid> {
    within(what, found, 0.0..=1.0, "from 0 to 1")
}

/// The number, if it is an inclusion probability or an error level.
///
/// # Errors
/// When it is not in (0, 1].
pub fn probability(what: &'static str, found: f64) -> Result<f64, Invalid> {
    within(what, found, f64::MIN_POSITIVE..=1.0, "above 0 and at most 1")
}

/// The number, if it is finite and not negative.
///
/// # Errors
/// When it is not.
pub fn amount(what: &'static str, found: f64) -> Result<f64, Invalid> {
    within(what, found, 0.0..=f64::MAX, "finite and not negative")
}

/// Refuses two lists that belong together and differ in length.
///
/// # Errors
/// When they do.
pub fn same_length(what: &'static str, found: usize, wanted: usize) -> Result<(), Invalid> {
    if found == wanted {
        return Ok(());
    }
    Err(Invalid { what, found: found as f64, wanted: "as many as the list that it belongs to" })
}
