//! The pass rate that people would give, when each trace had its own chance to be judged and, of those, its own to be
//! labelled.
//!
//! The default correction: it takes labels asked for where the panel is unsure (`stats::choice`). With w_i = 1/pi_i, xi_i =
//! labelled, piL_i its probability: r_i = lam f_i + xi_i (y_i - lam f_i)/piL_i, theta = sum w r / sum w, var = sum w^2 (r -
//! theta)^2 / (sum w)^2, lam = Cov(a,b)/Var(b) with a = xi y/piL, b = f (xi/piL - 1), moments weighted by w^2 (Zrnic &
//! Candès, Active statistical inference, 2024, with Hájek's weights). Its rule: a probability was fixed before the label,
//! and one without a known probability is not used here. The way not taken: the mean over labels that were picked because
//! they are hard.

use crate::stats::estimate::Estimate;
use crate::stats::hajek::kish;
use crate::stats::ppi::{Corrected, Lambda, Method, combined};
use crate::stats::refusal::{Refusal, at_least, finite, inclusion, positive, same_length};
use std::collections::BTreeMap;

/// A judged trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// How many traces it stands for: one over its probability to be sampled, on any scale.
    pub weight: f64,
    /// What the judge or panel says; P(pass) is better than a verdict.
    pub judged: f64,
    /// What a person says, if asked.
    pub label: Option<f64>,
    /// The probability with which a person was to be asked: above 0, and below 1 when there is no label.
    pub label_probability: f64,
}

/// Corrects the mean of judged traces.
///
/// # Errors
/// With fewer than two labels, for values that are not finite, weights that are not positive, probabilities that are not
/// above 0 and at most 1, and for a trace without a label that was sure to get one: a person who did not answer is no
/// chance.
pub fn mean(items: &[Item], method: Method) -> Result<Corrected, Refusal> {
    mean_counted(&each(items), method)
}

/// The same of items with how many there are of each: what is not labelled is often alike, and memory then goes with the kinds.
///
/// # Errors
/// As for [`mean`].
pub fn mean_counted(items: &[(Item, u64)], method: Method) -> Result<Corrected, Refusal> {
    checked(items)?;
    Ok(corrected(items, tuned(items, method), None, method))
}

fn each(items: &[Item]) -> Vec<(Item, u64)> {
    items.iter().map(|item| (*item, 1)).collect()
}

/// The mean by size of strata `(N_s, items)`. A stratum with fewer labels than `labels_min` takes lam from all together.
///
/// # Errors
/// As for [`mean`] for each stratum, without strata, and when a size is not positive.
pub fn stratified(strata: &[(f64, &[Item])], labels_min: usize, method: Method) -> Result<Corrected, Refusal> {
    at_least("strata", strata.len(), 1)?;
    for (at, (size, items)) in strata.iter().enumerate() {
        positive("size of stratum", at, *size)?;
        checked(&each(items))?;
    }
    let all: Vec<(Item, u64)> = strata.iter().flat_map(|(_, items)| each(items)).collect();
    let pooled = tuned(&all, method);
    let parts = strata.iter().map(|(size, items)| {
        let few = items.iter().filter(|i| i.label.is_some()).count() < labels_min;
        let items = each(items);
        let lambda = if few { pooled } else { tuned(&items, method) };
        (*size, corrected(&items, lambda, None, method))
    });
    Ok(combined(parts))
}

/// The same mean, with a variance that takes the items of a session or user together; `clusters` has one hash an item.
///
/// # Errors
/// As for [`mean`], when lengths differ, and with fewer than two clusters.
pub fn clustered(items: &[Item], clusters: &[u64], method: Method) -> Result<Corrected, Refusal> {
    same_length(("items", items.len()), ("clusters", clusters.len()))?;
    let items = each(items);
    checked(&items)?;
    let mut distinct = clusters.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    at_least("clusters", distinct.len(), 2)?;
    Ok(corrected(&items, tuned(&items, method), Some(clusters), method))
}

fn checked(items: &[(Item, u64)]) -> Result<(), Refusal> {
    for (at, (item, _)) in items.iter().enumerate() {
        positive("weight", at, item.weight)?;
        finite("score", at, item.judged)?;
        finite("label", at, item.label.unwrap_or_default())?;
        inclusion("label probability", at, item.label_probability)?;
        if item.label.is_none() && item.label_probability >= 1.0 {
            let what = "label probability of a trace without a label";
            return Err(Refusal::OutOfRange { what, at, value: item.label_probability, range: "below 1" });
        }
    }
    let labels: u64 = items.iter().filter(|(i, _)| i.label.is_some()).map(|(_, count)| count).sum();
    at_least("labels", usize::try_from(labels).unwrap_or(usize::MAX), 2)
}

impl Item {
    /// xi y / piL.
    fn inflated(&self) -> f64 {
        self.label.map_or(0.0, |y| y / self.label_probability)
    }

    /// f (xi/piL - 1): what the judge's part adds or takes; its mean is zero.
    fn contrast(&self) -> f64 {
        self.judged * (self.label.map_or(0.0, |_| 1.0 / self.label_probability) - 1.0)
    }
}

/// Each item's share of all weight.
fn shares(items: &[(Item, u64)]) -> Vec<f64> {
    let total: f64 = items.iter().map(|(i, count)| i.weight * *count as f64).sum();
    items.iter().map(|(i, _)| i.weight / total).collect()
}

fn tuned(items: &[(Item, u64)], method: Method) -> f64 {
    if let Lambda::Fixed(lambda) = method.lambda {
        return lambda;
    }
    let shares = shares(items);
    let mean = |f: fn(&Item) -> f64| items.iter().zip(&shares).map(|((i, n), w)| *n as f64 * w * f(i)).sum::<f64>();
    let (a_mean, b_mean) = (mean(Item::inflated), mean(Item::contrast));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for ((item, count), w) in items.iter().zip(&shares) {
        let (b, n) = (item.contrast() - b_mean, *count as f64);
        covariance += n * w * w * (item.inflated() - a_mean) * b;
        variance += n * w * w * b * b;
    }
    let lambda = if variance > 0.0 { covariance / variance } else { 0.0 };
    if method.lambda == Lambda::Unclipped { lambda } else { lambda.clamp(0.0, 1.0) }
}

fn corrected(items: &[(Item, u64)], lambda: f64, clusters: Option<&[u64]>, method: Method) -> Corrected {
    let shares = shares(items);
    let r: Vec<f64> = items.iter().map(|(i, _)| i.inflated() - lambda * i.contrast()).collect();
    let all = || items.iter().zip(&r).zip(&shares).map(|(((item, count), r), w)| (item, *count as f64, *r, *w));
    let value: f64 = all().map(|(_, n, r, w)| n * w * r).sum();
    let (squares, units) = match clusters {
        None => (all().map(|(_, n, r, w)| n * (w * (r - value)).powi(2)).sum::<f64>(), all().map(|(_, n, ..)| n).sum()),
        Some(clusters) => {
            let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
            for ((_, n, r, w), cluster) in all().zip(clusters) {
                *sums.entry(*cluster).or_default() += n * w * (r - value);
            }
            (sums.values().map(|u| u * u).sum(), sums.len() as f64)
        }
    };
    let variance = squares * method.spread.factor(units);
    // What chance in the labelling adds: it goes with one over the number of labels.
    let by_labels = all().filter_map(|(item, n, _, w)| {
        let (miss, p) = (item.label? - lambda * item.judged, item.label_probability);
        Some(n * (w * miss / p).powi(2) * (1.0 - p))
    });
    let labelled = items.iter().filter(|(i, _)| i.label.is_some());
    let of_labels: Vec<f64> = labelled
        .flat_map(|(i, n)| std::iter::repeat_n(i.weight / i.label_probability, usize::try_from(*n).unwrap_or_default()))
        .collect();
    Corrected {
        estimate: Estimate { value, standard_error: variance.sqrt() },
        lambda,
        labels: of_labels.len(),
        one_label: kish(&of_labels).powi(-2),
        label_variance: by_labels.sum::<f64>().min(variance),
    }
}

#[cfg(test)]
#[path = "active/tests.rs"]
mod tests;
