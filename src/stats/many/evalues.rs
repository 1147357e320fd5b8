//! Tests that are weighed by e-values: e-BH for the version tests of one deployment, and p-values for display.
//!
//! Called by the step that watches. e-BH rejects the k* tests with the largest e, k* = max {k : e_(k) >= K / (q k)}; the false
//! discovery rate is at most q under any dependence (Wang & Ramdas, 2022). Its rule: values come as logarithms, since they
//! leave the range of a double. The way not taken: Benjamini-Hochberg on p-values that were looked at more than once.

use crate::stats::invalid::{Invalid, amount, probability, same_length, within};

/// Which tests are rejected at false discovery rate `q`, in the order given.
///
/// # Errors
/// When a logarithm is NaN or `q` is not in (0, 1].
pub fn e_bh(log_e: &[f64], q: f64) -> Result<Vec<bool>, Invalid> {
    probability("the false discovery rate", q)?;
    for value in log_e {
        logarithm(*value)?;
    }
    let mut order: Vec<usize> = (0..log_e.len()).collect();
    order.sort_by(|a, b| log_e[*b].total_cmp(&log_e[*a]));
    // Compared as numbers, not as logarithms, so that a value on the bound counts.
    let enough = |(at, test): (usize, &usize)| {
        log_e[*test].exp() * (1.0 + 1e-12) >= log_e.len() as f64 / (q * (at as f64 + 1.0))
    };
    let rejected = order.iter().enumerate().filter(|(at, test)| enough((*at, test))).map(|(at, _)| at + 1).max();
    let mut out = vec![false; log_e.len()];
    order.iter().take(rejected.unwrap_or(0)).for_each(|test| out[*test] = true);
    Ok(out)
}

/// The same with the e-values multiplied by weights of mean 1 (they are scaled to it).
///
/// # Errors
/// As `e_bh`; when weights are negative, all zero, or not as many.
pub fn e_bh_weighted(log_e: &[f64], weights: &[f64], q: f64) -> Result<Vec<bool>, Invalid> {
    same_length("the number of weights", weights.len(), log_e.len())?;
    let mut total = 0.0;
    for weight in weights {
        total += amount("the weight of a test", *weight)?;
    }
    within("the sum of weights", total, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
    let scale = weights.len() as f64 / total;
    let weighted: Vec<f64> = log_e.iter().zip(weights).map(|(e, weight)| e + (weight * scale).ln()).collect();
    e_bh(&weighted, q)
}

/// ln of the mean of e-values with shares that sum to 1: evidence that some of them are right, under any dependence.
///
/// # Errors
/// When there are none, they differ in number, or one is NaN.
pub fn log_mean(log_e: &[f64], shares: &[f64]) -> Result<f64, Invalid> {
    same_length("the number of shares", shares.len(), log_e.len())?;
    within("the number of e-values", log_e.len() as f64, 1.0..=f64::MAX, "at least 1")?;
    let largest = log_e.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (value, share) in log_e.iter().zip(shares) {
        logarithm(*value)?;
        amount("the share of an e-value", *share)?;
    }
    if largest.is_infinite() {
        return Ok(largest);
    }
    Ok(largest + log_e.iter().zip(shares).map(|(e, share)| share * (e - largest).exp()).sum::<f64>().ln())
}

/// The p-value that is shown for the largest e-value ever seen: min(1, 1/e). It may be looked at at any time.
///
/// # Errors
/// When the logarithm is NaN.
pub fn display_p(log_e_max: f64) -> Result<f64, Invalid> {
    Ok((-logarithm(log_e_max)?).exp().min(1.0))
}

fn logarithm(value: f64) -> Result<f64, Invalid> {
    within("the logarithm of an e-value", value, f64::NEG_INFINITY..=f64::INFINITY, "a number")
}
