//! Step 8: verdicts, votes, events and the ends of jobs, many at a time, in one transaction.
//!
//! Fed by `claim`. Its rule: what judges were paid for is written or tried again until the leases run out; a database that
//! is away fills a bounded queue, which holds the workers' permits, which stops the claiming. The way not taken: one
//! transaction a verdict, which costs ten times as much.

use super::note;
use crate::app::App;
use crate::domain::job::{Job, Lease};
use crate::domain::verdict::Verdict;
use crate::runtime::lifecycle::Lifecycle;
use crate::store::jobs::Unsettled;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How an attempt ended.
#[derive(Debug)]
pub enum Done {
    /// With a verdict.
    Verdict(Lease<Job>, Box<Verdict>),
    /// Without one.
    Unsettled(Unsettled),
}

/// The way to the recorder; clones share it. It ends when the last is dropped.
#[derive(Debug, Clone)]
pub struct Recorder(mpsc::Sender<Done>);

impl Recorder {
    /// Starts the recorder.
    #[must_use]
    pub fn start(app: &Arc<App>, life: &Lifecycle) -> Self {
        let (queue, done) = mpsc::channel(app.bench.config.work.record_batch_max * 2);
        life.spawn("record", run(Arc::clone(app), done));
        Self(queue)
    }

    /// Hands over how an attempt ended; waits when the recorder is behind.
    pub async fn send(&self, done: Done) {
        // The recorder ends after the last sender, so this cannot fail; if it panicked, the lease runs out.
        drop(self.0.send(done).await);
    }
}

async fn run(app: Arc<App>, mut queue: mpsc::Receiver<Done>) {
    let config = &app.bench.config.work;
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + Duration::from_millis(config.record_wait_ms);
        while batch.len() < config.record_batch_max {
            match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        let (mut verdicts, mut back) = (Vec::new(), Vec::new());
        for done in batch {
            match done {
                Done::Verdict(lease, verdict) => verdicts.push((lease, *verdict)),
                Done::Unsettled(unsettled) => back.push(unsettled),
            }
        }
        record(&app, verdicts).await;
        give_back(&app, back).await;
    }
    // The last sender is gone, so nothing is in hand.
    super::shares::leave(&app).await;
    super::alive::leave(&app).await;
}

/// Stores verdicts, again and again until it works or the leases have run out.
pub async fn record(app: &App, verdicts: Vec<(Lease<Job>, Verdict)>) {
    if verdicts.is_empty() {
        return;
    }
    let sinks = app.sink_names();
    let cache_for = super::seconds(app.bench.config.work.cache_seconds);
    loop {
        let now = app.bench.clock.now();
        match app.store.settle(&verdicts, &sinks, cache_for, now).await {
            Ok(ours) => {
                for (lease, verdict) in verdicts.iter().filter(|(_, v)| ours.contains(&v.id)) {
                    let labels = [verdict.rubric.as_str(), verdict.outcome.as_str()];
                    let metrics = &app.bench.metrics;
                    let counter = if lease.item.replay { &metrics.replayed } else { &metrics.verdicts };
                    counter.with_label_values(&labels).inc();
                }
                if ours.len() < verdicts.len() {
                    let lost = verdicts.len() - ours.len();
                    tracing::warn!(lost, "leases had run out before their verdicts were stored; others have the jobs");
                }
                app.wake.events.notify_waiters();
                return;
            }
            Err(error) => note(app, &error, "verdicts could not be stored, trying again"),
        }
        if verdicts.iter().all(|(lease, _)| lease.until < app.bench.clock.now()) {
            tracing::error!(
                lost = verdicts.len(),
                "leases ran out while the database was away; the jobs will be judged again"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn give_back(app: &App, mut back: Vec<Unsettled>) {
    // One try and a second: if both fail the leases run out by themselves, only the votes in hand are lost.
    for _ in 0..2 {
        if back.is_empty() {
            return;
        }
        let copies = back.iter().map(copy).collect();
        match app.store.give_back(copies).await {
            Ok(()) => back.clear(),
            Err(error) => {
                note(app, &error, "jobs could not be given back");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

fn copy(unsettled: &Unsettled) -> Unsettled {
    let lease = &unsettled.lease;
    Unsettled {
        lease: Lease { item: lease.item.clone(), token: lease.token, until: lease.until },
        at: unsettled.at,
        votes: unsettled.votes.clone(),
        error: unsettled.error.clone(),
        counts: unsettled.counts,
    }
}
