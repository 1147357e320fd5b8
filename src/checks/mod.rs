//! L1: deterministic checks, one file a family: free, instant, the same every time.
//!
//! Called by `pipeline::evaluate` on rayon and by `eval --only check:NAME`. Its rule: a check never fails and never guesses; what
//! it is not about is `not_applicable`. The way not taken: checks as judges' prompts, which cost money and flip.

mod failure_to_answer;
mod grounding;
mod json_validity;
mod language_match;
pub mod personal_data;
mod prompt_injection;
pub mod redact;
mod toxicity;

use crate::domain::rubric::CheckKind;
use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;

/// Runs one check.
#[must_use]
pub fn run(kind: CheckKind, trace: &Trace) -> CheckResult {
    match kind {
        CheckKind::JsonValidity => json_validity::check(trace),
        CheckKind::FailureToAnswer => failure_to_answer::check(trace),
        CheckKind::Grounding => grounding::check(trace),
        CheckKind::PromptInjection => prompt_injection::check(trace),
        CheckKind::PersonalData => personal_data::check(trace),
        CheckKind::LanguageMatch => language_match::check(trace),
        CheckKind::Toxicity => toxicity::check(trace),
    }
}
