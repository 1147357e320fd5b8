//! The steps from `enqueue` to `aggregate` for one trace, without a queue: one attempt, and the verdicts at once.
//!
//! Called by `cli::eval`, `trial`, `foresee` and `benches/attacks`. Its rule: the same steps as the worker's, so that what is tried on a file is
//! what production does; sampling is for production, so everything that is given is judged. The way not taken: a judging
//! path of its own for files, which would drift.

use super::aggregate::aggregate;
use super::enqueue::{Enqueued, enqueue, join_ids, labels, not_lowered};
use super::evaluate::{Bounds, evaluate};
use super::sample::NEVER;
use crate::app::Bench;
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::Verdict;
use crate::store::{Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One verdict for each rubric, in their order; of the trace as it would be stored, so redacted.
pub async fn judge(bench: &Bench, rubrics: &[Arc<Rubric>], trace: &Arc<Trace>) -> Vec<Verdict> {
    let trace = &stored(bench, trace);
    let mut verdicts = Vec::new();
    for rubric in rubrics {
        verdicts.push(judge_stored(bench, rubric, trace).await);
    }
    verdicts
}

/// Kept traces that the service has stored since then, as far as judging needs them; at most `max`, the newest.
///
/// # Errors
/// When the database fails or a stored trace cannot be read.
pub async fn stored_traces(store: &Store, since: DateTime<Utc>, max: i64) -> Result<Vec<Trace>, StoreError> {
    let bodies = store.recent_bodies(since, max).await?;
    let read = |body: &Vec<u8>| {
        Trace::to_judge(body).map_err(|source| StoreError::Content { what: "a stored trace".to_owned(), source })
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

/// The verdict on a trace that is as it would be stored.
pub async fn judge_stored(bench: &Bench, rubric: &Arc<Rubric>, trace: &Arc<Trace>) -> Verdict {
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
    match enqueue(trace, &all, std::slice::from_ref(rubric), &not_lowered, times).swap_remove(0) {
        Enqueued::Verdict(verdict) => *verdict,
        Enqueued::Job(job) => settle(bench, rubric, trace, &job).await,
    }
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
