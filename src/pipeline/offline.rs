//! The steps from `enqueue` to `aggregate` for one trace or session, without a queue: one attempt, and the verdicts at once.
//!
//! Called by `cli::eval`, `cli::rubric`, `trial`, `foresee` and `benches/attacks`. Its rule: the same steps as the worker's, so that what is tried on a file is
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
use crate::domain::unit::{Evaluates, SessionRef, Unit, session_key};
use crate::domain::verdict::Verdict;
use crate::judge::prompt;
use crate::store::{Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The verdicts of one trace, in the order of the rubrics: one each, of a rubric about spans one for each span that fits; of a rubric about
/// sessions only that the trace is in none. Of the trace as it would be stored, so redacted.
pub async fn judge(bench: &Bench, rubrics: &[Arc<Rubric>], trace: &Arc<Trace>) -> Vec<Verdict> {
    let trace = &stored(bench, trace);
    let mut verdicts = Vec::new();
    for rubric in rubrics {
        verdicts.extend(judge_stored(bench, rubric, trace).await);
    }
    verdicts
}

/// Kept traces that the service has stored since then, with their spans; at most `max`, the newest.
///
/// # Errors
/// When the database fails or a stored trace cannot be read.
pub async fn stored_traces(store: &Store, since: DateTime<Utc>, max: i64) -> Result<Vec<Trace>, StoreError> {
    let bodies = store.recent_bodies(since, max).await?;
    let read = |body: &Vec<u8>| {
        serde_json::from_slice(body).map_err(|source| StoreError::Content { what: "a stored trace".to_owned(), source })
    };
    bodies.iter().map(read).collect()
}

/// The trace as it would be stored: redacted.
#[must_use]
pub fn stored(bench: &Bench, trace: &Trace) -> Arc<Trace> {
    let mut redacted = trace.clone();
    bench.redactor.span(&mut redacted.view);
    redacted.spans.iter_mut().for_each(|span| drop(bench.redactor.span(span)));
    Arc::new(redacted)
}

/// The verdicts of a rubric on a trace that is as it would be stored.
pub async fn judge_stored(bench: &Bench, rubric: &Arc<Rubric>, trace: &Arc<Trace>) -> Vec<Verdict> {
    let all = SampleDecision {
        kept: true,
        rule: "offline".to_owned(),
        probability: 1.0,
        // The highest draw: above the threshold of any rubric's own sample.
        randomness: NEVER - 1,
        threshold: 0,
        source: "none".to_owned(),
        ..SampleDecision::default()
    };
    let times = (bench.clock.now(), TimeDelta::days(1));
    let mut verdicts = Vec::new();
    for enqueued in enqueue(trace, &all, std::slice::from_ref(rubric), &not_lowered, times) {
        verdicts.push(match enqueued {
            Enqueued::Verdict(verdict) => *verdict,
            Enqueued::Job(job) => settle(bench, rubric, &seen(trace, &job), &job).await,
        });
    }
    verdicts
}

/// What of a trace a job is about.
pub(super) fn seen(trace: &Arc<Trace>, job: &Job) -> Arc<Trace> {
    match job.unit.span_id().and_then(|span| units::span_view(trace, span)) {
        Some(seen) => Arc::new(seen),
        None => Arc::clone(trace),
    }
}

/// Traces by the session that they are in, each session in the order of time; those in none are left out.
#[must_use]
pub fn by_session<T: Borrow<Trace>>(traces: &[T]) -> Vec<Vec<&Trace>> {
    let mut found: BTreeMap<Uuid, Vec<&Trace>> = BTreeMap::new();
    for trace in traces {
        let trace: &Trace = trace.borrow();
        if let Some(key) = sample::session_of(&trace.view) {
            found.entry(key).or_default().push(trace);
        }
    }
    let mut sessions: Vec<Vec<&Trace>> = found.into_values().collect();
    for session in &mut sessions {
        // Stable: where no time is given, the order of the file counts.
        session.sort_by_key(|trace| trace.view.started_at);
    }
    sessions
}

/// One verdict of a session for each of the rubrics that is about sessions.
pub async fn judge_session(bench: &Bench, rubrics: &[Arc<Rubric>], traces: &[&Trace]) -> Vec<Verdict> {
    let traces: Vec<Trace> = traces.iter().map(|trace| Trace::clone(&stored(bench, trace))).collect();
    let mut verdicts = Vec::new();
    let Some(last) = traces.last() else { return verdicts };
    let session = last.view.session.clone().unwrap_or_else(|| last.trace_id.clone());
    let key = session_key(last.view.service.as_deref(), last.view.tenant.as_deref(), &session);
    for rubric in rubrics.iter().filter(|rubric| rubric.evaluates == Evaluates::Session) {
        let unit = Unit::Session(SessionRef { key, session: session.clone(), ordinal: 1 });
        let now = bench.clock.now();
        let times = (now, now + TimeDelta::days(1));
        let job = Job::new(&last.trace_id, unit, (&rubric.name, &rubric.version), times);
        let (seen, shown) = sessions::view(bench, rubric, &traces, (traces.len(), 0));
        let mut verdict = match reason_not_to_judge(&seen, None, rubric, &prompt::inputs(&seen)) {
            Some((outcome, why)) => {
                let verdict = job.unscored(outcome, why, labels(&seen.view), now);
                Verdict { join: join_ids(&seen.view), kind: rubric.output.kind(), ..verdict }
            }
            None => settle(bench, rubric, &Arc::new(seen), &job).await,
        };
        sessions::tell(&mut verdict, shown);
        verdicts.push(verdict);
    }
    verdicts
}

/// Keeps the votes of verdicts that are stored nowhere, so that the same question is not paid for again.
pub async fn keep_votes(bench: &Bench, verdicts: &[Verdict]) {
    let Some(store) = bench.cache() else { return };
    let votes: Vec<_> = verdicts.iter().flat_map(|v| v.votes.clone()).collect();
    let keep_for = super::seconds(bench.config.work.cache_seconds);
    if let Err(error) = store.cache_votes(&votes, keep_for, bench.clock.now()).await {
        tracing::warn!(%error, "votes could not be kept: the same questions will be paid for again");
    }
}

/// Judges a job in one attempt.
pub(super) async fn settle(bench: &Bench, rubric: &Arc<Rubric>, trace: &Arc<Trace>, job: &Job) -> Verdict {
    let models = bench.panel_models.load();
    let until = Instant::now() + Duration::from_millis(bench.config.work.lease_ms);
    let bounds = Bounds { cancel: CancellationToken::new(), until, last: true, only: true, quorum_is_enough: true };
    // The only attempt always ends in an evaluation, unless it is cancelled, which nobody does here.
    let evaluation = evaluate(bench, rubric, Arc::clone(trace), job, &bounds).await.unwrap_or_default();
    let about = (labels(&trace.view), join_ids(&trace.view));
    aggregate(rubric, evaluation, job, about, (&bench.known(&models, rubric), bench.clock.now()))
}
