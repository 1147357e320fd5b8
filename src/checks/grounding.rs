//! Is the answer supported by the context? Lexically: no language model is asked.
//!
//! Each sentence of the answer is laid beside the context (`window`), what it has there becomes numbers (`support`), all sentences one vector
//! (`features`), and a logistic regression with checked-in coefficients gives the score (`model`). Its rule: the same text gives the same score,
//! in bounded time. What it cannot see is in docs/grounding.md: that is what judges are for. The way not taken: one overlap
//! over the whole answer, in which one invented sentence drowns.

pub mod features;
pub mod index;
mod letters;
mod lexicon;
pub mod model;
mod relations;
mod support;
pub mod token;
mod window;

use super::subject::{Subject, evidence};
use crate::domain::verdict::CheckResult;
use index::Index;
use serde_json::{Value, json};
use std::borrow::Cow;
use support::{Asked, Reader, Sentence};
use token::Tokens;

const NAME: &str = "grounding";

/// An answer passes from this score on.
const SUPPORT_MIN: f64 = 0.5;

/// Evidence lists this many of each kind at most.
const EVIDENCE_MAX: usize = 10;

/// Longer answers are not compared; the outcome says so.
const ANSWER_BYTES_MAX: usize = 64 << 10;

pub(super) fn check(subject: &Subject) -> CheckResult {
    let Some(answer) = subject.answer().filter(|a| !a.trim().is_empty()) else {
        return CheckResult::not_applicable(NAME, "there is no answer");
    };
    let index = match subject.context() {
        Ok(index) => index,
        Err(why) => return CheckResult::not_applicable(NAME, why),
    };
    if answer.len() > ANSWER_BYTES_MAX {
        return CheckResult::not_applicable(NAME, "the answer is too long to be compared with the context");
    }
    let question = subject.trace.question().unwrap_or_default();
    let ids = subject.trace.view.documents.iter().filter_map(|d| d.id.as_deref());
    let sentences = read(index, question, &without_citations(answer, ids));
    let size = index.text.tokens.len();
    let Some(vector) = features::vector(&sentences, size, !question.is_empty()) else {
        return CheckResult::not_applicable(NAME, "the answer makes no statement of its own");
    };
    let score = round(model::score(&vector));
    CheckResult::new(NAME, score >= SUPPORT_MIN, score, detail(answer, &sentences, size, !question.is_empty()))
}

/// The features of an answer, for the command that fits the coefficients; `None` when it says nothing.
#[must_use]
pub fn features_of(context: &str, question: &str, answer: &str) -> Option<[f64; features::COUNT]> {
    let index = Index::of(std::iter::once(context));
    let sentences = read(&index, question, &without_citations(answer, std::iter::empty()));
    features::vector(&sentences, index.text.tokens.len(), !question.is_empty())
}

fn read(index: &Index, question: &str, answer: &str) -> Vec<Sentence> {
    Reader::new(index, &Asked::of(question)).sentences(answer, &Tokens::of(answer))
}

/// Positions only: the text itself stays in the trace.
fn detail(answer: &str, sentences: &[Sentence], size: usize, asked: bool) -> Value {
    let own = |s: &Sentence| features::vector(std::slice::from_ref(s), size, asked).map_or(1.0, |v| model::score(&v));
    let scores: Vec<f64> = sentences.iter().map(own).collect();
    let unsupported: Vec<Value> = (sentences.iter().zip(&scores))
        .filter(|(_, score)| **score < SUPPORT_MIN)
        .take(EVIDENCE_MAX)
        .map(|(s, score)| {
            let mut found = evidence("unsupported sentence", "answer", answer, s.bytes.clone());
            found["support"] = json!(round(*score));
            found
        })
        .collect();
    let list = |what: &str, of: fn(&Sentence) -> &[std::ops::Range<usize>]| -> Vec<Value> {
        let places = sentences.iter().flat_map(|s| of(s).iter().cloned());
        places.take(EVIDENCE_MAX).map(|bytes| evidence(what, "answer", answer, bytes)).collect()
    };
    json!({
        "finding": finding(sentences, scores.iter().filter(|score| **score < SUPPORT_MIN).count()),
        "sentences": sentences.len(),
        "worst_support": round(scores.iter().copied().fold(1.0, f64::min)),
        "unsupported": unsupported,
        "unknown_numbers": list("unknown number", |s| &s.unknown_numbers),
        "opposites": list("opposite of a word of the context", |s| &s.opposites),
        "unknown_names": list("unknown name", |s| &s.unknown_names),
    })
}

/// What was found, in counts.
fn finding(sentences: &[Sentence], unsupported: usize) -> String {
    let all = |count: fn(&Sentence) -> usize| sentences.iter().map(count).sum::<usize>();
    let (numbers, names) = (all(|s| s.unknown_numbers.len()), all(|s| s.unknown_names.len()));
    let lacks = if unsupported == 1 { "lacks" } else { "lack" };
    let of = |n: usize, what: &str| format!("{n} {what}{} not in the context", if n == 1 { "" } else { "s" });
    let found = [
        (unsupported, format!("{unsupported} of {} sentences {lacks} support", sentences.len())),
        (numbers, of(numbers, "number")),
        (names, of(names, "name")),
        (all(|s| s.opposites.len()), "the opposite of what the context says".to_owned()),
    ];
    let found: Vec<String> = found.into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words).collect();
    if found.is_empty() { "every sentence has support".to_owned() } else { found.join(", ") }
}

/// The answer with citations blanked, byte for byte: `[2]`, and the ids of documents, which are not its own words.
fn without_citations<'a, 'i>(answer: &'a str, ids: impl Iterator<Item = &'i str>) -> Cow<'a, str> {
    const IDS_MAX: usize = 100;
    let mut blanks: Vec<(usize, usize)> = Vec::new();
    for id in ids.filter(|id| id.len() > 1).take(IDS_MAX) {
        blanks.extend(answer.match_indices(id).map(|(at, found)| (at, found.len())));
    }
    for (at, _) in answer.match_indices('[') {
        let digits = answer.as_bytes()[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if (1..=3).contains(&digits) && answer.as_bytes().get(at + 1 + digits) == Some(&b']') {
            blanks.push((at, digits + 2));
        }
    }
    if blanks.is_empty() {
        return Cow::Borrowed(answer);
    }
    let mut bytes = answer.as_bytes().to_vec();
    for (at, len) in blanks {
        bytes[at..at + len].fill(b' ');
    }
    // Whole characters were replaced by ASCII, so it is still UTF-8.
    String::from_utf8(bytes).map_or(Cow::Borrowed(answer), Cow::Owned)
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Document, Message};
    use crate::domain::trace::Trace;

    fn run(context: &str, answer: &str) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.input = vec![Message::text("user", "How long do I have to return a sofa?")];
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.documents = vec![Document { content: Some(context.to_owned()), ..Document::default() }];
        check(&Subject::new(&trace))
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
    fn a_yes_before_what_the_context_says_is_no_claim_of_its_own() {
        let plain = run(CONTEXT, "Sofas can be returned within 30 days of delivery.").score;
        let yes = run(CONTEXT, "Yes. Sofas can be returned within 30 days of delivery.");
        assert_eq!((yes.score, yes.detail["unsupported"].as_array().map(Vec::len)), (plain, Some(0)));
        assert!(run(CONTEXT, "Yes.").score.is_some(), "alone it is all there is to go by");
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
        trace.view.documents = vec![Document { id, content: Some(CONTEXT.to_owned()), ..Document::default() }];
        let result = check(&Subject::new(&trace));
        assert!(result.score.expect("applies") > 0.95);
        assert_eq!(result.detail["unknown_numbers"], json!([]));
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

    #[test]
    fn a_megabyte_has_an_outcome() {
        let context = "Größe 5 — naïve “quotes”, 1,2.3.4,5 \u{202e}\u{200b}配送は".repeat(12_000);
        assert!(run(&context[..context.floor_char_boundary(1_000_000)], "Größe 5 is 12.").score.is_some());
        assert_eq!(
            run(&"x ".repeat(600_000), "An answer.").detail["reason"],
            "the context is too large to be compared"
        );
        assert_eq!(run(CONTEXT, &"word ".repeat(20_000)).score, None);
    }

    #[test]
    fn unknown_numbers_and_names_have_places() {
        let detail = run(CONTEXT, "Within 45 days, says Miller.").detail;
        assert_eq!(
            detail["finding"],
            "1 of 1 sentences lacks support, 1 number not in the context, 1 name not in the context"
        );
        let good = run(CONTEXT, "Sofas can be returned within 30 days of delivery.").detail;
        assert_eq!(good["finding"], "every sentence has support");
        assert_eq!(detail["unknown_numbers"][0]["at"], json!([7, 9]));
        assert_eq!(detail["unknown_names"][0]["at"], json!([21, 27]));
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(context in "[\\PC\\n\\[\\]0-9.,'’ß𝟙配。?]{0,300}", answer in "[\\PC\\n\\[\\]0-9.,'’ß𝟙配。?]{0,300}") {
            drop(run(&context, &answer));
        }

        #[test]
        fn no_text_panics_and_scores_stay_in_range(context in ".{0,200}", answer in ".{0,200}") {
            if let Some(score) = run(&context, &answer).score {
                proptest::prop_assert!((0.0..=1.0).contains(&score));
            }
        }
    }
}
