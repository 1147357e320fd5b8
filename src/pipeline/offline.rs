//! The steps from `enqueue` to `aggregate` for one trace or session, without a queue: one attempt, and the verdicts at once.
//!
//! Called by `cli::eval`, `trial` and `benches/attacks`. Its rule: the same steps as the worker's, so that what is tried on a file is
//! what production does; sampling is for production, so everything that is given is judged. The way not taken: a judging
//! path of its own for files, which would drift.

use super::aggregate::aggregate;
use super::enqueue::{Enqueued, enqueue, join_ids, labels, not_lowered, reason_not_to_judge};
use super::evaluate::{Bounds, evaluate};
use super::sample::{self, NEVER};
use super::{sessions, units};
use crate::app::Bench;
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::{Evaluates, SessionRef, Unit, session_key, unit_job_id};
use crate::domain::verdict::Verdict;
use crate::judge::prompt;
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The verdicts of one trace, in the order of the rubrics: one each, of a rubric about spans one for each span that fits; of a rubric about
/// sessions only that the trace is in none. Of the trace as it would be stored, so redacted.
pub async fn judge(bench: &Bench, rubrics: &[Arc<Rubric>], trace: &Arc<Trace>) -> Vec<Verdict> {
    let trace = &Arc::new(redacted(bench, trace));
    let all = SampleDecision {
        kept: true,
        rule: "offline".to_owned(),
        probability: 1.0,
        // The highest draw: above the threshold of any rubric's own sample.
        randomness: NEVER - 1,
        threshold: 0,
        source: "none".to_owned(),
    };
    let times = (bench.clock.now(), TimeDelta::days(1));
    let mut verdicts = Vec::new();
    for rubric in rubrics {
        for enqueued in enqueue(trace, &all, std::slice::from_ref(rubric), &not_lowered, times) {
            verdicts.push(match enqueued {
                Enqueued::Verdict(verdict) => *verdict,
                Enqueued::Job(job) => {
                    let seen = match job.unit.span_id().and_then(|span| units::span_view(trace, span)) {
                        Some(seen) => Arc::new(seen),
                        None => Arc::clone(trace),
                    };
                    settled(bench, rubric, seen, &job).await
                }
            });
        }
    }
    verdicts
}

/// Traces by the session that they are in, each session in the order of time; those in none are left out.
#[must_use]
pub fn by_session(traces: &[Trace]) -> Vec<Vec<Trace>> {
    let mut found: BTreeMap<Uuid, Vec<&Trace>> = BTreeMap::new();
    for trace in traces {
        if let Some(key) = sample::session_of(&trace.view) {
            found.entry(key).or_default().push(trace);
        }
    }
    let ordered = |mut session: Vec<&Trace>| {
        // Stable: where no time is given, the order of the file counts.
        session.sort_by_key(|trace| trace.view.started_at);
        session.into_iter().cloned().collect()
    };
    found.into_values().map(ordered).collect()
}

/// One verdict of a session for each of the rubrics that is about sessions.
pub async fn judge_session(bench: &Bench, rubrics: &[Arc<Rubric>], traces: &[Trace]) -> Vec<Verdict> {
    let traces: Vec<Trace> = traces.iter().map(|trace| redacted(bench, trace)).collect();
    let mut verdicts = Vec::new();
    let Some(last) = traces.last() else { return verdicts };
    let session = last.view.session.clone().unwrap_or_else(|| last.trace_id.clone());
    let key = session_key(last.view.service.as_deref(), last.view.tenant.as_deref(), &session);
    for rubric in rubrics.iter().filter(|rubric| rubric.evaluates == Evaluates::Session) {
        let unit = Unit::Session(SessionRef { key, session: session.clone(), ordinal: 1 });
        let now = bench.clock.now();
        let job = Job {
            id: unit_job_id(&last.trace_id, &unit, &rubric.name, &rubric.version),
            trace_id: last.trace_id.clone(),
            unit,
            replay: false,
            rubric: rubric.name.as_str().into(),
            rubric_version: rubric.version.as_str().into(),
            inclusion_probability: 1.0,
            attempts: 0,
            votes: Vec::new(),
            enqueued_at: now,
            deadline_at: now + TimeDelta::days(1),
        };
        let (seen, shown) = sessions::view(bench, rubric, &traces, (traces.len(), 0));
        let mut verdict = match reason_not_to_judge(&seen, None, rubric, &prompt::inputs(&seen)) {
            Some((outcome, why)) => {
                let verdict = job.unscored(outcome, why, labels(&seen.view), now);
                Verdict { join: join_ids(&seen.view), kind: rubric.output.kind(), ..verdict }
            }
            None => settled(bench, rubric, Arc::new(seen), &job).await,
        };
        sessions::tell(&mut verdict, shown);
        verdicts.push(verdict);
    }
    verdicts
}

fn redacted(bench: &Bench, trace: &Trace) -> Trace {
    let mut redacted = trace.clone();
    bench.redactor.span(&mut redacted.view);
    redacted.spans.iter_mut().for_each(|span| drop(bench.redactor.span(span)));
    redacted
}

/// The only attempt at a job.
async fn settled(bench: &Bench, rubric: &Arc<Rubric>, seen: Arc<Trace>, job: &Job) -> Verdict {
    let models = bench.panel_models.load();
    let until = Instant::now() + Duration::from_millis(bench.config.work.lease_ms);
    let bounds = Bounds { cancel: CancellationToken::new(), until, last: true, only: true, quorum_is_enough: true };
    let about = (labels(&seen.view), join_ids(&seen.view));
    // It always ends in an evaluation, unless it is cancelled, which nobody does here.
    let evaluation = evaluate(bench, rubric, seen, job, &bounds).await.unwrap_or_default();
    aggregate(rubric, evaluation, job, about, (&bench.known(&models, rubric), bench.clock.now()))
}
