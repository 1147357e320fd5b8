//! Asymptotic confidence sequences: the intervals that are shown next to means, and hold at any time one looks.
//!
//! Called by `kernel::version` and reports. Half-width sqrt(2 (t r^2 + 1) / (t^2 r^2) ln(sqrt(t r^2 + 1) / alpha)) sigma with t
//! the effective number of items (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Time-uniform central limit theory, 2024). Its
//! rule: for display; no alarm depends on it, since it holds in the limit only. The way not taken: 1.96 standard errors, which
//! a page that is looked at every hour breaks within days.

use crate::stats::invalid::{Invalid, amount, probability, within};

/// Half-width after `t` items of standard deviation `sigma`, at error level alpha; tightest near the `t` that `rho` was chosen
/// for. Infinite for t = 0.
///
/// # Errors
/// When t or sigma is negative or not finite, alpha not in (0, 1), or rho not positive.
pub fn half_width(t: f64, sigma: f64, alpha: f64, rho: f64) -> Result<f64, Invalid> {
    amount("the number of items", t)?;
    amount("a standard deviation", sigma)?;
    probability("the error level", alpha)?;
    within("rho", rho, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
    if t <= 0.0 {
        return Ok(f64::INFINITY);
    }
    let spread = t * rho * rho + 1.0;
    Ok(sigma * (2.0 * spread / (t * t * rho * rho) * (spread.sqrt() / alpha).ln()).sqrt())
}

/// The rho for which the half-width is near its least at `t` items: rho^2 = (-2 ln alpha + ln(-2 ln alpha + 1)) / t.
///
/// # Errors
/// When t is not positive or alpha not in (0, 1).
pub fn best_rho(t: f64, alpha: f64) -> Result<f64, Invalid> {
    within("the number of items", t, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
    probability("the error level", alpha)?;
    let doubt = -2.0 * alpha.ln();
    Ok(((doubt + doubt.ln_1p()) / t).sqrt())
}

/// The number of items for which intervals of means are tightest.
const BEST_AT: f64 = 500.0;

/// The interval of a mean in [0, 1] of `n_eff` items; [0, 1] of nothing. The variance is kept above that of one success and one
/// failure more, so that ten passes of ten do not look certain.
#[must_use]
pub fn mean_interval(n_eff: f64, mean: f64, variance: f64, alpha: f64) -> (f64, f64) {
    let smoothed = (n_eff * mean + 1.0) / (n_eff + 2.0);
    let least = smoothed * (1.0 - smoothed);
    // Grades vary less than passes and failures do: theirs shrinks with the number of items only.
    let floor = if variance < mean * (1.0 - mean) { variance + least / (n_eff + 2.0) } else { least };
    let sigma = variance.max(floor).sqrt();
    let half = best_rho(BEST_AT, alpha).and_then(|rho| half_width(n_eff, sigma, alpha, rho));
    let half = half.unwrap_or(f64::INFINITY);
    ((mean - half).max(0.0), (mean + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_by_hand_and_its_edges() {
        // t r^2 = 3: 2 * 4 / (100 * 0.3 * ...) with t = 10, r^2 = 0.3.
        let by_hand = (2.0 * 4.0 / (100.0 * 0.3) * (2.0_f64 / 0.05).ln()).sqrt() * 0.5;
        assert!((half_width(10.0, 0.5, 0.05, 0.3_f64.sqrt()).expect("in range") - by_hand).abs() < 1e-12);
        assert_eq!(half_width(0.0, 0.5, 0.05, 1.0), Ok(f64::INFINITY));
        assert!(half_width(1.0, f64::NAN, 0.05, 1.0).is_err() && half_width(1.0, 0.5, 0.0, 1.0).is_err());
        assert_eq!(mean_interval(0.0, 0.0, 0.0, 0.05), (0.0, 1.0));
        let (low, high) = mean_interval(10.0, 0.0, 0.0, 0.05);
        assert!(low <= 0.0 && high > 0.2, "{high}");
    }

    #[test]
    fn best_rho_is_the_best() {
        let at = |rho| half_width(200.0, 1.0, 0.05, rho).expect("in range");
        let best = best_rho(200.0, 0.05).expect("in range");
        assert!(at(best) < at(best * 1.3) && at(best) < at(best / 1.3));
    }
}
