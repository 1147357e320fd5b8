//! L1: deterministic checks, one file a family: free, instant, the same every time.
//!
//! Called by `pipeline::evaluate` on rayon and by `eval --only check:NAME`. Its rule: a check never fails and never guesses; what
//! it is not about is `not_applicable`. The way not taken: checks as judges' prompts, which cost money and flip.

mod failure_to_answer;
mod grounding;
mod json_validity;

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
    }
}
