//! One check over one trace, as the families of safety need it.

use assize::checks::run_all;
use assize::domain::message::{Document, Message};
use assize::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
use assize::domain::trace::Trace;
use assize::domain::verdict::{CheckResult, Finding};

/// What a user wrote and what was answered; an empty text is left out.
pub fn trace(question: &str, answer: &str) -> Trace {
    let message = |role: &str, text: &str| {
        if text.is_empty() { Vec::new() } else { vec![Message::text(role, text)] }
    };
    let mut trace = Trace::default();
    trace.view.input = message("user", question);
    trace.view.output = message("assistant", answer);
    trace
}

/// A trace whose only content is a retrieved document.
pub fn document(content: &str) -> Trace {
    let mut trace = Trace::default();
    trace.view.documents = vec![Document { content: Some(content.to_owned()), ..Document::default() }];
    trace
}

/// The check's result, its score (1 where it does not apply) and whether it found the problem.
pub fn check(kind: CheckKind, trace: &Trace) -> (CheckResult, f64, bool) {
    let spec = [CheckSpec { kind, fail_below: None, pass_above: None, options: CheckOptions::new() }];
    let result = run_all(&spec, trace).remove(0);
    let (score, flagged) = (result.score.unwrap_or(1.0), result.finding == Finding::Fail);
    (result, score, flagged)
}
