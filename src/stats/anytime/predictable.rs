//! Confidence sequences of the mean of numbers in [0, 1], by bets that follow the numbers before.
//!
//! Predictable plug-in Hoeffding and empirical Bernstein: Waudby-Smith & Ramdas, Estimating means of bounded random variables by
//! betting, 2024, theorems 1 and 2. Its rule: the bet on a number uses the numbers before it only. The way not taken: the
//! variance of all numbers so far, which has seen the one that is bet on.

use crate::stats::invalid::{Invalid, probability, unit};

/// Largest bet of the empirical Bernstein sequence.
const BERNSTEIN_BET_MAX: f64 = 0.5;
/// Largest bet of the Hoeffding sequence.
const HOEFFDING_BET_MAX: f64 = 1.0;

/// Bets sqrt(2 ln(1/alpha) / (t ln(1 + t) v)), v the variance of the numbers before, smoothed by one of mean 1/2 and variance 1/4.
///
/// # Errors
/// When a number is not in [0, 1] or alpha not in (0, 1].
pub fn bets(x: &[f64], alpha: f64) -> Result<Vec<f64>, Invalid> {
    let doubt = -2.0 * probability("the error level", alpha)?.ln();
    let (mut sum, mut squares, mut variance) = (0.5, 0.25, 0.25);
    let one = |(i, x): (usize, &f64)| {
        let t = i as f64 + 1.0;
        let bet = (doubt / (t * t.ln_1p() * variance)).sqrt();
        sum += unit("a number of the sequence", *x)?;
        squares += (x - (sum / (t + 1.0)).min(1.0)).powi(2);
        variance = squares / (t + 1.0);
        Ok(bet)
    };
    x.iter().enumerate().map(one).collect()
}

/// Lower empirical Bernstein sequence; one-sided at alpha.
///
/// # Errors
/// As `bets`.
pub fn bernstein_lower(x: &[f64], alpha: f64) -> Result<Vec<f64>, Invalid> {
    let bets: Vec<f64> = bets(x, alpha)?.into_iter().map(|bet| bet.min(BERNSTEIN_BET_MAX)).collect();
    let mut mean = 0.0;
    let mut sum = 0.0;
    let costs = x.iter().zip(&bets).enumerate().map(|(i, (x, bet))| {
        let cost = (x - mean) * (x - mean) * (-(-bet).ln_1p() - bet);
        sum += x;
        mean = sum / (i as f64 + 1.0);
        cost
    });
    Ok(lower(x, &bets, costs.collect::<Vec<_>>(), alpha))
}

/// Lower Hoeffding sequence; one-sided at alpha.
///
/// # Errors
/// As `bets`.
pub fn hoeffding_lower(x: &[f64], alpha: f64) -> Result<Vec<f64>, Invalid> {
    let doubt = -8.0 * probability("the error level", alpha)?.ln();
    for number in x {
        unit("a number of the sequence", *number)?;
    }
    let times = (1..=x.len()).map(|t| t as f64);
    let bets: Vec<f64> = times.map(|t| (doubt / (t * t.ln_1p())).sqrt().min(HOEFFDING_BET_MAX)).collect();
    let costs = bets.iter().map(|bet| bet * bet / 8.0).collect::<Vec<_>>();
    Ok(lower(x, &bets, costs, alpha))
}

/// (sum of bet x - ln(1/alpha) - sum of costs) / sum of bets, not below 0.
fn lower(x: &[f64], bets: &[f64], costs: Vec<f64>, alpha: f64) -> Vec<f64> {
    let (mut won, mut staked, mut paid) = (0.0, 0.0, -alpha.ln());
    let one = |((x, bet), cost): ((&f64, &f64), f64)| {
        won += bet * x;
        staked += bet;
        paid += cost;
        ((won - paid) / staked).max(0.0)
    };
    x.iter().zip(bets).zip(costs).map(one).collect()
}

/// Two-sided at alpha, from a lower sequence: its own, and that of 1 - x.
///
/// # Errors
/// As the lower sequence.
pub fn two_sided(
    x: &[f64],
    alpha: f64,
    lower: impl Fn(&[f64], f64) -> Result<Vec<f64>, Invalid>,
) -> Result<Vec<(f64, f64)>, Invalid> {
    let mirrored: Vec<f64> = x.iter().map(|x| 1.0 - x).collect();
    let (low, high) = (lower(x, alpha / 2.0)?, lower(&mirrored, alpha / 2.0)?);
    Ok(low.into_iter().zip(high).map(|(low, high)| (low, 1.0 - high)).collect())
}
