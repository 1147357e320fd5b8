//! The simulated judge's way with claims: sentences for claims, words and numbers for support.
//!
//! Called by `reply`. Its rule: it quotes the sentence of the context that supports a claim most, as a real judge is told to.

use super::rules::fenced;
use crate::domain::words::{numbers, sentences, terms};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The sentences of the fenced answer that claim something.
pub(super) fn split(user: &str) -> Vec<String> {
    let parts = fenced(user);
    let answer = parts.get("ANSWER").map_or("", String::as_str);
    let claims = |text: &str| terms(text).len() >= 3 && !text.trim_end().ends_with('?');
    sentences(answer).into_iter().map(|s| s.text.trim().to_owned()).filter(|text| claims(text)).collect()
}

/// A verdict on each `id: claim` of the fenced claims, by the fenced context.
pub(super) fn verdicts(user: &str) -> Value {
    let parts = fenced(user);
    let part = |name: &str| parts.get(name).map_or("", String::as_str);
    let context: Vec<&str> = sentences(part("CONTEXT")).into_iter().map(|s| s.text.trim()).collect();
    let listed = part("CLAIMS").lines().filter_map(|line| line.split_once(": "));
    listed
        .map(|(id, claim)| {
            let own: HashSet<String> = terms(claim).into_iter().collect();
            let shared = |sentence: &str| {
                let known: HashSet<String> = terms(sentence).into_iter().collect();
                own.intersection(&known).count() as f64 / own.len().max(1) as f64
            };
            let best = context.iter().map(|s| (shared(s), *s)).max_by(|a, b| a.0.total_cmp(&b.0));
            let (share, sentence) = best.unwrap_or((0.0, ""));
            let figures: HashSet<String> = numbers(sentence).into_iter().collect();
            let stray = numbers(claim).iter().any(|n| !figures.contains(n));
            let verdict = match (share >= 0.4, stray) {
                (true, false) => "supported",
                (true, true) if !figures.is_empty() => "contradicted",
                _ => "not_in_context",
            };
            let quote = if verdict == "not_in_context" { "" } else { sentence };
            json!({"id": id, "verdict": verdict, "quote": quote})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_sentences_and_their_support_is_quoted() {
        let user = "<<<CONTEXT ab>>>\nSofas can be returned within 30 days. Lamps are sold in packs.\n<<<END CONTEXT ab>>>\n\
                    <<<CLAIMS ab>>>\nc1: Sofas can be returned within 30 days.\nc2: Sofas can be returned within 90 days.\n\
                    c3: Beds have a warranty.\n<<<END CLAIMS ab>>>";
        let words: Vec<String> = verdicts(user)
            .as_array()
            .expect("a list")
            .iter()
            .map(|v| v["verdict"].as_str().expect("a word").to_owned())
            .collect();
        assert_eq!(words, ["supported", "contradicted", "not_in_context"]);
        let answer = "<<<ANSWER ab>>>\nHello! You can return sofas within 30 days. May I help?\n<<<END ANSWER ab>>>";
        assert_eq!(split(answer), ["You can return sofas within 30 days."]);
    }
}
