//! The default estimate: a post-stratified mean with its interval, and what changed between two of them.
//!
//! For reports and the metrics that are exported. m = sum_s (N_s/N) m_s with Hájek's mean m_s in each stratum; the variance
//! sums squares of u_i = (N_s/N) w_i (y_i - m_s) / sum_s w: times (1 - pi_i) for single traces, or over clusters (sessions,
//! users) G/(G-1) sum_g (sum_i u_i)^2 (Särndal, Swensson, Wretman, 1992, sections 5.7, 7.6 and 4.3). Its rule: strata are
//! known before the verdict, such as feature and version, and N_s counts every trace received. The way not taken: Hájek
//! over all, which is as unbiased but wider.

mod counted;
mod rate;

pub use counted::{Counted, change_counted, mean_counted};

use crate::stats::estimate::{Estimate, Interval, Level};
use crate::stats::hajek::{Target, checked, kish};
use crate::stats::proportions::{difference, wilson};
use crate::stats::refusal::{Refusal, at_least, hold_size, same_length, share};
use rate::{Cell, Part};
use serde::Serialize;
use std::collections::HashMap;

/// Rarer outcomes than this many effective ones get Wilson's interval: the normal one is too short there.
const OUTCOMES_MIN: f64 = 10.0;

/// A part of the population, and what was sampled of it.
#[derive(Debug, Clone, Copy)]
pub struct Stratum<'a> {
    /// Traces received in it, N_s.
    pub size: f64,
    /// `(y, pi)` of those sampled.
    pub items: &'a [(f64, f64)],
    /// The session or user of each item, as a hash, when items of one are alike; in all strata or in none.
    pub clusters: Option<&'a [u64]>,
}

/// A mean over strata.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// The mean with its standard error.
    pub estimate: Estimate,
    /// Items it is from.
    pub n: usize,
    /// Kish's effective size.
    pub n_eff: f64,
    /// Sessions or users, if the variance counts them.
    pub clusters: Option<usize>,
    /// Strata with too few items for a mean of their own, which were taken together.
    pub collapsed: usize,
    /// How many items with equal weights would vary as much; infinite when everything was kept.
    #[serde(skip)]
    n_interval: f64,
    /// Items of nearly one weight, for the interval; none over clusters.
    #[serde(skip)]
    cells: Vec<Cell>,
}

impl Survey {
    /// The interval of a mean of scores in [0,1]. Of weights that differ it is that of `survey/rate.rs`; of equal ones, and over
    /// clusters, Wilson's when fewer than ten effective items passed or failed, else the normal one (Student's t over clusters).
    ///
    /// # Errors
    /// When the mean is not in [0,1].
    pub fn rate_interval(&self, level: Level) -> Result<Interval, Refusal> {
        let value = self.estimate.value;
        share("mean", 0, value)?;
        if self.cells.len() > 1 {
            return rate::interval(value, &self.cells, level);
        }
        if self.is_rare() {
            return wilson(value, self.n_interval, level);
        }
        let quantile = self.clusters.map_or(level.z(), |g| level.t(g as f64 - 1.0));
        Ok(Interval::around(value, quantile * self.estimate.standard_error).within(0.0, 1.0))
    }

    /// Whether too few effective items passed, or failed, for the normal interval.
    fn is_rare(&self) -> bool {
        let rarer = self.estimate.value.min(1.0 - self.estimate.value);
        self.n_interval.is_finite() && self.n_interval * rarer < OUTCOMES_MIN
    }
}

/// What changed between two groups of traces, such as two versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The group before.
    pub before: Survey,
    /// The group after.
    pub after: Survey,
    /// Mean before minus mean after: positive when it got worse.
    pub drop: Estimate,
    /// Where the drop is, for scores in [0,1].
    pub interval: Interval,
}

/// The post-stratified mean. A stratum without items, or with one that stands for others, has no variance of its own: such
/// strata are taken together, and with the smallest other one if that is not enough.
///
/// # Errors
/// Without items; for values that [`crate::stats::hajek::mean`] refuses; for a stratum smaller than its sample; when
/// clusters are not given for each item of all strata, or there are fewer than two.
pub fn mean(strata: &[Stratum], target: Target) -> Result<Survey, Refusal> {
    let line = Linear::of(strata)?;
    line.survey(target)
}

/// What changed from one group of traces to another. Groups that share sessions or users vary together, which counts.
///
/// # Errors
/// As for [`mean`] for either group, when only one has clusters, and when a mean is not in [0,1].
pub fn change(before: &[Stratum], after: &[Stratum], target: Target, level: Level) -> Result<Change, Refusal> {
    let (first, second) = (Linear::of(before)?, Linear::of(after)?);
    let (before, after) = (first.survey(target)?, second.survey(target)?);
    let value = before.estimate.value - after.estimate.value;
    let of = |s: &Survey| s.rate_interval(level).map(|interval| (s.estimate.value, interval));
    let apart = difference(of(&before)?, of(&after)?);
    let (standard_error, interval) = match (&first.clusters, &second.clusters) {
        (Some(ours), Some(theirs)) => {
            let mut sums = first.sums(ours);
            for (cluster, u) in second.sums(theirs) {
                *sums.entry(cluster).or_default() -= u;
            }
            let error = between(&sums)?.sqrt();
            let half = level.t(sums.len() as f64 - 1.0) * error;
            // Where hardly any failed, what they have in common is not known either.
            let is_rare = before.is_rare() || after.is_rare();
            (error, if is_rare { apart } else { Interval::around(value, half).within(-1.0, 1.0) })
        }
        (None, None) => (before.estimate.standard_error.hypot(after.estimate.standard_error), apart),
        _ => return Err(CLUSTERS_IN_PART),
    };
    let drop = Estimate { value, standard_error };
    Ok(Change { before, after, drop, interval })
}

const CLUSTERS_IN_PART: Refusal =
    Refusal::Undefined { what: "the variance over clusters", why: "they are given for one part of the items only" };

/// An estimate as a sum over items: its value, and each item's part in its error.
struct Linear {
    value: f64,
    parts: Vec<Part>,
    clusters: Option<Vec<u64>>,
    collapsed: usize,
}

impl Linear {
    fn of(strata: &[Stratum]) -> Result<Self, Refusal> {
        for (at, stratum) in strata.iter().enumerate() {
            checked(stratum.items)?;
            hold_size(at, stratum.size, stratum.items.len())?;
            if let Some(clusters) = stratum.clusters {
                same_length(("items", stratum.items.len()), ("clusters", clusters.len()))?;
            }
        }
        at_least("items", strata.iter().map(|s| s.items.len()).sum(), 1)?;
        let (groups, collapsed) = grouped(strata);
        let population: f64 = strata.iter().map(|s| s.size).sum();
        let mut line = Self { value: 0.0, parts: Vec::new(), clusters: None, collapsed };
        let mut clusters = Vec::new();
        for (number, group) in groups.into_iter().enumerate() {
            let part = group.iter().map(|s| s.size).sum::<f64>() / population;
            let items = || group.iter().flat_map(|s| s.items);
            let total: f64 = items().map(|(_, pi)| 1.0 / pi).sum();
            let mean = items().map(|(y, pi)| y / pi).sum::<f64>() / total;
            line.value += part * mean;
            let of = |(y, pi): &(f64, f64)| Part { y: *y, pi: *pi, weight: part / (pi * total), group: number, mean };
            line.parts.extend(items().map(of));
            clusters.extend(group.iter().filter_map(|s| s.clusters).flatten());
        }
        // Sizes that are summed in another order must not leave a mean of ones above 1.
        let scores = || strata.iter().flat_map(|s| s.items).map(|(y, _)| *y);
        line.value = line.value.min(scores().fold(f64::MIN, f64::max)).max(scores().fold(f64::MAX, f64::min));
        line.clusters = match clusters.len() {
            0 => None,
            n if n == line.parts.len() => Some(clusters),
            _ => return Err(CLUSTERS_IN_PART),
        };
        Ok(line)
    }

    fn survey(&self, target: Target) -> Result<Survey, Refusal> {
        let weights: Vec<f64> = self.parts.iter().map(|part| part.weight).collect();
        let n_eff = kish(&weights);
        let (variance, n_interval, clusters) = if let Some(ids) = &self.clusters {
            let sums = self.sums(ids);
            let variance = between(&sums)?;
            let alike = self.value * (1.0 - self.value) / variance;
            // Without variance Kish's size is all there is to go by.
            (variance, if alike > 0.0 { n_eff.min(alike) } else { n_eff }, Some(sums.len()))
        } else {
            let counts = |square: fn(&Part) -> f64| -> f64 {
                self.parts.iter().map(|part| target.share(part.pi) * square(part)).sum()
            };
            (counts(|part| part.error().powi(2)), 1.0 / counts(|part| part.weight * part.weight), None)
        };
        let estimate = Estimate { value: self.value, standard_error: variance.sqrt() };
        let is_rate = self.parts.iter().all(|part| (0.0..=1.0).contains(&part.y));
        let cells = if clusters.is_none() && is_rate {
            rate::cells(self.parts.iter().map(|part| (*part, 1.0)), target)
        } else {
            Vec::new()
        };
        Ok(Survey { estimate, n: self.parts.len(), n_eff, clusters, collapsed: self.collapsed, n_interval, cells })
    }

    fn sums(&self, clusters: &[u64]) -> HashMap<u64, f64> {
        let mut sums = HashMap::new();
        for (cluster, part) in clusters.iter().zip(&self.parts) {
            *sums.entry(*cluster).or_default() += part.error();
        }
        sums
    }
}

/// G/(G-1) times the sum of squares.
fn between(sums: &HashMap<u64, f64>) -> Result<f64, Refusal> {
    at_least("clusters", sums.len(), 2)?;
    let g = sums.len() as f64;
    // In the order of size, so that the hash map's order leaves no trace in the last digits.
    let mut squares: Vec<f64> = sums.values().map(|u| u * u).collect();
    squares.sort_by(f64::total_cmp);
    Ok(g / (g - 1.0) * squares.iter().sum::<f64>())
}

/// The strata that are estimated each by itself, and those taken together, with how many the latter are.
fn grouped<'a, 'b>(strata: &'b [Stratum<'a>]) -> (Vec<Vec<&'b Stratum<'a>>>, usize) {
    let (mut thin, own): (Vec<_>, Vec<_>) = strata.iter().filter(|s| s.size > 0.0).partition(|s| is_thin(s.items));
    let mut groups: Vec<Vec<&Stratum>> = own.into_iter().map(|s| vec![s]).collect();
    let items = thin.iter().map(|s| s.items.len()).sum::<usize>();
    if items < 2 && !thin.is_empty() {
        let size = |group: &[&Stratum]| group.iter().map(|s| s.size).sum::<f64>();
        let smallest = (0..groups.len()).min_by(|a, b| size(&groups[*a]).total_cmp(&size(&groups[*b])));
        thin.extend(smallest.map(|at| groups.remove(at)).unwrap_or_default());
    }
    let collapsed = if thin.len() > 1 { thin.len() } else { 0 };
    if !thin.is_empty() {
        groups.push(thin);
    }
    (groups, collapsed)
}

fn is_thin(items: &[(f64, f64)]) -> bool {
    match items {
        [] => true,
        [(_, pi)] => *pi < 1.0,
        _ => false,
    }
}

#[cfg(test)]
#[path = "survey/tests.rs"]
mod tests;
