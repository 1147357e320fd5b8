//! The interval of a rate when items weigh very differently: a few that stand for many others each decide it.
//!
//! Called by [`super::Survey::rate_interval`]. Items of a stratum whose weights are within a factor of four are a cell, whose
//! proportion has Jeffreys' interval; the cells' distances are added up squared (MOVER: Zou, Huang & Zhang, A note on
//! confidence interval estimation for a linear function of binomial proportions, 2009), with z^2 times the variance of how many
//! fell into each cell, less what chance alone makes cells differ. Its rule: a cell without failures is not taken to have
//! none. The way not taken: the normal interval, which covers 86 instead of 95 of 100 days with bursts (`make simulate`).

use crate::stats::estimate::{Interval, Level};
use crate::stats::hajek::Target;
use crate::stats::proportions::jeffreys;
use crate::stats::refusal::Refusal;
use std::collections::BTreeMap;

/// An item of the sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// The score.
    pub(super) y: f64,
    /// Inclusion probability.
    pub(super) pi: f64,
    /// Its share of all weight.
    pub(super) weight: f64,
    /// Number of its stratum.
    pub(super) group: usize,
    /// Mean of its stratum.
    pub(super) mean: f64,
}

impl Part {
    /// What it adds to the error.
    pub(super) fn error(&self) -> f64 {
        self.weight * (self.y - self.mean)
    }

    /// Weights of a class are within a factor of four.
    fn class(&self) -> i32 {
        #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a probability is small")]
        let class = (-self.pi.log2() / 2.0 + 1e-9).floor() as i32;
        class
    }
}

/// Items of one stratum and nearly one weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    /// Its share of all weight.
    share: f64,
    /// Its proportion.
    mean: f64,
    /// As many items that pass or fail vary as much; infinite when all that there were are known.
    size: f64,
    /// Variance that the number of its items adds.
    count_variance: f64,
}

#[derive(Default)]
struct Sums {
    weight: f64,
    y: f64,
    y_squared: f64,
    squares: f64,
    counted_squares: f64,
    group_mean: f64,
}

impl Sums {
    fn cell(&self) -> Cell {
        let mean = (self.y / self.weight).clamp(0.0, 1.0);
        let items = self.weight * self.weight / self.squares;
        let binary = mean * (1.0 - mean);
        // Scores between 0 and 1 vary less than passing and failing; one item's worth of doubt, since equal scores may be chance.
        let variance = self.y_squared / self.weight - mean * mean;
        let shrunk = (items * variance.clamp(0.0, binary) + binary) / (items + 1.0);
        let graded = if binary > 0.0 { shrunk / binary } else { 1.0 };
        let expected = (items * mean + self.group_mean) / (items + 1.0);
        let by_chance = graded * expected * (1.0 - expected) / items;
        let apart = ((mean - self.group_mean).powi(2) - by_chance).max(0.0);
        Cell {
            share: self.weight,
            mean,
            size: self.weight * self.weight / (self.counted_squares * graded),
            count_variance: self.counted_squares * apart,
        }
    }
}

/// The cells of a sample of scores in [0,1], each item with how many there are of it.
pub(super) fn cells(parts: impl Iterator<Item = (Part, f64)>, target: Target) -> Vec<Cell> {
    let mut all: BTreeMap<(usize, i32), Sums> = BTreeMap::new();
    for (part, count) in parts {
        let sums = all.entry((part.group, part.class())).or_default();
        let weight = count * part.weight;
        sums.weight += weight;
        sums.y += weight * part.y;
        sums.y_squared += weight * part.y * part.y;
        sums.squares += weight * part.weight;
        sums.counted_squares += target.share(part.pi) * weight * part.weight;
        sums.group_mean = part.mean;
    }
    all.values().map(Sums::cell).collect()
}

/// The interval around the sum of the cells.
pub(super) fn interval(value: f64, cells: &[Cell], level: Level) -> Result<Interval, Refusal> {
    let mut count_variance = 0.0;
    let (mut below, mut above) = (0.0, 0.0);
    for cell in cells {
        count_variance += cell.count_variance;
        if cell.size.is_finite() {
            let own = jeffreys(cell.mean, cell.size, level)?;
            below += (cell.share * (cell.mean - own.low).max(0.0)).powi(2);
            above += (cell.share * (own.high - cell.mean).max(0.0)).powi(2);
        }
    }
    let counts = level.z().powi(2) * count_variance;
    let interval = Interval { low: value - (below + counts).sqrt(), high: value + (above + counts).sqrt() };
    Ok(interval.within(0.0, 1.0))
}
