//! What would become of a trace by a rubric, without judging it; or with, when that is asked for.
//!
//! Called by `cli::explain`. Its rule: each answer comes from the step that would give it (`enqueue`, the checks, `aggregate`, the
//! question's own rendering), so it cannot differ from what the worker does. The way not taken: a description of the rules,
//! which would have to be kept in step with them.

use super::aggregate::decided_by_check;
use super::enqueue::{Enqueued, enqueue, not_lowered};
use super::evaluate::{Preview, preview, run_checks};
use super::{offline, sample};
use crate::app::Bench;
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::{Combine, Rubric};
use crate::domain::trace::Trace;
use crate::domain::verdict::{CheckResult, Outcome, Verdict};
use crate::judge::hide::without_content;
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// What would become of a trace by one rubric.
#[derive(Debug, Clone, Serialize)]
pub struct Foreseen {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The span that it is about, for rubrics that judge spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// How it would end without asking a judge; `None` = judges would be asked.
    pub outcome: Option<Outcome>,
    /// Why it would not be judged.
    pub why: Option<String>,
    /// What the checks find.
    pub checks: Vec<CheckResult>,
    /// The check that decides by itself, and whether the rubric passes by it.
    pub decided_by_check: Option<(String, bool)>,
    /// How votes become one score.
    pub combine: Combine,
    /// The score from which on it passes.
    pub pass: f64,
    /// What the judges would be asked.
    pub asked: Vec<Asked>,
    /// The verdict, where checks decide or judges were asked.
    pub verdict: Option<Value>,
}

/// What some judges would be asked, all of them the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// Judges of the panel.
    pub judges: Vec<String>,
    /// Those of them that the configuration does not have.
    pub unknown: Vec<String>,
    /// Role and text; without the text of the trace unless it is asked for.
    pub messages: Vec<(&'static str, String)>,
}

/// What else is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Ask the judges, which costs money.
    pub ask: bool,
    /// Show the text of the trace.
    pub content: bool,
}

/// What would become of a trace that is as it would be stored: one for each unit of it that the rubric is about.
pub async fn foresee(
    bench: &Bench,
    rubric: &Arc<Rubric>,
    trace: &Arc<Trace>,
    decision: &SampleDecision,
    wish: Wish,
) -> Vec<Foreseen> {
    // What is left out as a whole is said elsewhere; here it is as if it were kept.
    let kept = if decision.kept { decision.clone() } else { kept_anyway(decision) };
    let times = (bench.clock.now(), TimeDelta::days(1));
    let mut all = Vec::new();
    for enqueued in enqueue(trace, &kept, std::slice::from_ref(rubric), &not_lowered, times) {
        all.push(match enqueued {
            Enqueued::Verdict(verdict) => Foreseen {
                span_id: verdict.span_id.clone(),
                outcome: Some(verdict.outcome),
                why: Some(verdict.explanation.clone()),
                ..nothing(rubric)
            },
            Enqueued::Job(job) => one(bench, rubric, (&offline::seen(trace, &job), &job), wish).await,
        });
    }
    if all.is_empty() {
        let session = trace.view.session.as_deref().unwrap_or_default();
        let why = format!("the trace is part of session {session}, which is judged as a whole once it is quiet");
        all.push(Foreseen { why: Some(why), ..nothing(rubric) });
    }
    all
}

fn nothing(rubric: &Rubric) -> Foreseen {
    Foreseen {
        rubric: rubric.name.clone(),
        rubric_version: rubric.version.clone(),
        span_id: None,
        outcome: None,
        why: None,
        checks: Vec::new(),
        decided_by_check: None,
        combine: rubric.combine,
        pass: rubric.pass,
        asked: Vec::new(),
        verdict: None,
    }
}

/// What would become of a trace or a span of it; `seen` is what a judge sees of that.
async fn one(bench: &Bench, rubric: &Arc<Rubric>, (seen, job): (&Arc<Trace>, &Job), wish: Wish) -> Foreseen {
    let mut made = Foreseen { span_id: job.unit.span_id().map(str::to_owned), ..nothing(rubric) };
    made.checks = run_checks(rubric, seen).await;
    made.decided_by_check = decided_by_check(rubric, &made.checks).map(|(check, passed)| (check.check.clone(), passed));
    let judged = !rubric.panel.is_empty() && made.decided_by_check.is_none();
    if judged {
        match asked(bench, rubric, seen, wish.content) {
            Ok(asked) => made.asked = asked,
            Err((outcome, why)) => {
                (made.outcome, made.why) = (Some(outcome), Some(why));
                return made;
            }
        }
    }
    if wish.ask || !judged {
        let verdict = offline::settle(bench, rubric, seen, job).await;
        offline::keep_votes(bench, std::slice::from_ref(&verdict)).await;
        made.outcome = Some(verdict.outcome);
        made.verdict = Some(Verdict::line(&verdict));
    }
    made
}

/// The decision on a trace as if its draw had been enough.
fn kept_anyway(decision: &SampleDecision) -> SampleDecision {
    SampleDecision { kept: true, threshold: 0, randomness: sample::NEVER - 1, ..decision.clone() }
}

/// What the judges of a rubric are asked about a trace; judges that are asked the same stand together.
///
/// # Errors
/// The outcome, and why there is no question.
pub fn asked(
    bench: &Bench,
    rubric: &Arc<Rubric>,
    trace: &Trace,
    content: bool,
) -> Result<Vec<Asked>, (Outcome, String)> {
    let mut all: Vec<Asked> = Vec::new();
    for Preview { judge, nonce, messages } in preview(bench, rubric, trace)? {
        let shown = |text: &str| if content { text.to_owned() } else { without_content(text, &nonce) };
        let messages: Vec<(&'static str, String)> = messages.iter().map(|(role, text)| (*role, shown(text))).collect();
        let unknown = bench.judges.get(&judge).is_none().then(|| judge.clone());
        match all.iter_mut().find(|asked| asked.messages == messages) {
            Some(same) => {
                same.judges.push(judge);
                same.unknown.extend(unknown);
            }
            None => all.push(Asked { judges: vec![judge], unknown: unknown.into_iter().collect(), messages }),
        }
    }
    Ok(all)
}
