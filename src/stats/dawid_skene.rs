//! What judges' votes say without any label: Dawid and Skene's EM, which learns each judge's errors from the others.
//!
//! For calibration, where fewer than 50 labels exist. Dawid & Skene, 1979: q_ic starts from the share of votes; M step:
//! prior_c = mean_i q_ic, e_j(l|c) = sum_{i: v_ij = l} q_ic / sum_{i: j voted} q_ic; E step: q_ic ∝ prior_c prod_j
//! e_j(v_ij|c). Its rule: with fewer than four judges it refuses, since two that err together then outvote the truth; what
//! it gives is not calibrated until labels confirm it, and says so. The way not taken: MACE, never better on the sets that
//! were tried.

use crate::stats::kappa::{self, Weights};
use crate::stats::refusal::{Refusal, at_least, hold_category, not_negative, same_length};
use serde::Serialize;

/// Judges from which on votes alone are believed.
pub const JUDGES_MIN: usize = 4;
/// Items below which a judge of two categories gets one error rate instead of two.
pub const ITEMS_MIN: usize = 50;
/// Labels from which on the result counts as confirmed or refuted.
pub const LABELS_MIN: usize = 30;
/// Mean pairwise kappa below which the result is doubtful.
pub const KAPPA_MIN: f64 = 0.4;

/// Probabilities below this are raised to it, so that no vote rules anything out.
const FLOOR: f64 = 1e-10;

/// How many numbers describe a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Errors {
    /// One for each pair of true and given category.
    Confusion,
    /// One: how often it is right ("one coin").
    OneCoin,
}

/// How the fit is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// How many numbers describe a judge.
    pub errors: Errors,
    /// Votes that every judge is taken to have given in addition, for each true and given category; 0 for none.
    pub smoothing: f64,
    /// It ends when no probability moves by more than this.
    pub moved_min: f64,
    /// It ends after this many steps anyway.
    pub steps_max: usize,
}

impl Default for Method {
    fn default() -> Self {
        Self { errors: Errors::Confusion, smoothing: 0.0, moved_min: 1e-8, steps_max: 500 }
    }
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// For each item the probability of each category; the prior for an item without votes.
    pub probabilities: Vec<Vec<f64>>,
    /// How frequent each category is.
    pub prior: Vec<f64>,
    /// For each judge, rows the category it gave, columns the true one: each column sums to 1. A judge that never voted has
    /// equal numbers.
    pub judges: Vec<Vec<Vec<f64>>>,
    /// Probability that a judge is right, by judge, over the items it voted on.
    pub skills: Vec<f64>,
    /// Steps that were made.
    pub steps: usize,
}

/// Votes alone: what was learnt, and how far to believe it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unlabelled {
    /// What was learnt.
    pub fitted: Fitted,
    /// How many numbers describe a judge.
    pub errors: Errors,
    /// Mean Cohen's kappa over pairs of judges; `None` when it is not defined.
    pub kappa: Option<f64>,
    /// Whether judges agree so little that the result may be worse than a majority.
    pub is_doubtful: bool,
}

/// The posterior under the house rules: four judges at least, one error rate a judge for few items of two categories, a
/// warning when judges hardly agree. To be shown as "uncalibrated" until [`LABELS_MIN`] labels confirm it.
///
/// # Errors
/// With fewer than four judges who voted, and as for [`fit`].
pub fn unlabelled<R: AsRef<[Option<usize>]>>(items: &[R], categories: usize) -> Result<Unlabelled, Refusal> {
    let rows = checked(items, categories)?;
    let judges = rows.first().map_or(0, |row| row.len());
    let voted = (0..judges).filter(|j| rows.iter().any(|row| row[*j].is_some())).count();
    at_least("judges who voted", voted, JUDGES_MIN)?;
    let few = categories == 2 && items.len() < ITEMS_MIN;
    let errors = if few { Errors::OneCoin } else { Errors::Confusion };
    let fitted = fit(items, categories, Method { errors, ..Method::default() })?;
    let kappa = mean_kappa(&rows, categories);
    Ok(Unlabelled { fitted, errors, kappa, is_doubtful: kappa.is_none_or(|k| k < KAPPA_MIN) })
}

/// Fits by EM. One row an item, one column a judge, categories from 0.
///
/// # Errors
/// Without votes, with fewer than two categories, when rows differ in length, a vote is no category, or the method's
/// numbers are negative.
pub fn fit<R: AsRef<[Option<usize>]>>(items: &[R], categories: usize, method: Method) -> Result<Fitted, Refusal> {
    not_negative("smoothing", 0, method.smoothing)?;
    not_negative("smallest move", 0, method.moved_min)?;
    let rows = checked(items, categories)?;
    let mut q: Vec<Vec<f64>> = rows.iter().map(|row| vote_shares(row, categories)).collect();
    let mut model = maximise(&rows, &q, categories, method);
    let mut steps = 0;
    while steps < method.steps_max {
        let next: Vec<Vec<f64>> = rows.iter().map(|row| model.posterior(row)).collect();
        let steps_of_q = q.iter().flatten().zip(next.iter().flatten()).map(|(a, b)| (a - b).abs());
        let moved = steps_of_q.fold(0.0, f64::max);
        q = next;
        model = maximise(&rows, &q, categories, method);
        steps += 1;
        if moved < method.moved_min {
            break;
        }
    }
    let Model { prior, judges, skills } = model;
    Ok(Fitted { probabilities: q, prior, judges, skills, steps })
}

fn checked<R: AsRef<[Option<usize>]>>(items: &[R], categories: usize) -> Result<Vec<&[Option<usize>]>, Refusal> {
    at_least("categories", categories, 2)?;
    let rows: Vec<&[Option<usize>]> = items.iter().map(AsRef::as_ref).collect();
    let judges = rows.first().map_or(0, |row| row.len());
    for row in &rows {
        same_length(("judges of the first item", judges), ("of another", row.len()))?;
        for (at, vote) in row.iter().enumerate() {
            hold_category(at, *vote, categories)?;
        }
    }
    at_least("votes", rows.iter().map(|row| row.iter().flatten().count()).sum(), 1)?;
    Ok(rows)
}

/// Shares of an item's votes; all zero without votes, so that it teaches nothing.
fn vote_shares(row: &[Option<usize>], categories: usize) -> Vec<f64> {
    let n = row.iter().flatten().count().max(1) as f64;
    let mut shares = vec![0.0; categories];
    for vote in row.iter().flatten() {
        shares[*vote] += 1.0 / n;
    }
    shares
}

struct Model {
    prior: Vec<f64>,
    judges: Vec<Vec<Vec<f64>>>,
    skills: Vec<f64>,
}

impl Model {
    fn posterior(&self, row: &[Option<usize>]) -> Vec<f64> {
        let of = |c: usize| {
            let votes = row.iter().zip(&self.judges).filter_map(|(vote, judge)| Some(judge[(*vote)?][c].ln()));
            self.prior[c].max(FLOOR).ln() + votes.sum::<f64>()
        };
        let logs: Vec<f64> = (0..self.prior.len()).map(of).collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let odds: Vec<f64> = logs.iter().map(|log| (log - top).exp()).collect();
        let sum: f64 = odds.iter().sum();
        odds.iter().map(|odd| odd / sum).collect()
    }
}

fn maximise(rows: &[&[Option<usize>]], q: &[Vec<f64>], categories: usize, method: Method) -> Model {
    let judges = rows.first().map_or(0, |row| row.len());
    let mut counts = vec![vec![vec![method.smoothing; categories]; categories]; judges];
    let mut prior = vec![0.0; categories];
    // An item without votes says nothing about how frequent categories are.
    for (row, q) in rows.iter().zip(q).filter(|(row, _)| row.iter().any(Option::is_some)) {
        for (share, q) in prior.iter_mut().zip(q) {
            *share += q;
        }
        for (judge, vote) in row.iter().enumerate() {
            let Some(vote) = vote else { continue };
            for (count, q) in counts[judge][*vote].iter_mut().zip(q) {
                *count += q;
            }
        }
    }
    let total: f64 = prior.iter().sum();
    for share in &mut prior {
        *share /= total;
    }
    let skills: Vec<f64> = counts.iter().map(|given| skill(given)).collect();
    match method.errors {
        Errors::Confusion => counts.iter_mut().for_each(|given| normalise(given)),
        Errors::OneCoin => {
            for (given, skill) in counts.iter_mut().zip(&skills) {
                let wrong = (1.0 - skill) / (categories as f64 - 1.0);
                for (label, row) in given.iter_mut().enumerate() {
                    for (truth, e) in row.iter_mut().enumerate() {
                        *e = if label == truth { *skill } else { wrong }.clamp(FLOOR, 1.0 - FLOOR);
                    }
                }
            }
        }
    }
    Model { prior, judges: counts, skills }
}

/// The share of a judge's votes on the true category; even odds for one that never voted.
fn skill(given: &[Vec<f64>]) -> f64 {
    let right: f64 = given.iter().enumerate().map(|(c, row)| row[c]).sum();
    let all: f64 = given.iter().flatten().sum();
    if all > 0.0 { right / all } else { 1.0 / given.len() as f64 }
}

/// Makes each column sum to 1.
fn normalise(given: &mut [Vec<f64>]) {
    for truth in 0..given.len() {
        let mut sum = 0.0;
        for row in given.iter_mut() {
            row[truth] = row[truth].max(FLOOR);
            sum += row[truth];
        }
        for row in given.iter_mut() {
            row[truth] /= sum;
        }
    }
}

/// Over the pairs of judges for which kappa is defined.
fn mean_kappa(rows: &[&[Option<usize>]], categories: usize) -> Option<f64> {
    let judges = rows.first().map_or(0, |row| row.len());
    let column = |j: usize| rows.iter().map(|row| row[j]).collect::<Vec<_>>();
    let columns: Vec<Vec<Option<usize>>> = (0..judges).map(column).collect();
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (at, first) in columns.iter().enumerate() {
        for second in &columns[..at] {
            if let Ok(kappa) = kappa::cohen(first, second, categories, Weights::Plain) {
                (sum, pairs) = (sum + kappa, pairs + 1.0);
            }
        }
    }
    (pairs > 0.0).then(|| sum / pairs)
}

#[cfg(test)]
#[path = "dawid_skene/tests.rs"]
mod tests;
