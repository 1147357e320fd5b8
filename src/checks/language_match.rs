//! Is the answer in the question's language?
//!
//! Called by `checks::run`. Its rule: two texts match unless that is much less likely than that they do not, so close languages
//! and short texts pass; code, links and names of things do not count; an order to write another language is followed. The way
//! not taken: naming the language of each and comparing names, which takes two guesses for one answer.

mod profiles;
mod prose;
mod scripts;

use super::subject::Subject;
use crate::domain::verdict::CheckResult;
use scripts::Script;
use serde_json::json;

const NAME: &str = "language_match";

/// How much likelier two languages must be than one, in nats, for a mismatch. On the labelled pairs anything from 1 to 2
/// does alike; 1.5 was chosen on them, so figures on those pairs are a little optimistic.
const MARGIN: f64 = 1.5;

/// Letters that a text needs to have a language at all; a third of them where the script is another.
const LETTERS_MIN: usize = 12;

pub(super) fn check(subject: &Subject) -> CheckResult {
    let (Some(question), Some(answer)) = (subject.trace.question(), subject.answer()) else {
        return CheckResult::not_applicable(NAME, "there is no question or no answer");
    };
    let asked = prose::only(question);
    let told = prose::only(answer);
    if prose::names_a_language(question) {
        return CheckResult::not_applicable(NAME, "the question names a language to answer in");
    }
    let (Some(asked_script), Some(told_script)) = (Script::of(&asked), Script::of(&told)) else {
        return CheckResult::not_applicable(NAME, "question or answer is too short to have a language");
    };
    let apart = asked_script.apart(&told_script);
    let least = if apart { LETTERS_MIN / 3 } else { LETTERS_MIN };
    if !asked_script.has(least) || !told_script.has(least) {
        return CheckResult::not_applicable(NAME, "question or answer is too short to have a language");
    }
    let detail = |margin: f64, languages: (&str, &str)| {
        json!({
            "finding": format!("answer {}, question {}", languages.1, languages.0),
            "question": languages.0, "answer": languages.1, "margin": (margin * 100.0).round() / 100.0,
            "scripts": [asked_script.name(), told_script.name()],
        })
    };
    if apart {
        let named = |script: &Script, text: &str| script.language().unwrap_or_else(|| profiles::best(text));
        let languages = (named(&asked_script, &asked), named(&told_script, &told));
        return CheckResult::new(NAME, false, 0.02, detail(99.0, languages));
    }
    if let Some(language) = asked_script.language().filter(|_| told_script.language().is_some()) {
        return CheckResult::new(NAME, true, 0.98, detail(0.0, (language, language)));
    }
    let compared = profiles::compare(&asked, &told);
    // Half way at the margin, and nearly sure some nats from it.
    let score = 1.0 / (1.0 + ((compared.margin - MARGIN) * 0.8).exp());
    let score = (score * 1e4).round() / 1e4;
    CheckResult::new(NAME, compared.margin <= MARGIN, score, detail(compared.margin, compared.languages))
}

#[cfg(test)]
mod tests;
