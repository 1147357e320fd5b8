//! The steps from `enqueue` to `aggregate` for one trace, without a queue: one attempt, and the verdicts at once.
//!
//! Called by `cli::eval` and `benches/attacks`. Its rule: the same steps as the worker's, so that what is tried on a file is
//! what production does; sampling is for production, so everything that is given is judged. The way not taken: a judging
//! path of its own for files, which would drift.

use super::aggregate::aggregate;
use super::enqueue::{Enqueued, enqueue, join_ids, labels, not_lowered};
use super::evaluate::{Bounds, evaluate};
use super::sample::NEVER;
use crate::app::Bench;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::Verdict;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One verdict for each rubric, in their order; of the trace as it would be stored, so redacted.
pub async fn judge(bench: &Bench, rubrics: &[Arc<Rubric>], trace: &Arc<Trace>) -> Vec<Verdict> {
    let mut redacted = Trace::clone(trace);
    bench.redactor.span(&mut redacted.view);
    redacted.spans.iter_mut().for_each(|span| drop(bench.redactor.span(span)));
    let trace = &Arc::new(redacted);
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
    let models = bench.panel_models.load();
    let times = (bench.clock.now(), TimeDelta::days(1));
    let mut verdicts = Vec::new();
    for (rubric, enqueued) in rubrics.iter().zip(enqueue(trace, &all, rubrics, &not_lowered, times)) {
        verdicts.push(match enqueued {
            Enqueued::Verdict(verdict) => *verdict,
            Enqueued::Job(job) => {
                let until = Instant::now() + Duration::from_millis(bench.config.work.lease_ms);
                let bounds =
                    Bounds { cancel: CancellationToken::new(), until, last: true, only: true, quorum_is_enough: true };
                // The only attempt always ends in an evaluation, unless it is cancelled, which nobody does here.
                let evaluation = evaluate(bench, rubric, Arc::clone(trace), &job, &bounds).await.unwrap_or_default();
                let about = (labels(&trace.view), join_ids(&trace.view));
                aggregate(rubric, evaluation, &job, about, (&bench.known(&models, rubric), bench.clock.now()))
            }
        });
    }
    verdicts
}
