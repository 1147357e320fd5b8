//! The floor: the statements that write the same rows, in the same batches, with rows that are ready.

use super::{CONNECTIONS, trace};
use assize::dialect::native;
use assize::domain::job::{Job, Lease};
use assize::domain::verdict::{CheckResult, Outcome, TraceLabels, Verdict};
use assize::pipeline::assemble::assemble;
use assize::pipeline::ingest::row;
use assize::store::Store;
use assize::store::inbox::{DueAfter, InboxSpan};
use assize::store::traces::{DecidedTrace, DueLimits, Settlement};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const BATCH: usize = 500;

const LIMITS: DueLimits =
    DueLimits { traces: BATCH, batch_bytes: i64::MAX, trace_bytes: i64::MAX, trace_spans: i64::MAX, feedback: false };

struct Batch {
    spans: Vec<InboxSpan>,
    settlement: Settlement,
}

/// Runs the statements over all batches, as many at a time as there are connections.
pub async fn run(store: &Store, traces: usize) -> Duration {
    let now = Utc::now();
    let batches: Vec<Batch> =
        (0..traces.div_ceil(BATCH)).map(|b| batch(b * BATCH..((b + 1) * BATCH).min(traces), now)).collect();
    let queue = Arc::new(tokio::sync::Mutex::new(batches.into_iter()));
    let judged = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(one_connection(store.clone(), Arc::clone(&queue), Arc::clone(&judged), now)))
        .collect();
    for task in tasks {
        task.await.expect("the statements succeed");
    }
    // What connections took from under each other is finished here.
    loop {
        match judge(store, now).await {
            0 => break,
            count => judged.fetch_add(count, Ordering::Relaxed),
        };
    }
    while let Some(rest) = store.take_due(now, LIMITS).await.expect("due") {
        rest.settle(Settlement::default(), &[], now).await.expect("nothing to write");
    }
    assert_eq!(judged.load(Ordering::Relaxed), traces, "the floor writes every row");
    start.elapsed()
}

async fn one_connection(
    store: Store,
    queue: Arc<tokio::sync::Mutex<std::vec::IntoIter<Batch>>>,
    judged: Arc<AtomicUsize>,
    now: DateTime<Utc>,
) {
    loop {
        let Some(batch) = queue.lock().await.next() else { return };
        store.put_spans(batch.spans, DueAfter { quiet_ms: 0, idle_ms: 0, cap_ms: 0 }, now).await.expect("spans");
        // Takes whatever is due; which batch's it is makes no difference to the rows.
        let due = loop {
            // Another connection may have taken ours before it put its own.
            if let Some(due) = store.take_due(now, LIMITS).await.expect("due") {
                break due;
            }
        };
        due.settle(batch.settlement, &[], now).await.expect("traces and jobs");
        judged.fetch_add(judge(&store, now).await, Ordering::Relaxed);
    }
}

/// Claims a batch and stores its verdicts; gives their number.
async fn judge(store: &Store, now: DateTime<Utc>) -> usize {
    let leases = store.claim(uuid::Uuid::nil(), BATCH, TimeDelta::minutes(3), now).await.expect("leases");
    let with_verdict = |lease: Lease<Job>| {
        let verdict = verdict(&lease.item, now);
        (lease, verdict)
    };
    let settled: Vec<_> = leases.into_iter().map(with_verdict).collect();
    store.settle(&settled, &["unsent"], TimeDelta::zero(), now).await.expect("verdicts").len()
}

fn batch(range: std::ops::Range<usize>, now: DateTime<Utc>) -> Batch {
    let (mut spans, mut settlement) = (Vec::new(), Settlement::default());
    for n in range {
        let decoded = native::spans(&trace(n)).expect("valid");
        spans.extend(decoded.iter().map(row));
        let trace = assemble(&decoded[0].trace_id.clone(), decoded);
        let decision = assize::pipeline::sample::decide(&assize::config::Sampling::default(), &trace);
        settlement.jobs.push(job(&trace.trace_id, now));
        settlement.traces.push(DecidedTrace {
            labels: assize::pipeline::enqueue::labels(&trace.view),
            status: "ok",
            span_count: 1,
            body: Some(serde_json::to_vec(&trace).expect("JSON")),
            trace_id: trace.trace_id,
            decision,
            counts: Vec::new(),
        });
    }
    Batch { spans, settlement }
}

fn job(trace_id: &str, now: DateTime<Utc>) -> Job {
    Job {
        id: assize::domain::ids::job_id(trace_id, "answered", "sha256:000000000000"),
        trace_id: trace_id.to_owned(),
        unit: assize::domain::unit::Unit::Trace,
        replay: false,
        canary: false,
        rubric: "answered".into(),
        rubric_version: "sha256:000000000000".into(),
        inclusion_probability: 1.0,
        attempts: 0,
        votes: Vec::new(),
        enqueued_at: now,
        deadline_at: now + TimeDelta::days(1),
    }
}

fn verdict(job: &Job, now: DateTime<Utc>) -> Verdict {
    let text = |s: &str| Some(s.to_owned());
    let labels = TraceLabels {
        service: text("shop"),
        environment: text("bench"),
        feature: text("returns"),
        prompt_name: text("support"),
        prompt_version: text("v1"),
        model: text("gpt-4o-mini"),
        ..TraceLabels::default()
    };
    let check = CheckResult::new("failure_to_answer", true, 0.98, serde_json::json!({"category": "answered"}));
    Verdict {
        score: Some(0.98),
        passed: Some(true),
        raw: serde_json::json!(0.98),
        decided_by: text("check"),
        checks: vec![check],
        ..job.unscored(Outcome::Scored, "failure_to_answer: answered".to_owned(), labels, now)
    }
}
