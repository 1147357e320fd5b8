//! The interval of a mean of scores, or of paired differences of scores, that needs no normal distribution.
//!
//! For `pipeline::runs`. The interval is the bootstrap's BCa: percentiles of resampled means, shifted by the bias z0 and the
//! acceleration a = sum (m - m_i)^3 / (6 (sum (m - m_i)^2)^1.5) over the means m_i without item i (Efron & Tibshirani, An
//! Introduction to the Bootstrap, 1993, section 14.3). Its rule: the draws come from a fixed seed, so that the same two runs
//! give the same interval. The way not taken: plain percentiles, too short where few traces changed and all one way.

use crate::stats::estimate::{Interval, Level};
use crate::stats::refusal::{Refusal, at_least, finite};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use statrs::function::erf::{erfc, erfc_inv};
use std::f64::consts::SQRT_2;

/// Resampled means.
const RESAMPLES: usize = 4_000;

/// From this many items on the mean is as good as normal, and resampling only takes time.
const ITEMS_MAX: usize = 1_000;

/// The interval of the mean of scores in [0,1] or of their differences. Where all are alike there is nothing to resample: then
/// it reaches as far as the share of traces that may differ from all those seen, 1 - alpha^(1/n).
///
/// # Errors
/// Without items, and when one is not finite.
pub fn mean_interval(values: &[f64], level: Level) -> Result<Interval, Refusal> {
    at_least("items", values.len(), 1)?;
    for (at, value) in values.iter().enumerate() {
        finite("score or difference", at, *value)?;
    }
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let spread: f64 = values.iter().map(|d| (d - mean).powi(2)).sum();
    if spread <= f64::EPSILON * n as f64 {
        let unseen = 1.0 - level.alpha().powf(1.0 / n as f64);
        return Ok(Interval::around(mean, unseen).within(-1.0, 1.0));
    }
    if n > ITEMS_MAX {
        let error = (spread / (n as f64 - 1.0)).sqrt() / (n as f64).sqrt();
        return Ok(Interval::around(mean, level.z() * error).within(-1.0, 1.0));
    }
    let means = resampled(values);
    // Half of the ties, since sums of few values meet the mean exactly.
    let share = |f: &dyn Fn(f64) -> bool| means.iter().filter(|m| f(**m)).count() as f64 / means.len() as f64;
    let below = share(&|m| m < mean) + share(&|m| m.to_bits() == mean.to_bits()) / 2.0;
    let bias = quantile(below.clamp(0.5 / RESAMPLES as f64, 1.0 - 0.5 / RESAMPLES as f64));
    let acceleration = values.iter().map(|d| (d - mean).powi(3)).sum::<f64>() / (6.0 * spread.powf(1.5));
    let end = |p: f64| {
        let z = bias + quantile(p);
        at_share(&means, below_normal(bias + z / (1.0 - acceleration * z)))
    };
    let (low, high) = (end(level.alpha() / 2.0), end(1.0 - level.alpha() / 2.0));
    Ok(Interval { low: low.min(mean), high: high.max(mean) })
}

/// Means of resamples, in order.
fn resampled(items: &[f64]) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(items.len() as u64);
    let mut one = || {
        let sum: f64 = (0..items.len()).map(|_| items[random.random_range(0..items.len())]).sum();
        sum / items.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| one()).collect();
    means.sort_by(f64::total_cmp);
    means
}

/// The value below which that share of ordered values lies, between the two next to it.
fn at_share(values: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the list")]
    let at = place.floor() as usize;
    let (low, high) = (values[at], values[(at + 1).min(values.len() - 1)]);
    low + (high - low) * place.fract()
}

fn below_normal(z: f64) -> f64 {
    erfc(-z / SQRT_2) / 2.0
}

fn quantile(p: f64) -> f64 {
    -SQRT_2 * erfc_inv(2.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{cases, file, number, numbers};
    use proptest::prelude::*;

    #[test]
    fn as_scipy_but_for_the_draws() {
        for case in cases(&file("bootstrap.json")["bca"]) {
            let differences = numbers(&case["differences"]);
            let own = mean_interval(&differences, Level::P95).expect("items");
            let (low, high) = (number(&case["low"]), number(&case["high"]));
            // Two sets of 4,000 draws place an end of the interval within a few hundredths of its width.
            let near = 0.05 * (high - low);
            assert!((own.low - low).abs() < near && (own.high - high).abs() < near, "{own:?}, not {low} to {high}");
        }
    }

    #[test]
    fn of_alike_differences_the_unseen_ones_bound_the_interval() {
        let ten = mean_interval(&[0.0; 10], Level::P95).expect("items");
        assert!((ten.high - (1.0 - 0.05_f64.powf(0.1))).abs() < 1e-12 && ten.contains(0.0));
        let many = mean_interval(&vec![0.0; 3_000], Level::P95).expect("items");
        assert!(many.high < 0.0011, "{many:?}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(mean_interval(&[], Level::P95).is_err() && mean_interval(&[f64::NAN], Level::P95).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn it_holds_the_mean_and_comes_again_the_same(differences in proptest::collection::vec(-1.0..=1.0_f64, 1..60)) {
            let own = mean_interval(&differences, Level::P95).expect("items");
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            prop_assert!(own.contains(mean) && own.low >= -1.0 && own.high <= 1.0, "{own:?} {mean}");
            prop_assert_eq!(own, mean_interval(&differences, Level::P95).expect("items"));
        }
    }
}
