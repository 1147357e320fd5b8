//! Is the answer supported by the context? Lexically: no model is asked.
//!
//! For each sentence of the answer, the share of its content terms that the context has, and whether its numbers occur in
//! the context or the question. The score is the mean support, pulled down by the worst sentence and by unknown numbers. It
//! cannot see a contradiction that uses the same words; that is what judges are for. The way not taken: one overlap over
//! the whole answer, in which one invented sentence drowns.

use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use crate::domain::words::{numbers, sentences, terms};
use serde_json::{Value, json};
use std::collections::HashSet;

const NAME: &str = "grounding";

/// A sentence is supported when at least this share of its terms is known.
const SUPPORT_MIN: f64 = 0.5;

/// Evidence lists this many sentences at most.
const EVIDENCE_MAX: usize = 10;

pub(super) fn check(trace: &Trace) -> CheckResult {
    let Some(answer) = trace.answer().filter(|a| !a.trim().is_empty()) else {
        return CheckResult::not_applicable(NAME, "there is no answer");
    };
    let sources = sources(trace);
    if sources.is_empty() {
        return CheckResult::not_applicable(NAME, "there is no context");
    }
    let question = trace.question().unwrap_or_default();
    let known_terms: HashSet<String> = sources.iter().flat_map(|s| terms(s)).collect();
    let asked_terms: HashSet<String> = terms(question).into_iter().collect();
    let known_numbers: HashSet<String> = sources.iter().flat_map(|s| numbers(s)).chain(numbers(question)).collect();
    let mut supports = Vec::new();
    let mut evidence: Vec<Value> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for sentence in sentences(&answer) {
        let words = without_citations(trace, sentence.text);
        let own = terms(&words);
        // Words of the question say nothing about support: an answer repeats them whether it is true or not.
        let telling: Vec<&String> = own.iter().filter(|t| !asked_terms.contains(*t)).collect();
        let stray: Vec<String> = numbers(&words).into_iter().filter(|n| !known_numbers.contains(n)).collect();
        if telling.is_empty() && stray.is_empty() {
            continue;
        }
        let found = telling.iter().filter(|t| known_terms.contains(**t)).count();
        let share = if telling.is_empty() { 1.0 } else { found as f64 / telling.len() as f64 };
        let support = if stray.is_empty() { share } else { share * 0.4 };
        if support < SUPPORT_MIN && evidence.len() < EVIDENCE_MAX {
            evidence.push(json!({"at": [sentence.start, sentence.end], "support": round(support)}));
        }
        unknown.extend(stray);
        supports.push(support);
    }
    if supports.is_empty() {
        return CheckResult::not_applicable(NAME, "the answer makes no statement of its own");
    }
    let mean = supports.iter().sum::<f64>() / supports.len() as f64;
    let worst = supports.iter().copied().fold(1.0, f64::min);
    let score = round(0.5 * mean + 0.5 * worst);
    let detail = json!({
        "sentences": supports.len(), "mean_support": round(mean), "worst_support": round(worst),
        "unsupported": evidence, "unknown_numbers": unknown.len(),
    });
    CheckResult::new(NAME, score >= SUPPORT_MIN, score, detail)
}

/// A sentence without the ids of documents that it cites, which are not its own words.
fn without_citations(trace: &Trace, sentence: &str) -> String {
    let ids = trace.view.documents.iter().filter_map(|d| d.id.as_deref()).filter(|id| id.len() > 1);
    ids.fold(sentence.to_owned(), |text, id| if text.contains(id) { text.replace(id, " ") } else { text })
}

/// What the answer may rest on: documents and the results of tools.
fn sources(trace: &Trace) -> Vec<String> {
    let documents = trace.context().filter_map(|d| d.content.clone());
    let results = trace.view.tool_calls.iter().filter(|call| !call.result.is_null()).map(|call| match &call.result {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    documents.chain(results).collect()
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Document, Message};

    fn run(context: &str, answer: &str) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.input = vec![Message::text("user", "How long do I have to return a sofa?")];
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.documents = vec![Document { content: Some(context.to_owned()), ..Document::default() }];
        check(&trace)
    }

    const CONTEXT: &str = "Sofas can be returned within 30 days of delivery, unused and in the original packaging.";

    #[test]
    fn a_supported_answer_scores_above_an_invented_one() {
        let good = run(
            CONTEXT,
            "You can return a sofa within 30 days of delivery if it is unused and in its original packaging.",
        );
        let bad = run(CONTEXT, "You have 365 days, and we send you a voucher worth 50 euros with free champagne.");
        let (good, bad) = (good.score.expect("applies"), bad.score.expect("applies"));
        assert!(good > 0.8 && bad < 0.3, "{good} {bad}");
    }

    #[test]
    fn the_invented_sentence_is_named_by_its_place() {
        let result = run(CONTEXT, "Sofas can be returned within 30 days. Members receive champagne vouchers yearly.");
        assert_eq!(result.detail["unsupported"][0]["at"], json!([38, 80]));
    }

    #[test]
    fn citing_a_document_by_its_id_is_no_invented_number() {
        let mut trace = Trace::default();
        trace.view.output =
            vec![Message::text("assistant", "Sofas can be returned within 30 days of delivery [ret-007].")];
        let id = Some("ret-007".to_owned());
        trace.view.documents = vec![Document { id, content: Some(CONTEXT.to_owned()), score: None }];
        assert_eq!(check(&trace).score, Some(1.0));
    }

    #[test]
    fn without_context_it_does_not_apply() {
        assert_eq!(run("  ", "Anything").score, None);
    }

    #[test]
    fn texts_without_spaces_are_compared() {
        let good =
            run("配送は三日以内に届きます。返品は三十日以内です。", "返品は三十日以内です。").score.expect("applies");
        let bad = run("配送は三日以内に届きます。", "永久保証と無料の花束を差し上げます。").score.expect("applies");
        assert!(good > 0.9 && bad < 0.4, "{good} {bad}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_scores_stay_in_range(context in ".{0,200}", answer in ".{0,200}") {
            if let Some(score) = run(&context, &answer).score {
                proptest::prop_assert!((0.0..=1.0).contains(&score));
            }
        }
    }
}
