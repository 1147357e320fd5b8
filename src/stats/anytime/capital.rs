//! Capital processes for the mean of numbers in [0, 1], and the confidence sequences that follow from them.
//!
//! Bets that the mean is above m earn prod(1 + l (x - m)), below it prod(1 - l (x - m)); a mean is refuted when its capital
//! reaches 1/alpha. Waudby-Smith & Ramdas, 2024, sections 4 and 5 (hedged capital, diversified Kelly). Its rule: sequences are
//! on a grid, one step wide of what they would be, and intersected over time. The way not taken: solving for the ends,
//! which saves little and needs capital that is quasi-convex in m.

use super::predictable::bets;
use crate::stats::invalid::{Invalid, probability, same_length, unit, within};

/// Which means are bet against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Bets that the mean is above m.
    Above,
    /// Bets that it is below.
    Below,
}

/// Capital after each number, from 1; each bet is cut to `cut`/m (above) or `cut`/(1 - m) (below).
///
/// # Errors
/// When a number or m is not in [0, 1], a bet is negative or NaN, `cut` is not in (0, 1], or lengths differ.
pub fn capital(x: &[f64], m: f64, bets: &[f64], cut: f64, side: Side) -> Result<Vec<f64>, Invalid> {
    unit("the mean that is bet against", m)?;
    same_length("the number of bets", bets.len(), x.len())?;
    probability("the part of the largest bet", cut)?;
    let most = cut / if side == Side::Above { m } else { 1.0 - m };
    let mut capital = 1.0_f64;
    let one = |(x, bet): (&f64, &f64)| {
        let gain = unit("a number of the sequence", *x)? - m;
        let gain = if side == Side::Above { gain } else { -gain };
        let bet = within("a bet", *bet, 0.0..=f64::INFINITY, "not negative")?.min(most);
        // An unlimited bet on what did not move wins nothing.
        let factor = if gain.abs() > 0.0 { 1.0 + bet * gain } else { 1.0 };
        capital = if capital.is_infinite() && factor <= 0.0 { 0.0 } else { capital * factor };
        Ok(capital)
    };
    x.iter().zip(bets).map(one).collect()
}

/// Capital of half the stake on each side, whichever has more: the hedged capital against mean m.
///
/// # Errors
/// As `capital`.
pub fn hedged(x: &[f64], m: f64, above: &[f64], below: &[f64], cut: f64) -> Result<Vec<f64>, Invalid> {
    let (up, down) = (capital(x, m, above, cut, Side::Above)?, capital(x, m, below, cut, Side::Below)?);
    Ok(up.into_iter().zip(down).map(|(up, down)| (up / 2.0).max(down / 2.0)).collect())
}

/// Capital of `strategies` constant bets k/((strategies + 1) m) and k/((strategies + 1)(1 - m)), averaged: diversified Kelly.
///
/// # Errors
/// As `capital`; without strategies.
pub fn diversified(x: &[f64], m: f64, strategies: u32) -> Result<Vec<f64>, Invalid> {
    within("the number of strategies", f64::from(strategies), 1.0..=1e6, "at least 1")?;
    let mut total = vec![0.0; x.len()];
    for k in 1..=strategies {
        let part = f64::from(k) / f64::from(strategies + 1);
        for (side, base) in [(Side::Above, m), (Side::Below, 1.0 - m)] {
            let bets = vec![part / base; x.len()];
            for (total, capital) in total.iter_mut().zip(capital(x, m, &bets, 1.0, side)?) {
                *total += capital / (2.0 * f64::from(strategies));
            }
        }
    }
    Ok(total)
}

/// The hedged capital confidence sequence on a grid of `steps`.
///
/// # Errors
/// When a number is not in [0, 1], alpha not in (0, 1], or there are no steps.
pub fn hedged_sequence(x: &[f64], alpha: f64, steps: u32) -> Result<Vec<(f64, f64)>, Invalid> {
    // Half of alpha is for each side.
    let bets = bets(x, alpha / 2.0)?;
    sequence(x.len(), alpha, steps, |m| hedged(x, m, &bets, &bets, 0.5))
}

/// The diversified Kelly confidence sequence on a grid of `steps`.
///
/// # Errors
/// As `hedged_sequence`.
pub fn diversified_sequence(x: &[f64], strategies: u32, alpha: f64, steps: u32) -> Result<Vec<(f64, f64)>, Invalid> {
    sequence(x.len(), alpha, steps, |m| diversified(x, m, strategies))
}

/// Means whose capital never exceeded 1/alpha, widened by a step, intersected over time.
fn sequence(
    length: usize,
    alpha: f64,
    steps: u32,
    capital: impl Fn(f64) -> Result<Vec<f64>, Invalid>,
) -> Result<Vec<(f64, f64)>, Invalid> {
    let enough = 1.0 / probability("the error level", alpha)?;
    within("the number of steps", f64::from(steps), 1.0..=1e6, "from 1 to a million")?;
    let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); length];
    for step in 0..=steps {
        let m = f64::from(step) / f64::from(steps);
        for (end, capital) in ends.iter_mut().zip(capital(m)?) {
            if capital <= enough {
                *end = (end.0.min(m), end.1.max(m));
            }
        }
    }
    let step = 1.0 / f64::from(steps);
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    let one = |(first, last): (f64, f64)| {
        // Where every mean of the grid is refuted, that moment says nothing.
        if first <= last {
            (low, high) = (low.max(first - step), high.min(last + step));
        }
        (low, high)
    };
    Ok(ends.into_iter().map(one).collect())
}
