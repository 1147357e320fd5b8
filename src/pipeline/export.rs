//! Step 9: outbox → sinks, at least once, each with a stable id.
//!
//! One loop a sink, started by `pipeline::start`. Its rule: a sink that is away costs nothing but a growing outbox; waits double;
//! an event that the sink refuses for good, or that is too old for it, is kept as dead with its reason. The way not taken:
//! sending from the recorder, where a slow sink would hold up the judging.

use super::note;
use crate::app::App;
use crate::domain::event::{Delivery, OutboxEvent, Sink};
use crate::domain::job::Lease;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::retry::Backoff;
use crate::store::StoreError;
use crate::store::outbox::Settled;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;

/// Delivers to one sink until stopped; events in hand are finished.
pub async fn run(app: Arc<App>, sink: Arc<dyn Sink>, life: Lifecycle) {
    let poll = Duration::from_millis(app.bench.config.export.poll_ms);
    while !life.soft.is_cancelled() {
        let more = tokio::select! {
            done = batch(&app, sink.as_ref()) => done,
            () = life.hard.cancelled() => return,
        };
        match more {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => note(&app, &error, "events could not be read or settled, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            () = app.wake.events.notified() => {}
            () = life.soft.cancelled() => {}
        }
    }
}

/// Delivers one batch; true when it was full and all of it arrived.
///
/// # Errors
/// When the database fails; then what was delivered may be delivered again.
pub async fn batch(app: &App, sink: &dyn Sink) -> Result<bool, StoreError> {
    let config = &app.bench.config.export;
    let lease_for = TimeDelta::milliseconds(i64::try_from(config.lease_ms).unwrap_or(i64::MAX));
    let claimed = app.store.claim_events(sink.name(), sink.batch_max(), lease_for, app.bench.clock.now()).await?;
    if claimed.is_empty() {
        return Ok(false);
    }
    let full = claimed.len() >= sink.batch_max();
    let mut leases = Vec::with_capacity(claimed.len());
    let mut events = Vec::with_capacity(claimed.len());
    for (lease, created_at) in claimed {
        events.push(lease.item.clone());
        leases.push((lease, created_at));
    }
    let delivered = sink.deliver(&events).await;
    let now = app.bench.clock.now();
    let all = delivered.iter().all(|d| *d == Delivery::Delivered);
    if let Some(reason) = delivered.iter().find_map(not_delivered) {
        let failed = delivered.iter().filter(|d| **d != Delivery::Delivered).count();
        tracing::warn!(sink = sink.name(), failed, reason, "events were not delivered; see `assize queue stats`");
    }
    let settled: Vec<Settled> = leases
        .into_iter()
        .zip(delivered)
        .map(|((lease, created_at), delivery)| settle(app, sink, (lease, created_at), delivery, now))
        .collect();
    app.store.settle_events(settled, now).await?;
    Ok(full && all)
}

/// Why an event was not delivered.
fn not_delivered(delivery: &Delivery) -> Option<&str> {
    match delivery {
        Delivery::Delivered => None,
        Delivery::Retry { reason, .. } | Delivery::Dead { reason } => Some(reason),
    }
}

fn settle(
    app: &App,
    sink: &dyn Sink,
    (lease, created_at): (Lease<OutboxEvent>, DateTime<Utc>),
    delivery: Delivery,
    now: DateTime<Utc>,
) -> Settled {
    let config = &app.bench.config.export;
    let (settled, word) = match delivery {
        Delivery::Delivered => (Settled::Delivered(lease), "delivered"),
        Delivery::Dead { reason } => (Settled::Dead { lease, reason }, "dead"),
        Delivery::Retry { reason, after } => {
            let old = (now - created_at).num_seconds() > i64::try_from(config.event_seconds_max).unwrap_or(i64::MAX);
            if old {
                let reason = format!("too old to be tried again; the last reason: {reason}");
                (Settled::Dead { lease, reason }, "dead")
            } else {
                let backoff = Backoff {
                    first: Duration::from_millis(config.retry_ms),
                    longest: Duration::from_millis(config.retry_ms_max),
                };
                let wait = backoff.wait(lease.item.attempts.cast_unsigned(), after, lease.item.id.as_bytes());
                (Settled::Retry { lease, at: now + wait, reason }, "retried")
            }
        }
    };
    app.bench.metrics.events.with_label_values(&[sink.name(), word]).inc();
    settled
}
