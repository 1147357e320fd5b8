//! Does the input, or a document that was retrieved, try to take over the assistant?
//!
//! Called by `checks::run`. Its rule: texts are unfolded and decoded first, cues of seventeen kinds are found in one pass, and
//! a logistic model with checked-in coefficients weighs them: one for what users write, one for documents, where an order to the
//! assistant is out of place by itself. The way not taken: a list of known attacks, which the next attack is not on.

mod cues;
mod decode;
mod features;
mod model;

pub use features::{COUNT, NAMES, direct, indirect};
pub use model::{Weights, probability};

use super::folding::Folded;
use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use serde_json::{Value, json};

const NAME: &str = "prompt_injection";

/// Longer texts are looked at up to here; the evidence says so.
const BYTES_MAX: usize = 256 << 10;

/// Evidence lists this many cues of a text at most.
const EVIDENCE_MAX: usize = 8;

/// What was seen in one text.
struct Seen {
    probability: f64,
    evidence: Vec<Value>,
    cut: bool,
}

pub(super) fn check(trace: &Trace) -> CheckResult {
    let question = trace.question().filter(|q| !q.trim().is_empty());
    let documents: Vec<(usize, &str)> = trace
        .view
        .documents
        .iter()
        .enumerate()
        .filter_map(|(n, d)| Some((n, d.content.as_deref().filter(|c| !c.trim().is_empty())?)))
        .collect();
    if question.is_none() && documents.is_empty() {
        return CheckResult::not_applicable(NAME, "there is neither a question nor a document");
    }
    let mut found = Vec::new();
    let (mut worst, mut cut, mut document_worst) = (0.0_f64, false, 0.0_f64);
    if let Some(question) = question {
        let seen = user_text(question, trace.system());
        worst = worst.max(seen.probability);
        cut |= seen.cut;
        found.push(json!({"in": "question", "probability": round(seen.probability), "cues": seen.evidence}));
    }
    for (number, content) in documents {
        let seen = document(content);
        document_worst = document_worst.max(seen.probability);
        cut |= seen.cut;
        if seen.probability >= 0.5 && found.len() < EVIDENCE_MAX {
            let cues = seen.evidence;
            found.push(json!({"in": "document", "number": number, "probability": round(seen.probability), "cues": cues}));
        }
    }
    let direct = worst;
    worst = worst.max(document_worst);
    let detail = json!({"direct": round(direct), "indirect": round(document_worst), "found": found, "cut": cut});
    CheckResult::new(NAME, worst < 0.5, round(1.0 - worst), detail)
}

fn user_text(text: &str, system: Option<&str>) -> Seen {
    let part = &text[..text.floor_char_boundary(BYTES_MAX)];
    let (values, cues) = features::read(part, features::Side::User);
    let by_words = model::probability(&values, model::direct_weights());
    let probing = system.is_some_and(|system| features::probes(part, system));
    // By hand and not fitted: no benign text of the labelled data comes with instructions that keep a secret.
    let probability = if probing { by_words.max(0.8) } else { by_words };
    let mut evidence = cues;
    if probing {
        evidence.insert(0, json!({"cue": "asks_for_what_the_instructions_keep"}));
    }
    Seen { probability, evidence, cut: part.len() < text.len() }
}

fn document(text: &str) -> Seen {
    let part = &text[..text.floor_char_boundary(BYTES_MAX)];
    let (values, evidence) = features::read(part, features::Side::Document);
    Seen { probability: model::probability(&values, model::indirect_weights()), evidence, cut: part.len() < text.len() }
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

/// A text as the features see it.
fn fold(text: &str) -> Folded {
    Folded::new(text)
}
