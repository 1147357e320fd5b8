//! Step 2: the spans of one trace → `Trace`, once it is whole; then sampled and enqueued in the same transaction.
//!
//! A loop over `store::take_due`. Its rule: the trace is a function of the set of its spans, so any order, splitting or doubling
//! of the input gives the same one; and between taking and settling there is only computation, no network. The way not
//! taken: keeping open traces in memory, which a restart loses and a second worker does not see.

#[cfg(test)]
mod captures;
mod context;
mod lift;
mod parts;
mod tools;

use super::{enqueue, labels, note, sample};
use crate::app::App;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::span::{Span, SpanKind};
use crate::domain::trace::Trace;
use crate::domain::verdict::TraceLabels;
use crate::runtime::cpu;
use crate::store::StoreError;
use crate::store::sessions::SessionTrace;
use crate::store::traces::{DecidedTrace, DueLimits, DueTraces, LateSpans, Settlement};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub use lift::assemble;

/// Name of the rule for traces without any span of a language model.
pub const NOTHING_TO_JUDGE: &str = "nothing to judge";

/// Name of the rule for traces above `assembly.trace_bytes_max`.
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
    let bytes = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let limits = DueLimits {
        traces: config.batch_traces_max,
        batch_bytes: bytes(config.batch_bytes_max),
        trace_bytes: bytes(config.trace_bytes_max),
    };
    let now = app.bench.clock.now();
    let Some(mut due) = app.store.take_due(now, limits).await? else { return Ok(false) };
    let oversized = std::mem::take(&mut due.oversized);
    let work =
        Work { spans: std::mem::take(&mut due.spans), decided: std::mem::take(&mut due.decided), oversized, now };
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

async fn finish(app: &App, due: DueTraces, settlement: Settlement, now: DateTime<Utc>) -> Result<(), StoreError> {
    let metrics = &app.bench.metrics;
    let kept = settlement.traces.iter().filter(|t| t.decision.kept).count() as u64;
    let left = settlement.traces.len() as u64 - kept;
    let late: u64 = settlement.late.iter().map(|l| u64::from(l.count.cast_unsigned())).sum();
    let at_once: Vec<(String, &'static str)> =
        settlement.verdicts.iter().map(|v| (v.rubric.clone(), v.outcome.as_str())).collect();
    let has_jobs = !settlement.jobs.is_empty();
    let labels: Vec<TraceLabels> = settlement.traces.iter().map(|t| t.labels.clone()).collect();
    due.settle(settlement, &app.sink_names(), now).await?;
    super::deployments::seen(app, &labels, now).await;
    metrics.traces_decided.with_label_values(&["true"]).inc_by(kept);
    metrics.traces_decided.with_label_values(&["false"]).inc_by(left);
    metrics.spans_late.inc_by(late);
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
    decided: HashMap<String, Option<Vec<u8>>>,
    oversized: Vec<(String, i32)>,
    now: DateTime<Utc>,
}

impl Work {
    fn settle(self, app: &App) -> Settlement {
        let session_times = super::sessions::times(&app.bench);
        let mut settlement = Settlement { session_times, ..Settlement::default() };
        for (trace_id, count) in self.oversized {
            if self.decided.contains_key(&trace_id) {
                settlement.late.push(LateSpans { trace_id, count, body: None });
            } else {
                settlement.traces.push(oversized(app, &trace_id, count));
            }
        }
        for (trace_id, bodies) in self.spans {
            let mut spans: Vec<Span> = bodies.iter().filter_map(|body| read_span(body)).collect();
            labels::take(app, &trace_id, &mut spans, self.now, &mut settlement.labels);
            match self.decided.get(&trace_id) {
                Some(body) => settlement.late.push(late(trace_id, spans, body.as_deref())),
                None => decide(app, assemble(&trace_id, spans), self.now, &mut settlement),
            }
        }
        settlement
    }
}

/// A trace that is not read: it is decided on, so that it can be looked up, and not kept.
fn oversized(app: &App, trace_id: &str, span_count: i32) -> DecidedTrace {
    let bare = Trace { trace_id: trace_id.to_owned(), ..Trace::default() };
    let decision = sample::decide(&app.bench.config.sampling, &bare);
    let rule = TOO_LARGE.to_owned();
    DecidedTrace {
        trace_id: trace_id.to_owned(),
        decision: SampleDecision { kept: false, rule, probability: 0.0, threshold: sample::NEVER, ..decision },
        span_count,
        body: None,
        labels: crate::domain::verdict::TraceLabels::default(),
        status: "ok",
    }
}

fn read_span(body: &[u8]) -> Option<Span> {
    serde_json::from_slice(body)
        .inspect_err(
            |error| tracing::error!(%error, "a span in the inbox cannot be read; was it written by a newer version?"),
        )
        .ok()
}

/// Adds spans to a trace that was decided on before; its jobs and verdicts stay as they are.
fn late(trace_id: String, new: Vec<Span>, body: Option<&[u8]>) -> LateSpans {
    let stored: Option<Trace> = body.and_then(|b| serde_json::from_slice(b).ok());
    // A span that was sent again after its trace was decided on is no late span.
    let same = |a: &Span, b: &Span| a.span_id == b.span_id && a.part.is_none() && b.part.is_none();
    let known = |span: &Span| stored.as_ref().is_some_and(|t| t.spans.iter().any(|s| same(s, span)));
    let fresh: Vec<Span> = new.into_iter().filter(|span| !known(span)).collect();
    let count = i32::try_from(fresh.len()).unwrap_or(i32::MAX);
    let body = stored.filter(|_| count > 0).map(|trace| {
        let merged = assemble(&trace_id, trace.spans.into_iter().chain(fresh).collect());
        serde_json::to_vec(&merged).expect("a trace can be written as JSON")
    });
    LateSpans { trace_id, count, body }
}

fn decide(app: &App, trace: Trace, now: DateTime<Utc>, settlement: &mut Settlement) {
    let config = &app.bench.config;
    let mut decision = sample::decide(&config.sampling, &trace);
    if trace.spans.iter().all(|span| matches!(span.kind, SpanKind::Other | SpanKind::Evaluator)) {
        let rule = NOTHING_TO_JUDGE.to_owned();
        decision = SampleDecision { kept: false, rule, probability: 0.0, threshold: sample::NEVER, ..decision };
    }
    if decision.kept {
        let rubrics = app.bench.rubrics.load();
        let job_for = super::seconds(config.work.job_seconds_max);
        let ledger = &app.bench.ledger;
        // Checks cost nothing, so no budget lowers them.
        let lowered = |rubric: &Rubric, labels: &TraceLabels| {
            if rubric.panel.is_empty() { None } else { ledger.rate(&rubric.name, labels, now) }
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
    });
}
