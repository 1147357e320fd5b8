//! L1: deterministic checks, one file a family: free, instant, the same every time.
//!
//! Called by `pipeline::evaluate` on rayon and by `eval --only check:NAME`. Its rule: a check never fails and never guesses; what
//! it is not about is `not_applicable`. Each takes a [`Subject`] and gives pass, fail or not applicable, a score in [0,1] where 1
//! is good, and evidence with character positions; it is linear in its input. The way not taken: checks as judges' prompts,
//! which cost money and flip.

mod citations;
pub mod failure_to_answer;
mod folding;
mod format;
pub mod grounding;
mod json_validity;
mod language_match;
mod lexicon;
mod limits;
mod masks;
pub mod personal_data;
pub mod prompt_injection;
pub mod redact;
pub mod subject;
mod tool_use;
mod toxicity;

use crate::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use serde::de::DeserializeOwned;
use serde_json::Value;
use subject::Subject;

/// Answers above this are not checked: the outcome says so, and nothing waits for them.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Runs a rubric's checks over one trace; what they share is computed once.
#[must_use]
pub fn run_all(specs: &[CheckSpec], trace: &Trace) -> Vec<CheckResult> {
    let subject = Subject::new(trace);
    specs.iter().map(|spec| run(spec, &subject)).collect()
}

/// Runs one check.
#[must_use]
pub fn run(spec: &CheckSpec, subject: &Subject) -> CheckResult {
    if subject.answer().is_some_and(|answer| answer.len() > ANSWER_BYTES_MAX) {
        return CheckResult::not_applicable(spec.kind.as_str(), "the answer is too large to be checked");
    }
    match spec.kind {
        CheckKind::JsonValidity => json_validity::check(subject, &spec.options),
        CheckKind::FailureToAnswer => failure_to_answer::check(subject),
        CheckKind::Grounding => grounding::check(subject),
        CheckKind::Format => format::check(subject, &spec.options),
        CheckKind::ToolUse => tool_use::check(subject, &spec.options),
        CheckKind::Limits => limits::check(subject, &spec.options),
        CheckKind::Citations => citations::check(subject, &spec.options),
        CheckKind::PromptInjection => prompt_injection::check(subject.trace),
        CheckKind::PersonalData => personal_data::check(subject),
        CheckKind::LanguageMatch => language_match::check(subject),
        CheckKind::Toxicity => toxicity::check(subject),
    }
}

/// Whether a check understands its options, before a rubric with them is used.
///
/// # Errors
/// What is wrong with them: an unknown key with the known ones, a value out of range, a pattern that does not compile.
pub fn check_options(kind: CheckKind, options: &CheckOptions) -> Result<(), String> {
    match kind {
        CheckKind::JsonValidity => json_validity::check_options(options),
        CheckKind::FailureToAnswer
        | CheckKind::Grounding
        | CheckKind::PromptInjection
        | CheckKind::PersonalData
        | CheckKind::LanguageMatch
        | CheckKind::Toxicity => read_options::<NoOptions>(options).map(drop),
        CheckKind::Format => format::check_options(options),
        CheckKind::ToolUse => tool_use::check_options(options),
        CheckKind::Limits => limits::check_options(options),
        CheckKind::Citations => citations::check_options(options),
    }
}

/// A check's options in its own type, which denies unknown fields.
///
/// # Errors
/// Serde's words for what does not fit.
fn read_options<T: DeserializeOwned + Default>(options: &CheckOptions) -> Result<T, String> {
    if options.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_value(Value::Object(options.clone())).map_err(|e| e.to_string())
}

/// Of checks that have none.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}
