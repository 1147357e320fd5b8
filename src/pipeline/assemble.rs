//! Step 2: the spans of one trace → `Trace`, once it is whole; then sampled and enqueued in the same transaction.
//!
//! A loop over `store::take_due`; `assemble/reopen` is about what comes later. Its rule: the trace is a function of the set of its
//! spans, so any order, splitting or doubling of the input gives the same one; and between taking and settling there is only computation, no network. The way not
//! taken: keeping open traces in memory, which a restart loses and a second worker does not see.

#[cfg(test)]
mod captures;
mod context;
mod lift;
#[cfg(test)]
mod orders;
mod parts;
mod reopen;
mod tools;
mod tree;

use super::{enqueue, labels, note, sample, steps};
use crate::app::App;
use crate::domain::rubric::Rubric;
use crate::domain::span::{Span, SpanKind};
use crate::domain::step::Step;
use crate::domain::trace::Trace;
use crate::domain::verdict::TraceLabels;
use crate::runtime::cpu;
use crate::store::StoreError;
use crate::store::reopen::{Earlier, LateSpans, Renewed};
use crate::store::sessions::SessionTrace;
use crate::store::traces::{DecidedTrace, DueLimits, DueTraces, Settlement};
use chrono::{DateTime, Utc};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub use lift::assemble;

/// Name of the rule for traces without any span of a language model.
pub const NOTHING_TO_JUDGE: &str = "nothing to judge";

/// Name of the rule for traces above `assembly.trace_bytes_max` or `trace_spans_max`.
pub const TOO_LARGE: &str = "too large";

/// Assembles until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let tick = Duration::from_millis(app.bench.config.assembly.tick_ms);
    while !stop.is_cancelled() {
        match batch(&app).await {
            Ok(true) => continue, // more may be due
            Ok(false) => {}
            Err(error) => note(&app, &error, "traces were not assembled, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = app.wake.spans.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Assembles one batch; true when there was one.
///
/// # Errors
/// When the database fails; then the traces stay due.
pub async fn batch(app: &Arc<App>) -> Result<bool, StoreError> {
    let config = &app.bench.config.assembly;
    let whole = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let limits = DueLimits {
        traces: config.batch_traces_max,
        batch_bytes: whole(config.batch_bytes_max),
        trace_bytes: whole(config.trace_bytes_max),
        trace_spans: whole(config.trace_spans_max),
        feedback: app.bench.config.sampling.boosts.iter().any(|boost| boost.feedback.is_some()),
    };
    let now = app.bench.clock.now();
    // Fixed before any of the traces is looked at, and before the transaction takes a connection.
    let Some(step) = steps::current(app, now).await? else { return Ok(false) };
    let Some(mut due) = app.store.take_due(now, limits).await? else { return Ok(false) };
    let work = Work {
        older: older_rubrics(app, &mut due).await?,
        spans: std::mem::take(&mut due.spans),
        decided: std::mem::take(&mut due.decided),
        oversized: std::mem::take(&mut due.oversized),
        round: Round { now, step, disliked: std::mem::take(&mut due.disliked) },
    };
    let worker = Arc::clone(app);
    let Ok(settlement) = cpu::run(move || work.settle(&worker)).await else {
        // A trace that panics the assembler would do so for ever; it is a bug, and the log has its place.
        tracing::error!("assembling panicked, the traces stay due");
        tokio::time::sleep(Duration::from_secs(1)).await;
        return Ok(false);
    };
    finish(app, due, settlement, now).await?;
    // How much was taken says little about what is left, since bytes may have been the bound: look again.
    Ok(true)
}

/// Versions of rubrics by which traces that are reopened were judged and that are no longer active.
async fn older_rubrics(app: &App, due: &mut DueTraces) -> Result<Vec<Arc<Rubric>>, StoreError> {
    let catalog = app.bench.rubrics.load();
    let units = due.decided.values().flat_map(|earlier| &earlier.units);
    let inactive = units.filter(|unit| catalog.get(&unit.rubric, &unit.rubric_version).is_none());
    let wanted: BTreeSet<(String, String)> =
        inactive.map(|unit| (unit.rubric.clone(), unit.rubric_version.clone())).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<_> = wanted.into_iter().collect();
    Ok(due.rubrics(&wanted).await?.into_iter().map(Arc::new).collect())
}

async fn finish(app: &App, due: DueTraces, settlement: Settlement, now: DateTime<Utc>) -> Result<(), StoreError> {
    let metrics = &app.bench.metrics;
    let kept = settlement.traces.iter().filter(|t| t.decision.kept).count() as u64;
    let left = settlement.traces.len() as u64 - kept;
    let left_out: u64 = settlement.late.iter().map(|l| u64::from(l.count.cast_unsigned())).sum();
    let added: u64 = settlement.reopened.iter().map(|r| u64::from(r.count.cast_unsigned())).sum();
    let again = settlement.reopened.iter().filter(|r| !r.again.is_empty()).count() as u64;
    let unchanged = settlement.reopened.len() as u64 - again;
    let renewed = || settlement.reopened.iter().flat_map(|r| &r.again).map(|again| &again.new);
    let made = renewed().filter_map(|new| if let Renewed::Verdict(v) = new { Some(&**v) } else { None });
    let at_once: Vec<(String, &'static str)> =
        settlement.verdicts.iter().chain(made).map(|v| (v.rubric.clone(), v.outcome.as_str())).collect();
    let has_jobs = !settlement.jobs.is_empty() || renewed().any(|new| matches!(new, Renewed::Job(..)));
    let labels: Vec<TraceLabels> = settlement.traces.iter().map(|t| t.labels.clone()).collect();
    due.settle(settlement, &app.sink_names(), now).await?;
    super::deployments::seen(app, &labels, now).await;
    metrics.traces_decided.with_label_values(&["true"]).inc_by(kept);
    metrics.traces_decided.with_label_values(&["false"]).inc_by(left);
    for (counter, result, n) in [
        (&metrics.spans_late, "added", added),
        (&metrics.spans_late, "left_out", left_out),
        (&metrics.traces_reopened, "judged_again", again),
        (&metrics.traces_reopened, "unchanged", unchanged),
    ] {
        if n > 0 {
            counter.with_label_values(&[result]).inc_by(n);
        }
    }
    for (rubric, outcome) in at_once {
        metrics.verdicts.with_label_values(&[rubric.as_str(), outcome]).inc();
    }
    if has_jobs {
        app.wake.jobs.notify_one();
    }
    Ok(())
}

/// A batch, off the database.
struct Work {
    spans: HashMap<String, Vec<Vec<u8>>>,
    decided: HashMap<String, Earlier>,
    older: Vec<Arc<Rubric>>,
    oversized: Vec<(String, i32)>,
    round: Round,
}

/// What is the same for all traces of a batch.
struct Round {
    now: DateTime<Utc>,
    step: Arc<Step>,
    /// Traces of which somebody has said that they are not good.
    disliked: HashSet<String>,
}

impl Work {
    fn settle(self, app: &App) -> Settlement {
        let session_times = super::sessions::times(&app.bench);
        let mut settlement = Settlement { session_times, ..Settlement::default() };
        for (trace_id, count) in self.oversized {
            match self.decided.get(&trace_id) {
                Some(earlier) => settlement.late.push(LateSpans { trace_id, count: count - earlier.spans }),
                None => settlement.traces.push(oversized(app, &trace_id, count)),
            }
        }
        let late = reopen::Late { app, older: &self.older, now: self.round.now };
        for (trace_id, bodies) in self.spans {
            let mut spans: Vec<Span> = bodies.iter().filter_map(|body| read_span(body)).collect();
            let said = spans.iter().flat_map(|span| &span.labels).any(sample::is_negative);
            let feedback: Vec<bool> = spans.iter().map(reopen::is_feedback).collect();
            labels::take(app, &trace_id, &mut spans, self.round.now, &mut settlement.labels);
            let Some(earlier) = self.decided.get(&trace_id) else {
                let evidence = sample::Evidence { negative_feedback: said || self.round.disliked.contains(&trace_id) };
                decide(app, assemble(&trace_id, spans), &evidence, (&self.round, &mut settlement));
                continue;
            };
            let content =
                spans.into_iter().zip(feedback).filter_map(|(span, is_feedback)| (!is_feedback).then_some(span));
            let content: Vec<Span> = content.collect();
            if !content.is_empty() {
                late.take(trace_id, content, earlier, &mut settlement);
            }
        }
        settlement
    }
}

/// A trace that is not read: it is decided on, so that it can be looked up, and not kept.
fn oversized(app: &App, trace_id: &str, span_count: i32) -> DecidedTrace {
    let bare = Trace { trace_id: trace_id.to_owned(), ..Trace::default() };
    DecidedTrace {
        trace_id: trace_id.to_owned(),
        decision: sample::decide(&app.bench.config.sampling, &bare).never(TOO_LARGE, sample::NEVER),
        span_count,
        body: None,
        labels: crate::domain::verdict::TraceLabels::default(),
        status: "ok",
        counts: Vec::new(),
    }
}

fn read_span(body: &[u8]) -> Option<Span> {
    serde_json::from_slice(body)
        .inspect_err(
            |error| tracing::error!(%error, "a span in the inbox cannot be read; was it written by a newer version?"),
        )
        .ok()
}

fn decide(app: &App, trace: Trace, evidence: &sample::Evidence, (round, settlement): (&Round, &mut Settlement)) {
    let (config, now) = (&app.bench.config, round.now);
    let judgeable = trace.spans.iter().any(|span| !matches!(span.kind, SpanKind::Other | SpanKind::Evaluator));
    let sample::Draw { decision, counts } = if judgeable {
        sample::draw(&config.sampling, &round.step, evidence, &trace)
    } else {
        let decision = sample::decide(&config.sampling, &trace).never(NOTHING_TO_JUDGE, sample::NEVER);
        sample::Draw { decision, counts: Vec::new() }
    };
    if decision.kept {
        let rubrics = app.bench.rubrics.load();
        let job_for = super::seconds(config.work.job_seconds_max);
        let ledger = &app.bench.ledger;
        let budgets = &round.step.rates.budgets;
        // Checks cost nothing, so no budget lowers them.
        let lowered = |rubric: &Rubric, labels: &TraceLabels| {
            if rubric.panel.is_empty() { None } else { ledger.rate_in(budgets, &rubric.name, labels, now) }
        };
        for enqueued in enqueue::enqueue(&trace, &decision, rubrics.active(), &lowered, (now, job_for)) {
            match enqueued {
                enqueue::Enqueued::Job(job) => settlement.jobs.push(job),
                enqueue::Enqueued::Verdict(verdict) => settlement.verdicts.push(*verdict),
            }
        }
    }
    // A trace without any content that could be judged is no turn of a conversation.
    let session = sample::session_of(&trace.view).filter(|_| decision.rule != NOTHING_TO_JUDGE);
    settlement.sessions.extend(session.map(|key| SessionTrace {
        key,
        session: trace.view.session.clone().unwrap_or_default(),
        trace_id: trace.trace_id.clone(),
        started_at: trace.view.started_at,
        decision: decision.clone(),
        labels: enqueue::labels(&trace.view),
    }));
    settlement.traces.push(DecidedTrace {
        labels: enqueue::labels(&trace.view),
        status: if trace.failed() { "error" } else { "ok" },
        span_count: i32::try_from(trace.spans.len()).unwrap_or(i32::MAX),
        body: decision.kept.then(|| serde_json::to_vec(&trace).expect("a trace can be written as JSON")),
        trace_id: trace.trace_id,
        decision,
        counts,
    });
}
