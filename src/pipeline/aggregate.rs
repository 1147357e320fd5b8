//! Step 7: rubric and evaluation → verdict. Pure and total: every evaluation has a verdict.
//!
//! Called by `claim` and `cli::eval`. Its rule: a score comes from a deciding check or from votes, never from a failure; the
//! explanation is the reason of the vote nearest to the verdict. The way not taken: averaging checks and votes, in which
//! neither can be explained.

use crate::domain::job::Job;
use crate::domain::rubric::{Combine, Output, Rubric};
use crate::domain::verdict::{
    CheckResult, Evaluation, FINAL, JoinIds, OVER_BUDGET, Outcome, TraceLabels, Verdict, Vote,
};
use crate::judge::combine::combine;
use crate::judge::panel::{Known, disagreement, quorum};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// The check that decides by itself, if one does: its result, and whether the rubric passes.
#[must_use]
pub fn decided_by_check<'a>(rubric: &Rubric, checks: &'a [CheckResult]) -> Option<(&'a CheckResult, bool)> {
    rubric.checks.iter().zip(checks).find_map(|(spec, result)| {
        let score = result.score?;
        if spec.fail_below.is_some_and(|limit| score < limit) {
            Some((result, false))
        } else if spec.pass_above.is_some_and(|limit| score > limit) {
            Some((result, true))
        } else {
            None
        }
    })
}

/// Makes the verdict, with what is known about the judges.
#[must_use]
pub fn aggregate(
    rubric: &Rubric,
    evaluation: Evaluation,
    job: &Job,
    (labels, join): (TraceLabels, JoinIds),
    (known, now): (&Known, DateTime<Utc>),
) -> Verdict {
    let mut verdict = job.unscored(Outcome::JudgeError, String::new(), labels, now);
    verdict.join = join;
    verdict.kind = rubric.output.kind();
    verdict.latency_ms = evaluation.latency_ms;
    // Not `sum`, which gives minus zero for no votes.
    verdict.cost_usd = evaluation.votes.iter().fold(0.0, |total, vote| total + vote.cost_usd);
    if let Some((outcome, why)) = evaluation.ended {
        verdict.outcome = outcome;
        verdict.explanation = why;
    } else if let Some((check, passed)) = decided_by_check(rubric, &evaluation.checks) {
        by_check(&mut verdict, rubric, check, passed);
    } else if rubric.panel.is_empty() {
        by_all_checks(&mut verdict, rubric, &evaluation.checks);
    } else {
        let enough = evaluation.stopped.is_some();
        by_panel(&mut verdict, rubric, &evaluation.votes, (known, enough));
    }
    verdict.disagreement = disagreement(&evaluation.votes);
    if let Some(stopped) = evaluation.stopped {
        verdict.detail["panel"] = json!(stopped);
    }
    verdict.checks = evaluation.checks;
    verdict.votes = evaluation.votes;
    verdict
}

fn by_check(verdict: &mut Verdict, rubric: &Rubric, check: &CheckResult, passed: bool) {
    let score = check.score.unwrap_or_default();
    scored(verdict, score, passed, "check");
    say(verdict, &rubric.output, passed);
    verdict.confidence = Some((score - 0.5).abs() * 2.0);
    verdict.explanation = explain(check);
}

/// A rubric without judges, none of whose checks decides: the worst applicable check counts.
fn by_all_checks(verdict: &mut Verdict, rubric: &Rubric, checks: &[CheckResult]) {
    let worst = checks
        .iter()
        .filter(|c| c.score.is_some())
        .min_by(|a, b| a.score.unwrap_or(1.0).total_cmp(&b.score.unwrap_or(1.0)));
    match worst {
        Some(check) => {
            let score = check.score.unwrap_or_default();
            by_check(verdict, rubric, check, score >= rubric.pass);
            verdict.confidence = None;
        }
        None => {
            verdict.outcome = Outcome::NotApplicable;
            let why = checks.first().and_then(|c| c.detail.get("reason")).and_then(Value::as_str);
            why.unwrap_or("no check applies").clone_into(&mut verdict.explanation);
        }
    }
}

/// A check's verdict in the words of the rubric's output, so that a label has one type whoever decided.
fn say(verdict: &mut Verdict, output: &Output, passed: bool) {
    match output {
        Output::Score { .. } | Output::Claims { .. } => verdict.raw = raw(output, verdict.score.unwrap_or_default()),
        Output::Boolean { better } => {
            let yes = passed == (*better == crate::domain::rubric::Better::Higher);
            verdict.raw = json!(yes);
            verdict.label = Some(yes.to_string());
        }
        Output::Category { values } => {
            let side = |x: f64| if passed { x } else { -x };
            let best = values.iter().max_by(|a, b| side(*a.1).total_cmp(&side(*b.1)));
            verdict.label = best.map(|(label, _)| label.clone());
            verdict.raw = json!(verdict.label);
        }
    }
}

fn explain(check: &CheckResult) -> String {
    let word = check.detail.get("finding").or_else(|| check.detail.get("category")).and_then(Value::as_str);
    word.map_or_else(|| check.check.clone(), |word| format!("{}: {word}", check.check))
}

/// `enough` = the panel was not asked to the end on purpose, so there is no quorum to wait for.
fn by_panel(verdict: &mut Verdict, rubric: &Rubric, votes: &[Vote], (known, enough): (&Known, bool)) {
    let given = known.weighted(rubric.combine, votes);
    if given.is_empty() && !votes.is_empty() && votes.iter().all(|v| v.abstained.is_some()) {
        verdict.outcome = Outcome::NotApplicable;
        verdict.explanation = votes.iter().find_map(|v| v.abstained.clone()).unwrap_or_default();
        return;
    }
    let abstained = votes.iter().filter(|v| v.abstained.is_some()).count();
    let needed = quorum(rubric.panel.len().saturating_sub(abstained));
    let combined = combine(rubric.combine, &given, rubric.pass).filter(|_| enough || given.len() >= needed);
    let Some(combined) = combined else {
        without_quorum(verdict, votes, (given.len(), needed, rubric.panel.len()));
        return;
    };
    let p = known.probability(votes, rubric.pass);
    // Labels say what yes and no are worth: their probability is the score. On a scale the judges' own numbers are kept.
    let (score, passed) = match (p, &rubric.output) {
        (Some(p), Output::Boolean { .. } | Output::Category { .. }) if rubric.combine == Combine::Weighted => {
            (p, p >= 0.5)
        }
        _ => (combined.score, combined.score >= rubric.pass),
    };
    scored(verdict, score, passed, "panel");
    // How sure of this side, not of whichever is likelier.
    verdict.confidence = p.map(|p| if passed { p } else { 1.0 - p }).or(combined.agreement);
    let distance = |v: &&Vote| (v.score.unwrap_or(f64::MAX) - score).abs();
    // Of those who say what the panel says: on a tie the label must not contradict the verdict.
    let agrees = |v: &&Vote| v.score.is_some_and(|s| (s >= rubric.pass) == passed);
    let nearest = votes.iter().filter(agrees).min_by(|a, b| distance(a).total_cmp(&distance(b)));
    verdict.explanation = nearest.and_then(|v| v.reason.clone()).unwrap_or_default();
    verdict.raw = raw(&rubric.output, score);
    if matches!(rubric.output, Output::Boolean { .. } | Output::Category { .. }) {
        verdict.label = nearest.and_then(|v| v.label.clone());
        if let Some(label) = &verdict.label {
            verdict.raw =
                if matches!(rubric.output, Output::Boolean { .. }) { json!(label == "true") } else { json!(label) };
        }
    }
}

/// `counts`: votes given, votes needed, judges of the panel.
fn without_quorum(verdict: &mut Verdict, votes: &[Vote], (given, needed, of): (usize, usize, usize)) {
    let all = |word: &str| {
        let mut errors = votes.iter().filter_map(|v| v.error.as_deref()).peekable();
        errors.peek().is_some() && errors.all(|e| e.trim_start_matches(FINAL).starts_with(word))
    };
    if all("too_long") {
        verdict.outcome = Outcome::TooLarge;
    } else if all(OVER_BUDGET) {
        verdict.outcome = Outcome::OverBudget;
    }
    let errors: Vec<String> = votes
        .iter()
        .filter_map(|v| Some(format!("{}: {}", v.judge, v.error.as_deref()?.trim_start_matches(FINAL))))
        .collect();
    verdict.explanation = format!("{given} of {of} judges voted, needed: {needed}; {}", errors.join("; "));
}

/// The score on the rubric's own scale.
fn raw(output: &Output, score: f64) -> Value {
    match output {
        Output::Score { range: (low, high), better } => {
            let unit = if *better == crate::domain::rubric::Better::Lower { 1.0 - score } else { score };
            json!(low + unit * (high - low))
        }
        Output::Claims { .. } => json!(score),
        Output::Boolean { .. } | Output::Category { .. } => Value::Null,
    }
}

fn scored(verdict: &mut Verdict, score: f64, passed: bool, by: &str) {
    verdict.outcome = Outcome::Scored;
    verdict.score = Some(score.clamp(0.0, 1.0));
    verdict.raw = json!(score);
    verdict.passed = Some(passed);
    verdict.decided_by = Some(by.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
    use std::collections::BTreeMap;

    fn rubric(panel: &[&str]) -> Rubric {
        Rubric {
            name: "r".to_owned(),
            version: "sha256:0".to_owned(),
            sample: 1.0,
            checks: vec![CheckSpec {
                kind: CheckKind::Grounding,
                fail_below: Some(0.2),
                pass_above: Some(0.9),
                options: CheckOptions::new(),
            }],
            panel: panel.iter().map(|s| (*s).to_owned()).collect(),
            pass: 0.5,
            ..Rubric::default()
        }
    }

    fn run(rubric: &Rubric, check: f64, votes: Vec<Vote>) -> Verdict {
        let job = Job {
            id: uuid::Uuid::nil(),
            trace_id: "t".to_owned(),
            unit: crate::domain::unit::Unit::Trace,
            replay: false,
            canary: false,
            rubric: "r".into(),
            rubric_version: "v".into(),
            inclusion_probability: 1.0,
            attempts: 1,
            votes: Vec::new(),
            enqueued_at: DateTime::UNIX_EPOCH,
            deadline_at: DateTime::UNIX_EPOCH,
        };
        let checks = vec![CheckResult::new("grounding", check > 0.5, check, json!({}))];
        let evaluation = Evaluation { checks, votes, ..Evaluation::default() };
        let weights = BTreeMap::new();
        let known = Known { weights: &weights, model: None };
        aggregate(rubric, evaluation, &job, Default::default(), (&known, DateTime::UNIX_EPOCH))
    }

    fn vote(judge: &str, score: Option<f64>) -> Vote {
        let error = score.is_none().then(|| "timeout".to_owned());
        let reason = score.map(|s| format!("I say {s}"));
        Vote { judge: judge.to_owned(), score, error, reason, cost_usd: 0.01, ..Vote::default() }
    }

    #[test]
    fn a_clear_check_decides_and_an_unclear_one_does_not() {
        let low = run(&rubric(&["a"]), 0.1, vec![]);
        assert_eq!((low.decided_by.as_deref(), low.passed, low.score), (Some("check"), Some(false), Some(0.1)));
        let unclear = run(&rubric(&["a"]), 0.5, vec![vote("a", Some(0.7))]);
        assert_eq!((unclear.decided_by.as_deref(), unclear.score), (Some("panel"), Some(0.7)));
        assert_eq!(unclear.explanation, "I say 0.7");
    }

    #[test]
    fn a_judges_failure_is_an_outcome_never_a_score() {
        let failed = run(&rubric(&["a"]), 0.5, vec![vote("a", None)]);
        assert_eq!((failed.outcome, failed.score, failed.passed), (Outcome::JudgeError, None, None));
        assert!(failed.explanation.contains("timeout"), "{}", failed.explanation);
        assert!((failed.cost_usd - 0.01).abs() < 1e-12, "failed attempts cost too");
    }

    #[test]
    fn half_of_the_panel_is_enough_and_the_failed_vote_counts_for_nothing() {
        let some = run(&rubric(&["a", "b"]), 0.5, vec![vote("a", Some(0.9)), vote("b", None)]);
        assert_eq!((some.outcome, some.score), (Outcome::Scored, Some(0.9)));
        let few = run(&rubric(&["a", "b", "c"]), 0.5, vec![vote("a", Some(0.9)), vote("b", None), vote("c", None)]);
        assert_eq!((few.outcome, few.score), (Outcome::JudgeError, None));
    }
}
