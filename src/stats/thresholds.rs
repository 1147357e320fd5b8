//! Consistent probability sampling with 56 random bits: keep iff R >= T.
//!
//! Used by `pipeline::sample` and where labels are asked for. Source: OpenTelemetry specification,
//! trace/tracestate-probability-sampling (`th`, `rv`). Its rule: integers; a probability is derived from the threshold that
//! was applied, never the other way round afterwards. The way not taken: comparing floats, which two implementations round
//! differently.

use crate::stats::refusal::{Refusal, share};

/// 2^56: how many values R has, and a threshold that nothing reaches.
pub const NEVER: u64 = 1 << 56;

/// Hex digits of a full threshold.
const DIGITS: usize = 14;

/// T = round((1 - p) 2^56) for a rate p; a rate below 0 or that is not a number keeps nothing, one above 1 everything.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the product is between 0 and 2^56")]
pub fn threshold(rate: f64) -> u64 {
    if rate.is_nan() {
        return NEVER;
    }
    ((1.0 - rate.clamp(0.0, 1.0)) * NEVER as f64).round() as u64
}

/// The probability that a threshold stands for: (2^56 - T)/2^56.
#[must_use]
pub fn probability(threshold: u64) -> f64 {
    (NEVER - threshold.min(NEVER)) as f64 / NEVER as f64
}

/// How many traces a kept one stands for: 2^56/(2^56 - T); `None` for a threshold that nothing reaches.
#[must_use]
pub fn adjusted_count(threshold: u64) -> Option<f64> {
    (threshold < NEVER).then(|| 1.0 / probability(threshold))
}

/// `th` of a tracestate: 1 to 14 hex digits, trailing zeros cut; "0" keeps everything.
#[must_use]
pub fn parse(th: &str) -> Option<u64> {
    let fits = !th.is_empty() && th.len() <= DIGITS && th.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(&format!("{th:0<DIGITS$}"), 16).ok()).flatten()
}

/// A threshold as `th`; `None` for one that nothing reaches, which has no such form.
#[must_use]
pub fn format(threshold: u64) -> Option<String> {
    let digits = format!("{threshold:0DIGITS$x}");
    let cut = digits.trim_end_matches('0');
    (threshold < NEVER).then(|| if cut.is_empty() { "0".to_owned() } else { cut.to_owned() })
}

/// The threshold that leaves of what passes `outer` the share that passes `inner` ("proportional").
#[must_use]
pub fn nested(outer: u64, inner: u64) -> u64 {
    let range = u128::from(NEVER - outer.min(NEVER));
    let part = u128::from(inner.min(NEVER)) * range / u128::from(NEVER);
    outer.min(NEVER) + u64::try_from(part).unwrap_or(NEVER)
}

/// What two samplers that compare the same R with their own thresholds do together ("equalizing").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equalized {
    /// The larger threshold: the one that decides.
    pub threshold: u64,
    /// Probability of all traces to be kept.
    pub of_all: f64,
    /// Probability of the traces that passed the first sampler to be kept; `None` when it lets nothing through.
    pub of_received: Option<f64>,
}

/// An own threshold behind an upstream one. One below it cannot raise the rate again.
#[must_use]
pub fn equalized(upstream: u64, own: u64) -> Equalized {
    let threshold = upstream.max(own).min(NEVER);
    let of_received = (upstream < NEVER).then(|| (NEVER - threshold) as f64 / (NEVER - upstream) as f64);
    Equalized { threshold, of_all: probability(threshold), of_received }
}

/// A rate rounded down to 2^(-k/4), so that weights fall into few classes.
///
/// # Errors
/// When it is not in [0,1].
pub fn quantised(rate: f64) -> Result<f64, Refusal> {
    share("rate", 0, rate)?;
    // The small addend keeps a power of two what it is.
    Ok(if rate == 0.0 { 0.0 } else { (((4.0 * rate.log2()) + 1e-9).floor() / 4.0).exp2() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, number};
    use proptest::prelude::*;

    #[test]
    fn the_table_of_the_specification() {
        let mut checks = Checks::default();
        for row in cases(&file("otel_sampling.json")["thresholds"]) {
            let th = row["th"].as_str().expect("digits");
            let own = parse(th).expect("a threshold");
            checks.same(th, &Some(own), &row["threshold"].as_u64());
            checks.same(th, &probability(own), &number(&row["probability"]));
            checks.close(th, adjusted_count(own).expect("it is reached"), &row["adjusted_count"], 1e-15);
            checks.same(th, &format(own).as_deref(), &Some(th));
        }
        checks.done(8);
    }

    #[test]
    fn equalizing_decisions() {
        let mut checks = Checks::default();
        for case in cases(&file("otel_sampling.json")["decisions_equalizing"]) {
            let id = case["trace_id"].as_str().expect("an id");
            let whole = |key: &str| case[key].as_u64().expect("a number");
            let (r, upstream) = (whole("randomness"), whole("upstream_threshold"));
            let own = threshold(number(&case["own_probability"]));
            let both = equalized(upstream, own);
            checks.same(id, &u64::from_str_radix(&id[18..], 16).expect("hex"), &r);
            checks.same(id, &own, &whole("own_threshold"));
            checks.same(id, &Some(r >= upstream), &case["kept_upstream"].as_bool());
            checks.same(id, &Some(r >= both.threshold), &case["keep"].as_bool());
            checks.same(id, &both.of_all, &number(&case["pi_total"]));
            checks.same(id, &both.of_received, &case["pi_given_received"].as_f64());
        }
        checks.done(12);
    }

    #[test]
    fn what_is_no_threshold_is_none() {
        for wrong in ["", "g", "+1", "123456789012345", "é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!((parse("0"), parse("E666")), (Some(0), parse("e666")));
        assert_eq!((format(NEVER), adjusted_count(NEVER), equalized(NEVER, 0).of_received), (None, None, None));
        assert_eq!((threshold(f64::NAN), threshold(-1.0), threshold(2.0)), (NEVER, NEVER, 0));
    }

    #[test]
    fn rates_fall_into_few_classes() {
        let q = |rate| quantised(rate).expect("a rate");
        for kept in [1.0, 0.5, 0.25, 0.0] {
            assert!((q(kept) - kept).abs() < 1e-15, "{kept}");
        }
        assert!((q(0.9) - 2.0_f64.powf(-0.25)).abs() < 1e-12);
        assert!(quantised(1.5).is_err() && quantised(f64::NAN).is_err());
    }

    proptest! {
        #[test]
        fn a_threshold_is_read_as_it_is_written(t in 0..NEVER) {
            prop_assert_eq!(format(t).as_deref().and_then(parse), Some(t));
        }

        #[test]
        fn nesting_multiplies(outer in 0.0..=1.0_f64, inner in 0.0..=1.0_f64) {
            let both = probability(nested(threshold(outer), threshold(inner)));
            prop_assert!((both - outer * inner).abs() < 1e-15);
        }

        #[test]
        fn a_rate_is_never_quantised_up(rate in 1e-6..=1.0_f64) {
            let down = quantised(rate).expect("a rate");
            prop_assert!(down <= rate * (1.0 + 1e-9) && down > rate * 0.84);
        }
    }
}
