//! The demo's conversations: a furniture shop's support assistant, written for this project.
//!
//! Read from `scenarios.yaml`, which is part of the program. Its rule: which answer a trace gets follows from a fixed seed, so
//! every run shows the same story: versions one and two are alike, version three invents return policies and breaks JSON.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::Value;

/// A prompt version of the assistant, and how often it goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub name: &'static str,
    /// Chance of a bad answer where returns or extraction are concerned.
    pub bad_rate_changed: f64,
    /// Chance of a bad answer elsewhere.
    pub bad_rate: f64,
}

/// The second only words things differently; the third promises too much and forgets the JSON instructions.
pub(super) const VERSIONS: [Version; 3] = [
    Version { name: "2026-10-06.1", bad_rate_changed: 0.05, bad_rate: 0.05 },
    Version { name: "2026-11-02.1", bad_rate_changed: 0.05, bad_rate: 0.05 },
    Version { name: "2026-11-20.1", bad_rate_changed: 0.55, bad_rate: 0.10 },
];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub id: String,
    pub feature: String,
    pub language: String,
    pub question: String,
    #[serde(default)]
    pub history: Vec<Turn>,
    #[serde(default)]
    pub documents: Vec<Doc>,
    pub schema: Option<Schema>,
    #[serde(default)]
    pub tools: Vec<Value>,
    #[serde(default)]
    pub tool_calls: Vec<Call>,
    pub good: Vec<String>,
    #[serde(default)]
    pub bad: Vec<Bad>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Turn {
    pub role: String,
    pub content: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Doc {
    pub id: String,
    pub score: f64,
    pub content: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Schema {
    pub name: String,
    pub schema: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Call {
    pub name: String,
    pub arguments: Value,
    pub result: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Bad {
    pub answer: String,
}

/// One trace to be sent.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    pub scenario: Scenario,
    pub version: Version,
    pub answer: String,
    pub trace_id: [u8; 16],
    /// Seeds what is left to chance in the spans: ids, times, token counts.
    pub seed: u64,
}

/// Times that each scenario is played in each version.
const ROUNDS: usize = 2;

/// All conversations, in the order in which they happened.
pub(super) fn conversations() -> anyhow::Result<Vec<Conversation>> {
    let scenarios: Vec<Scenario> = yaml_serde::from_str(include_str!("scenarios.yaml"))?;
    let mut rng = StdRng::seed_from_u64(2026);
    let mut all = Vec::new();
    for version in VERSIONS {
        for _ in 0..ROUNDS {
            for scenario in &scenarios {
                let changed = matches!(scenario.feature.as_str(), "returns" | "extract_order");
                let rate = if changed { version.bad_rate_changed } else { version.bad_rate };
                let goes_wrong = rng.random_bool(rate);
                let bad = scenario.bad.choose(&mut rng).filter(|_| goes_wrong).map(|bad| bad.answer.clone());
                let good = scenario.good.choose(&mut rng).cloned().unwrap_or_default();
                all.push(Conversation {
                    answer: bad.unwrap_or(good),
                    trace_id: rng.random(),
                    seed: rng.random(),
                    scenario: scenario.clone(),
                    version,
                });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_large_enough_and_the_same_every_time() {
        let (a, b) = (conversations().expect("the corpus parses"), conversations().expect("the corpus parses"));
        assert!(a.len() >= 400, "{}", a.len());
        assert!(a.iter().zip(&b).all(|(x, y)| x.trace_id == y.trace_id && x.answer == y.answer));
    }

    #[test]
    fn good_json_answers_fit_their_schema() {
        for conversation in conversations().expect("the corpus parses") {
            let Some(schema) = &conversation.scenario.schema else { continue };
            let validator = jsonschema::validator_for(&schema.schema).expect("a valid schema");
            for answer in &conversation.scenario.good {
                let value: Value = serde_json::from_str(answer).expect("good answers are JSON");
                assert!(validator.is_valid(&value), "{}: {answer}", conversation.scenario.id);
            }
        }
    }
}
