//! Fits the coefficients of `checks::prompt_injection` on the labelled data and writes `src/checks/prompt_injection/coefficients.txt`.
//!
//! `cargo bench --bench fit_injection`. Its rule: ridge logistic regression by Newton's method, nothing drawn: folds are a hash of
//! the source, so the same data give the same file. The intercept is then moved so that, on held-out folds, the share of benign
//! texts above one half is what `FALSE_POSITIVES` says. Data as for `benches/accuracy.rs`. The way not taken: a model of every word,
//! which learns who wrote a data set.

#[path = "accuracy/data.rs"]
mod data;

use assize::checks::prompt_injection::{COUNT, NAMES, Weights, direct, indirect, probability};
use assize::domain::ids::short_hash;
use data::{Data, text};
use serde_json::json;
use std::fmt::Write;

/// Strength of the ridge: half of this times the squared length of the coefficients is added to the loss.
const RIDGE: f64 = 2.0;
const FOLDS: usize = 10;
/// Share of benign texts above one half, in held-out folds: of users' texts, of documents.
const FALSE_POSITIVES: [f64; 2] = [0.025, 0.03];

struct Item {
    values: [f64; COUNT],
    attack: bool,
    fold: usize,
}

fn main() {
    let lines = match Data::find().lines("injection.jsonl") {
        Ok(lines) => lines,
        Err(why) => {
            println!("fit_injection skipped: {why}");
            println!("{}", json!({"bench": "fit_injection", "skipped": why}));
            return;
        }
    };
    let mut sides: [Vec<Item>; 2] = [Vec::new(), Vec::new()];
    for line in &lines {
        let document = text(line, "dataset") == "bipia";
        let body = text(line, "text");
        let values = if document { indirect(body) } else { direct(body) };
        // A document is one source with and without an attack in it.
        let source = text(line, "id").trim_end_matches(|c: char| c.is_ascii_lowercase() || c == '-');
        let hash = short_hash(&[source.as_bytes()], 8);
        let fold = usize::from_str_radix(&hash, 16).unwrap_or_default() % FOLDS;
        sides[usize::from(document)].push(Item { values, attack: line["label"] == 1, fold });
    }
    let mut models = Vec::new();
    let mut figures = Vec::new();
    let mut held_out = Vec::new();
    for (items, limit) in sides.iter().zip(FALSE_POSITIVES) {
        let (shift, recall) = cross_validate(items, limit);
        let mut weights = fit(&items.iter().collect::<Vec<_>>());
        weights[0] += shift;
        println!("{} texts, recall {recall:.3} at {limit} false positives in held-out folds", items.len());
        held_out.push(format!("recall {recall:.3} at {limit} false positives in {} texts", items.len()));
        figures.push(json!({"texts": items.len(), "recall": recall, "false_positives": limit}));
        models.push(weights);
    }
    write(&models, &held_out);
    println!("{}", json!({"bench": "fit_injection", "models": figures}));
}

/// How far the intercept must move, and the recall there, both in folds that the model has not seen.
fn cross_validate(items: &[Item], limit: f64) -> (f64, f64) {
    let (mut benign, mut attacks) = (Vec::new(), Vec::new());
    for fold in 0..FOLDS {
        let rest: Vec<&Item> = items.iter().filter(|item| item.fold != fold).collect();
        let weights = fit(&rest);
        for item in items.iter().filter(|item| item.fold == fold) {
            let p = probability(&item.values, &weights).clamp(1e-9, 1.0 - 1e-9);
            let odds = (p / (1.0 - p)).ln();
            if item.attack { attacks.push(odds) } else { benign.push(odds) }
        }
    }
    benign.sort_by(|a, b| b.total_cmp(a));
    let allowed = benign.len() as f64 * limit;
    let mark = benign.iter().enumerate().find(|(n, _)| *n as f64 + 1.0 > allowed).map_or(0.0, |(_, odds)| *odds);
    let found = attacks.iter().filter(|odds| **odds > mark).count();
    // A hair above the last benign text that must not be flagged.
    (-mark - 1e-6, found as f64 / attacks.len().max(1) as f64)
}

/// Newton's method; twenty steps are more than it needs.
fn fit(items: &[&Item]) -> Weights {
    let mut weights = [0.0; COUNT + 1];
    for _ in 0..20 {
        let mut gradient = [0.0; COUNT + 1];
        let mut hessian = [[0.0; COUNT + 1]; COUNT + 1];
        for item in items {
            let p = probability(&item.values, &weights);
            let wrong = p - f64::from(u8::from(item.attack));
            let x = |n: usize| if n == 0 { 1.0 } else { item.values[n - 1] };
            for a in 0..=COUNT {
                gradient[a] += wrong * x(a);
                for (b, cell) in hessian[a].iter_mut().enumerate() {
                    *cell += p * (1.0 - p) * x(a) * x(b);
                }
            }
        }
        for n in 1..=COUNT {
            gradient[n] += RIDGE * weights[n];
            hessian[n][n] += RIDGE;
        }
        hessian[0][0] += 1e-9;
        let step = solve(hessian, gradient);
        weights.iter_mut().zip(step).for_each(|(weight, step)| *weight -= step);
    }
    weights
}

/// Gauss's elimination with row exchange; the matrix is positive definite.
fn solve(mut matrix: [[f64; COUNT + 1]; COUNT + 1], mut right: Weights) -> Weights {
    for column in 0..=COUNT {
        let pivot = (column..=COUNT)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))
            .unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let row = matrix[column];
        for below in column + 1..=COUNT {
            let factor = matrix[below][column] / row[column];
            matrix[below].iter_mut().zip(row).for_each(|(cell, above)| *cell -= factor * above);
            right[below] -= factor * right[column];
        }
    }
    for column in (0..=COUNT).rev() {
        let known: f64 = (column + 1..=COUNT).map(|n| matrix[column][n] * right[n]).sum();
        right[column] = (right[column] - known) / matrix[column][column];
    }
    right
}

fn write(models: &[Weights], held_out: &[String]) {
    let mut out = String::from(
        "# Coefficients of the two logistic models, written by `cargo bench --bench fit_injection`: feature, users' texts, documents.\n",
    );
    // Writing to a String cannot fail.
    for (whose, found) in ["users' texts", "documents"].iter().zip(held_out) {
        let _ = writeln!(out, "# held out: injection, {whose}: {found}");
    }
    for (n, name) in std::iter::once("intercept").chain(NAMES).enumerate() {
        let _ = writeln!(out, "{name} {:.4} {:.4}", models[0][n], models[1][n]);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checks/prompt_injection/coefficients.txt");
    if let Err(error) = std::fs::write(path, out) {
        println!("the coefficients cannot be written: {error}");
    }
}
