//! Correlation of scores, and how many independent judges a panel is worth.
//!
//! For calibration: judge scores against human ones, and judges' errors among each other. Pearson; Spearman with mean ranks
//! for ties; Kendall's tau-b; J_eff = J/(1 + (J-1) rho) with rho the mean correlation of errors (Kish's design effect). Its
//! rule: a pair counts only when both are there. The way not taken: counting judges, when nine that err together are worth
//! three.

use crate::stats::refusal::{Refusal, at_least, finite, same_length};
use serde::Serialize;
use std::cmp::Ordering;

/// Pearson's correlation of the pairs that are complete.
///
/// # Errors
/// When lengths differ, a value is not finite, fewer than two pairs are complete, or one side is constant.
pub fn pearson(first: &[Option<f64>], second: &[Option<f64>]) -> Result<f64, Refusal> {
    let (a, b) = complete(first, second)?;
    of_moments(&a, &b).ok_or(CONSTANT)
}

/// Spearman's rank correlation of the pairs that are complete; ties share their mean rank.
///
/// # Errors
/// As for [`pearson`].
pub fn spearman(first: &[Option<f64>], second: &[Option<f64>]) -> Result<f64, Refusal> {
    let (a, b) = complete(first, second)?;
    of_moments(&ranks(&a), &ranks(&b)).ok_or(CONSTANT)
}

/// Kendall's tau-b of the pairs that are complete; its time grows with the square of their number.
///
/// # Errors
/// As for [`pearson`].
pub fn kendall(first: &[Option<f64>], second: &[Option<f64>]) -> Result<f64, Refusal> {
    let (a, b) = complete(first, second)?;
    let (mut balance, mut untied_a, mut untied_b) = (0.0, 0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let (left, right) = (direction(a[i], a[j]), direction(b[i], b[j]));
            balance += left * right;
            untied_a += left * left;
            untied_b += right * right;
        }
    }
    let scale = f64::sqrt(untied_a) * f64::sqrt(untied_b);
    if scale > 0.0 { Ok((balance / scale).clamp(-1.0, 1.0)) } else { Err(CONSTANT) }
}

/// How much judges err together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Together {
    /// Mean correlation of the errors of two judges.
    pub correlation: f64,
    /// Judges that err independently and are worth as much.
    pub judges_effective: f64,
}

/// How much judges err together: one row a judge, `Some(true)` where it was wrong. Pairs of judges of whom one never or
/// always errs say nothing and are left out; a negative mean counts as none, so that a panel is never worth more than its
/// judges.
///
/// # Errors
/// When rows differ in length, or no pair of judges says anything.
pub fn together<R: AsRef<[Option<bool>]>>(errors: &[R]) -> Result<Together, Refusal> {
    let number = |row: &R| row.as_ref().iter().map(|e| e.map(|e| f64::from(u8::from(e)))).collect::<Vec<_>>();
    let rows: Vec<Vec<Option<f64>>> = errors.iter().map(number).collect();
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (at, row) in rows.iter().enumerate() {
        for other in &rows[..at] {
            match pearson(row, other) {
                Ok(correlation) => (sum, pairs) = (sum + correlation, pairs + 1.0),
                Err(wrong @ Refusal::Lengths { .. }) => return Err(wrong),
                Err(_) => {}
            }
        }
    }
    if pairs == 0.0 {
        let why = "no two judges both erred and were right on items that both judged";
        return Err(Refusal::Undefined { what: "the correlation of errors", why });
    }
    let (correlation, judges) = (sum / pairs, rows.len() as f64);
    let judges_effective = judges / (1.0 + (judges - 1.0) * f64::max(correlation, 0.0));
    Ok(Together { correlation, judges_effective })
}

const CONSTANT: Refusal = Refusal::Undefined { what: "the correlation", why: "one side has the same value everywhere" };

fn complete(first: &[Option<f64>], second: &[Option<f64>]) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
    same_length(("values of the first", first.len()), ("of the second", second.len()))?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (at, (x, y)) in first.iter().zip(second).enumerate() {
        for value in [x, y].into_iter().flatten() {
            finite("score", at, *value)?;
        }
        if let (Some(x), Some(y)) = (x, y) {
            a.push(*x);
            b.push(*y);
        }
    }
    at_least("complete pairs", a.len(), 2)?;
    Ok((a, b))
}

fn of_moments(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let constant = |x: &[f64]| x.iter().all(|v| direction(*v, x[0]) == 0.0);
    let (a_mean, b_mean) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - a_mean, y - b_mean)).sum::<f64>();
    let scale = sum(&|x, _| x * x).sqrt() * sum(&|_, y| y * y).sqrt();
    (scale > 0.0 && !constant(a) && !constant(b)).then(|| (sum(&|x, y| x * y) / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1; ties get their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|a, b| direction(values[*a], values[*b]) == 0.0) {
        for at in tied {
            ranks[*at] = below as f64 + f64::midpoint(tied.len() as f64, 1.0);
        }
        below += tied.len();
    }
    ranks
}

fn direction(a: f64, b: f64) -> f64 {
    match a.partial_cmp(&b) {
        Some(Ordering::Less) => -1.0,
        Some(Ordering::Greater) => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, optional};
    use proptest::prelude::*;

    #[test]
    fn correlations_as_scipy() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("agreement.json")["cases"]).iter().enumerate() {
            let (a, b) = (optional(&case["raters_by_items"][0]), optional(&case["raters_by_items"][1]));
            let mut check = |key: &str, own: Result<f64, Refusal>| {
                // Cases with missing votes have none.
                if !case["out"][key].is_null() {
                    checks.close(&format!("case {n}, {key}"), own.expect("scores vary"), &case["out"][key], 1e-9);
                }
            };
            check("spearmanr(r0,r1)", spearman(&a, &b));
            check("kendalltau_b(r0,r1)", kendall(&a, &b));
            check("pearsonr(r0,r1)", pearson(&a, &b));
        }
        checks.done(6);
    }

    #[test]
    fn judges_that_repeat_each_other_count_once() {
        let errs = |every: usize| -> Vec<Option<bool>> { (0..60).map(|n| Some(n % every == 0)).collect() };
        let same = together(&[errs(5), errs(5), errs(5)]).expect("they err");
        assert!((same.correlation - 1.0).abs() < 1e-12 && (same.judges_effective - 1.0).abs() < 1e-12);
        // Every third and every fourth of sixty: independent.
        let apart = together(&[errs(3), errs(4), vec![Some(false); 60]]).expect("they err");
        assert!(apart.correlation.abs() < 1e-12 && (apart.judges_effective - 3.0).abs() < 1e-9, "{apart:?}");
        assert!(together(&[errs(3), vec![Some(false); 60]]).is_err(), "one of them never errs");
        assert!(together(&[errs(3), vec![None; 5]]).is_err(), "lengths differ");
        assert!(together::<Vec<Option<bool>>>(&[]).is_err());
    }

    #[test]
    fn the_ends() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        let (up, flat) = (some(&[1.0, 2.0, 3.0]), some(&[2.0; 3]));
        for f in [pearson, spearman, kendall] {
            assert!((f(&up, &some(&[2.0, 4.0, 6.0])).expect("they vary") - 1.0).abs() < 1e-12);
            assert_eq!(f(&up, &flat), Err(CONSTANT));
            assert!(f(&[], &[]).is_err() && f(&up[..1], &up[..1]).is_err() && f(&up, &up[..2]).is_err());
            assert!(f(&up, &some(&[1.0, f64::NAN, 2.0])).is_err());
            let gap = [Some(1.0), None, Some(3.0)];
            assert!((f(&up, &gap).expect("two pairs are complete") - 1.0).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn a_correlation_is_in_its_range_and_ranks_ignore_the_scale(
            pairs in prop::collection::vec((-20..20_i32, -20..20_i32), 2..40),
        ) {
            let (a, b): (Vec<_>, Vec<_>) =
                pairs.iter().map(|(a, b)| (Some(f64::from(*a)), Some(f64::from(*b)))).unzip();
            let stretched: Vec<Option<f64>> = a.iter().map(|x| x.map(|x| (x / 10.0).exp())).collect();
            for f in [pearson, spearman, kendall] {
                let Ok(own) = f(&a, &b) else { continue };
                prop_assert!((-1.0..=1.0).contains(&own));
                prop_assert!((own - f(&b, &a).expect("the same pairs")).abs() < 1e-12);
            }
            for f in [spearman, kendall] {
                let (Ok(own), Ok(other)) = (f(&a, &b), f(&stretched, &b)) else { continue };
                prop_assert!((own - other).abs() < 1e-12);
            }
        }
    }
}
