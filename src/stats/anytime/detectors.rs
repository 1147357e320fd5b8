//! E-detectors for a known mean before the change: Shiryaev-Roberts, CUSUM and the plain test, over a mixture of bets.
//!
//! For comparison with the scan of `stats::kernel`, whose mean is unknown. Shin, Ramdas, Rinaldo, E-detectors: a nonparametric
//! framework for sequential change detection, 2023. An alarm at c has average run length of at least c without change. Its
//! rule: one number at a time, in logarithms. The way not taken: using them with a mean that was estimated, see the scan.

use crate::stats::invalid::{Invalid, amount, probability, same_length, unit, within};
use serde::{Deserialize, Serialize};

/// How evidence of different starts is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// The sum over starts (Shiryaev-Roberts).
    Sum,
    /// The best start (CUSUM).
    Best,
    /// The first number is the start: a test, not a detector.
    First,
}

/// What a number adds to the logarithm of a bet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Increment {
    /// l x - ln(1 - p + p exp l), for passes and failures with rate p before.
    Bernoulli(f64),
    /// ln(1 + l (x / mean - 1)), for numbers from 0 with this mean before; l in [0, 1).
    Bounded(f64),
}

impl Increment {
    fn of(self, bet: f64, x: f64) -> f64 {
        match self {
            Self::Bernoulli(p) => bet * x - (p * bet.exp_m1()).ln_1p(),
            Self::Bounded(mean) => (bet * (x / mean - 1.0)).ln_1p(),
        }
    }
}

/// A detector in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    over: Over,
    increment: Increment,
    bets: Vec<f64>,
    shares: Vec<f64>,
    values: Vec<Option<f64>>,
}

impl Detector {
    /// Of bets and their shares, which sum to 1.
    ///
    /// # Errors
    /// When the rate before is not in (0, 1], a bet or share is out of range, or their numbers differ.
    pub fn new(over: Over, increment: Increment, bets: &[f64], shares: &[f64]) -> Result<Self, Invalid> {
        let most = match increment {
            Increment::Bernoulli(p) => {
                unit("the rate before the change", p)?;
                700.0
            }
            Increment::Bounded(mean) => {
                probability("the mean before the change", mean)?;
                1.0
            }
        };
        same_length("the number of shares", shares.len(), bets.len())?;
        for (bet, share) in bets.iter().zip(shares) {
            within("a bet", *bet, 0.0..=most, "not negative, and below 1 for bounded numbers")?;
            amount("the share of a bet", *share)?;
        }
        let values = vec![None; bets.len()];
        Ok(Self { over, increment, bets: bets.to_vec(), shares: shares.to_vec(), values })
    }

    /// Adds a number in [0, 1]; returns the logarithm of the detector.
    ///
    /// # Errors
    /// When it is not in [0, 1].
    pub fn update(&mut self, x: f64) -> Result<f64, Invalid> {
        unit("a number of the sequence", x)?;
        for (value, bet) in self.values.iter_mut().zip(&self.bets) {
            let start = match (self.over, *value) {
                (_, None) => 0.0,
                (Over::Sum, Some(value)) => value.max(0.0) + (-value.abs()).exp().ln_1p(),
                (Over::Best, Some(value)) => value.max(0.0),
                (Over::First, Some(value)) => value,
            };
            *value = Some(start + self.increment.of(*bet, x));
        }
        let seen = || self.values.iter().flatten().zip(&self.shares);
        let largest = seen().map(|(value, _)| *value).fold(f64::NEG_INFINITY, f64::max);
        if largest.is_infinite() {
            return Ok(largest);
        }
        Ok(largest + seen().map(|(value, share)| share * (value - largest).exp()).sum::<f64>().ln())
    }
}
