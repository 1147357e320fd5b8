//! Counters of losses: what version tests and scans know of a set of scores.
//!
//! Filled by `stats::stream`, read by `version` and `scan`. One count for each weight class (a 64th of a halving of the
//! inclusion probability; every power of 2^(-1/4) is one exactly) and hundredth of a loss. Counts are whole numbers, so adding
//! and merging commute: the order of scores, workers and restarts cannot change a verdict, and a score that is
//! taken back leaves no trace. The way not taken: running sums of doubles, which differ in the last bit by the order.

use super::Mass;
use crate::stats::invalid::{Invalid, probability, unit};
use serde::{Deserialize, Serialize};

/// Weight classes for each halving of the probability.
const CLASSES_PER_HALVING: f64 = 64.0;
/// Steps of a loss.
const LEVELS: f64 = 100.0;

/// How many scores had which weight class and loss.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u8, i64)>", into = "Vec<(u16, u8, i64)>")]
pub struct Tally {
    /// Sorted by class and level; no count is zero.
    counts: Vec<(u16, u8, i64)>,
}

/// What a tally says as a whole, weighted by one over the inclusion probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Scores.
    pub n: f64,
    /// Kish's effective number of them.
    pub n_eff: f64,
    /// Mean loss; 0 of nothing.
    pub mean: f64,
    /// Variance of a loss.
    pub variance: f64,
    /// sum u^2 / sum u of the weights u relative to the largest weight; 1 where all are equal.
    pub typical_weight: f64,
    /// Whether every loss is 0 or 1.
    pub binary: bool,
}

impl Tally {
    /// Counts a score of `loss` in [0, 1] that had `inclusion` probability in (0, 1] of being judged.
    ///
    /// # Errors
    /// When either is out of range or NaN; nothing is counted then.
    pub fn add(&mut self, loss: f64, inclusion: f64) -> Result<(), Invalid> {
        self.change(key(loss, inclusion)?, 1);
        Ok(())
    }

    /// Takes back a score that was counted, or will be counted by another worker.
    ///
    /// # Errors
    /// As `add`.
    pub fn remove(&mut self, loss: f64, inclusion: f64) -> Result<(), Invalid> {
        self.change(key(loss, inclusion)?, -1);
        Ok(())
    }

    /// Takes back a score if one like it is counted.
    ///
    /// # Errors
    /// As `add`.
    pub fn take(&mut self, loss: f64, inclusion: f64) -> Result<(), Invalid> {
        let key = key(loss, inclusion)?;
        let found = self.counts.binary_search_by_key(&key, |(class, level, _)| (*class, *level));
        if found.is_ok_and(|at| self.counts[at].2 > 0) {
            self.change(key, -1);
        }
        Ok(())
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (class, level, count) in &other.counts {
            self.change((*class, *level), *count);
        }
    }

    fn change(&mut self, key: (u16, u8), by: i64) {
        match self.counts.binary_search_by_key(&key, |(class, level, _)| (*class, *level)) {
            Ok(at) if self.counts[at].2 + by == 0 => drop(self.counts.remove(at)),
            Ok(at) => self.counts[at].2 += by,
            Err(_) if by == 0 => {}
            Err(at) => self.counts.insert(at, (key.0, key.1, by)),
        }
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Number of scores.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, _, count)| u64::try_from(*count).unwrap_or(0)).sum()
    }

    /// The rarest class; class k stands for inclusion probability 2^(-k/64).
    #[must_use]
    pub fn rarest(&self) -> Option<u16> {
        self.counts.last().map(|(class, _, _)| *class)
    }

    /// As masses, with weights relative to class `rarest` (rarer items count as that), counts divided by `phi`.
    #[must_use]
    pub fn masses(&self, rarest: u16, phi: f64) -> Vec<Mass> {
        let present = self.counts.iter().filter(|(_, _, count)| *count > 0);
        let mass = |(class, level, count): &(u16, u8, i64)| Mass {
            loss: f64::from(*level) / LEVELS,
            weight: inclusion(rarest.saturating_sub(*class)),
            count: *count as f64 / phi,
        };
        present.map(mass).collect()
    }

    /// Sums, means and effective size.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let masses = self.masses(self.rarest().unwrap_or(0), 1.0);
        let sum = |of: &dyn Fn(&Mass) -> f64| masses.iter().map(|m| m.count * of(m)).sum::<f64>();
        let (n, weights, squares) = (sum(&|_| 1.0), sum(&|m| m.weight), sum(&|m| m.weight * m.weight));
        let binary = masses.iter().all(|m| m.loss <= 0.0 || m.loss >= 1.0);
        if weights <= 0.0 {
            return Summary { n: 0.0, n_eff: 0.0, mean: 0.0, variance: 0.0, typical_weight: 1.0, binary };
        }
        let mean = sum(&|m| m.weight * m.loss) / weights;
        let variance = sum(&|m| m.weight * (m.loss - mean).powi(2)) / weights;
        Summary { n, n_eff: weights * weights / squares, mean, variance, typical_weight: squares / weights, binary }
    }
}

/// Weight class and level of a score.
fn key(loss: f64, inclusion: f64) -> Result<(u16, u8), Invalid> {
    unit("a loss", loss)?;
    probability("an inclusion probability", inclusion)?;
    // `as` saturates and both are in range: probabilities down to 2^-1023, losses to 100.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranges were checked")]
    Ok(((-inclusion.log2() * CLASSES_PER_HALVING).round() as u16, (loss * LEVELS).round() as u8))
}

/// The inclusion probability that a class stands for.
#[must_use]
pub fn inclusion(class: u16) -> f64 {
    if class == 0 { 1.0 } else { (-f64::from(class) / CLASSES_PER_HALVING).exp2() }
}

impl From<Vec<(u16, u8, i64)>> for Tally {
    fn from(rows: Vec<(u16, u8, i64)>) -> Self {
        let mut tally = Self::default();
        for (class, level, count) in rows {
            tally.change((class, level.min(100)), count);
        }
        tally
    }
}

impl From<Tally> for Vec<(u16, u8, i64)> {
    fn from(tally: Tally) -> Self {
        tally.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(scores: &[(f64, f64)]) -> Tally {
        let mut tally = Tally::default();
        for (loss, pi) in scores {
            tally.add(*loss, *pi).expect("in range");
        }
        tally
    }

    #[test]
    fn quarter_halvings_are_exact_and_summaries_are_by_hand() {
        // Weights 1 and 4 as in stats::hajek: mean 4/5, n_eff 25/17; relative to the rarest 1/4 and 1.
        let summary = of(&[(0.0, 1.0), (1.0, 0.25)]).summary();
        assert!((summary.mean - 0.8).abs() < 1e-12 && (summary.n_eff - 25.0 / 17.0).abs() < 1e-12);
        assert!((summary.typical_weight - (1.0 + 1.0 / 16.0) / 1.25).abs() < 1e-12 && summary.binary);
        assert!((inclusion(16) - 2.0_f64.powf(-0.25)).abs() < 1e-15);
        assert!(!of(&[(0.25, 1.0)]).summary().binary);
        assert_eq!(Tally::default().summary().n_eff.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_name() {
        for (loss, pi) in [(f64::NAN, 1.0), (1.01, 1.0), (-0.1, 1.0), (0.5, 0.0), (0.5, f64::NAN), (0.5, 1.5)] {
            let mut tally = Tally::default();
            let refused = tally.add(loss, pi).expect_err("out of range").to_string();
            assert!(refused.contains("loss") || refused.contains("inclusion"), "{refused}");
            assert!(tally.is_empty());
        }
    }

    proptest! {
        #[test]
        fn order_splitting_and_taking_back_change_nothing(
            scores in prop::collection::vec((0.0..=1.0_f64, 0.001..=1.0_f64), 0..200),
            extra in prop::collection::vec((0.0..=1.0_f64, 0.001..=1.0_f64), 0..20),
            cut in 0.0..=1.0_f64,
        ) {
            let bulk = of(&scores);
            let reversed: Vec<_> = scores.iter().rev().copied().collect();
            prop_assert_eq!(&of(&reversed), &bulk);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in a short list")]
            let (left, right) = scores.split_at((cut * scores.len() as f64) as usize);
            let mut merged = of(right);
            merged.merge(&of(left));
            prop_assert_eq!(&merged, &bulk);
            // Another worker takes them back before this one counts them.
            let mut other = Tally::default();
            for (loss, pi) in &extra {
                other.remove(*loss, *pi).expect("in range");
            }
            merged.merge(&of(&extra));
            merged.merge(&other);
            prop_assert_eq!(&merged, &bulk);
            let text = serde_json::to_string(&bulk).expect("plain numbers");
            prop_assert_eq!(serde_json::from_str::<Tally>(&text).expect("its own text"), bulk);
        }
    }
}
