//! Overdispersion: by how much counts vary more than independent items would (daily cycles, shocks, sessions).
//!
//! Called by `stats::stream` on the history that becomes a baseline; counts are divided by it. phi = max(1, max over blocks of
//! chi2/df - sqrt(2/df)), chi2 = sum (x - n p)^2 / (n v) with v = p (1 - p) for pass/fail and the variance of a loss for
//! grades. Its rule: a length of blocks counts only when it exceeds 1 by two and a half standard errors, and then one is taken off; so
//! independent items give 1, and what cycles and shocks there are is nearly all seen. The ways not taken: counting every
//! excess, which by chance made every third baseline of independent items wait a tenth longer for each alarm; wider
//! thresholds, which would have to be tuned a stream.

use crate::stats::invalid::{Invalid, amount, same_length};

/// Lengths of blocks, in bins of an hour.
pub const BLOCKS: [usize; 3] = [1, 6, 24];

/// Standard errors by which a block's variation must exceed that of independent items to count at all.
const SURE: f64 = 2.5;

/// phi of consecutive bins: how many items (or their effective number) and the sum of their losses, an hour each.
/// `variance` is that of one loss; `None` takes p (1 - p).
///
/// # Errors
/// When counts are negative or not finite, or the lists differ in length.
pub fn overdispersion(items: &[f64], losses: &[f64], variance: Option<f64>) -> Result<f64, Invalid> {
    same_length("the number of bins with losses", losses.len(), items.len())?;
    for number in items.iter().chain(losses) {
        amount("a count of a bin", *number)?;
    }
    let total: f64 = items.iter().sum();
    let mean = losses.iter().sum::<f64>() / total;
    let variance = variance.unwrap_or(mean * (1.0 - mean));
    // Nothing was seen, or nothing varies: there is no cause to believe less.
    if total <= 0.0 || variance.is_nan() || variance <= 0.0 {
        return Ok(1.0);
    }
    let of_block = |hours: usize| {
        let blocks: Vec<f64> = items
            .chunks_exact(hours)
            .zip(losses.chunks_exact(hours))
            .map(|(n, x)| (n.iter().sum::<f64>(), x.iter().sum::<f64>()))
            .filter(|(n, _)| *n > 0.0)
            .map(|(n, x)| (x - n * mean).powi(2) / (n * variance))
            .collect();
        let freedom = blocks.len() as f64 - 1.0;
        if freedom < 1.0 {
            return 1.0;
        }
        let (found, error) = (blocks.iter().sum::<f64>() / freedom, (2.0 / freedom).sqrt());
        // Fourteen days have thirteen degrees of freedom: every third baseline of independent items would lose a tenth.
        if found - SURE * error > 1.0 { found - error } else { 1.0 }
    };
    Ok(BLOCKS.into_iter().map(of_block).fold(1.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_cycle_is_seen_and_equal_hours_are_not() {
        let items = vec![100.0; 240];
        let cycle: Vec<f64> = (0..240).map(|h| if h % 24 < 12 { 5.0 } else { 15.0 }).collect();
        let phi = overdispersion(&items, &cycle, None).expect("counts");
        // By hand, blocks of six hours: (600 0.05)^2 / (600 0.09) = 16.67 each, 40 blocks, 39 degrees of freedom.
        let by_hand = 30.0_f64.powi(2) / 54.0 * 40.0 / 39.0 - (2.0_f64 / 39.0).sqrt();
        assert!((phi - by_hand).abs() < 1e-9, "{phi} {by_hand}");
        assert!((overdispersion(&items, &vec![10.0; 240], None).expect("counts") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_chance_does_to_fourteen_days_is_not_counted_and_more_is() {
        // 100 items an hour, failing at .1: a day of 240 failures has a standard deviation of 14.7. Thirteen degrees of freedom.
        let days = |off: f64| -> Vec<f64> {
            (0..14 * 24).map(|h| 10.0 + if h / 24 % 2 == 0 { off } else { -off } / 24.0).collect()
        };
        let phi = |off: f64| overdispersion(&vec![100.0; 14 * 24], &days(off), None).expect("counts");
        // chi2/df is (off/14.7)^2 14/13: 1.62 exceeds 1 by 1.6 standard errors, 2.46 by 3.7.
        assert!((phi(18.0) - 1.0).abs() < 1e-12, "{}", phi(18.0));
        let by_hand = 22.2_f64.powi(2) / 216.0 * 14.0 / 13.0 - (2.0_f64 / 13.0).sqrt();
        assert!((phi(22.2) - by_hand).abs() < 1e-9, "{} {by_hand}", phi(22.2));
    }

    #[test]
    fn nothing_and_certainty_are_not_overdispersed_and_nan_is_refused() {
        for (items, losses) in [(vec![], vec![]), (vec![0.0], vec![0.0]), (vec![5.0; 48], vec![5.0; 48])] {
            assert_eq!(overdispersion(&items, &losses, None), Ok(1.0));
        }
        assert!(overdispersion(&[f64::NAN], &[0.0], None).is_err());
        assert!(overdispersion(&[1.0], &[], None).is_err());
    }
}
