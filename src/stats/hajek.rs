//! The Hájek estimator of a mean, and Kish's effective sample size.
//!
//! For items y_i sampled independently (Poisson sampling) with probabilities pi_i and w_i = 1/pi_i:
//! m = sum w_i y_i / sum w_i, var(m) = sum (1 - pi_i) w_i^2 (y_i - m)^2 / (sum w_i)^2 (linearised; Särndal, Swensson, Wretman,
//! Model Assisted Survey Sampling, 1992, section 5.7), n_eff = (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965).

use serde::Serialize;

/// An estimate and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error with respect to the sampling; zero when everything was kept.
    pub standard_error: f64,
}

/// The mean of items `(y, pi)`; `None` when there are none. Items whose `pi` is not in (0,1] are left out.
#[must_use]
pub fn mean(items: &[(f64, f64)]) -> Option<Estimate> {
    let usable = || items.iter().filter(|(y, pi)| y.is_finite() && *pi > 0.0 && *pi <= 1.0);
    let total: f64 = usable().map(|(_, pi)| 1.0 / pi).sum();
    if total == 0.0 {
        return None;
    }
    let value = usable().map(|(y, pi)| y / pi).sum::<f64>() / total;
    let variance = usable().map(|(y, pi)| (1.0 - pi) * ((y - value) / pi).powi(2)).sum::<f64>() / (total * total);
    Some(Estimate { value, standard_error: variance.sqrt() })
}

/// Kish's effective size of items `(y, pi)`.
#[must_use]
pub fn effective_size(items: &[(f64, f64)]) -> f64 {
    let weights = || items.iter().filter(|(_, pi)| *pi > 0.0).map(|(_, pi)| 1.0 / pi);
    let (sum, squares): (f64, f64) = (weights().sum(), weights().map(|w| w * w).sum());
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_sample_gives_the_plain_mean_without_error() {
        let estimate = mean(&[(0.0, 1.0), (1.0, 1.0)]).expect("there are items");
        assert_eq!(estimate, Estimate { value: 0.5, standard_error: 0.0 });
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn rare_items_weigh_more() {
        // By hand: weights 1 and 4, mean 4/5, variance 0.75 * 16 * 0.04 / 25.
        let items = [(0.0, 1.0), (1.0, 0.25)];
        let estimate = mean(&items).expect("there are items");
        assert!((estimate.value - 0.8).abs() < 1e-12);
        assert!((estimate.standard_error - (0.75_f64 * 16.0 * 0.04 / 25.0).sqrt()).abs() < 1e-12);
        assert!((effective_size(&items) - 25.0 / 17.0).abs() < 1e-12);
    }
}
