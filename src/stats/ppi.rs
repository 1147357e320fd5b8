//! The pass rate that people would give, from a few labels and many judged traces: prediction-powered inference.
//!
//! For labels drawn uniformly, with the judged traces that have none as a separate pool; `stats::active` is for labels with
//! their own probabilities. theta = lam mean(w f) + mean(w (y - lam f)), var = lam^2 var(w f)/N + var(w (y - lam f))/n, lam
//! = cov(y, f)/((1 + n/N) var f) (Angelopoulos, Duchi, Zrnic, PPI++, 2023); per stratum N_s/N (Fisch et al., Stratified
//! prediction-powered inference, 2024). Its rule: labels are of the version that is estimated; those of an older one never
//! correct it. The way not taken: the judge's rate with a binomial interval, which covers the truth by luck.

use crate::stats::estimate::{Estimate, Interval, Level};
use crate::stats::hajek::kish;
use crate::stats::refusal::{Refusal, at_least, finite, positive};
use serde::Serialize;

/// Labels below which a rate is shown as "uncorrected".
pub const LABELS_MIN: usize = 30;
/// Labels below which a stratum takes lam from all strata.
pub const LABELS_PER_STRATUM_MIN: usize = 20;

/// Wilson's interval adds z^2/4n^2 to the variance of a share; y - lam f has up to twice the range of a share. With this
/// the interval covers at 100 labels from pass rates of .7 to .98 (tests); at .98 a hundred labels show two or three errors
/// or none.
const UNSEEN: f64 = 0.4;

/// How much of the judge's score is used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Lambda {
    /// What makes the interval shortest, cut to [0,1].
    #[default]
    Tuned,
    /// What makes the interval shortest, also outside of [0,1].
    Unclipped,
    /// This much: 0 for labels alone, 1 for the judge in full.
    Fixed(f64),
}

/// What a variance is divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Spread {
    /// n - 1.
    #[default]
    Sample,
    /// n.
    Population,
}

impl Spread {
    /// What a mean square is multiplied by.
    pub(crate) fn factor(self, n: f64) -> f64 {
        match self {
            Self::Sample => n / (n - 1.0),
            Self::Population => 1.0,
        }
    }
}

/// How an estimate is made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Method {
    /// How much of the judge's score is used.
    pub lambda: Lambda,
    /// What a variance is divided by.
    pub spread: Spread,
}

/// A judged trace that a person labelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// What the person says.
    pub label: f64,
    /// What the judge or panel says; P(pass) is better than a verdict.
    pub judged: f64,
    /// How many traces it stands for, on any scale.
    pub weight: f64,
}

/// A judged trace without a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// What the judge or panel says.
    pub judged: f64,
    /// How many traces it stands for, on any scale.
    pub weight: f64,
}

/// A corrected mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Corrected {
    /// The mean that people would give, with its standard error.
    pub estimate: Estimate,
    /// How much of the judge's score was used; of several strata their mean by size.
    pub lambda: f64,
    /// Labels it rests on.
    pub labels: usize,
    /// The part of the variance that more labels make smaller; the rest takes more judged traces.
    pub label_variance: f64,
    /// What one label is of the estimate, squared: 1/n^2 for n that count the same.
    pub one_label: f64,
}

impl Corrected {
    /// Whether there are enough labels to show it; else the rate is "uncorrected".
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.labels >= LABELS_MIN
    }

    /// The interval to show, of scores in [0,1]: by Student's t, since the variance itself is known from the labels only,
    /// and with room for errors of the judge that too few labels have not shown yet.
    #[must_use]
    pub fn rate_interval(&self, level: Level) -> Interval {
        let freedom = (self.labels as f64 - 1.0).max(1.0);
        let variance = self.estimate.standard_error.powi(2) + self.unseen_variance(level);
        Interval::around(self.estimate.value, level.t(freedom) * variance.sqrt()).within(0.0, 1.0)
    }

    /// What is added to the variance for errors of the judge that no label has shown: [`UNSEEN`] z^2/n^2.
    pub(crate) fn unseen_variance(&self, level: Level) -> f64 {
        UNSEEN * level.z().powi(2) * self.one_label
    }
}

/// Corrects the mean of judged traces by labelled ones.
///
/// # Errors
/// With fewer than two of either, when a value is not finite or a weight not positive.
pub fn mean(labelled: &[Labelled], judged: &[Judged], method: Method) -> Result<Corrected, Refusal> {
    let part = Part::of(labelled, judged)?;
    let lambda = part.lambda(method);
    Ok(part.corrected(lambda, method))
}

/// A stratum: its share of the population (on any scale), its labelled and its other judged traces.
#[derive(Debug, Clone, Copy)]
pub struct Stratum<'a> {
    /// Traces in it, on any scale common to all strata.
    pub size: f64,
    /// Labelled ones.
    pub labelled: &'a [Labelled],
    /// Judged ones without a label.
    pub judged: &'a [Judged],
}

/// Corrects stratum by stratum. A stratum with fewer labels than `labels_min` takes lam from all strata together;
/// [`LABELS_PER_STRATUM_MIN`] is the usual bound.
///
/// # Errors
/// As for [`mean`] for any stratum, without strata, and when a size is not positive.
pub fn stratified(strata: &[Stratum], labels_min: usize, method: Method) -> Result<Corrected, Refusal> {
    at_least("strata", strata.len(), 1)?;
    for (at, stratum) in strata.iter().enumerate() {
        positive("size of stratum", at, stratum.size)?;
    }
    let parts: Vec<Part> = strata.iter().map(|s| Part::of(s.labelled, s.judged)).collect::<Result<_, _>>()?;
    let all: (Vec<Labelled>, Vec<Judged>) = (
        strata.iter().flat_map(|s| s.labelled).copied().collect(),
        strata.iter().flat_map(|s| s.judged).copied().collect(),
    );
    let pooled = Part::of(&all.0, &all.1)?.lambda(method);
    let shares = strata.iter().map(|s| s.size);
    let corrected = strata.iter().zip(&parts).map(|(stratum, part)| {
        let lambda = if stratum.labelled.len() < labels_min { pooled } else { part.lambda(method) };
        part.corrected(lambda, method)
    });
    Ok(combined(shares.zip(corrected)))
}

/// The mean over strata of given sizes.
pub(crate) fn combined(parts: impl Iterator<Item = (f64, Corrected)>) -> Corrected {
    let parts: Vec<(f64, Corrected)> = parts.collect();
    let total: f64 = parts.iter().map(|(size, _)| size).sum();
    let sum = |f: &dyn Fn(f64, &Corrected) -> f64| parts.iter().map(|(size, c)| f(size / total, c)).sum::<f64>();
    let variance = sum(&|share, c| (share * c.estimate.standard_error).powi(2));
    Corrected {
        estimate: Estimate { value: sum(&|share, c| share * c.estimate.value), standard_error: variance.sqrt() },
        lambda: sum(&|share, c| share * c.lambda),
        labels: parts.iter().map(|(_, c)| c.labels).sum(),
        label_variance: sum(&|share, c| share * share * c.label_variance),
        one_label: sum(&|share, c| share * share * c.one_label),
    }
}

/// Whole sessions or users that were labelled or not, each by its mean: `(session, label, judged)` and `(session, judged)`.
///
/// # Errors
/// As for [`mean`] with sessions for traces, and when a session is in both.
pub fn clustered(labelled: &[(u64, f64, f64)], judged: &[(u64, f64)], method: Method) -> Result<Corrected, Refusal> {
    use std::collections::BTreeMap;
    let mut known: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    for (session, label, score) in labelled {
        let sums = known.entry(*session).or_default();
        *sums = (sums.0 + 1.0, sums.1 + label, sums.2 + score);
    }
    let mut open: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for (session, score) in judged {
        let sums = open.entry(*session).or_default();
        *sums = (sums.0 + 1.0, sums.1 + score);
    }
    if open.keys().any(|session| known.contains_key(session)) {
        let why = "a session is labelled in part: label all of it or nothing";
        return Err(Refusal::Undefined { what: "the mean over sessions", why });
    }
    let known: Vec<Labelled> =
        known.into_values().map(|(n, y, f)| Labelled { label: y / n, judged: f / n, weight: 1.0 }).collect();
    let open: Vec<Judged> = open.into_values().map(|(n, f)| Judged { judged: f / n, weight: 1.0 }).collect();
    mean(&known, &open, method)
}

/// Labelled and judged traces with weights of mean 1.
struct Part {
    label: Vec<f64>,
    judged: Vec<f64>,
    weight: Vec<f64>,
    pool: Vec<f64>,
    pool_weight: Vec<f64>,
}

impl Part {
    fn of(labelled: &[Labelled], judged: &[Judged]) -> Result<Self, Refusal> {
        at_least("labels", labelled.len(), 2)?;
        at_least("judged traces without a label", judged.len(), 2)?;
        for (at, item) in labelled.iter().enumerate() {
            finite("label", at, item.label)?;
            finite("score of a labelled trace", at, item.judged)?;
            positive("weight of a labelled trace", at, item.weight)?;
        }
        for (at, item) in judged.iter().enumerate() {
            finite("score", at, item.judged)?;
            positive("weight", at, item.weight)?;
        }
        Ok(Self {
            label: labelled.iter().map(|i| i.label).collect(),
            judged: labelled.iter().map(|i| i.judged).collect(),
            weight: of_mean_one(labelled.iter().map(|i| i.weight)),
            pool: judged.iter().map(|i| i.judged).collect(),
            pool_weight: of_mean_one(judged.iter().map(|i| i.weight)),
        })
    }

    /// The lam that makes the variance smallest, with the variance of f from all traces.
    fn lambda(&self, method: Method) -> f64 {
        if let Lambda::Fixed(lambda) = method.lambda {
            return lambda;
        }
        // Weighted gradients of the loss at the estimate with lam = 1; without weights where they are centred does not
        // matter.
        let at = self.point(1.0);
        let gradient = |values: &[f64], weights: &[f64]| -> Vec<f64> {
            values.iter().zip(weights).map(|(v, w)| w * (v - at)).collect()
        };
        let (y, f) = (gradient(&self.label, &self.weight), gradient(&self.judged, &self.weight));
        let (n, pool) = (y.len() as f64, self.pool.len() as f64);
        let covariance = mean_product(&y, &f) * method.spread.factor(n);
        let all = [f, gradient(&self.pool, &self.pool_weight)].concat();
        let variance = mean_product(&all, &all) * Spread::Sample.factor(all.len() as f64);
        let lambda = if variance > 0.0 { covariance / ((1.0 + n / pool) * variance) } else { 0.0 };
        if method.lambda == Lambda::Unclipped { lambda } else { lambda.clamp(0.0, 1.0) }
    }

    fn point(&self, lambda: f64) -> f64 {
        average(&self.pool_part(lambda)) + average(&self.rectifier(lambda))
    }

    fn pool_part(&self, lambda: f64) -> Vec<f64> {
        self.pool.iter().zip(&self.pool_weight).map(|(f, w)| w * lambda * f).collect()
    }

    fn rectifier(&self, lambda: f64) -> Vec<f64> {
        let items = self.label.iter().zip(&self.judged).zip(&self.weight);
        items.map(|((y, f), w)| w * (y - lambda * f)).collect()
    }

    fn corrected(&self, lambda: f64, method: Method) -> Corrected {
        let of_mean = |values: &[f64]| {
            let n = values.len() as f64;
            mean_product(values, values) * method.spread.factor(n) / n
        };
        let (pool, label_variance) = (of_mean(&self.pool_part(lambda)), of_mean(&self.rectifier(lambda)));
        let estimate = Estimate { value: self.point(lambda), standard_error: (pool + label_variance).sqrt() };
        let one_label = kish(&self.weight).powi(-2);
        Corrected { estimate, lambda, labels: self.label.len(), label_variance, one_label }
    }
}

fn of_mean_one(weights: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let (n, sum) = weights.clone().fold((0.0, 0.0), |(n, sum), w| (n + 1.0, sum + w));
    weights.map(|w| w * n / sum).collect()
}

pub(crate) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of products of deviations from the means.
fn mean_product(a: &[f64], b: &[f64]) -> f64 {
    let (a_mean, b_mean) = (average(a), average(b));
    a.iter().zip(b).map(|(x, y)| (x - a_mean) * (y - b_mean)).sum::<f64>() / a.len() as f64
}

#[cfg(test)]
#[path = "ppi/tests.rs"]
mod tests;
