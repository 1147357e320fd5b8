//! From findings to people: the door for detectors, and the loops that tell channels.
//!
//! Detectors call [`raise`] and [`recovered`]; one loop a channel is started by `pipeline::start` under the role `watch`, and one
//! that counts and repeats. Its rule: what is to be told is a row, made with the change of the alert, so a process may die
//! anywhere; a channel that is away holds up no other. The way not taken: sending from the detector.

use super::note;
use crate::app::App;
use crate::domain::alert::Finding;
use crate::domain::alert::incident::Place;
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::event::Delivery;
use crate::domain::job::Lease;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::retry::Backoff;
use crate::store::StoreError;
use crate::store::alert_deliveries::{Due, Told};
use crate::store::alerts::Raised;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Notices told at the same time to one channel at most.
const BATCH_MAX: i64 = 10;

/// How often alerts and notices are counted, and repeated where that is configured.
const TICK: Duration = Duration::from_secs(5);

/// Deployments named in a finding at most.
const DEPLOYS_MAX: i64 = 5;

/// Takes what detectors have found: opens alerts, adds to those that have the same cause, or brings their evidence up to date. May
/// be called with the same findings any number of times and by any number of processes.
///
/// # Errors
/// When the database fails; then nothing was taken.
pub async fn raise(app: &App, findings: Vec<Finding>) -> Result<Vec<Raised>, StoreError> {
    if findings.is_empty() {
        return Ok(Vec::new());
    }
    let config = &app.bench.config.alerts;
    let mut complete = Vec::with_capacity(findings.len());
    for mut finding in findings {
        if finding.deploys.is_empty() {
            let environment = finding.stream.get("environment").map(String::as_str);
            finding.deploys = app.store.deployments_near(finding.since, environment, DEPLOYS_MAX).await?;
        }
        complete.push(finding);
    }
    let raised = app.store.raise(&complete, config, app.bench.clock.now()).await?;
    for (one, finding) in raised.iter().zip(&complete) {
        let word = match one.place {
            Place::Opens => "opened",
            Place::Joins(_) => "joined",
            Place::Known(_) => "known",
            Place::Over(_) => "over",
        };
        app.bench.metrics.alerts.findings.with_label_values(&[word]).inc();
        if one.place == Place::Opens {
            let (rubric, severity) = (finding.rubric.as_deref().unwrap_or_default(), finding.severity.as_str());
            tracing::warn!(alert = %one.alert, rubric, severity, channels = one.told, "alert opened");
        }
    }
    app.wake.alerts.notify_waiters();
    Ok(raised)
}

/// Takes a detector's word that the trouble with these fingerprints is over; gives the alerts that this resolves.
///
/// # Errors
/// When the database fails; then nothing has changed.
pub async fn recovered(app: &App, fingerprints: &[String], why: &str) -> Result<Vec<Uuid>, StoreError> {
    let over = app.store.recovered(fingerprints, why, &app.bench.config.alerts, app.bench.clock.now()).await?;
    for alert in &over {
        tracing::info!(%alert, "alert resolved by evidence");
    }
    app.wake.alerts.notify_waiters();
    Ok(over)
}

/// Starts the loops.
pub(super) fn start(app: &Arc<App>, life: &Lifecycle) {
    for (name, channel) in &app.channels {
        life.spawn("notify", run(Arc::clone(app), name.clone(), Arc::clone(channel), life.clone()));
    }
    life.spawn("alerts", keep_up(Arc::clone(app), life.soft.clone()));
}

/// Tells one channel until stopped; what is in hand is finished.
async fn run(app: Arc<App>, name: String, channel: Arc<dyn Channel>, life: Lifecycle) {
    let poll = Duration::from_millis(app.bench.config.alerts.poll_ms);
    while !life.soft.is_cancelled() {
        let more = tokio::select! {
            done = batch(&app, &name, channel.as_ref()) => done,
            () = life.hard.cancelled() => return,
        };
        match more {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => note(&app, &error, "alerts could not be read or settled, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            () = app.wake.alerts.notified() => {}
            () = life.soft.cancelled() => {}
        }
    }
}

/// Tells a channel what is due; true when something arrived, so that there may be more.
///
/// # Errors
/// When the database fails; then what was told may be told again, under the same id.
pub async fn batch(app: &App, name: &str, channel: &dyn Channel) -> Result<bool, StoreError> {
    let config = &app.bench.config.alerts;
    let lease_for = TimeDelta::milliseconds(i64::try_from(config.lease_ms).unwrap_or(i64::MAX));
    let now = app.bench.clock.now();
    let leases = app.store.due_deliveries(name, BATCH_MAX, lease_for, now).await?;
    if leases.is_empty() {
        return Ok(false);
    }
    let ids: Vec<Uuid> = leases.iter().map(|lease| lease.item.alert_id).collect();
    let alerts = app.store.alerts_by_id(&ids).await?;
    let content = config.channels.get(name).is_some_and(|c| c.content);
    let told = leases.into_iter().filter_map(|lease| {
        // A delivery goes with its alert, so both are there.
        let alert = alerts.iter().find(|a| a.id == lease.item.alert_id)?.clone();
        let change = alert.changes.iter().find(|c| c.number == lease.item.change_number)?.clone();
        let notice = Notice { id: lease.item.id, change, alert, links: config.links(), content, at: now, test: false };
        Some(async move {
            let delivery = channel.tell(&notice).await;
            (lease, delivery)
        })
    });
    let mut arrived = false;
    for (lease, delivery) in join_all(told).await {
        arrived |= delivery == Delivery::Delivered;
        let now = app.bench.clock.now();
        app.store.settle_delivery(settle(app, (name, channel), lease, delivery, now), now).await?;
    }
    Ok(arrived)
}

fn settle(
    app: &App,
    (name, channel): (&str, &dyn Channel),
    lease: Lease<Due>,
    delivery: Delivery,
    now: DateTime<Utc>,
) -> Told {
    let config = &app.bench.config.alerts;
    let tries = lease.item.attempts.cast_unsigned();
    let (told, word) = match delivery {
        Delivery::Delivered => {
            let again_at = channel.refresh().map(|every| now + every);
            (Told::Delivered { lease, again_at }, "delivered")
        }
        Delivery::Dead { reason } => (Told::Dead { lease, reason }, "dead"),
        Delivery::Retry { reason, .. } if tries >= config.attempts_max => {
            let reason = format!("given up after {tries} attempts; the last reason: {reason}");
            (Told::Dead { lease, reason }, "dead")
        }
        Delivery::Retry { reason, after } => {
            let backoff = Backoff {
                first: Duration::from_millis(config.retry_ms),
                longest: Duration::from_millis(config.retry_ms_max),
            };
            let wait = backoff.wait(tries, after, lease.item.id.as_bytes());
            (Told::Retry { lease, at: now + wait, reason }, "retried")
        }
    };
    if let Told::Retry { reason, .. } | Told::Dead { reason, .. } = &told {
        tracing::warn!(channel = name, reason, word, "an alert was not delivered; see `assize doctor`");
    }
    app.bench.metrics.alerts.deliveries.with_label_values(&[name, word]).inc();
    told
}

/// Counts until stopped, and repeats where that is configured.
async fn keep_up(app: Arc<App>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = tick(&app).await {
            note(&app, &error, "alerts could not be counted, trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Repeats what is to be repeated, and counts, once.
///
/// # Errors
/// When the database fails.
pub async fn tick(app: &App) -> Result<(), StoreError> {
    let config = &app.bench.config.alerts;
    if let Some(hours) = config.repeat_hours {
        // A century is as good as never, and can be subtracted from now.
        let every = Duration::try_from_secs_f64(hours.min(876_000.0) * 3_600.0).unwrap_or_default();
        let every = TimeDelta::from_std(every).unwrap_or_default();
        if app.store.repeat(every, config, app.bench.clock.now()).await? > 0 {
            app.wake.alerts.notify_waiters();
        }
    }
    let metrics = &app.bench.metrics.alerts;
    metrics.unresolved.reset();
    for (state, severity, count) in app.store.alerts_waiting().await? {
        metrics.unresolved.with_label_values(&[state.as_str(), severity.as_str()]).set(count as f64);
    }
    metrics.notices.reset();
    for stats in app.store.channel_stats().await? {
        let show = |state: &str, count: i64| {
            metrics.notices.with_label_values(&[stats.channel.as_str(), state]).set(count as f64);
        };
        show("waiting", stats.waiting);
        show("failing", stats.failing);
        show("dead", stats.dead);
    }
    Ok(())
}
