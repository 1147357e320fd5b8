//! Fits the coefficients of `checks::grounding` and writes them to `src/checks/grounding/coefficients.json`.
//!
//! `make fit-grounding`. Logistic regression with a ridge penalty, the signs that `features::NAMES` permits, each data set and each
//! label in it with the same weight, by accelerated projected gradient. Deterministic: the folds are by a hash of the context. It prints what
//! the same fit gives on sets (leave one family out) and on contexts (five folds) that it has not seen, which are the figures to believe;
//! docs/accuracy.md measures on the data fitted. `halueval_qa` takes no part: there the length of the answer tells the label.

#[path = "accuracy/data.rs"]
mod data;

use assize::checks::grounding::features::{COUNT, NAMES, SHAPES};
use assize::checks::grounding::{features_of, model::Coefficients};
use data::{Data, text};
use std::collections::BTreeMap;

const RIDGE: f64 = 0.005;
const CENTRED: f64 = 0.3;
/// Margins are stretched by this: the penalty shrinks them, and a faithful copy shall score near 1. Changes neither ranks nor decisions.
const STRETCH: f64 = 2.2;
const STEPS: usize = 1500;
const FOLDS: u64 = 5;
const LEFT_OUT: &str = "halueval_qa";

struct Item {
    family: String,
    good: bool,
    fold: u64,
    features: [f64; COUNT],
}

struct Fit {
    weights: [f64; COUNT],
    intercept: f64,
}

impl Fit {
    fn margin(&self, item: &Item) -> f64 {
        self.intercept + self.weights.iter().zip(&item.features).map(|(w, x)| w * x).sum::<f64>()
    }
}

fn main() {
    let items = match read(&Data::find()) {
        Ok(items) => items,
        Err(why) => return println!("fit-grounding: skipped: {why}"),
    };
    let families: Vec<String> =
        items.iter().map(|i| i.family.clone()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let unseen = |part: &dyn Fn(&Item) -> bool| -> Vec<(usize, f64)> {
        let train: Vec<&Item> = items.iter().filter(|i| !part(i)).collect();
        let fit = fit(&train);
        items.iter().enumerate().filter(|(_, i)| part(i)).map(|(n, i)| (n, fit.margin(i))).collect()
    };
    let folds: Vec<(usize, f64)> = (0..FOLDS).flat_map(|k| unseen(&|i: &Item| i.fold == k)).collect();
    let (_, by_context) = report("five folds by context", &items, &folds);
    let left_out: Vec<(usize, f64)> = families.iter().flat_map(|f| unseen(&|i: &Item| &i.family == f)).collect();
    let (_, by_family) = report("leave one family out", &items, &left_out);
    let all: Vec<&Item> = items.iter().collect();
    let fit = fit(&all);
    let margins: Vec<(usize, f64)> = items.iter().enumerate().map(|(n, i)| (n, fit.margin(i))).collect();
    let (threshold, _) = report("on the data fitted", &items, &margins);
    let held_out = [("contexts (five folds)", by_context), ("whole data sets (leave one out)", by_family)];
    write(&fit, threshold, &families, &held_out);
}

fn read(data: &Data) -> Result<Vec<Item>, String> {
    let lines = data.lines("faithfulness.jsonl")?;
    let item = |line: &serde_json::Value| {
        let context = text(line, "context");
        let features = features_of(context, text(line, "question"), text(line, "answer"))?;
        // FNV-1a of the context: items of one source stay together.
        let hash =
            context.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let set = text(line, "dataset");
        let family = if set.starts_with("summedits") { "summedits" } else { set }.to_owned();
        Some(Item { family, good: line["label"] == 1, fold: (hash >> 32) % FOLDS, features })
    };
    Ok(lines.iter().filter(|line| text(line, "dataset") != LEFT_OUT).filter_map(item).collect())
}

/// Each family weighs the same, and in it each label.
fn weights(items: &[&Item]) -> Vec<f64> {
    let mut counts: BTreeMap<(&str, bool), f64> = BTreeMap::new();
    for item in items {
        *counts.entry((&item.family, item.good)).or_default() += 1.0;
    }
    let raw: Vec<f64> = items.iter().map(|i| 1.0 / counts[&(i.family.as_str(), i.good)]).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

fn fit(items: &[&Item]) -> Fit {
    let weights = weights(items);
    let mut mean = [0.0; COUNT];
    let mut scale = [0.0; COUNT];
    for (item, w) in items.iter().zip(&weights) {
        for (sum, x) in mean.iter_mut().zip(&item.features) {
            *sum += w * x;
        }
    }
    for (item, w) in items.iter().zip(&weights) {
        for ((sum, x), m) in scale.iter_mut().zip(&item.features).zip(&mean) {
            *sum += w * (x - m).powi(2);
        }
    }
    let scale = scale.map(|s| s.sqrt().max(1e-9));
    let mut rows: Vec<[f64; COUNT]> =
        items.iter().map(|i| std::array::from_fn(|k| (i.features[k] - mean[k]) / scale[k])).collect();
    centre(items, &weights, &mut rows);
    let (standard, base) = descend(items, &weights, &rows);
    let raw: [f64; COUNT] = std::array::from_fn(|k| standard[k] / scale[k]);
    let shift: f64 = raw.iter().zip(&mean).map(|(w, m)| w * m).sum();
    Fit { weights: raw, intercept: base - shift }
}

/// Takes a part of each family's own mean out: what tells sets apart is not what tells true from false. Shapes keep theirs:
/// they are there to level the sets.
fn centre(items: &[&Item], weights: &[f64], rows: &mut [[f64; COUNT]]) {
    let mut means: BTreeMap<&str, ([f64; COUNT], f64)> = BTreeMap::new();
    for ((item, w), row) in items.iter().zip(weights).zip(rows.iter()) {
        let entry = means.entry(&item.family).or_insert(([0.0; COUNT], 0.0));
        entry.1 += w;
        for (sum, x) in entry.0.iter_mut().zip(row) {
            *sum += w * x;
        }
    }
    for (item, row) in items.iter().zip(rows) {
        let (sum, weight) = &means[item.family.as_str()];
        for (x, sum) in row.iter_mut().zip(sum).take(COUNT - SHAPES) {
            *x -= CENTRED * sum / weight;
        }
    }
}

/// FISTA with a projection on the permitted signs; 0.25 times the trace bounds the curvature of the logistic loss.
fn descend(items: &[&Item], weights: &[f64], rows: &[[f64; COUNT]]) -> ([f64; COUNT], f64) {
    let step = 1.0 / (0.25 * (largest_eigenvalue(weights, rows) + 1.0) + 2.0 * RIDGE);
    let (mut at, mut ahead) = ([0.0; COUNT + 1], [0.0; COUNT + 1]);
    let mut momentum = 1.0_f64;
    for _ in 0..STEPS {
        let mut gradient = [0.0; COUNT + 1];
        for ((item, w), row) in items.iter().zip(weights).zip(rows) {
            let side = if item.good { 1.0 } else { -1.0 };
            let margin = side * (ahead[COUNT] + row.iter().zip(&ahead).map(|(x, b)| x * b).sum::<f64>());
            let pull = -side * w / (1.0 + margin.exp());
            for k in 0..COUNT {
                gradient[k] += pull * row[k];
            }
            gradient[COUNT] += pull;
        }
        let mut next = [0.0; COUNT + 1];
        for k in 0..=COUNT {
            let ridge = if k < COUNT { 2.0 * RIDGE * ahead[k] } else { 0.0 };
            let moved = ahead[k] - step * (gradient[k] + ridge);
            next[k] = match NAMES.get(k).map_or(0, |n| n.1) {
                1 => moved.max(0.0),
                -1 => moved.min(0.0),
                _ => moved,
            };
        }
        let faster = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        for k in 0..=COUNT {
            ahead[k] = next[k] + (momentum - 1.0) / faster * (next[k] - at[k]);
        }
        (at, momentum) = (next, faster);
    }
    (std::array::from_fn(|k| at[k]), at[COUNT])
}

/// Of the weighted covariance, by power iteration.
fn largest_eigenvalue(weights: &[f64], rows: &[[f64; COUNT]]) -> f64 {
    let mut v = [1.0; COUNT];
    let mut value = 1.0;
    for _ in 0..30 {
        let mut next = [0.0; COUNT];
        for (w, row) in weights.iter().zip(rows) {
            let along: f64 = row.iter().zip(&v).map(|(x, y)| x * y).sum();
            for k in 0..COUNT {
                next[k] += w * along * row[k];
            }
        }
        value = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        v = next.map(|x| x / value);
    }
    value * 1.05
}

/// Prints the AUC of each family, the mean, and the balanced accuracy at the best single threshold. Returns that threshold, and both means.
fn report(what: &str, items: &[Item], margins: &[(usize, f64)]) -> (f64, [f64; 2]) {
    let mut by_family: BTreeMap<&str, Vec<(f64, bool)>> = BTreeMap::new();
    for (n, margin) in margins {
        by_family.entry(&items[*n].family).or_default().push((*margin, items[*n].good));
    }
    let aucs: BTreeMap<&str, f64> = by_family.iter().map(|(f, scored)| (*f, auc(scored))).collect();
    let mut all: Vec<f64> = margins.iter().map(|m| m.1).collect();
    all.sort_unstable_by(f64::total_cmp);
    let tries: Vec<f64> = (5..95).map(|percent| all[all.len() * percent / 100]).collect();
    let at: Vec<f64> = tries
        .iter()
        .map(|t| by_family.values().map(|s| balanced(s, *t)).sum::<f64>() / by_family.len() as f64)
        .collect();
    // The middle of the best stretch rather than its highest point, which is chance.
    let smooth = |n: usize| at[n.saturating_sub(3)..(n + 4).min(at.len())].iter().sum::<f64>() / 7.0;
    let best = (3..at.len() - 3).max_by(|a, b| smooth(*a).total_cmp(&smooth(*b))).unwrap_or(at.len() / 2);
    let mean = aucs.values().sum::<f64>() / aucs.len() as f64;
    println!("\n{what}: macro AUC {mean:.4}, macro balanced accuracy {:.4} at one threshold", at[best]);
    for (family, value) in &aucs {
        print!("{family} {value:.3}  ");
    }
    println!();
    (tries[best], [mean, at[best]])
}

fn auc(scored: &[(f64, bool)]) -> f64 {
    let of = |label: bool| scored.iter().filter(move |s| s.1 == label).map(|s| s.0);
    let win = |good: f64, bad: f64| match good.total_cmp(&bad) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let wins: f64 = of(true).map(|good| of(false).map(|bad| win(good, bad)).sum::<f64>()).sum();
    wins / (of(true).count() * of(false).count()) as f64
}

fn balanced(scored: &[(f64, bool)], threshold: f64) -> f64 {
    let rate = |label: bool| {
        let of: Vec<_> = scored.iter().filter(|s| s.1 == label).collect();
        of.iter().filter(|s| (s.0 >= threshold) == label).count() as f64 / of.len() as f64
    };
    f64::midpoint(rate(true), rate(false))
}

fn write(fit: &Fit, threshold: f64, families: &[String], held_out: &[(&str, [f64; 2])]) {
    let rounded = |x: f64| (x * 1e5).round() / 1e5;
    let weights = NAMES.iter().zip(fit.weights).filter(|(_, w)| w.abs() >= 1e-4);
    let file = Coefficients {
        command: "make fit-grounding".to_owned(),
        date: chrono::Local::now().format("%Y-%m-%d").to_string(),
        data: families.to_vec(),
        ridge: RIDGE,
        centred: CENTRED,
        held_out: held_out.iter().map(|(what, figures)| ((*what).to_owned(), figures.map(rounded))).collect(),
        intercept: rounded(STRETCH * (fit.intercept - threshold)),
        weights: weights.map(|((name, _), w)| ((*name).to_owned(), rounded(STRETCH * w))).collect(),
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checks/grounding/coefficients.json");
    let text = serde_json::to_string_pretty(&file).expect("plain data") + "\n";
    match std::fs::write(path, text) {
        Ok(()) => println!("\nfit-grounding: wrote src/checks/grounding/coefficients.json"),
        Err(error) => println!("\nfit-grounding: cannot write the coefficients: {error}"),
    }
}
