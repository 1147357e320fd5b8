//! The logistic model: coefficients from `coefficients.txt`, fitted by `cargo bench --bench fit_injection`.
//!
//! Called by the check. Its rule: coefficients are data, one a line with its feature's name; a file that does not fit the features
//! does not pass the tests.

use super::features::{COUNT, NAMES};
use std::sync::LazyLock;

/// Coefficients of one model: the intercept, then one a feature.
pub type Weights = [f64; COUNT + 1];

static WEIGHTS: LazyLock<[Weights; 2]> = LazyLock::new(|| parse(include_str!("coefficients.txt")));

pub(super) fn direct_weights() -> &'static Weights {
    &WEIGHTS[0]
}

pub(super) fn indirect_weights() -> &'static Weights {
    &WEIGHTS[1]
}

/// The probability of an attack.
#[must_use]
pub fn probability(values: &[f64; COUNT], weights: &Weights) -> f64 {
    let sum: f64 = weights[0] + values.iter().zip(&weights[1..]).map(|(value, weight)| value * weight).sum::<f64>();
    1.0 / (1.0 + (-sum).exp())
}

/// What speaks most for an attack, in words; `None` when nothing does.
pub(super) fn strongest(values: &[f64; COUNT], weights: &Weights) -> Option<&'static str> {
    let parts = values.iter().zip(&weights[1..]).map(|(value, weight)| value * weight);
    let (place, _) = parts.enumerate().filter(|(_, part)| *part > 0.0).max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(match NAMES[place] {
        "override" | "orders" | "override_orders" | "shift" => "instruction override",
        "persona" | "unbound" | "persona_unbound" | "maker" | "fiction" => "change of role",
        "tell" | "prompt" | "tell_prompt" => "request for the instructions",
        "secret" | "tell_secret" => "request for a secret",
        "encoding" | "secret_encoding" | "hidden_cues" | "hidden_text" | "disguise" => "hidden orders",
        "force" | "force_quote" | "reply" | "reply_task" => "dictated reply",
        "task" | "ask" | "line_task" | "line_task_reply" | "line_ask" => "orders to the assistant",
        "coerce" | "authority" | "capitals" => "pressure",
        "delimiter" => "false delimiter",
        _ => "many cues",
    })
}

/// Lines `name direct indirect`; what is missing is zero.
fn parse(text: &str) -> [Weights; 2] {
    let mut weights = [[0.0; COUNT + 1]; 2];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let Some(name) = fields.next() else { continue };
        let place = NAMES.iter().position(|n| *n == name).map_or(0, |n| n + 1);
        for (model, field) in weights.iter_mut().zip(fields) {
            model[place] = field.parse().unwrap_or_default();
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coefficient_has_its_feature() {
        let text = include_str!("coefficients.txt");
        let names: Vec<&str> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_whitespace().next()).collect();
        let expected: Vec<&str> = std::iter::once("intercept").chain(NAMES).collect();
        assert_eq!(names, expected);
        assert!(WEIGHTS.iter().all(|model| model.iter().all(|w| w.is_finite())));
    }
}
