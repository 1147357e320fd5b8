//! Logistic regression over the features, with fixed coefficients.
//!
//! Called by `score`. Its rule: the coefficients are a checked-in file that `make fit-grounding` writes, with its date and the names of its data;
//! nothing is learned at run time. The way not taken: coefficients in code, which nobody could fit again.

use super::features::{COUNT, NAMES};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The file of coefficients.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficients {
    /// What wrote it.
    pub command: String,
    /// When, as YYYY-MM-DD.
    pub date: String,
    /// The labelled sets that it was fitted on.
    pub data: Vec<String>,
    /// Strength of the ridge penalty, for standardised features.
    pub ridge: f64,
    /// How much of each set's own mean was taken out of the features before fitting, 0 to 1.
    pub centred: f64,
    /// Macro AUC and macro balanced accuracy at one threshold, by what the fit had not seen; benches/accuracy.rs prints them.
    pub held_out: BTreeMap<String, [f64; 2]>,
    /// Chosen so that a score of 0.5 has the best balanced accuracy, as a mean over the sets.
    pub intercept: f64,
    /// By feature; those that are not named are 0.
    pub weights: BTreeMap<String, f64>,
}

struct Model {
    intercept: f64,
    weights: [f64; COUNT],
}

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let file: Coefficients =
        serde_json::from_str(include_str!("coefficients.json")).expect("the checked-in file is tested");
    let weights = NAMES.map(|(name, _)| file.weights.get(name).copied().unwrap_or(0.0));
    Model { intercept: file.intercept, weights }
});

/// The score of a vector: 1 = supported.
pub fn score(features: &[f64; COUNT]) -> f64 {
    let sum: f64 = MODEL.weights.iter().zip(features).map(|(w, x)| w * x).sum();
    1.0 / (1.0 + (-(MODEL.intercept + sum)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coefficients_are_of_these_features_and_keep_their_signs() {
        let file: Coefficients = serde_json::from_str(include_str!("coefficients.json")).expect("valid");
        for (name, weight) in &file.weights {
            let (_, sign) = NAMES.iter().find(|(known, _)| known == name).expect("a known feature");
            assert!(f64::from(*sign) * weight >= 0.0, "{name} {weight}");
        }
        assert!(file.weights.len() > 5);
    }
}
