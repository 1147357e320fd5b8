//! The betting kernel: how strongly two sets of losses say that the second has the higher mean, at any time one looks.
//!
//! Called by `version`, `scan` and `stats::stream`. A loss is 1 - score, in [0, 1]. For baseline items A and later items B
//! with weights u in (0, 1], and a = a mean loss that both might have,
//! KA(a) = sum_k s_k prod_A (1 - la_k u (l - a)), which grows if the mean of A is below a, and
//! KB(b) = sum_k s_k prod_B (1 + lb_k u (l - b)), which grows if the mean of B is above b.
//! The evidence against "mean of B <= mean of A + delta" is the least KA(a_i) KB(a_(i+1) + delta) over cells [a_i, a_(i+1)]:
//! KA increases and KB decreases, so it is below the product at the true mean, which is a nonnegative supermartingale in any
//! interleaving. Hence P(it ever reaches 1/alpha) <= alpha, whenever one looks (Waudby-Smith & Ramdas, Estimating means of
//! bounded random variables by betting, 2024; Ramdas, Grünwald, Vovk, Shafer, 2023). Its rule: bets never see the scores they
//! are placed on. The way not taken: a baseline plugged in as if it were known, which alarms 36 times as often as allowed.

pub mod dispersion;
pub mod scan;
pub mod tally;
pub mod version;

use crate::stats::invalid::{Invalid, amount, probability, same_length, unit, within};
use serde::{Deserialize, Serialize};

/// Bets on the baseline are these, over the root of its size.
const BASELINE_BETS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Bets on later items are these, over the standard deviation of a loss.
const LATER_BETS: [f64; 5] = [0.03, 0.07, 0.17, 0.40, 1.00];
/// The largest bet on the baseline: one item takes at most nine tenths of what is staked.
const BASELINE_BET_MAX: f64 = 0.9;
/// The share that is not bet at all.
const IDLE_SHARE: f64 = 0.1;
/// The least variance of a loss that bets are sized for.
const VARIANCE_MIN: f64 = 0.002;
/// A factor at or below this may become negative; its bet is dropped for the cell.
const FACTOR_MIN: f64 = 1e-12;
/// Cells between the two outer ones.
pub const CELLS: usize = 64;
/// How many standard errors of the baseline the cells span on each side.
pub const CELLS_WIDTH: f64 = 6.5;
/// Of a scan: wide cells of a standard error each, below those that decide.
const SCAN_CELLS_WIDE: u32 = 5;
/// Of a scan: narrow cells. The least evidence is found among them: between the baseline's mean and that after a drop.
const SCAN_CELLS_NARROW: u32 = 52;

/// So many items with the same loss and weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mass {
    /// In [0, 1]; a failure is 1.
    pub loss: f64,
    /// The least inclusion probability over the item's own, in (0, 1]; 1 where all are equal.
    pub weight: f64,
    /// How many; a fraction where counts were divided by their overdispersion.
    pub count: f64,
}

impl Mass {
    /// Pass/fail items of weight one: `failures` of `items`.
    #[must_use]
    pub fn binary(items: f64, failures: f64) -> [Self; 2] {
        let of = |loss, count| Self { loss, weight: 1.0, count };
        [of(1.0, failures), of(0.0, items - failures)]
    }

    fn check(self) -> Result<(), Invalid> {
        unit("a loss", self.loss)?;
        probability("a weight", self.weight)?;
        amount("a count of items", self.count).map(drop)
    }
}

/// Bets and their shares of the stake; each list starts with the bet of zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bets {
    /// On the baseline.
    pub lambda_a: Vec<f64>,
    /// Shares of `lambda_a`.
    pub share_a: Vec<f64>,
    /// On later items.
    pub lambda_b: Vec<f64>,
    /// Shares of `lambda_b`.
    pub share_b: Vec<f64>,
}

impl Bets {
    /// For pass/fail: from the size of the baseline and its number of failures.
    ///
    /// # Errors
    /// When they are not finite, negative, or there are more failures than items.
    pub fn binary(items: f64, failures: f64) -> Result<Self, Invalid> {
        let rate = smoothed_mean(items, failures)?;
        Self::graded(items, rate * (1.0 - rate))
    }

    /// For graded losses: from the size of the baseline and the variance of its losses.
    ///
    /// # Errors
    /// When they are negative or not finite.
    pub fn graded(items: f64, variance: f64) -> Result<Self, Invalid> {
        amount("the size of the baseline", items)?;
        let deviation = amount("the variance of the baseline", variance)?.max(VARIANCE_MIN).sqrt();
        let root = items.max(1.0).sqrt();
        let with_idle = |bets: Vec<f64>| {
            let share = (1.0 - IDLE_SHARE) / bets.len() as f64;
            let shares = std::iter::once(IDLE_SHARE).chain(bets.iter().map(|_| share)).collect();
            (std::iter::once(0.0).chain(bets).collect(), shares)
        };
        let (lambda_a, share_a) = with_idle(BASELINE_BETS.iter().map(|c| (c / root).min(BASELINE_BET_MAX)).collect());
        let (lambda_b, share_b) = with_idle(LATER_BETS.iter().map(|g| g / deviation).collect());
        Ok(Self { lambda_a, share_a, lambda_b, share_b })
    }

    /// The same bets on items whose weights are typically below one: divided by what is typical of each side, (sum u^2 / sum u),
    /// but not beyond what an item of weight one can bear at a mean loss of `loss_max`.
    #[must_use]
    pub fn scaled(mut self, typical_a: f64, typical_b: f64, loss_max: f64) -> Self {
        if typical_a < 1.0 {
            self.lambda_a.iter_mut().for_each(|bet| *bet = (*bet / typical_a).min(BASELINE_BET_MAX));
        }
        if typical_b < 1.0 {
            let bearable = BASELINE_BET_MAX / loss_max.max(1e-6);
            self.lambda_b.iter_mut().for_each(|bet| *bet = (*bet / typical_b).min(bearable.max(*bet)));
        }
        self
    }
}

/// What the evidence is measured with: cells, tolerated drop and bets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    edges: Vec<f64>,
    delta: f64,
    bets: Bets,
}

impl Kernel {
    /// From ascending edges of cells in [0, 1], the drop that nobody wants to be told of, and bets.
    ///
    /// # Errors
    /// When there are less than two edges, they do not ascend, `delta` is not in [-1, 1], bets are negative or above what keeps
    /// every factor positive on the baseline, or shares do not belong to them.
    pub fn new(edges: Vec<f64>, delta: f64, bets: Bets) -> Result<Self, Invalid> {
        within("the number of cells", edges.len() as f64 - 1.0, 1.0..=1e6, "at least 1")?;
        for pair in edges.windows(2) {
            unit("an edge of a cell", pair[0])?;
            within("an edge of a cell", pair[1], pair[0]..=1.0, "at least the edge before it, and at most 1")?;
        }
        within("the tolerated drop", delta, -1.0..=1.0, "from -1 to 1")?;
        same_length("the number of shares of baseline bets", bets.share_a.len(), bets.lambda_a.len())?;
        same_length("the number of shares of later bets", bets.share_b.len(), bets.lambda_b.len())?;
        for bet in &bets.lambda_a {
            within("a bet on the baseline", *bet, 0.0..=1.0 - FACTOR_MIN, "from 0 to below 1")?;
        }
        for number in bets.share_a.iter().chain(&bets.share_b).chain(&bets.lambda_b) {
            amount("a bet or its share", *number)?;
        }
        Ok(Self { edges, delta, bets })
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.edges.len() - 1
    }

    /// The tolerated drop.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// Number of bets on later items.
    fn later_bets(&self) -> usize {
        self.bets.lambda_b.len()
    }

    /// Adds to `sums` what the items change in the logarithm of each baseline bet, in one cell.
    fn add_baseline(&self, cell: usize, items: &[Mass], sums: &mut [f64]) {
        let at = self.edges[cell];
        for (sum, bet) in sums.iter_mut().zip(&self.bets.lambda_a) {
            if *bet > 0.0 {
                *sum += items.iter().map(|m| m.count * (1.0 - bet * m.weight * (m.loss - at)).ln()).sum::<f64>();
            }
        }
    }

    /// The same for bets on later items; minus infinity where a factor may be negative, given the largest weight among them.
    fn add_later(&self, cell: usize, items: &[Mass], weight_max: f64, sums: &mut [f64]) {
        let at = self.edges[cell + 1] + self.delta;
        for (sum, bet) in sums.iter_mut().zip(&self.bets.lambda_b) {
            if *bet <= 0.0 {
                continue;
            }
            let stake = bet * weight_max;
            if 1.0 - stake * at <= FACTOR_MIN || 1.0 + stake * (1.0 - at) <= FACTOR_MIN {
                *sum = f64::NEG_INFINITY;
            } else {
                *sum += items.iter().map(|m| m.count * (1.0 + bet * m.weight * (m.loss - at)).ln()).sum::<f64>();
            }
        }
    }

    /// The logarithm of the evidence that the mean loss of `later` exceeds that of `baseline` by more than `delta`.
    ///
    /// # Errors
    /// When a loss, weight or count is out of range.
    pub fn log_e(&self, baseline: &[Mass], later: &[Mass]) -> Result<f64, Invalid> {
        baseline.iter().chain(later).try_for_each(|mass| mass.check())?;
        let weight_max = largest_weight(later);
        let mut least = f64::INFINITY;
        let (mut a, mut b) = (vec![0.0; self.bets.lambda_a.len()], vec![0.0; self.later_bets()]);
        for cell in 0..self.cells() {
            a.fill(0.0);
            b.fill(0.0);
            self.add_baseline(cell, baseline, &mut a);
            self.add_later(cell, later, weight_max, &mut b);
            let here = log_sum(&a, &self.bets.share_a) + log_sum(&b, &self.bets.share_b);
            least = least.min(here);
        }
        Ok(least)
    }
}

/// Edges of `count` equal cells over the baseline's mean +- `width` standard errors, and of one more on each side.
///
/// # Errors
/// When size or sum of losses are not finite, negative, or the sum exceeds the size; when there are no cells.
pub fn cells(items: f64, losses: f64, count: usize, width: f64) -> Result<Vec<f64>, Invalid> {
    let mean = smoothed_mean(items, losses)?;
    within("the number of cells", count as f64, 1.0..=1e6, "from 1 to a million")?;
    amount("the width of the cells", width)?;
    let error = (mean * (1.0 - mean) / (items + 1.0)).sqrt() + 1.0 / (items + 1.0);
    let (low, high) = ((mean - width * error).max(0.0), (mean + width * error).min(1.0));
    let step = (high - low) / count as f64;
    let mut edges = Vec::with_capacity(count + 3);
    if low > 0.0 {
        edges.push(0.0);
    }
    edges.extend((0..count).map(|i| low + i as f64 * step));
    edges.push(high);
    if high < 1.0 {
        edges.push(1.0);
    }
    Ok(edges)
}

/// The edges for a scan: the same span with fewer cells, which are narrower where the least evidence is found; an edge's distance
/// to the mean that decides is lost at every later item.
///
/// # Errors
/// As `cells`.
pub fn scan_cells(items: f64, losses: f64) -> Result<Vec<f64>, Invalid> {
    let mean = smoothed_mean(items, losses)?;
    let error = (mean * (1.0 - mean) / (items + 1.0)).sqrt() + 1.0 / (items + 1.0);
    let narrow_from = f64::from(SCAN_CELLS_WIDE) - CELLS_WIDTH;
    let step = (CELLS_WIDTH - narrow_from) / f64::from(SCAN_CELLS_NARROW);
    let wide = (0..SCAN_CELLS_WIDE).map(|i| f64::from(i) - CELLS_WIDTH);
    let narrow = (0..=SCAN_CELLS_NARROW).map(|i| narrow_from + f64::from(i) * step);
    let inner = wide.chain(narrow).map(|errors| (mean + errors * error).clamp(0.0, 1.0));
    let mut edges: Vec<f64> = std::iter::once(0.0).chain(inner).chain(std::iter::once(1.0)).collect();
    edges.dedup();
    Ok(edges)
}

/// (f + 1/2) / (n + 1).
fn smoothed_mean(items: f64, losses: f64) -> Result<f64, Invalid> {
    amount("the size of the baseline", items)?;
    within("the sum of the baseline's losses", losses, 0.0..=items, "from 0 to the size of the baseline")?;
    Ok((losses + 0.5) / (items + 1.0))
}

/// The largest weight; 1 where there is nothing.
fn largest_weight(items: &[Mass]) -> f64 {
    let most = items.iter().map(|m| m.weight).fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

/// Terms this far (in logarithms) below the largest change nothing in a double.
const NEGLIGIBLE: f64 = 38.0;

/// ln sum_k share_k exp(value_k).
fn log_sum(values: &[f64], shares: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    let near = values.iter().zip(shares).filter(|(value, _)| largest - **value < NEGLIGIBLE);
    largest + near.map(|(value, share)| share * (value - largest).exp()).sum::<f64>().ln()
}

/// ln (exp x + exp y).
fn log_add(x: f64, y: f64) -> f64 {
    let (high, low) = if x < y { (y, x) } else { (x, y) };
    if low == f64::NEG_INFINITY || high - low > NEGLIGIBLE { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests;
