//! Did the assistant answer at all?
//!
//! Evidence in this order: the provider's refusal field and finish reason, emptiness, then phrases by which assistants in eight
//! languages decline. A phrase counts by where it stands: an answer that opens with it and is short has declined; one that
//! goes on to help has not. The score is the probability that it was answered. The way not taken: a phrase anywhere, which
//! flags every disclaimer and every quoted sentence.

use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::json;
use std::sync::LazyLock;

const NAME: &str = "failure_to_answer";

/// Lower-case phrases with which an assistant declines, with the category that each shows.
const PHRASES: &[(&str, &str)] = &[
    ("i can't help with", "refusal"),
    ("i cannot help with", "refusal"),
    ("i can't assist", "refusal"),
    ("i cannot assist", "refusal"),
    ("i'm unable to", "refusal"),
    ("i am unable to", "refusal"),
    ("i'm not able to", "refusal"),
    ("i am not able to", "refusal"),
    ("i won't be able to", "refusal"),
    ("i can't answer", "refusal"),
    ("i cannot answer", "refusal"),
    ("i can't provide", "refusal"),
    ("i cannot provide", "refusal"),
    ("i can't do that", "refusal"),
    ("as an ai language model", "refusal"),
    ("i must decline", "refusal"),
    ("i'm sorry, but i can't", "refusal"),
    ("i'm sorry, but i cannot", "refusal"),
    ("i don't have that information", "not_in_context"),
    ("i do not have that information", "not_in_context"),
    ("i don't have information", "not_in_context"),
    ("i do not have information", "not_in_context"),
    ("i don't know", "not_in_context"),
    ("i do not know", "not_in_context"),
    ("i couldn't find", "not_in_context"),
    ("i could not find", "not_in_context"),
    ("ich kann ihnen dabei nicht", "refusal"),
    ("dabei kann ich ihnen nicht", "refusal"),
    ("dabei kann ich nicht helfen", "refusal"),
    ("das kann ich nicht beantworten", "refusal"),
    ("ich kann diese frage nicht", "refusal"),
    ("dazu kann ich leider keine", "refusal"),
    ("das weiß ich nicht", "not_in_context"),
    ("je ne peux pas vous aider", "refusal"),
    ("je ne peux pas répondre", "refusal"),
    ("je ne suis pas en mesure", "refusal"),
    ("je ne sais pas", "not_in_context"),
    ("no puedo ayudar", "refusal"),
    ("no puedo responder", "refusal"),
    ("no me es posible", "refusal"),
    ("no lo sé", "not_in_context"),
    ("não posso ajudar", "refusal"),
    ("não consigo ajudar", "refusal"),
    ("não posso responder", "refusal"),
    ("não sei", "not_in_context"),
    ("non posso aiutar", "refusal"),
    ("non sono in grado", "refusal"),
    ("non lo so", "not_in_context"),
    ("daar kan ik u niet mee helpen", "refusal"),
    ("daar kan ik je niet mee helpen", "refusal"),
    ("ik kan u niet helpen", "refusal"),
    ("ik kan je niet helpen", "refusal"),
    ("お答えできません", "refusal"),
    ("お手伝いできません", "refusal"),
    ("対応できません", "refusal"),
    ("わかりません", "not_in_context"),
];

/// Phrases that send the user elsewhere instead of answering.
const REDIRECTIONS: &[&str] = &[
    "please contact",
    "please reach out",
    "please consult",
    "please call",
    "please visit our",
    "bitte wenden sie sich",
    "veuillez contacter",
    "póngase en contacto",
    "entre em contato",
    "contatti il",
    "neem contact op",
    "お問い合わせください",
];

static DECLINES: LazyLock<AhoCorasick> = LazyLock::new(|| automaton(PHRASES.iter().map(|(phrase, _)| *phrase)));
static REDIRECTS: LazyLock<AhoCorasick> = LazyLock::new(|| automaton(REDIRECTIONS.iter().copied()));

fn automaton<'a>(phrases: impl Iterator<Item = &'a str>) -> AhoCorasick {
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(phrases).expect("fixed phrases compile")
}

pub(super) fn check(trace: &Trace) -> CheckResult {
    if let Some(refusal) = trace.refusal() {
        return fail("refusal", 0.01, "provider_refusal", Some((0, refusal.chars().count())));
    }
    if trace.view.finish_reason.as_deref() == Some("content_filter") {
        return fail("refusal", 0.02, "finish_reason", None);
    }
    let Some(answer) = trace.answer() else {
        return CheckResult::not_applicable(NAME, "the trace has no output");
    };
    let asks_for_tool = trace.view.output.iter().any(|m| !m.tool_calls.is_empty() || !m.other.is_empty());
    let body = answer.trim();
    if body.is_empty() {
        return if asks_for_tool {
            CheckResult::not_applicable(NAME, "the output is a tool call or media")
        } else {
            fail("empty", 0.0, "no text", None)
        };
    }
    if matches!(body, "{}" | "[]" | "null" | "\"\"" | "```\n```" | "```json\n```") {
        return fail("empty_code", 0.02, "empty structure", None);
    }
    by_phrases(body)
}

fn fail(category: &str, score: f64, evidence: &str, at: Option<(usize, usize)>) -> CheckResult {
    let detail = json!({"category": category, "evidence": evidence, "at": at.map(|(start, end)| [start, end])});
    CheckResult::new(NAME, false, score, detail)
}

fn by_phrases(answer: &str) -> CheckResult {
    let text = answer.to_lowercase().replace(['\u{2019}', '\u{2018}'], "'");
    let length = text.chars().count();
    let Some(hit) = DECLINES.find_iter(&text).find(|hit| !quoted(&text, hit.start())) else {
        return without_decline(&text, length);
    };
    let start = text[..hit.start()].chars().count();
    let end = start + text[hit.range()].chars().count();
    let after = length - end;
    // How much follows the declining sentence is how much help there still is.
    let rest = text[hit.end()..].split_once(['.', '!', '。', '?']).map_or("", |(_, rest)| rest);
    let help = rest.chars().count();
    let offers =
        ["but i can", "however", "instead", "aber ich kann", "mais je peux", "pero puedo", "in general", "typically"]
            .iter()
            .any(|word| text[hit.end()..].contains(word));
    let opening = start <= 60;
    let answered = match (opening, help) {
        (true, 0..=120) if !offers => 0.06,
        (true, 0..=250) if !offers => 0.25,
        (true, _) if offers && help > 200 => 0.7,
        (true, _) if offers => 0.35,
        (true, _) => 0.6,
        (false, _) if start > 200 => 0.93,
        (false, _) => 0.65,
    };
    let category = PHRASES[hit.pattern().as_usize()].1;
    let detail = json!({"category": category, "evidence": "phrase", "at": [start, end], "chars_after": after});
    CheckResult::new(NAME, answered >= 0.5, answered, detail)
}

fn without_decline(text: &str, length: usize) -> CheckResult {
    if let Some(hit) = REDIRECTS.find(text)
        && hit.start() <= 20
        && length <= 160
    {
        let start = text[..hit.start()].chars().count();
        let at = [start, start + text[hit.range()].chars().count()];
        return CheckResult::new(NAME, false, 0.3, json!({"category": "redirection", "evidence": "phrase", "at": at}));
    }
    CheckResult::new(NAME, true, 0.98, json!({"category": "answered"}))
}

/// Whether the place is inside double quotes: somebody else's words.
fn quoted(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let straight = before.matches('"').count() % 2 == 1;
    let curly = before.matches(['“', '„', '«']).count() > before.matches(['”', '»']).count();
    straight || curly
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;
    use crate::domain::verdict::Finding;

    fn run(answer: &str) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        check(&trace)
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
        ] {
            assert_eq!(run(answer).finding, Finding::Pass, "{answer}");
        }
    }

    #[test]
    fn the_providers_word_comes_first() {
        let mut trace = Trace::default();
        trace.view.output =
            vec![Message { refusal: Some("no".to_owned()), ..Message::text("assistant", "Here you are: …") }];
        let result = check(&trace);
        assert_eq!((result.finding, &result.detail["category"]), (Finding::Fail, &json!("refusal")));
    }

    #[test]
    fn a_tool_call_without_text_is_not_a_failure() {
        let mut trace = Trace::default();
        let call = crate::domain::message::ToolRequest::default();
        trace.view.output = vec![Message { tool_calls: vec![call], ..Message::text("assistant", "") }];
        assert_eq!(check(&trace).finding, Finding::NotApplicable);
    }
}
