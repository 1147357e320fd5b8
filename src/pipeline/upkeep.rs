//! Counting what waits, removing what is no longer needed, and sharing what was learnt about endpoints.
//!
//! One loop a process, started by `pipeline::start`. Its rule: it takes no input and may run anywhere, any number of times; what
//! it counts bounds the door (`ingest`) and shows in `/metrics`. The way not taken: counting at each request.

use super::note;
use crate::app::App;
use crate::store::StoreError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(2);

/// Ticks between removals.
const REMOVE_EVERY: u64 = 30;

/// Rows removed at once at most.
const REMOVE_MAX: i64 = 100_000;

/// Keeps up until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut ticks: u64 = 0;
    while !stop.is_cancelled() {
        if let Err(error) = once(&app, ticks.is_multiple_of(REMOVE_EVERY)).await {
            note(&app, &error, "upkeep failed, trying again");
        }
        ticks += 1;
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Counts once, and removes once when asked to.
///
/// # Errors
/// When the database fails.
pub async fn once(app: &App, remove: bool) -> Result<(), StoreError> {
    let config = &app.bench.config;
    let backlog = app.store.backlog(config.ingest.backlog_max.saturating_add(1)).await?;
    app.backlog.store(backlog, Ordering::Relaxed);
    let now = app.bench.clock.now();
    let stats = app.store.queue_stats(now).await?;
    let waiting = &app.bench.metrics.waiting;
    let show = |kind: &str, value: i64| waiting.with_label_values(&[kind]).set(value as f64);
    show("inbox_spans", stats.inbox_spans);
    show("open_traces", stats.open_traces);
    show("jobs_ready", stats.ready);
    show("jobs_delayed", stats.delayed);
    show("jobs_leased", stats.leased);
    waiting.with_label_values(&["oldest_ready_job_seconds"]).set(stats.oldest_ready_seconds);
    for sink in &app.sinks {
        show(&format!("events_{}", sink.name()), 0);
        show(&format!("events_dead_{}", sink.name()), 0);
    }
    for sink in &stats.outbox {
        show(&format!("events_{}", sink.sink), sink.waiting);
        show(&format!("events_dead_{}", sink.sink), sink.dead);
    }
    exchange_knowledge(app).await?;
    if remove {
        let keep = super::seconds(config.retention.sampled_out_seconds);
        app.store.forget_sampled_out(now - keep, REMOVE_MAX).await?;
        let most = i64::try_from(config.work.cache_votes_max).unwrap_or(i64::MAX);
        app.store.trim_vote_cache(most, REMOVE_MAX, now).await?;
    }
    Ok(())
}

/// Stores what this process has learnt about endpoints, and takes over what others have.
async fn exchange_knowledge(app: &App) -> Result<(), StoreError> {
    for judge in app.bench.judges.all() {
        if let Some(news) = judge.take_news() {
            app.store.put_endpoint_traits(&judge.endpoint(), &judge.config.model, &news).await?;
        }
    }
    for (endpoint, model, traits) in app.store.endpoint_traits().await? {
        for judge in app.bench.judges.all().filter(|j| j.endpoint() == endpoint && j.config.model == model) {
            judge.remember(&traits);
        }
    }
    Ok(())
}
