//! Means of items that were sampled with known probabilities: Horvitz-Thompson, Hájek, and Kish's effective size.
//!
//! Called by `pipeline::estimate`; `stats::survey` adds strata and clusters. For items y_i sampled independently (Poisson
//! sampling) with probabilities pi_i, w_i = 1/pi_i and m = sum w_i y_i / sum w_i: var(m) = sum (1 - pi_i) w_i^2 (y_i - m)^2
//! / (sum w_i)^2 (linearised; Särndal, Swensson, Wretman, Model Assisted Survey Sampling, 1992, section 5.7), n_eff = (sum
//! w)^2 / sum w^2 (Kish, Survey Sampling, 1965). The way not taken: the plain mean, which is off by points as soon as rates
//! differ.

pub use crate::stats::estimate::Estimate;
use crate::stats::refusal::{Refusal, at_least, finite, inclusion, positive};
use serde::Serialize;

/// Whose mean is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Target {
    /// That of the traces there were: what was kept whole is known without error.
    #[default]
    Population,
    /// That of whatever made them, as for comparing versions: each trace is a draw.
    Process,
}

impl Target {
    /// What of an item's squared deviation counts: 1 - pi or 1.
    pub(crate) fn share(self, pi: f64) -> f64 {
        match self {
            Self::Population => 1.0 - pi,
            Self::Process => 1.0,
        }
    }
}

/// Hájek's mean of items `(y, pi)`, for the traces there were.
///
/// # Errors
/// Without items, and when a `y` is not finite or a `pi` not above 0 and at most 1.
pub fn mean(items: &[(f64, f64)]) -> Result<Estimate, Refusal> {
    mean_for(items, Target::Population)
}

/// Hájek's mean of items `(y, pi)`.
///
/// The standard error of a single item is zero by the formula; `survey::Survey::rate_interval` is the one to show.
///
/// # Errors
/// As for [`mean`].
pub fn mean_for(items: &[(f64, f64)], target: Target) -> Result<Estimate, Refusal> {
    checked(items)?;
    at_least("items", items.len(), 1)?;
    let total: f64 = items.iter().map(|(_, pi)| 1.0 / pi).sum();
    let value = items.iter().map(|(y, pi)| y / pi).sum::<f64>() / total;
    let squares = items.iter().map(|(y, pi)| target.share(*pi) * ((y - value) / pi).powi(2));
    let variance = squares.sum::<f64>() / (total * total);
    Ok(Estimate { value, standard_error: variance.sqrt() })
}

/// The mean of a population of known size from items `(y, pi)`: (1/N) sum w y with var (1/N^2) sum (1-pi) w^2 y^2 (Horvitz
/// & Thompson, 1952). Unbiased; good when most y are zero, such as failures, bad for scores near 1.
///
/// # Errors
/// When the size is not positive, a `y` is not finite or a `pi` not above 0 and at most 1.
pub fn horvitz_thompson(items: &[(f64, f64)], population: f64) -> Result<Estimate, Refusal> {
    checked(items)?;
    positive("size of the population", 0, population)?;
    let value = items.iter().map(|(y, pi)| y / pi).sum::<f64>() / population;
    let variance: f64 = items.iter().map(|(y, pi)| (1.0 - pi) * (y / pi).powi(2)).sum();
    Ok(Estimate { value, standard_error: variance.sqrt() / population })
}

/// Kish's effective size of items `(y, pi)`: how many items with equal weights would vary as little; 0 without items.
///
/// # Errors
/// When a `pi` is not above 0 and at most 1.
pub fn effective_size(items: &[(f64, f64)]) -> Result<f64, Refusal> {
    for (at, (_, pi)) in items.iter().enumerate() {
        inclusion("inclusion probability", at, *pi)?;
    }
    let weights: Vec<f64> = items.iter().map(|(_, pi)| 1.0 / pi).collect();
    Ok(kish(&weights))
}

/// (sum w)^2 / sum w^2 of weights of any scale; 0 when all are zero.
#[must_use]
pub fn kish(weights: &[f64]) -> f64 {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return 0.0;
    }
    // Relative to the largest, so that squares of large weights stay finite.
    let (sum, squares) = weights.iter().fold((0.0, 0.0), |(s, q), w| (s + w / largest, q + (w / largest).powi(2)));
    sum * sum / squares
}

pub(crate) fn checked(items: &[(f64, f64)]) -> Result<(), Refusal> {
    for (at, (y, pi)) in items.iter().enumerate() {
        finite("score", at, *y)?;
        inclusion("inclusion probability", at, *pi)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, number, numbers, whole};
    use proptest::prelude::*;
    use serde_json::Value;

    /// The items of a sample of a population.
    fn sampled(case: &Value, sample: &Value) -> Vec<(f64, f64)> {
        let (y, pi) = (numbers(&case["y"]), numbers(&case["pi"]));
        cases(&sample["sampled"]).iter().map(|i| (y[whole(i)], pi[whole(i)])).collect()
    }

    #[test]
    fn samples_of_a_poisson_design() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("survey.json")["poisson"]).iter().enumerate() {
            for (m, sample) in cases(&case["samples"]).iter().enumerate() {
                let items = sampled(case, sample);
                let ht = horvitz_thompson(&items, number(&case["N"])).expect("a sample");
                let hajek = mean(&items).expect("a sample");
                let mut check = |what: &str, own| checks.close(&format!("{n}/{m} {what}"), own, &sample[what], 1e-12);
                check("ht_mean", ht.value);
                check("ht_var", ht.standard_error.powi(2));
                check("hajek_mean", hajek.value);
                check("hajek_var", hajek.standard_error.powi(2));
                check("n_eff_kish", effective_size(&items).expect("a sample"));
            }
        }
        checks.done(15);
    }

    #[test]
    fn over_all_samples_of_a_design_the_estimator_and_its_variance_are_right() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("survey.json")["poisson"]).iter().enumerate() {
            let (y, pi) = (numbers(&case["y"]), numbers(&case["pi"]));
            let (mut expectation, mut square, mut variance) = (0.0, 0.0, 0.0);
            for sample in 0..1_u32 << y.len() {
                let kept = |i: &usize| sample >> i & 1 == 1;
                let items: Vec<(f64, f64)> = (0..y.len()).filter(kept).map(|i| (y[i], pi[i])).collect();
                let chance: f64 = (0..y.len()).map(|i| if kept(&i) { pi[i] } else { 1.0 - pi[i] }).product();
                let ht = horvitz_thompson(&items, number(&case["N"])).expect("a sample");
                expectation += chance * ht.value;
                square += chance * ht.value.powi(2);
                variance += chance * ht.standard_error.powi(2);
            }
            let mut check = |what: &str, own| checks.close(&format!("{n} {what}"), own, &case[what], 1e-9);
            check("exact_expectation_of_ht", expectation);
            check("population_mean", expectation);
            check("exact_variance_of_ht", square - expectation.powi(2));
            check("exact_expectation_of_variance_estimator", variance);
        }
        checks.done(8);
    }

    #[test]
    fn a_full_sample_gives_the_plain_mean_without_error() {
        let estimate = mean(&[(0.0, 1.0), (1.0, 1.0)]).expect("there are items");
        assert_eq!(estimate, Estimate { value: 0.5, standard_error: 0.0 });
        let drawn = mean_for(&[(0.0, 1.0), (1.0, 1.0)], Target::Process).expect("there are items");
        assert!((drawn.standard_error - 0.125_f64.sqrt()).abs() < 1e-12, "as a draw of two it is not sure");
    }

    #[test]
    fn rare_items_weigh_more() {
        // By hand: weights 1 and 4, mean 4/5, variance 0.75 * 16 * 0.04 / 25.
        let items = [(0.0, 1.0), (1.0, 0.25)];
        let estimate = mean(&items).expect("there are items");
        assert!((estimate.value - 0.8).abs() < 1e-12);
        assert!((estimate.standard_error - (0.75_f64 * 16.0 * 0.04 / 25.0).sqrt()).abs() < 1e-12);
        assert!((effective_size(&items).expect("probabilities") - 25.0 / 17.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(mean(&[]), Err(Refusal::TooFew { what: "items", have: 0, need: 1 }));
        for wrong in [(f64::NAN, 0.5), (1.0, 0.0), (1.0, -0.5), (1.0, 1.5), (1.0, f64::NAN), (f64::INFINITY, 1.0)] {
            assert!(mean(&[(1.0, 1.0), wrong]).is_err(), "{wrong:?}");
            assert!(horvitz_thompson(&[wrong], 10.0).is_err(), "{wrong:?}");
        }
        assert!(horvitz_thompson(&[], 0.0).is_err() && horvitz_thompson(&[], f64::NAN).is_err());
        assert!(effective_size(&[(1.0, 0.0)]).is_err());
        assert_eq!(effective_size(&[]), Ok(0.0));
        assert!(kish(&[0.0, 0.0]).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn a_mean_is_between_the_smallest_and_the_largest(
            items in prop::collection::vec((-1e3..1e3_f64, 1e-6..=1.0_f64), 1..40), scale in 0.01..=1.0_f64,
        ) {
            let estimate = mean(&items).expect("items");
            let (low, high) = items.iter().fold((f64::MAX, f64::MIN), |(l, h), (y, _)| (l.min(*y), h.max(*y)));
            prop_assert!(low - 1e-9 <= estimate.value && estimate.value <= high + 1e-9);
            let n_eff = effective_size(&items).expect("items");
            prop_assert!(n_eff > 0.999_999 && n_eff <= items.len() as f64 + 1e-9);
            // Weights of another scale: the same mean and the same size.
            let scaled: Vec<(f64, f64)> = items.iter().map(|(y, pi)| (*y, pi * scale)).collect();
            prop_assert!((mean(&scaled).expect("items").value - estimate.value).abs() < 1e-9);
            prop_assert!((effective_size(&scaled).expect("items") / n_eff - 1.0).abs() < 1e-9);
        }
    }
}
