//! Counting what waits, removing what is no longer needed, and sharing what was learnt about endpoints.
//!
//! One loop a process, started by `pipeline::start`. Its rule: it takes no input and may run anywhere, any number of times; what
//! it counts shows in `/metrics`, and the backlog, counted only up to its bound, holds the door (`ingest`). The way not taken: counting
//! at each request.

use super::{note, retention};
use crate::app::App;
use crate::store::StoreError;
use crate::store::budget_spend::Period;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(2);

/// Ticks between removals.
const REMOVE_EVERY: u64 = 30;

/// Rows removed at once at most.
const REMOVE_MAX: i64 = 100_000;

/// Counting takes one part in so many of the time, for with a backlog of millions one count takes seconds.
const COUNTING_PART: u32 = 20;

/// Longest time between counts: who scales workers by them looks that often.
const COUNTED_AGAIN: Duration = Duration::from_secs(30);

/// Keeps up until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut ticks: u64 = 0;
    let mut count_at = Instant::now();
    while !stop.is_cancelled() {
        if let Err(error) = tick(&app, &mut count_at, ticks.is_multiple_of(REMOVE_EVERY)).await {
            note(&app, &error, "upkeep failed, trying again");
        }
        ticks += 1;
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn tick(app: &App, count_at: &mut Instant, remove: bool) -> Result<(), StoreError> {
    let start = Instant::now();
    if start >= *count_at {
        let counted = count(app).await;
        *count_at = Instant::now() + rest(start.elapsed());
        counted?;
    }
    keep_up(app, remove).await
}

/// How long nothing is counted after a count that took so long.
fn rest(took: Duration) -> Duration {
    took.saturating_mul(COUNTING_PART).min(COUNTED_AGAIN)
}

/// Counts once, and removes once when asked to.
///
/// # Errors
/// When the database fails.
pub async fn once(app: &App, remove: bool) -> Result<(), StoreError> {
    count(app).await?;
    keep_up(app, remove).await
}

/// Counts what waits, for people: nothing here decides by it.
async fn count(app: &App) -> Result<(), StoreError> {
    let now = app.bench.clock.now();
    let stats = app.store.queue_stats(now).await?;
    let waiting = &app.bench.metrics.waiting;
    let show = |kind: &str, value: i64| waiting.with_label_values(&[kind]).set(value as f64);
    show("inbox_spans", stats.inbox_spans);
    show("open_traces", stats.open_traces);
    show("jobs_ready", stats.ready);
    show("jobs_delayed", stats.delayed);
    show("jobs_leased", stats.leased);
    show("jobs_replayed", stats.replays);
    waiting.with_label_values(&["oldest_ready_job_seconds"]).set(stats.oldest_ready_seconds);
    let unwatched = app.store.unwatched_since().await?.map_or(0.0, |at| (now - at).as_seconds_f64().max(0.0));
    waiting.with_label_values(&["oldest_unwatched_verdict_seconds"]).set(unwatched);
    for sink in &app.sinks {
        show(&format!("events_{}", sink.name()), 0);
        show(&format!("events_dead_{}", sink.name()), 0);
    }
    for sink in &stats.outbox {
        show(&format!("events_{}", sink.sink), sink.waiting);
        show(&format!("events_dead_{}", sink.sink), sink.dead);
    }
    Ok(())
}

/// What bounds the door, what processes tell each other, and what is removed.
async fn keep_up(app: &App, remove: bool) -> Result<(), StoreError> {
    let config = &app.bench.config;
    let backlog = app.store.backlog(config.ingest.backlog_max.saturating_add(1)).await?;
    app.backlog.store(backlog, Ordering::Relaxed);
    let now = app.bench.clock.now();
    exchange_knowledge(app).await?;
    exchange_pauses(app).await?;
    app.bench.ledger.keep_up(now).await?;
    show_judging(app);
    if remove {
        let most = i64::try_from(config.work.cache_votes_max).unwrap_or(i64::MAX);
        app.store.trim_vote_cache(most, REMOVE_MAX, now).await?;
        app.store.forget_steps(now - chrono::TimeDelta::hours(2), now - chrono::TimeDelta::days(90)).await?;
        let kept_from = now - super::seconds(config.retention.parked_seconds);
        app.store.forget_parked(kept_from, config.retention.parked_messages_max, REMOVE_MAX).await?;
        app.store.forget_spend(now - chrono::TimeDelta::days(90)).await?;
        app.store.forget_batch_items(now).await?;
        retention::once(app, now).await?;
    }
    Ok(())
}

/// Stores what this process has learnt about endpoints, and takes over what others have.
async fn exchange_knowledge(app: &App) -> Result<(), StoreError> {
    for judge in app.bench.judges.all() {
        if let Some(news) = judge.news() {
            app.store.put_endpoint_traits(&judge.endpoint(), &judge.config.model, &news).await?;
            judge.remembered(&news);
        }
    }
    for (endpoint, model, traits) in app.store.endpoint_traits().await? {
        for judge in app.bench.judges.all().filter(|j| j.endpoint() == endpoint && j.config.model == model) {
            judge.remember(&traits);
        }
    }
    let models = app.store.panel_models().await?;
    let by_version = models.into_iter().map(|m| ((m.rubric.clone(), m.rubric_version.clone()), m)).collect();
    app.bench.panel_models.store(std::sync::Arc::new(by_version));
    Ok(())
}

/// Stores pauses that began or ended here, and takes over what others and people have paused.
async fn exchange_pauses(app: &App) -> Result<(), StoreError> {
    for judge in app.bench.judges.all() {
        let Some(news) = judge.pause_news() else { continue };
        match &news {
            Some(pause) => app.store.put_pause("judge", &judge.name, pause).await?,
            None => drop(app.store.end_pause("judge", &judge.name, false).await?),
        }
        judge.pause_stored(news.as_ref());
    }
    let pauses = app.store.pauses().await?;
    for judge in app.bench.judges.all() {
        judge.set_pause(pauses.get(&("judge".to_owned(), judge.name.clone())));
    }
    let queue = ("queue".to_owned(), crate::store::pauses::QUEUE.to_owned());
    app.queue_paused.store(pauses.contains_key(&queue), Ordering::Relaxed);
    Ok(())
}

/// Shows which judges rest, and what budgets have spent.
fn show_judging(app: &App) {
    let metrics = &app.bench.metrics;
    for judge in app.bench.judges.all() {
        let state = |word: &str, is: bool| {
            metrics.judge_resting.with_label_values(&[judge.name.as_str(), word]).set(f64::from(u8::from(is)));
        };
        state("paused", judge.pause_now().is_some());
        state("circuit_open", judge.circuit.open().is_some());
        let limits = judge.pacer.limits();
        for (what, limit) in [("requests", limits.requests), ("tokens", limits.tokens)] {
            if let Some(limit) = limit {
                metrics.judge_limit.with_label_values(&[judge.name.as_str(), what]).set(limit);
            }
        }
    }
    let mut parts: std::collections::BTreeMap<(String, Period), f64> = std::collections::BTreeMap::new();
    for (budget, _, period, part) in app.bench.ledger.parts(app.bench.clock.now()) {
        // The fullest of its subjects: tenants are no label.
        let fullest = parts.entry((budget, period)).or_default();
        *fullest = fullest.max(part);
    }
    metrics.budget_part.reset();
    for ((budget, period), part) in parts {
        metrics.budget_part.with_label_values(&[budget.as_str(), period.as_str()]).set(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_takes_a_small_part_of_the_time_and_is_never_put_off_for_long() {
        assert!(rest(Duration::from_millis(5)) < TICK, "a short queue is counted at each tick");
        assert_eq!(rest(Duration::from_secs(1)), Duration::from_secs(20));
        assert_eq!(rest(Duration::from_secs(60)), COUNTED_AGAIN);
    }
}
