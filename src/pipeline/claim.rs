//! Step 5: free permits → leases; the worker loop.
//!
//! Started by `pipeline::start`. Its rule: no more jobs are claimed than there are permits in hand, which are half as many again as
//! places to evaluate in, so that no judge is idle while the next jobs are fetched; every job is settled before its lease runs
//! out; a soft stop ends the claiming and gives back what has no place yet. The way not taken: a claim for each place that
//! becomes free, which is a statement a job.

use super::evaluate::{Bounds, Disposition, EvalError, evaluate};
use super::note;
use super::record::{Done, Recorder};
use super::units::{self, Shown};
use super::{aggregate, enqueue, sessions};
use crate::app::App;
use crate::domain::job::{Job, Lease};
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::Unit;
use crate::domain::verdict::{Outcome, TraceLabels, Verdict};
use crate::judge::prompt;
use crate::runtime::cpu;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::retry::Backoff;
use crate::store::StoreError;
use crate::store::jobs::Unsettled;
use chrono::TimeDelta;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Most jobs that one statement claims.
const CLAIM_MAX: usize = 500;

/// Loops that claim: while one reads its jobs and traces, the permits that become free meanwhile are the other's.
const CLAIMERS: usize = 2;

/// Most jobs that are claimed before there is a place for them.
const AHEAD_MAX: usize = 500;

/// How long a claim waits for more places, so that one statement serves many.
const PATIENCE: Duration = Duration::from_millis(4);

/// A wait for a judge's place from which on jobs are claimed a few at a time.
const CROWDED: Duration = Duration::from_secs(5);

/// Jobs claimed at once while a judge is crowded.
const TRICKLE: usize = 8;

/// Attempts beyond `attempts_max` that may vanish with their process until the job is taken to be the cause.
const CRASHES_MAX: u32 = 3;

/// Starts the worker loop and its recorder.
pub fn start(app: &Arc<App>, life: &Lifecycle) {
    let recorder = Recorder::start(app, life);
    let concurrency = app.bench.config.work.concurrency;
    let places = Arc::new(Semaphore::new(concurrency));
    let worker = Worker { app: Arc::clone(app), recorder, life: life.clone(), places };
    let permits = Arc::new(Semaphore::new(concurrency + ahead(concurrency)));
    for _ in 0..CLAIMERS {
        life.spawn("claim", worker.clone().run(Arc::clone(&permits)));
    }
}

/// Jobs that are claimed ahead: while the next ones are fetched no judge is idle.
fn ahead(concurrency: usize) -> usize {
    (concurrency / 2).min(AHEAD_MAX)
}

#[derive(Clone)]
struct Worker {
    app: Arc<App>,
    recorder: Recorder,
    life: Lifecycle,
    /// As many as are evaluated at the same time.
    places: Arc<Semaphore>,
}

impl Worker {
    async fn run(self, permits: Arc<Semaphore>) {
        let config = &self.app.bench.config.work;
        let poll = Duration::from_millis(config.poll_ms);
        while let Some(mut held) = self.permit(&permits).await {
            if self.app.queue_paused.load(Ordering::Relaxed) || !self.app.signed_on.load(Ordering::Relaxed) {
                drop(held);
                self.idle(poll.max(Duration::from_millis(200))).await;
                continue;
            }
            // When nearly all are taken, a moment's patience makes one larger claim out of many small ones.
            if permits.available_permits() < ahead(config.concurrency) / 2 {
                tokio::time::sleep(PATIENCE).await;
            }
            let mut most = CLAIM_MAX;
            if self.app.bench.judges.pacers().any(|(_, pacer)| pacer.is_crowded(CROWDED)) {
                // Most of what would be claimed would be given back; a few, so that other judges' jobs go on.
                self.idle(Duration::from_millis(100)).await;
                if self.life.soft.is_cancelled() {
                    return;
                }
                most = TRICKLE;
            }
            // Taken before the claim: a job that was claimed has its permit.
            let more = u32::try_from(permits.available_permits().min(most - 1)).unwrap_or_default();
            if let Ok(rest) = Arc::clone(&permits).try_acquire_many_owned(more) {
                held.merge(rest);
            }
            match self.claim(held.num_permits()).await {
                Ok(batch) if !batch.is_empty() => self.hand_out(batch, held),
                Ok(_) => self.idle(poll).await,
                Err(error) => {
                    note(&self.app, &error, "jobs could not be claimed, trying again");
                    self.idle(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn permit(&self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.life.soft.cancelled() => None,
            permit = Arc::clone(permits).acquire_owned() => permit.ok(),
        }
    }

    async fn idle(&self, poll: Duration) {
        tokio::select! {
            () = self.life.soft.cancelled() => {}
            () = self.app.wake.jobs.notified() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }

    /// Claims jobs and reads their traces, each once.
    async fn claim(&self, max: usize) -> Result<Vec<(Lease<Job>, Option<Arc<Trace>>)>, StoreError> {
        let app = &self.app;
        let lease_for = TimeDelta::milliseconds(i64::try_from(app.bench.config.work.lease_ms).unwrap_or(i64::MAX));
        let leases = app.store.claim(app.worker, max, lease_for, app.bench.clock.now()).await?;
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        // A session's traces are read when its turn comes: many sessions at once would be many traces in memory.
        let by_trace = || leases.iter().map(|lease| &lease.item).filter(|job| job.unit.session().is_none());
        let mut ids: Vec<String> = by_trace().map(|job| job.trace_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let whole: HashSet<String> =
            by_trace().filter(|job| job.unit.span_id().is_some()).map(|job| job.trace_id.clone()).collect();
        let bodies = match app.store.trace_bodies(&ids).await {
            Ok(bodies) => bodies,
            Err(error) => {
                self.release(leases).await;
                return Err(error);
            }
        };
        let parse = move || -> HashMap<String, Arc<Trace>> {
            let read = |id: &str, body: &[u8]| {
                // With its spans only where one of them is judged.
                let read = if whole.contains(id) { serde_json::from_slice(body) } else { Trace::to_judge(body) };
                read.ok().map(Arc::new)
            };
            let read = |(id, body): (String, Vec<u8>)| read(&id, &body).map(|trace| (id, trace));
            bodies.into_iter().filter_map(read).collect()
        };
        let traces = cpu::run(parse).await.unwrap_or_default();
        Ok(leases
            .into_iter()
            .map(|lease| {
                let trace = traces.get(&lease.item.trace_id).cloned();
                (lease, trace)
            })
            .collect())
    }

    async fn release(&self, leases: Vec<Lease<Job>>) {
        let now = self.app.bench.clock.now();
        let back =
            leases.into_iter().map(|lease| Unsettled { lease, at: now, votes: Vec::new(), error: None, counts: false });
        if let Err(error) = self.app.store.give_back(back.collect()).await {
            note(&self.app, &error, "leases could not be released, they will run out");
        }
    }

    fn hand_out(&self, batch: Vec<(Lease<Job>, Option<Arc<Trace>>)>, mut held: OwnedSemaphorePermit) {
        for (lease, trace) in batch {
            let permit = held.split(1);
            let worker = self.clone();
            self.life.spawn_contained("evaluate", async move {
                let done = match worker.place().await {
                    Some(place) => {
                        worker.app.bench.metrics.in_hand.inc();
                        let done = worker.work(lease, trace).await;
                        worker.app.bench.metrics.in_hand.dec();
                        drop(place);
                        done
                    }
                    // Claimed ahead, and we are stopping: others have it at once.
                    None => Done::Unsettled(Unsettled {
                        lease,
                        at: worker.app.bench.clock.now(),
                        votes: Vec::new(),
                        error: None,
                        counts: false,
                    }),
                };
                worker.recorder.send(done).await;
                drop(permit);
            });
        }
    }

    /// A place to evaluate a job in; `None` when we are to stop before there is one.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            place = Arc::clone(&self.places).acquire_owned() => place.ok(),
            () = self.life.soft.cancelled() => None,
        }
    }

    /// Brings one job to its end: a verdict, or a reason to try again.
    async fn work(&self, lease: Lease<Job>, trace: Option<Arc<Trace>>) -> Done {
        let app = &self.app;
        if lease.item.attempts.cast_unsigned() > app.bench.config.work.attempts_max.saturating_add(CRASHES_MAX) {
            let why = "every attempt ended without a result (a crash or a panic); see the log".to_owned();
            let labels = trace.as_ref().map(|t| enqueue::labels(&t.view)).unwrap_or_default();
            return self.settle_without(lease, why, labels);
        }
        let rubric = match self.rubric(&lease.item).await {
            Ok(Some(rubric)) => rubric,
            Ok(None) => {
                let why = "the rubric's version is not stored".to_owned();
                return self.settle_without(lease, why, trace.map(|t| enqueue::labels(&t.view)).unwrap_or_default());
            }
            Err(error) => return self.later(lease, &error, "a rubric version could not be read, trying the job again"),
        };
        let (trace, shown) = match self.unit(&lease.item, &rubric, trace).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let why = "what is to be judged is not stored, or cannot be read".to_owned();
                return self.settle_without(lease, why, TraceLabels::default());
            }
            Err(error) => return self.later(lease, &error, "a session could not be read, trying the job again"),
        };
        if shown.is_some()
            && let Some(reason) = enqueue::reason_not_to_judge(&trace, None, &rubric, &prompt::inputs(&trace))
        {
            let (outcome, why) = reason;
            let now = app.bench.clock.now();
            let verdict = lease.item.unscored(outcome, why, enqueue::labels(&trace.view), now);
            let join = enqueue::join_ids(&trace.view);
            let verdict = Verdict { kind: rubric.output.kind(), join, ..verdict };
            return Done::Verdict(lease, Box::new(verdict));
        }
        let job = &lease.item;
        let bounds = self.bounds(&lease);
        // The trace's text is let go as soon as the question is made: thousands may wait for their judges at once.
        let about = (enqueue::labels(&trace.view), enqueue::join_ids(&trace.view));
        match evaluate(&app.bench, &rubric, trace, job, &bounds).await {
            Ok(evaluation) => {
                self.count_cost(&evaluation.votes, &job.votes);
                let now = app.bench.clock.now();
                let models = app.bench.panel_models.load();
                let known = app.bench.known(&models, &rubric);
                let mut verdict = aggregate::aggregate(&rubric, evaluation, job, about, (&known, now));
                if let Some(shown) = shown {
                    sessions::tell(&mut verdict, shown);
                }
                Done::Verdict(lease, Box::new(verdict))
            }
            Err(error) => Done::Unsettled(self.unsettled(lease, error)),
        }
    }

    /// What the job's judges see; of a session also how much of it. `None` when it is not stored any more.
    async fn unit(
        &self,
        job: &Job,
        rubric: &Arc<Rubric>,
        trace: Option<Arc<Trace>>,
    ) -> Result<Option<(Arc<Trace>, Option<Shown>)>, StoreError> {
        match &job.unit {
            Unit::Trace => Ok(trace.map(|trace| (trace, None))),
            Unit::Span(id) => {
                let id = id.clone();
                let seen = cpu::run(move || units::span_view(trace?.as_ref(), &id)).await.unwrap_or_default();
                Ok(seen.map(|seen| (Arc::new(seen), None)))
            }
            Unit::Session(session) => {
                let most = i64::from(self.app.bench.config.sessions.traces_max);
                let found = self.app.store.session_bodies(session.key, job.enqueued_at, most).await?;
                let (app, rubric) = (Arc::clone(&self.app), Arc::clone(rubric));
                let seen = cpu::run(move || sessions::stored_view(&app.bench, &rubric, &found)).await;
                Ok(seen.unwrap_or_default().map(|(trace, shown)| (Arc::new(trace), Some(shown))))
            }
        }
    }

    fn later(&self, lease: Lease<Job>, error: &StoreError, what: &'static str) -> Done {
        note(&self.app, error, what);
        let at = self.app.bench.clock.now() + TimeDelta::seconds(5);
        Done::Unsettled(Unsettled { lease, at, votes: Vec::new(), error: None, counts: false })
    }

    fn bounds(&self, lease: &Lease<Job>) -> Bounds {
        let config = &self.app.bench.config.work;
        let left = (lease.until - self.app.bench.clock.now()).to_std().unwrap_or_default();
        let until = Instant::now() + left.saturating_sub(Duration::from_millis(config.lease_margin_ms));
        let last = lease.item.attempts.cast_unsigned() >= config.attempts_max;
        let age = (self.app.bench.clock.now() - lease.item.enqueued_at).num_seconds();
        // What is judged again has waited because nobody waits for it.
        let old = !lease.item.replay && u64::try_from(age).is_ok_and(|age| age >= config.full_panel_seconds);
        let quorum_is_enough = old || lease.item.attempts.cast_unsigned() >= config.full_panel_attempts;
        Bounds { cancel: self.life.hard.clone(), until, last, only: false, quorum_is_enough }
    }

    fn unsettled(&self, lease: Lease<Job>, error: EvalError) -> Unsettled {
        let bench = &self.app.bench;
        let config = &bench.config.work;
        let now = bench.clock.now();
        let backoff = Backoff {
            first: Duration::from_millis(config.retry_ms),
            longest: Duration::from_millis(config.retry_ms_max),
        };
        let reason = error.reason();
        let (at, counts, word) = match error.disposition(&lease.item, backoff, now) {
            Disposition::Retry { at, counts: true } => (at, true, "judges"),
            Disposition::Retry { at, counts: false } => (at, false, "held_up"),
            Disposition::Interrupted => (now, false, "interrupted"),
        };
        bench.metrics.attempts_failed.with_label_values(&[word]).inc();
        let votes = error.into_votes();
        self.count_cost(&votes, &lease.item.votes);
        Unsettled { lease, at, votes, error: reason, counts }
    }

    /// Counts what this attempt spent, not what earlier ones did.
    fn count_cost(&self, votes: &[crate::domain::verdict::Vote], earlier: &[crate::domain::verdict::Vote]) {
        for vote in votes {
            let before: f64 = earlier.iter().filter(|e| e.judge == vote.judge).map(|e| e.cost_usd).sum();
            let spent = (vote.cost_usd - before).max(0.0);
            self.app.bench.metrics.judge_cost_usd.with_label_values(&[vote.judge.as_str()]).inc_by(spent);
        }
    }

    fn settle_without(&self, lease: Lease<Job>, why: String, labels: TraceLabels) -> Done {
        let now = self.app.bench.clock.now();
        let verdict: Verdict = lease.item.unscored(Outcome::JudgeError, why, labels, now);
        Done::Verdict(lease, Box::new(verdict))
    }

    /// The rubric in the version that the job was made for: from memory, else from the store.
    async fn rubric(&self, job: &Job) -> Result<Option<Arc<Rubric>>, StoreError> {
        let catalog = self.app.bench.rubrics.load();
        if let Some(rubric) = catalog.get(&job.rubric, &job.rubric_version) {
            return Ok(Some(Arc::clone(rubric)));
        }
        Ok(self.app.store.rubric_version(&job.rubric, &job.rubric_version).await?.map(Arc::new))
    }
}
