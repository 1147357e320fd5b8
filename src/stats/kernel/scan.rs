//! The change scan: did the mean loss rise at some time, which nobody knows?
//!
//! Called by `stats::stream`, one step a bin of time. M = min over cells of sum_(j <= t) w_j KA(history and bins before j)
//! KB(bins j to t), with w_j a prior over the bins in which the change may begin. While nothing changes, P(M ever reaches
//! 1/alpha) <= alpha. It is a sum in the manner of Shiryaev and Roberts, with the unknown mean minimised out and a prior
//! instead of a clock (Shin, Ramdas, Rinaldo, E-detectors, 2023). Its rule: what is kept is a function of the bins in their
//! order, to the last bit, so a restart changes nothing. The way not taken: a window and a threshold, tuned a stream.

use super::{Kernel, Mass, largest_weight, log_add, log_sum};
use crate::stats::invalid::{Invalid, within};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A scan in progress. A step costs the number of cells times that of bets, and of different losses in the bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    kernel: Kernel,
    /// ln of each baseline bet, by cell.
    #[serde(with = "as_bytes")]
    baseline: Vec<f64>,
    /// ln of the sum over starts of prior, baseline and one later bet, by cell.
    #[serde(with = "as_bytes")]
    sums: Vec<f64>,
    log_e: f64,
    cell: usize,
}

impl Scan {
    /// Begins after the given history.
    ///
    /// # Errors
    /// When a loss, weight or count is out of range.
    pub fn new(kernel: Kernel, history: &[Mass]) -> Result<Self, Invalid> {
        history.iter().try_for_each(|mass| mass.check())?;
        let bets = kernel.bets.lambda_a.len();
        let mut baseline = vec![0.0; kernel.cells() * bets];
        for (cell, row) in baseline.chunks_exact_mut(bets).enumerate() {
            kernel.add_baseline(cell, history, row);
        }
        let sums = vec![f64::NEG_INFINITY; kernel.cells() * kernel.later_bets()];
        Ok(Self { kernel, baseline, sums, log_e: LOG_NOTHING, cell: 0 })
    }

    /// Adds a bin of time, in which a change begins with prior probability exp `log_prior` (minus infinity: no change is
    /// thought to begin any more); returns the logarithm of the evidence.
    ///
    /// # Errors
    /// When a loss, weight, count or the prior is out of range.
    pub fn close(&mut self, bin: &[Mass], log_prior: f64) -> Result<f64, Invalid> {
        bin.iter().try_for_each(|mass| mass.check())?;
        within("the logarithm of a prior", log_prior, f64::NEG_INFINITY..=0.0, "at most 0")?;
        let (weight_max, mut change) = (largest_weight(bin), vec![0.0; self.kernel.later_bets()]);
        let (bets_a, bets_b) = (self.kernel.bets.lambda_a.len(), self.kernel.later_bets());
        let mut least = (f64::INFINITY, 0);
        let rows = self.baseline.chunks_exact_mut(bets_a).zip(self.sums.chunks_exact_mut(bets_b));
        for (cell, (baseline, sums)) in rows.enumerate() {
            let start = log_sum(baseline, &self.kernel.bets.share_a) + log_prior;
            change.fill(0.0);
            self.kernel.add_later(cell, bin, weight_max, &mut change);
            for (sum, change) in sums.iter_mut().zip(&change) {
                *sum = log_add(*sum, start) + change;
            }
            self.kernel.add_baseline(cell, bin, baseline);
            let here = log_sum(sums, &self.kernel.bets.share_b);
            if here < least.0 {
                least = (here, cell);
            }
        }
        self.cell = least.1;
        self.log_e = least.0.max(LOG_NOTHING);
        Ok(self.log_e)
    }

    /// The logarithm of the evidence after the last bin.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// What it measures with.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The bin in which the change began, at best guess: the one whose term in the sum is the largest, in the cell that decides.
    /// `history` and `bins` must be those that the scan has seen, `log_priors` likewise. None without bins.
    #[must_use]
    pub fn start(&self, history: &[Mass], bins: &[Vec<Mass>], log_priors: &[f64]) -> Option<usize> {
        let mut before = vec![0.0; self.kernel.bets.lambda_a.len()];
        self.kernel.add_baseline(self.cell, history, &mut before);
        let mut until = Vec::with_capacity(bins.len());
        for bin in bins {
            until.push(log_sum(&before, &self.kernel.bets.share_a));
            self.kernel.add_baseline(self.cell, bin, &mut before);
        }
        let mut from = vec![0.0; self.kernel.later_bets()];
        let mut best: Option<(f64, usize)> = None;
        for (at, ((bin, until), log_prior)) in bins.iter().zip(&until).zip(log_priors).enumerate().rev() {
            self.kernel.add_later(self.cell, bin, largest_weight(bin), &mut from);
            let term = log_prior + until + log_sum(&from, &self.kernel.bets.share_b);
            if best.is_none_or(|(most, _)| term >= most) {
                best = Some((term, at));
            }
        }
        best.map(|(_, at)| at)
    }
}

/// Evidence of nothing, as a logarithm that JSON can say.
const LOG_NOTHING: f64 = -1e300;

/// Doubles as the text of their bytes: exact, minus infinity included, and a third of the digits.
mod as_bytes {
    use super::{Deserialize, Deserializer, Engine, STANDARD_NO_PAD, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        STANDARD_NO_PAD.encode(bytes).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        let (doubles, rest) = bytes.as_chunks::<8>();
        if rest.is_empty() {
            return Ok(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
        }
        Err(serde::de::Error::custom("the state of a scan is not a whole number of doubles"))
    }
}
