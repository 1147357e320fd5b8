//! The churn of the inbox: what a table comes to whose rows live for seconds, with Postgres's own settings of autovacuum and others.
//!
//! Its rule: the store's own statements, nothing else; one task puts spans in, at most so many a second, another takes due traces out
//! and writes nothing.

use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use assize::store::inbox::{DueAfter, InboxSpan};
use assize::store::traces::{DueLimits, Settlement};
use chrono::Utc;
use serde_json::json;
use sqlx::Executor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Spans of one transaction.
const BATCH: usize = 500;

/// How long a trace stays.
const STAYS: DueAfter = DueAfter { quiet_ms: 5_000, idle_ms: 5_000, cap_ms: 60_000 };

const LIMITS: DueLimits =
    DueLimits { traces: BATCH, batch_bytes: i64::MAX, trace_bytes: i64::MAX, trace_spans: i64::MAX, feedback: false };

const EAGER: &str =
    "ALTER TABLE inbox_spans SET (autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.01);
    ALTER TABLE open_traces SET (autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.01)";

/// Measures both settings for `seconds` each; longer than a minute, which is how often autovacuum looks.
pub async fn run(seconds: u64, rate: u64) {
    let dir = std::env::temp_dir().join(format!("assize-bench-inbox-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    for (name, settings) in [("Postgres's own", "SELECT 1"), ("eager", EAGER)] {
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let store = Store::connect(&url, 4, Duration::from_secs(30)).await.expect("the database is there");
        store.migrate().await.expect("the tables can be made");
        store.pool().execute(settings).await.expect("settings can be made");
        let line = churn(&store, Duration::from_secs(seconds), rate).await;
        println!("{}", json!({"bench": "inbox", "autovacuum": name, "figures": line}));
    }
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
}

async fn churn(store: &Store, time: Duration, rate: u64) -> serde_json::Value {
    let (done, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let putting = tokio::spawn(put(store.clone(), Arc::clone(&done), rate));
    let taking = tokio::spawn(take(store.clone(), Arc::clone(&done), Arc::clone(&taken)));
    let start = Instant::now();
    let (mut peak, mut course, mut halves) = (0, Vec::new(), [0_u64; 2]);
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (bytes, rows, vacuums): (i64, i64, i64) = sqlx::query_as(
            "SELECT pg_total_relation_size('inbox_spans'), (SELECT count(*) FROM inbox_spans),
                    coalesce((SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'inbox_spans'), 0)",
        )
        .fetch_one(store.pool())
        .await
        .expect("it can be measured");
        peak = peak.max(bytes);
        let count = taken.load(Ordering::Relaxed);
        halves[usize::from(start.elapsed() > time / 2)] = count;
        course.push(json!([start.elapsed().as_secs(), bytes / 1_000_000, rows, vacuums, count]));
    }
    done.store(true, Ordering::Relaxed);
    putting.await.expect("it ends");
    taking.await.expect("it ends");
    let seconds = time.as_secs_f64() / 2.0;
    json!({
        "spans_per_second": [(halves[0] as f64 / seconds).round(), ((halves[1] - halves[0]) as f64 / seconds).round()],
        "peak_mb": peak / 1_000_000,
        "seconds_mb_rows_vacuums_spans": course,
    })
}

async fn put(store: Store, done: Arc<AtomicBool>, rate: u64) {
    let body = "Sofas can be returned within 30 days of delivery. ".repeat(26).into_bytes();
    let (mut n, start): (u128, _) = (0, Instant::now());
    while !done.load(Ordering::Relaxed) {
        let spans = (0..BATCH as u128).map(|s| InboxSpan {
            trace_id: format!("{:032x}", (((n + s) >> 1) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
            span_id: format!("{:016x}", n + s),
            root_ended: true,
            complete: false,
            body: body.clone(),
        });
        store.put_spans(spans.collect(), STAYS, Utc::now()).await.expect("they are stored");
        n += BATCH as u128;
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
    }
}

async fn take(store: Store, done: Arc<AtomicBool>, taken: Arc<AtomicU64>) {
    while !done.load(Ordering::Relaxed) {
        match store.take_due(Utc::now(), LIMITS).await.expect("they are taken") {
            Some(due) => {
                let spans: usize = due.spans.values().map(Vec::len).sum();
                due.settle(Settlement::default(), &[], Utc::now()).await.expect("there is nothing to write");
                taken.fetch_add(spans as u64, Ordering::Relaxed);
            }
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
