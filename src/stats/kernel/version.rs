//! The version test: is B worse than A by more than delta, or is it not? Answers at any time, any number of looks.
//!
//! Called by `stats::stream`, and for any two tallies of scores. Evidence is computed from counters alone. "Not worse" is the
//! same kernel on 1 - loss with margin -delta; the first of the two to reach 1/alpha ends the test. Its rule: the order of
//! scores cannot matter. The way not taken: a z-test each hour, which calls a third of equal versions different in a month.

use super::tally::{Summary, Tally};
use super::{Bets, CELLS, CELLS_WIDTH, Kernel, Mass, cells, scan_cells};
use crate::stats::anytime::asymptotic;
use crate::stats::invalid::{Invalid, probability, within};
use serde::{Deserialize, Serialize};

/// What is asked of two sets of scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The drop that nobody wants to be told of, in [0, 1].
    pub delta: f64,
    /// How often equal versions may ever be called worse, in (0, 1].
    pub alpha: f64,
    /// Overdispersion of counts, at least 1.
    pub phi: f64,
}

impl Default for Question {
    fn default() -> Self {
        Self { delta: 0.0, alpha: 0.05, phi: 1.0 }
    }
}

/// What the evidence says so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is worse than A by more than delta.
    Worse,
    /// B is not worse than A by delta.
    NotWorse,
    /// Not enough evidence for either.
    Undecided,
}

/// One side: its mean loss, and an interval that holds at any time one looks (`stats::anytime::asymptotic`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Scores.
    pub n: f64,
    /// Kish's effective number of them.
    pub n_eff: f64,
    /// Mean loss, weighted by one over the inclusion probability.
    pub rate: f64,
    /// Lower end, 95 %.
    pub low: f64,
    /// Upper end, 95 %.
    pub high: f64,
}

/// Two sides compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether the evidence suffices.
    pub verdict: Verdict,
    /// ln of the evidence that B is worse by more than delta.
    pub log_e_worse: f64,
    /// ln of the evidence that it is not worse by delta.
    pub log_e_not_worse: f64,
    /// The earlier version.
    pub before: Arm,
    /// The later version.
    pub after: Arm,
}

impl Arm {
    /// Of a tally whose counts vary `phi` times as much as independent ones.
    #[must_use]
    pub fn of(tally: &Tally, phi: f64) -> Self {
        let Summary { n, n_eff, mean, variance, .. } = tally.summary();
        let (low, high) = asymptotic::mean_interval(n_eff / phi, mean, variance, ARM_ALPHA);
        Self { n, n_eff, rate: mean, low, high }
    }
}

/// Error level of an arm's interval.
const ARM_ALPHA: f64 = 0.05;

/// Compares B (`after`) with A (`before`).
///
/// # Errors
/// When delta is not in [0, 1], alpha not in (0, 1], or phi below 1.
pub fn compare(before: &Tally, after: &Tally, question: &Question) -> Result<Comparison, Invalid> {
    let Question { delta, alpha, phi } = checked(question)?;
    let log_e_worse = log_e(before, after, delta, phi)?;
    let log_e_not_worse = log_e_mirrored(before, after, delta, phi)?;
    let enough = (1.0 / alpha).ln();
    let verdict = match (log_e_worse >= enough, log_e_not_worse >= enough) {
        (true, _) => Verdict::Worse,
        (false, true) => Verdict::NotWorse,
        (false, false) => Verdict::Undecided,
    };
    let arm = |tally| Arm::of(tally, phi);
    Ok(Comparison { verdict, log_e_worse, log_e_not_worse, before: arm(before), after: arm(after) })
}

/// The interval for how much worse B is (mean loss of B minus that of A), at error level alpha, at any time: the drops that
/// neither side refutes at alpha/2.
///
/// # Errors
/// As `compare`.
pub fn drop_interval(before: &Tally, after: &Tally, question: &Question) -> Result<(f64, f64), Invalid> {
    let Question { alpha, phi, .. } = checked(question)?;
    let enough = (2.0 / alpha).ln();
    let above = |drop: f64| Ok(log_e(before, after, drop, phi)? >= enough);
    let below = |drop: f64| Ok(log_e_mirrored(before, after, drop, phi)? >= enough);
    Ok((edge(-1.0, 1.0, above)?, edge(1.0, -1.0, below)?))
}

/// The last point, coming from `start`, at which `holds`; `start` where it holds nowhere.
fn edge(start: f64, end: f64, holds: impl Fn(f64) -> Result<bool, Invalid>) -> Result<f64, Invalid> {
    let (mut yes, mut no) = (start, end);
    for _ in 0..30 {
        let middle = f64::midpoint(yes, no);
        if holds(middle)? {
            yes = middle;
        } else {
            no = middle;
        }
    }
    Ok(yes)
}

fn checked(question: &Question) -> Result<Question, Invalid> {
    within("the tolerated drop", question.delta, 0.0..=1.0, "from 0 to 1")?;
    probability("the error level", question.alpha)?;
    within("the overdispersion", question.phi, 1.0..=f64::MAX, "at least 1")?;
    Ok(*question)
}

/// ln of the evidence that the mean loss of `after` exceeds that of `before` by more than `delta` in [-1, 1].
///
/// # Errors
/// When `delta` or `phi` is out of range.
pub fn log_e(before: &Tally, after: &Tally, delta: f64, phi: f64) -> Result<f64, Invalid> {
    evidence(&Side::of(before, phi), &Side::of(after, phi), delta)
}

/// ln of the evidence that it does not exceed it by `delta`.
fn log_e_mirrored(before: &Tally, after: &Tally, delta: f64, phi: f64) -> Result<f64, Invalid> {
    evidence(&Side::of(before, phi).mirrored(), &Side::of(after, phi).mirrored(), -delta)
}

struct Side {
    masses: Vec<Mass>,
    summary: Summary,
}

impl Side {
    /// Each side's weights are relative to its own rarest class: what the test needs is the mean of each alone.
    fn of(tally: &Tally, phi: f64) -> Self {
        let mut summary = tally.summary();
        summary.n_eff /= phi;
        Self { masses: tally.masses(tally.rarest().unwrap_or(0), phi), summary }
    }

    fn mirrored(mut self) -> Self {
        self.masses.iter_mut().for_each(|m| m.loss = 1.0 - m.loss);
        self.summary.mean = 1.0 - self.summary.mean;
        self
    }
}

fn evidence(a: &Side, b: &Side, delta: f64) -> Result<f64, Invalid> {
    let typical = b.summary.typical_weight;
    kernel_after(&a.summary, typical, delta)?.log_e(&a.masses, &b.masses)
}

/// The kernel of a version test that follows from a baseline; `n_eff` already divided by the overdispersion.
///
/// # Errors
/// When `delta` is out of range.
fn kernel_after(baseline: &Summary, typical_later: f64, delta: f64) -> Result<Kernel, Invalid> {
    kernel_on(cells(baseline.n_eff, losses(baseline), CELLS, CELLS_WIDTH)?, baseline, typical_later, delta)
}

/// The same of a scan.
///
/// # Errors
/// When `delta` is out of range.
pub fn scan_kernel_after(baseline: &Summary, typical_later: f64, delta: f64) -> Result<Kernel, Invalid> {
    kernel_on(scan_cells(baseline.n_eff, losses(baseline))?, baseline, typical_later, delta)
}

/// The sum of a baseline's losses, in effective items.
fn losses(baseline: &Summary) -> f64 {
    (baseline.n_eff * baseline.mean).clamp(0.0, baseline.n_eff)
}

/// Bets that follow from a baseline, on the given cells.
fn kernel_on(edges: Vec<f64>, baseline: &Summary, typical_later: f64, delta: f64) -> Result<Kernel, Invalid> {
    let size = baseline.n_eff;
    let bets =
        if baseline.binary { Bets::binary(size, losses(baseline))? } else { Bets::graded(size, baseline.variance)? };
    // The far end of the inner cells: the worst mean that the bets must bear.
    let worst = edges.iter().rev().find(|edge| **edge < 1.0).copied().unwrap_or(1.0) + delta.max(0.0);
    Kernel::new(edges, delta, bets.scaled(baseline.typical_weight, typical_later, worst))
}

#[cfg(test)]
mod tests;
