//! Many p-values of one look: Benjamini-Hochberg, Benjamini-Yekutieli and Holm.
//!
//! Called by offline comparisons. Its rule: only for p-values that were computed once, when all data were there; whatever is looked
//! at again and again goes through `evalues`. The way not taken: no adjustment, which finds a difference in one of twenty rows.

use crate::stats::invalid::{Invalid, probability, unit};

/// How to adjust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// False discovery rate, independent or positively dependent tests (Benjamini & Hochberg, 1995).
    BenjaminiHochberg,
    /// False discovery rate, any dependence (Benjamini & Yekutieli, 2001).
    BenjaminiYekutieli,
    /// Family-wise error rate, any dependence (Holm, 1979).
    Holm,
}

/// Adjusted p-values, in the order given: a test is rejected at level alpha if its own is at most alpha.
///
/// # Errors
/// When a p-value is not in [0, 1].
pub fn adjusted(p: &[f64], method: Method) -> Result<Vec<f64>, Invalid> {
    for value in p {
        unit("a p-value", *value)?;
    }
    let n = p.len() as f64;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let harmonic: f64 = (1..=p.len()).map(|i| 1.0 / i as f64).sum();
    let mut out = vec![0.0; p.len()];
    if method == Method::Holm {
        let mut most = 0.0_f64;
        for (rank, test) in order.iter().enumerate() {
            most = most.max((n - rank as f64) * p[*test]).min(1.0);
            out[*test] = most;
        }
        return Ok(out);
    }
    let factor = if method == Method::BenjaminiYekutieli { harmonic } else { 1.0 };
    let mut least = 1.0_f64;
    for (rank, test) in order.iter().enumerate().rev() {
        least = least.min(factor * n * p[*test] / (rank as f64 + 1.0));
        out[*test] = least;
    }
    Ok(out)
}

/// Which tests are rejected at level alpha.
///
/// # Errors
/// As `adjusted`; when alpha is not in (0, 1].
pub fn rejected(p: &[f64], method: Method, alpha: f64) -> Result<Vec<bool>, Invalid> {
    probability("the error level", alpha)?;
    Ok(adjusted(p, method)?.into_iter().map(|value| value <= alpha).collect())
}
