//! Step 10: verdicts → streams → findings: has quality really dropped, since when, and with which version?
//!
//! One loop under the role `watch`; of all processes one holds the cursor and watches. Its rule: a verdict is counted once into
//! its stream (the rubric's version in a slice of the traffic), whatever dies when; evidence is looked at each tick and may be,
//! at any time; what is found is raised again and again and opens one alert. The way not taken: queries over a window at each
//! tick, whose false alarms add up with every look.

mod finding;
mod sampling;
mod streams;
mod thresholds;

use super::drift::{Drift, Suspects};
use super::{note, notify};
use crate::app::App;
use crate::domain::alert::incident::{Place, State};
use crate::domain::alert::{Finding, Kind, Measure};
use crate::stats::invalid::Invalid;
use crate::store::StoreError;
use crate::store::alerts::AlertFilter;
use crate::store::watch::Cursor;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub use streams::{Slice, Streams};

/// Verdicts counted in one transaction at most.
const BATCH_MAX: i64 = 5_000;

/// Ticks between two looks for streams that are forgotten.
const TICKS_PER_CLEANING: u64 = 360;

/// Alerts that are not resolved and are known at a start, at most.
const STANDING_MAX: i64 = 1_000;

/// Days after which a stream without verdicts is forgotten.
const FORGET_DAYS: i64 = 90;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting or a stored number makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What one process remembers while it watches.
#[derive(Debug, Default)]
pub struct Watcher {
    cursor: Option<Cursor>,
    streams: Streams,
    /// Fingerprints that were in trouble at the last look, with when their finding was last raised and how it stood.
    raised: BTreeMap<String, (DateTime<Utc>, Finding)>,
    /// The hour for which sampling was last checked, and what was found.
    sampling: Option<(DateTime<Utc>, Vec<Finding>)>,
    /// Thresholds of which too little is known to say that they are not crossed.
    unknown: BTreeSet<String>,
    /// What judges say of traces that they have judged before.
    drift: Drift,
    ticks: u64,
}

/// Watches until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let every = Duration::from_millis(app.bench.config.watch.tick_ms);
    let mut watcher = Watcher::default();
    while !stop.is_cancelled() {
        match watcher.tick(&app).await {
            Ok(looked) => {
                app.watch_rounds.fetch_add(u64::from(looked), Ordering::Relaxed);
            }
            Err(error) => {
                // What was counted since the last store is counted again from the database.
                watcher = Watcher::default();
                match error {
                    WatchError::Store(error) => note(&app, &error, "streams could not be watched, trying again"),
                    WatchError::Invalid(error) => tracing::error!(%error, "streams could not be watched"),
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => {}
        }
    }
    if let Err(error) = app.store.leave_watch(app.worker).await {
        note(&app, &error, "the watch could not be given away; another takes it when the lease is over");
    }
}

/// What alerts that are not resolved hold as not over: whoever takes the watch over must end it when it is.
async fn standing(app: &App) -> Result<BTreeMap<String, (DateTime<Utc>, Finding)>, StoreError> {
    let filter =
        AlertFilter { states: vec![State::Open, State::Acknowledged], limit: STANDING_MAX, ..AlertFilter::default() };
    let merged = app.store.alerts(&filter).await?.into_iter().flat_map(|alert| alert.findings);
    let ours =
        [Kind::ChangeScan, Kind::VersionTest, Kind::Threshold, Kind::NoData, Kind::SamplingMismatch, Kind::JudgeDrift];
    let open = merged.filter(|m| m.recovered_at.is_none() && ours.contains(&m.finding.kind));
    Ok(open.map(|m| (m.fingerprint, (m.finding.found_at, m.finding))).collect())
}

impl Watcher {
    /// Counts what is new, looks at the evidence, raises and ends findings. False while another process watches.
    ///
    /// # Errors
    /// When the database fails; then this watcher is of no use any more, and a new one goes on from what is stored.
    pub async fn tick(&mut self, app: &App) -> Result<bool, WatchError> {
        let now = app.bench.clock.now();
        let lease = lease(app);
        let Some(cursor) = app.store.hold_watch(app.worker, (now, now + lease)).await? else {
            *self = Self::default();
            return Ok(false);
        };
        if self.cursor != Some(cursor) {
            *self = Self::default();
            if app.store.mend_watch().await? {
                tracing::warn!("the database counts transactions anew; verdicts made before are taken as counted");
            }
            self.streams = Streams::load(app).await?;
            self.raised = standing(app).await?;
            // Read anew: mending may have moved it.
            self.cursor = app.store.hold_watch(app.worker, (now, now + lease)).await?;
        }
        while self.count(app).await? {}
        if self.cursor.is_none() {
            // Lost to another: what is in memory is not the truth any more.
            *self = Self::default();
            return Ok(false);
        }
        let findings = self.look(app, now).await?;
        self.tell(app, findings, now).await?;
        if self.ticks.is_multiple_of(TICKS_PER_CLEANING) {
            let gone = app.store.forget_streams(now - TimeDelta::days(FORGET_DAYS)).await?;
            self.streams.forget(&gone.into_iter().collect());
        }
        self.ticks += 1;
        app.bench.metrics.watch_streams.set(i64::try_from(self.streams.len()).unwrap_or(i64::MAX));
        Ok(true)
    }

    /// Counts a batch of verdicts and stores the streams that they went into; true when there may be more.
    async fn count(&mut self, app: &App) -> Result<bool, WatchError> {
        let Some(before) = self.cursor else { return Ok(false) };
        let mut found = app.store.unwatched(before, BATCH_MAX).await?;
        let Some(after) = found.last().map(|u| u.at) else { return Ok(false) };
        let full = i64::try_from(found.len()).is_ok_and(|n| n == BATCH_MAX);
        // Within a transaction ids say nothing about time, and what is older than the open hour is counted in it. One that took
        // another's place comes after all that may be that other.
        found.sort_by_key(|u| (u.replaced.is_some(), u.scored.as_ref().map(|s| s.created_at), u.at.id));
        let catalog = app.bench.rubrics.load();
        let max = app.bench.config.watch.streams_max;
        for one in &found {
            let rubric = one.scored.as_ref().or(one.replaced.as_ref()).map(|s| s.rubric.as_str());
            let rule = catalog.active().iter().find(|r| Some(r.name.as_str()) == rubric).map(|r| &r.alert);
            let counted = match (&one.replaced, &one.scored) {
                (None, None) => Ok(()),
                (None, Some(scored)) => self.streams.count(scored, rule, max),
                (Some(old), new) => self.streams.exchange(old, new.as_ref(), rule, max),
            };
            if let Err(error) = counted {
                // One row that makes no sense must not stop the watch of all others.
                tracing::error!(%error, verdict = %one.at.id, "a verdict cannot be watched");
            }
        }
        let rows = self.streams.changed()?;
        // Held anew with every batch: whoever has much to catch up with keeps the watch, and the store is fenced all the same.
        let now = app.bench.clock.now();
        if !app.store.put_streams(app.worker, (before, after), &rows, (now, now + lease(app))).await? {
            self.cursor = None; // somebody else's now
            return Ok(false);
        }
        self.cursor = Some(after);
        self.streams.stored();
        Ok(full)
    }

    /// Closes hours and looks at all evidence: what is wrong now.
    async fn look(&mut self, app: &App, now: DateTime<Utc>) -> Result<Vec<Finding>, WatchError> {
        let catalog = app.bench.rubrics.load();
        let mut findings = self.streams.look(&app.bench.config.watch, catalog.active(), now)?;
        let crossed = thresholds::findings(app, &self.streams, now).await?;
        findings.extend(crossed.findings);
        self.unknown = crossed.unknown;
        let hour = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
        if self.sampling.as_ref().is_none_or(|(checked, _)| *checked != hour) {
            self.sampling = Some((hour, sampling::findings(app, now).await?));
        }
        findings.extend(self.sampling.iter().flat_map(|(_, found)| found.clone()));
        // Whether a judge has moved is worth less than that everything else is told.
        match self.drift.look(app, &self.suspects(), now).await {
            Ok(()) => {}
            Err(WatchError::Store(error)) => {
                note(app, &error, "drift canaries could not be looked after, trying again");
            }
            Err(WatchError::Invalid(error)) => tracing::error!(%error, "drift canaries could not be looked after"),
        }
        findings.extend(self.drift.findings(catalog.active(), now));
        Ok(findings)
    }

    /// Rubrics whose verdicts seem worse, each since its latest trouble began.
    fn suspects(&self) -> Suspects {
        let mut suspects = Suspects::new();
        for (_, finding) in self.raised.values() {
            if let Some(rubric) = finding.rubric.as_ref().filter(|_| is_about_scores(finding)) {
                let since = suspects.entry(rubric.clone()).or_insert(finding.since);
                *since = finding.since.max(*since);
            }
        }
        suspects
    }

    /// Raises what is new or has changed, and says what is over.
    async fn tell(&mut self, app: &App, findings: Vec<Finding>, now: DateTime<Utc>) -> Result<(), WatchError> {
        let mut standing: BTreeMap<String, Finding> = findings.into_iter().map(|f| (f.fingerprint(), f)).collect();
        let catalog = app.bench.rubrics.load();
        // Of a rubric that was edited or removed nobody knows whether it is as good as before: a person closes that.
        let is_watched = |finding: &Finding| match (&finding.rubric, &finding.rubric_version) {
            (Some(rubric), Some(version)) => {
                catalog.active().iter().any(|r| r.name == *rubric && r.version == *version)
            }
            _ => true,
        };
        let is_gone = |print: &String| !standing.contains_key(print) && !self.unknown.contains(print);
        let gone = self.raised.iter().filter(|(print, (_, f))| is_gone(print) && is_watched(f));
        let over: Vec<String> = gone.map(|(print, _)| print.clone()).collect();
        if !over.is_empty() {
            notify::recovered(app, &over, "the evidence is gone: it is as good as before").await?;
            self.raised.retain(|print, _| !over.contains(print));
        }
        // A threshold's trouble began when it was first crossed, not when its window does.
        for (print, finding) in &mut standing {
            if matches!(finding.kind, Kind::Threshold | Kind::NoData) {
                finding.since = self.raised.get(print).map_or(now, |(_, before)| before.since);
            }
        }
        // Each is told when it is new, and brought up to date once an hour.
        standing.retain(|print, _| self.raised.get(print).is_none_or(|(at, _)| now - *at >= TimeDelta::hours(1)));
        let mut due = Vec::with_capacity(standing.len());
        for (_, mut finding) in standing {
            if let Some(rubric) = finding.rubric.as_ref().filter(|_| is_about_scores(&finding)) {
                let version = catalog.active().iter().find(|r| r.name == *rubric).map(|r| r.version.as_str());
                finding.canaries = self.drift.canaries(rubric, version.unwrap_or_default(), finding.since);
            }
            due.push(finding::completed(app, finding).await?);
        }
        let raised = notify::raise(app, due.clone()).await?;
        for (finding, raised) in due.into_iter().zip(raised) {
            if matches!(raised.place, Place::Over(_)) && finding.kind == Kind::ChangeScan {
                // A person has closed it: what it is now is the new normal.
                self.streams.acknowledge(&finding);
            }
            if matches!(raised.place, Place::Over(_)) && finding.kind == Kind::JudgeDrift {
                self.take_as_it_is(app, &finding).await?;
            }
            self.raised.insert(finding.fingerprint(), (now, finding));
        }
        Ok(())
    }
    /// A person has closed the alert about a judge: what it says now is the new normal.
    async fn take_as_it_is(&mut self, app: &App, finding: &Finding) -> Result<(), StoreError> {
        let of = finding.rubric.as_deref().zip(finding.rubric_version.as_deref());
        let run = of.and_then(|(rubric, version)| self.drift.run_of(rubric, version));
        match (run, finding.stream.get("judge")) {
            (Some(run), Some(judge)) => self.drift.rebase(app, run, judge).await,
            _ => Ok(()),
        }
    }
}

/// How long a process that says nothing is taken to watch.
fn lease(app: &App) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(app.bench.config.watch.lease_ms).unwrap_or(i64::MAX))
}

/// Whether a finding says that scores fell, which may be the judge's doing.
fn is_about_scores(finding: &Finding) -> bool {
    let kinds = [Kind::ChangeScan, Kind::VersionTest, Kind::Threshold];
    kinds.contains(&finding.kind) && matches!(finding.measure, Measure::PassRate | Measure::MeanScore)
}
