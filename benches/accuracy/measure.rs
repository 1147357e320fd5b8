//! From scored items to figures: AUC, balanced accuracy and the like at one threshold, with bootstrap intervals by source.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const RESAMPLES: usize = 1000;
const SEED: u64 = 20_261_121;

/// One item that a check has judged. Positive means that the problem is there.
pub struct Item {
    /// The data set it is from.
    pub set: String,
    /// What it shares with its likes (prompt, context, template); sources are resampled, not items.
    pub source: String,
    /// The label: the problem is there.
    pub bad: bool,
    /// The check's score, 1 = good; 1 also where it says that it does not apply.
    pub score: f64,
    /// The check's own decision at its shipped threshold.
    pub flagged: bool,
}

/// The figures of some items; those that a one-sided set cannot have are NaN.
#[derive(Clone, Copy)]
pub struct Figures {
    /// Probability that a bad item scores below a good one, ties half.
    pub auc: f64,
    /// Mean of recall and specificity.
    pub balanced: f64,
    /// Of the flagged, the bad ones.
    pub precision: f64,
    /// Of the bad, the flagged ones.
    pub recall: f64,
    /// Of the good, the flagged ones.
    pub false_rate: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Right decisions.
    pub accuracy: f64,
}

/// Names of the figures, in their order.
pub const NAMES: [&str; 7] = ["auc", "balanced", "precision", "recall", "false_rate", "f1", "accuracy"];

impl Figures {
    /// In the order of [`NAMES`].
    pub fn all(&self) -> [f64; 7] {
        [self.auc, self.balanced, self.precision, self.recall, self.false_rate, self.f1, self.accuracy]
    }

    fn from_all(x: [f64; 7]) -> Self {
        Self { auc: x[0], balanced: x[1], precision: x[2], recall: x[3], false_rate: x[4], f1: x[5], accuracy: x[6] }
    }
}

/// One row of a table: a set, all sets pooled, or their mean.
pub struct Row {
    /// The set's name.
    pub name: String,
    /// Items.
    pub n: usize,
    /// Bad ones among them.
    pub bad: usize,
    /// Sources.
    pub sources: usize,
    /// The figures.
    pub at: Figures,
    /// 2.5 % and 97.5 % of the resampled figures, in the order of [`NAMES`].
    pub interval: [(f64, f64); 7],
}

/// A row for each set, then `pooled` and `macro`; sets of `apart` have rows, but count in neither.
pub fn rows(items: &[Item], apart: &[&str]) -> Vec<Row> {
    let mut sets: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items {
        sets.entry(&item.set).or_default().push(item);
    }
    let mut rows = Vec::new();
    let mut draws_of_all: Vec<Vec<Figures>> = Vec::new();
    let mut counted: Vec<&Item> = Vec::new();
    for (name, of_set) in &sets {
        let (row, draws) = row(name, of_set);
        rows.push(row);
        if !apart.contains(name) {
            draws_of_all.push(draws);
            counted.extend(of_set);
        }
    }
    if sets.len() > 1 {
        let (pooled, _) = row("pooled", &counted);
        let kept: Vec<Figures> = rows.iter().filter(|r| !apart.contains(&r.name.as_str())).map(|r| r.at).collect();
        let means: Vec<Figures> = (0..RESAMPLES)
            .map(|draw| mean(&draws_of_all.iter().map(|draws| draws[draw]).collect::<Vec<_>>()))
            .collect();
        let average = Row {
            name: "macro".to_owned(),
            n: pooled.n,
            bad: pooled.bad,
            sources: pooled.sources,
            at: mean(&kept),
            interval: interval(&means),
        };
        rows.extend([pooled, average]);
    }
    rows
}

fn row(name: &str, items: &[&Item]) -> (Row, Vec<Figures>) {
    let mut by_source: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items {
        by_source.entry(&item.source).or_default().push(item);
    }
    let sources: Vec<Vec<&Item>> = by_source.into_values().collect();
    let mut rng = StdRng::seed_from_u64(SEED);
    let draws: Vec<Figures> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<&Item> =
                (0..sources.len()).flat_map(|_| sources[rng.random_range(0..sources.len())].iter().copied()).collect();
            figures(&drawn)
        })
        .collect();
    let row = Row {
        name: name.to_owned(),
        n: items.len(),
        bad: items.iter().filter(|i| i.bad).count(),
        sources: sources.len(),
        at: figures(items),
        interval: interval(&draws),
    };
    (row, draws)
}

fn figures(items: &[&Item]) -> Figures {
    let count = |bad: bool, flagged: bool| items.iter().filter(|i| i.bad == bad && i.flagged == flagged).count() as f64;
    let (hit, missed, falsely, rightly) =
        (count(true, true), count(true, false), count(false, true), count(false, false));
    let (recall, false_rate) = (hit / (hit + missed), falsely / (falsely + rightly));
    Figures {
        auc: auc(items),
        balanced: f64::midpoint(recall, 1.0 - false_rate),
        precision: hit / (hit + falsely),
        recall,
        false_rate,
        f1: 2.0 * hit / (2.0 * hit + falsely + missed),
        accuracy: (hit + rightly) / items.len() as f64,
    }
}

/// By ranks (Mann-Whitney), with the mean rank for ties.
fn auc(items: &[&Item]) -> f64 {
    let mut order: Vec<(f64, bool)> = items.iter().map(|i| (i.score, i.bad)).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let bad = order.iter().filter(|o| o.1).count() as f64;
    let good = order.len() as f64 - bad;
    let mut ranks_of_good = 0.0;
    let mut start = 0;
    while start < order.len() {
        let end = start + order[start..].iter().take_while(|o| o.0 <= order[start].0).count();
        let rank = (start + end + 1) as f64 / 2.0;
        ranks_of_good += rank * order[start..end].iter().filter(|o| !o.1).count() as f64;
        start = end;
    }
    (ranks_of_good - good * (good + 1.0) / 2.0) / (good * bad)
}

/// The mean of each figure over the sets that have it.
fn mean(of: &[Figures]) -> Figures {
    let mut out = [0.0; 7];
    for (n, slot) in out.iter_mut().enumerate() {
        let known: Vec<f64> = of.iter().map(|f| f.all()[n]).filter(|x| x.is_finite()).collect();
        *slot = known.iter().sum::<f64>() / known.len() as f64;
    }
    Figures::from_all(out)
}

fn interval(draws: &[Figures]) -> [(f64, f64); 7] {
    let mut out = [(f64::NAN, f64::NAN); 7];
    for (n, slot) in out.iter_mut().enumerate() {
        let mut known: Vec<f64> = draws.iter().map(|f| f.all()[n]).filter(|x| x.is_finite()).collect();
        known.sort_unstable_by(f64::total_cmp);
        if let Some(last) = known.len().checked_sub(1) {
            *slot = (known[last * 25 / 1000], known[last * 975 / 1000]);
        }
    }
    out
}
