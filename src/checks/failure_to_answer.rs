//! Did the assistant answer at all?
//!
//! Evidence in this order: the provider's refusal field and finish reason, emptiness and placeholders, then how the answer is
//! worded ([`signals`]): phrases of ten languages by what they show, where they stand, and how much else there is. The score is the
//! probability that it was answered, from a logistic model whose coefficients (`coefficients.txt`) `cargo bench --bench
//! accuracy -- fit-refusal` fits; at even odds it fails. The way not taken: one phrase anywhere, which flags every disclaimer, every
//! quoted sentence and every partial help.

pub mod signals;

use super::subject::{Subject, char_span};
use crate::domain::verdict::CheckResult;
use serde_json::json;
use signals::{FEATURES, Signals, signals};
use std::ops::Range;
use std::sync::LazyLock;

const NAME: &str = "failure_to_answer";

/// What stands where an answer was meant to be.
const PLACEHOLDERS: &[&str] = &[
    "n/a",
    "na",
    "none",
    "nil",
    "null",
    "undefined",
    "nan",
    "empty",
    "todo",
    "tbd",
    "[object object]",
    "no answer",
    "no response",
    "no output",
    "<no response>",
    "<empty>",
    "(empty)",
    "(no output)",
    "error",
];

/// An answer that is no longer than this and begins by sending the user elsewhere does nothing else.
const REDIRECTION_CHARS_MAX: usize = 160;

/// One line a feature, `name weight`, the intercept last; positive speaks for a failure to answer.
static WEIGHTS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let lines = include_str!("failure_to_answer/coefficients.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
});

pub(super) fn check(subject: &Subject) -> CheckResult {
    let trace = subject.trace;
    if let Some(refusal) = trace.refusal() {
        return fail("refusal", 0.01, "provider_refusal", Some([0, refusal.chars().count()]));
    }
    if trace.view.finish_reason.as_deref() == Some("content_filter") {
        return fail("refusal", 0.02, "finish_reason", None);
    }
    let Some(answer) = subject.answer() else {
        return CheckResult::not_applicable(NAME, "the trace has no output");
    };
    let asks_for_tool = trace.view.output.iter().any(|m| !m.tool_calls.is_empty() || !m.other.is_empty());
    match emptiness(answer) {
        Some("empty") if asks_for_tool => CheckResult::not_applicable(NAME, "the output is a tool call or media"),
        Some(category) => fail(category, 0.01, "nothing in it", Some(char_span(answer, 0..answer.len()))),
        None => by_wording(trace.question().unwrap_or_default(), answer),
    }
}

/// Whether there is nothing in the answer: no text, no words, or code and JSON without content.
fn emptiness(answer: &str) -> Option<&'static str> {
    let body = answer.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
    if body.is_empty() {
        return Some("empty");
    }
    let inner = body.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = inner.map(|rest| rest.split_once('\n').map_or("", |(_, code)| code).trim());
    // Longer text has content whatever it is; this also bounds the work on a large answer.
    let structure = inner.unwrap_or(body);
    if structure.len() <= 64 {
        let bare: String = structure.chars().filter(|c| !c.is_whitespace()).collect();
        if inner == Some("")
            || matches!(bare.as_str(), "{}" | "[]" | "[{}]" | "null" | "\"\"" | "''" | "<></>" | "{[]}")
        {
            return Some("empty_code_or_json");
        }
        let lower = bare.to_lowercase();
        let said = structure.to_lowercase();
        if PLACEHOLDERS.contains(&said.trim_end_matches('.'))
            || !lower.chars().any(|c| c.is_alphanumeric() || is_picture(c))
        {
            return Some("no_content");
        }
    }
    None
}

/// Characters that show nothing: zero-width ones, the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// An emoji or a mathematical sign can be an answer.
fn is_picture(c: char) -> bool {
    c >= '\u{2190}'
}

fn fail(category: &str, score: f64, evidence: &str, at: Option<[usize; 2]>) -> CheckResult {
    CheckResult::new(NAME, false, score, json!({"category": category, "evidence": evidence, "at": at}))
}

fn by_wording(question: &str, answer: &str) -> CheckResult {
    let found = signals(question, answer);
    let mut answered = 1.0 - probability(&found);
    let chars_over = |max: usize| answer.chars().nth(max).is_some();
    if let Some(at) = &found.refer
        && at.start <= 20
        && !chars_over(REDIRECTION_CHARS_MAX)
    {
        answered = answered.min(0.3);
    }
    let answered = (answered * 1e4).round() / 1e4;
    if answered >= 0.5 {
        return CheckResult::new(NAME, true, answered, json!({"category": "answered", "share": share(&found)}));
    }
    let (category, place) = category(&found);
    let at = place.map(|bytes| char_span(answer, bytes));
    let detail = json!({"category": category, "evidence": if at.is_some() { "phrase" } else { "wording" },
        "at": at, "share": share(&found)});
    CheckResult::new(NAME, false, answered, detail)
}

/// The share of the sentences that decline.
fn share(found: &Signals) -> f64 {
    (found.share * 1e3).round() / 1e3
}

/// What kind of failure it is, by the phrase that stands first, and where that is.
fn category(found: &Signals) -> (&'static str, Option<Range<usize>>) {
    let start = |at: &Option<Range<usize>>| at.as_ref().map_or(usize::MAX, |at| at.start);
    match (&found.decline, &found.unknown, &found.refer) {
        (_, Some(at), _) if start(&found.unknown) < start(&found.decline) => ("not_in_context", Some(at.clone())),
        (Some(at), ..) => ("refusal", Some(at.clone())),
        (None, _, Some(at)) => ("redirection", Some(at.clone())),
        _ => ("refusal", None),
    }
}

/// The probability that the answer is none.
fn probability(found: &Signals) -> f64 {
    let sum: f64 = found.values.iter().zip(&*WEIGHTS).map(|(x, w)| x * w).sum();
    1.0 / (1.0 + (-sum - WEIGHTS.get(FEATURES).copied().unwrap_or_default()).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn run(answer: &str) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        check(&Subject::new(&trace))
    }

    #[test]
    fn declining_fails() {
        for answer in [
            "",
            "I'm sorry, but I can't help with that.",
            "I\u{2019}m unable to answer questions about orders.",
            "Dabei kann ich Ihnen nicht helfen.",
            "Je ne peux pas vous aider avec cette demande.",
            "申し訳ございませんが、お答えできません。",
            "{}",
            "```json\n```",
            "N/A",
            "\u{feff} \u{200b}",
            "...",
            "No puedo ayudarle con esa solicitud.",
            "Não posso ajudar com isso.",
            "Mi dispiace, ma non posso aiutarti con questa richiesta.",
            "Het spijt me, maar daar kan ik u niet mee helpen.",
            "죄송하지만 그 요청에는 도움을 드릴 수 없습니다.",
            "抱歉，我无法回答这个问题。",
            "The provided documents do not contain information about the warranty period.",
            "Please contact our support team.",
        ] {
            assert_eq!(run(answer).finding, Finding::Fail, "{answer}");
        }
    }

    #[test]
    fn answering_passes_in_spite_of_harmless_words() {
        for answer in [
            "I can't wait to see your new sofa! It ships on Monday and should arrive by Thursday.",
            "The manual says \"I cannot answer\" is what the voice assistant replies when it is offline.",
            "You can return it within 30 days [ret-002].",
            "42",
            "\u{1f44d}",
            "As an AI engineer you will design, train and deploy models, and work closely with product teams every day.",
            "Tenants must give two months' notice in writing. This is general information and not legal advice.",
            "Die Lieferung dauert drei bis fünf Werktage. Hier ist der Link zur Sendungsverfolgung.",
        ] {
            assert_eq!(run(answer).finding, Finding::Pass, "{answer}");
        }
    }

    #[test]
    fn the_providers_word_comes_first() {
        let mut trace = Trace::default();
        trace.view.output =
            vec![Message { refusal: Some("no".to_owned()), ..Message::text("assistant", "Here you are: …") }];
        let result = check(&Subject::new(&trace));
        assert_eq!((result.finding, &result.detail["category"]), (Finding::Fail, &json!("refusal")));
    }

    #[test]
    fn a_tool_call_without_text_is_not_a_failure() {
        let mut trace = Trace::default();
        let call = crate::domain::message::ToolRequest::default();
        trace.view.output = vec![Message { tool_calls: vec![call], ..Message::text("assistant", "") }];
        assert_eq!(check(&Subject::new(&trace)).finding, Finding::NotApplicable);
    }

    #[test]
    fn each_failure_has_its_category() {
        for (answer, category) in [
            ("", "empty"),
            ("N/A", "no_content"),
            ("```\n```", "empty_code_or_json"),
            ("I'm sorry, but I can't help with that.", "refusal"),
            ("The given context does not mention the price of the sofa.", "not_in_context"),
            ("Please contact our support team.", "redirection"),
        ] {
            assert_eq!(run(answer).detail["category"], json!(category), "{answer}");
        }
    }

    #[test]
    fn the_phrase_is_shown_by_its_place() {
        assert_eq!(run("Désolé, je ne peux pas vous aider.").detail["at"], json!([8, 22]));
    }

    #[test]
    fn the_coefficients_are_those_of_the_features() {
        let lines = include_str!("failure_to_answer/coefficients.txt").lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
        let features: Vec<String> = (0..FEATURES).map(signals::name).chain(["intercept".to_owned()]).collect();
        assert_eq!(names, features);
        assert_eq!(WEIGHTS.len(), FEATURES + 1, "every line has a number");
    }

    #[test]
    fn a_large_answer_takes_no_longer_than_its_beginning() {
        let answer = "I \u{200b}can't \"“「` ".repeat(60_000);
        assert!(run(&answer).score.is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_scores_stay_in_range(question in "\\PC{0,80}", answer in "(\\PC|[\n\"“”`’ ]){0,200}") {
            let mut trace = Trace::default();
            trace.view.input = vec![Message::text("user", question)];
            trace.view.output = vec![Message::text("assistant", answer)];
            if let Some(score) = check(&Subject::new(&trace)).score {
                proptest::prop_assert!((0.0..=1.0).contains(&score));
            }
        }
    }
}
