//! Why a statistic is not computed: bad input is refused with its name and place instead of giving a number that means
//! nothing.
//!
//! Returned by every estimator of this folder. Its rule: whoever reads the message knows which value to repair. The way not
//! taken: NaN as "no result", which ends up in a mean.

/// Input that an estimator does not take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is less than the formula needs.
    #[error("{have} {what} where at least {need} are needed: collect more before estimating")]
    TooFew {
        /// What there is too little of.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// A value is not a number, or outside of its range.
    #[error("{what} number {at} is {value}: it must be {range}")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// Its place, from 0.
        at: usize,
        /// The value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// Two inputs that belong together differ in length.
    #[error("{left_len} {left} but {right_len} {right}: give one for each")]
    Lengths {
        /// The first input.
        left: &'static str,
        /// Its length.
        left_len: usize,
        /// The second input.
        right: &'static str,
        /// Its length.
        right_len: usize,
    },
    /// The formula divides by zero on this input.
    #[error("{what} is not defined: {why}")]
    Undefined {
        /// What was asked for.
        what: &'static str,
        /// What about the input makes it so.
        why: &'static str,
    },
}

/// A value that is a finite number.
pub(crate) fn finite(what: &'static str, at: usize, value: f64) -> Result<(), Refusal> {
    hold(value.is_finite(), what, at, value, "a finite number")
}

/// A probability with which something was drawn: above 0, at most 1.
pub(crate) fn inclusion(what: &'static str, at: usize, value: f64) -> Result<(), Refusal> {
    hold(value > 0.0 && value <= 1.0, what, at, value, "above 0 and at most 1")
}

/// A share: 0 to 1.
pub(crate) fn share(what: &'static str, at: usize, value: f64) -> Result<(), Refusal> {
    hold((0.0..=1.0).contains(&value), what, at, value, "between 0 and 1")
}

/// A weight or size: finite and above 0.
pub(crate) fn positive(what: &'static str, at: usize, value: f64) -> Result<(), Refusal> {
    hold(value.is_finite() && value > 0.0, what, at, value, "a finite number above 0")
}

/// A count that may be zero.
pub(crate) fn not_negative(what: &'static str, at: usize, value: f64) -> Result<(), Refusal> {
    hold(value.is_finite() && value >= 0.0, what, at, value, "a finite number of at least 0")
}

/// The size of a stratum: at least as many as were sampled of it.
pub(crate) fn hold_size(at: usize, size: f64, sampled: usize) -> Result<(), Refusal> {
    let holds = size.is_finite() && size >= sampled as f64;
    hold(holds, "size of stratum", at, size, "finite and at least the number of its items")
}

/// A category: less than how many there are.
pub(crate) fn hold_category(at: usize, vote: Option<usize>, categories: usize) -> Result<(), Refusal> {
    let (holds, value) = (vote.is_none_or(|v| v < categories), vote.unwrap_or_default() as f64);
    hold(holds, "category of vote", at, value, "less than the number of categories")
}

/// Enough of something.
pub(crate) fn at_least(what: &'static str, have: usize, need: usize) -> Result<(), Refusal> {
    if have >= need { Ok(()) } else { Err(Refusal::TooFew { what, have, need }) }
}

/// Two inputs of one length.
pub(crate) fn same_length(left: (&'static str, usize), right: (&'static str, usize)) -> Result<(), Refusal> {
    if left.1 == right.1 {
        return Ok(());
    }
    Err(Refusal::Lengths { left: left.0, left_len: left.1, right: right.0, right_len: right.1 })
}

fn hold(holds: bool, what: &'static str, at: usize, value: f64, range: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::OutOfRange { what, at, value, range }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_value_its_place_and_what_is_allowed() {
        let refused = inclusion("inclusion probability", 3, f64::NAN).expect_err("NaN is refused");
        assert_eq!(refused.to_string(), "inclusion probability number 3 is NaN: it must be above 0 and at most 1");
        let refused = at_least("labels", 4, 30).expect_err("four are too few");
        assert_eq!(refused.to_string(), "4 labels where at least 30 are needed: collect more before estimating");
        let refused = same_length(("votes", 2), ("labels", 3)).expect_err("lengths differ");
        assert_eq!(refused.to_string(), "2 votes but 3 labels: give one for each");
    }
}
