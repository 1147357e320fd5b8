//! Intervals of a proportion and of the difference of two, right also when few items fail.
//!
//! Used by `stats::survey`, `stats::accuracy` and reports. Its rule: sizes are real numbers, so that an effective size
//! (Kish) goes in as well as a count. Sources: Wilson, Probable inference, 1927; Clopper & Pearson, The use of confidence
//! or fiducial limits, 1934; Newcombe, Interval estimation for the difference between independent proportions, 1998 (method
//! 10), which Zou & Donner, 2008, extend to any two intervals (MOVER). The way not taken: p ± z·sqrt(p(1-p)/n), which says
//! "exactly 100 %" after three passes.

use crate::stats::beta;
use crate::stats::estimate::{Interval, Level};
use crate::stats::refusal::{Refusal, not_negative, positive, share};
use serde::Serialize;
use statrs::function::erf::erfc;

/// Wilson's score interval of a proportion `p` of `n` items; all of [0,1] when there are none.
///
/// # Errors
/// When `p` is not in [0,1], or `n` is negative or not finite.
pub fn wilson(p: f64, n: f64, level: Level) -> Result<Interval, Refusal> {
    checked(p, n)?;
    if n == 0.0 {
        return Ok(Interval { low: 0.0, high: 1.0 });
    }
    let z2 = level.z().powi(2);
    let middle = (n * p + z2 / 2.0) / (n + z2);
    let half = (z2 * (n * p * (1.0 - p) + z2 / 4.0)).sqrt() / (n + z2);
    let interval = Interval::around(middle, half).within(0.0, 1.0);
    // Rounding must not leave the estimate outside.
    Ok(Interval {
        low: if p == 0.0 { 0.0 } else { interval.low.min(p) },
        high: if 1.0 - p == 0.0 { 1.0 } else { interval.high.max(p) },
    })
}

/// The exact interval of Clopper and Pearson: never too short, often too long.
///
/// # Errors
/// As for [`wilson`].
pub fn clopper_pearson(p: f64, n: f64, level: Level) -> Result<Interval, Refusal> {
    checked(p, n)?;
    let (passed, failed) = (n * p, n * (1.0 - p));
    let low = if passed > 0.0 { beta::quantile(passed, failed + 1.0, level.alpha() / 2.0) } else { 0.0 };
    let high = if failed > 0.0 { beta::quantile(passed + 1.0, failed, 1.0 - level.alpha() / 2.0) } else { 1.0 };
    Ok(Interval { low, high })
}

/// The equal-tailed interval of the posterior under Jeffreys' prior Beta(1/2, 1/2).
///
/// # Errors
/// As for [`wilson`].
pub fn jeffreys(p: f64, n: f64, level: Level) -> Result<Interval, Refusal> {
    checked(p, n)?;
    let (a, b) = (n * p + 0.5, n * (1.0 - p) + 0.5);
    let tail = level.alpha() / 2.0;
    Ok(Interval { low: beta::quantile(a, b, tail), high: beta::quantile(a, b, 1.0 - tail) })
}

/// Newcombe's interval of `p1 - p2`, from Wilson's of both.
///
/// # Errors
/// As for [`wilson`], for either.
pub fn newcombe(first: (f64, f64), second: (f64, f64), level: Level) -> Result<Interval, Refusal> {
    let of = |(p, n)| wilson(p, n, level).map(|interval| (p, interval));
    Ok(difference(of(first)?, of(second)?))
}

/// The interval of a difference of independent estimates, each with an interval that need not be symmetric (MOVER). For two
/// normal intervals it is the usual one.
#[must_use]
pub fn difference((first, of_first): (f64, Interval), (second, of_second): (f64, Interval)) -> Interval {
    let value = first - second;
    Interval {
        low: value - (first - of_first.low).hypot(of_second.high - second),
        high: value + (of_first.high - first).hypot(second - of_second.low),
    }
}

/// A test that two proportions are equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ZTest {
    /// The difference in standard errors under equality.
    pub z: f64,
    /// Two-sided p-value, for one look at the data.
    pub p_value: f64,
}

/// The pooled z test of two proportions `(p, n)`, for one look; repeated looks need the sequential tests.
///
/// # Errors
/// As for [`wilson`], for an empty side, and when all items of both sides are alike.
pub fn z_test(first: (f64, f64), second: (f64, f64)) -> Result<ZTest, Refusal> {
    for (at, (p, n)) in [first, second].into_iter().enumerate() {
        share("proportion", at, p)?;
        positive("number of items", at, n)?;
    }
    let ((p1, n1), (p2, n2)) = (first, second);
    let pooled = (p1 * n1 + p2 * n2) / (n1 + n2);
    let error = (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2)).sqrt();
    if error == 0.0 {
        return Err(Refusal::Undefined { what: "the z test", why: "all items passed, or all failed" });
    }
    let z = (p1 - p2) / error;
    Ok(ZTest { z, p_value: erfc(z.abs() / std::f64::consts::SQRT_2) })
}

fn checked(p: f64, n: f64) -> Result<(), Refusal> {
    share("proportion", 0, p)?;
    not_negative("number of items", 0, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, number};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn one_proportion_as_statsmodels() {
        let mut checks = Checks::default();
        for case in cases(&file("proportions.json")["one_sample"]) {
            let (k, n) = (number(&case["k"]), number(&case["n"]));
            let mut check = |what: &str, own: Interval| {
                let name = format!("{what} of {k} in {n}");
                checks.close(&name, own.low, &case[what][0], 1e-9);
                checks.close(&name, own.high, &case[what][1], 1e-9);
            };
            check("wilson95", wilson(k / n, n, Level::P95).expect("a proportion"));
            check("clopper_pearson95", clopper_pearson(k / n, n, Level::P95).expect("a proportion"));
            check("jeffreys95", jeffreys(k / n, n, Level::P95).expect("a proportion"));
        }
        checks.done(6);
    }

    #[test]
    fn two_proportions_as_statsmodels() {
        let mut checks = Checks::default();
        for case in cases(&file("proportions.json")["two_sample"]) {
            let of = |at: usize| {
                let n = number(&case["n"][at]);
                (number(&case["k"][at]) / n, n)
            };
            let test = z_test(of(0), of(1)).expect("both have items");
            checks.close("z", test.z, &case["z_p"][0], 1e-9);
            checks.close("p", test.p_value, &case["z_p"][1], 1e-9);
            let own = newcombe(of(0), of(1), Level::P95).expect("both have items");
            let close = |checks: &mut Checks, own, expected: &Value| checks.close("newcombe", own, expected, 1e-9);
            close(&mut checks, own.low, &case["newcombe95"][0]);
            close(&mut checks, own.high, &case["newcombe95"][1]);
        }
        checks.done(4);
    }

    #[test]
    fn the_ends_are_kept() {
        let all = |p, n| {
            [wilson, clopper_pearson, jeffreys]
                .map(|f: fn(f64, f64, Level) -> Result<Interval, Refusal>| f(p, n, Level::P95).expect("a proportion"))
        };
        for interval in all(0.5, 0.0) {
            assert!(interval.low < 0.01 && interval.high > 0.99, "nothing is known without items: {interval:?}");
        }
        for interval in all(0.0, 3.0) {
            assert!(interval.low < 0.01 && interval.high > 0.4, "three failures prove little: {interval:?}");
        }
        let [wilson, exact, _] = all(1.0, 3.0);
        assert!((wilson.high - 1.0).abs() < f64::EPSILON && (exact.high - 1.0).abs() < f64::EPSILON);
        assert!(z_test((1.0, 5.0), (1.0, 5.0)).is_err(), "no difference and no error to measure it by");
    }

    #[test]
    fn what_is_no_proportion_is_refused() {
        for (p, n) in [(f64::NAN, 5.0), (1.1, 5.0), (-0.1, 5.0), (0.5, -1.0), (0.5, f64::NAN), (0.5, f64::INFINITY)] {
            assert!(wilson(p, n, Level::P95).is_err(), "{p} of {n}");
            assert!(clopper_pearson(p, n, Level::P95).is_err(), "{p} of {n}");
            assert!(z_test((p, n), (0.5, 5.0)).is_err(), "{p} of {n}");
        }
    }

    proptest! {
        #[test]
        fn an_interval_is_in_0_to_1_and_holds_the_estimate(p in 0.0..=1.0_f64, n in 0.0..1e7_f64) {
            for f in [wilson, clopper_pearson] {
                let interval = f(p, n, Level::P95).expect("a proportion");
                prop_assert!(0.0 <= interval.low && interval.high <= 1.0, "{interval:?}");
                prop_assert!(interval.contains(p), "{p} of {n}: {interval:?}");
            }
        }

        #[test]
        fn a_difference_is_in_its_interval_and_turns_round(p in 0.0..=1.0_f64, q in 0.0..=1.0_f64, n in 1.0..1e4_f64) {
            let there = newcombe((p, n), (q, 50.0), Level::P95).expect("proportions");
            let back = newcombe((q, 50.0), (p, n), Level::P95).expect("proportions");
            prop_assert!(there.contains(p - q));
            prop_assert!((there.low + back.high).abs() < 1e-12 && (there.high + back.low).abs() < 1e-12);
        }
    }
}
