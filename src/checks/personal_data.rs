//! Is there personal data, or a secret, in the question or the answer?
//!
//! Called by `checks::run`; the finder is `checks::redact`'s too. Its rule: numbers count by their check digits or by what is said
//! beside them; placeholders that redaction has left count as what they stand for; the data itself is never in the evidence,
//! only its kind and place. The way not taken: names of persons and places, which rules cannot tell from other words.

mod address;
mod checksums;
mod find;
mod network;
mod numbers;
mod secrets;
mod spans;
mod tokens;

pub use find::find;
pub use spans::Hit;

use crate::domain::personal::{Category, PLACEHOLDER_DIGITS};
use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAME: &str = "personal_data";

/// Evidence lists this many findings at most.
const EVIDENCE_MAX: usize = 20;

/// Longer texts are looked at up to here; the evidence says so.
const BYTES_MAX: usize = 1 << 20;

pub(super) fn check(trace: &Trace) -> CheckResult {
    let answer = trace.answer();
    let texts = [("question", trace.question()), ("answer", answer.as_deref())];
    if texts.iter().all(|(_, text)| text.is_none_or(|t| t.trim().is_empty())) {
        return CheckResult::not_applicable(NAME, "there is neither question nor answer");
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut evidence: Vec<Value> = Vec::new();
    let mut kept_free = 1.0;
    let mut cut = false;
    for (place, text) in texts.into_iter().filter_map(|(place, text)| Some((place, text?))) {
        let part = &text[..text.floor_char_boundary(BYTES_MAX)];
        cut |= part.len() < text.len();
        let mut found = find(part);
        found.extend(placeholders(part));
        for hit in found {
            *counts.entry(hit.category.as_str()).or_default() += 1;
            kept_free *= 1.0 - weight(hit.category);
            if evidence.len() < EVIDENCE_MAX {
                let start = part[..hit.start].chars().count();
                let at = [start, start + part[hit.start..hit.end].chars().count()];
                evidence.push(json!({"in": place, "category": hit.category, "kind": hit.kind, "at": at}));
            }
        }
    }
    let detail = json!({"counts": counts, "found": evidence, "cut": cut});
    CheckResult::new(NAME, counts.is_empty(), (kept_free * 1e4_f64).round() / 1e4, detail)
}

/// How much one finding takes from the score: how sure it is and how much harm it does.
fn weight(category: Category) -> f64 {
    match category {
        Category::Secret | Category::Card | Category::NationalId | Category::Iban => 0.95,
        Category::Email | Category::Phone => 0.8,
        Category::Ip | Category::Address => 0.6,
    }
}

/// Placeholders that redaction has left: `[EMAIL_3fa9c]`, `[CARD]`.
fn placeholders(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (start, _) in text.match_indices('[') {
        let inside = &text[start + 1..text.floor_char_boundary(start + 24)];
        let Some((name, _)) = inside.split_once(']') else { continue };
        let label = name.rsplit_once('_').filter(|(_, digits)| {
            digits.len() == PLACEHOLDER_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let label = label.map_or(name, |(label, _)| label);
        if let Some(category) = Category::ALL.into_iter().find(|c| c.label() == label) {
            hits.push(Hit { category, kind: "redacted", start, end: start + name.len() + 2 });
        }
    }
    hits
}
