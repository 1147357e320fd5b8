//! The batch tier: questions that are not urgent go to the provider in batches, and their replies wake the jobs.
//!
//! One loop a process with the role work. Its rule: everything is in the database, so any worker hands over and collects;
//! nobody waits longer than the rubric's hours. The way not taken: a job that sleeps in a process until its batch is done.

use super::note;
use crate::app::App;
use crate::domain::chat::ChatError;
use crate::llm::batch::{self, Standing};
use crate::llm::judges::JudgeHandle;
use crate::store::StoreError;
use crate::store::batches::{Batch, Room};
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What one batch holds at most; OpenAI takes 50,000 questions and 200 MB.
const ITEMS_MAX: i64 = 10_000;
const BYTES_MAX: i64 = 100_000_000;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("judge {judge}: {source}")]
    Provider { judge: String, source: ChatError },
}

/// Hands over and collects until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    if !app.bench.judges.all().any(|judge| judge.config.batch) {
        return;
    }
    let every = Duration::from_millis(app.bench.config.work.batch_poll_ms);
    while !stop.is_cancelled() {
        match once(&app).await {
            Ok(()) => {}
            Err(BatchError::Store(error)) => note(&app, &error, "batches could not be worked on, trying again"),
            Err(error) => tracing::warn!(%error, "a batch could not be handed over or collected, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn once(app: &App) -> Result<(), BatchError> {
    let judges = app.bench.judges.all().filter(|judge| judge.config.batch);
    let mut first_error = None;
    for judge in judges {
        if let Err(error) = hand_over(app, judge).await {
            first_error.get_or_insert(error);
        }
    }
    let now = app.bench.clock.now();
    let pause = TimeDelta::milliseconds(i64::try_from(app.bench.config.work.batch_poll_ms).unwrap_or(i64::MAX));
    // Long enough that nobody else looks while we do; one at a time, so that each has all of it.
    let busy = TimeDelta::from_std(batch::TIMEOUT * 4).unwrap_or(TimeDelta::MAX);
    while let Some(batch) = app.store.due_batch(now, app.bench.clock.now() + busy).await? {
        let collected = collect(app, &batch).await;
        if !matches!(collected, Ok(true)) {
            app.store.look_again(&batch, app.bench.clock.now() + pause).await?;
        }
        if let Err(error) = collected {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn hand_over(app: &App, judge: &JudgeHandle) -> Result<(), BatchError> {
    let config = &app.bench.config.work;
    let now = app.bench.clock.now();
    if judge.pause_now().is_some() {
        return Ok(());
    }
    let mark = format!("taken-{}", Uuid::now_v7());
    let oldest = now - super::seconds(config.batch_wait_seconds);
    let at_least = i64::from(config.batch_requests);
    let room = Room { at_least, at_most: ITEMS_MAX, bytes_max: BYTES_MAX };
    let items = app.store.take_batch((&judge.name, &judge.endpoint(), &mark), &room, (now, oldest)).await?;
    let Some(deadline_at) = items.iter().map(|i| i.deadline_at).max() else { return Ok(()) };
    let questions: Vec<_> = items.into_iter().map(|item| (item.job_id, item.body)).collect();
    match batch::begin(judge, &questions).await {
        Ok(id) => {
            tracing::info!(judge = judge.name, batch = id, requests = questions.len(), "batch handed over");
            let batch = Batch { id, judge: judge.name.clone(), endpoint: judge.endpoint(), deadline_at };
            app.store.batch_begun(&mark, &batch, (now, now)).await?;
            Ok(())
        }
        Err(source) => {
            app.store.untake_batch(&mark).await?;
            if matches!(source, ChatError::Unusable { .. }) {
                judge.pause(&source.to_string(), now);
            }
            Err(BatchError::Provider { judge: judge.name.clone(), source })
        }
    }
}

/// Takes the replies of a batch; false = it is still running.
async fn collect(app: &App, batch: &Batch) -> Result<bool, BatchError> {
    let now = app.bench.clock.now();
    let Some(judge) = app.bench.judges.get(&batch.judge).filter(|j| j.endpoint() == batch.endpoint) else {
        // Its judge is configured no more: the jobs ask whom they have.
        app.store.end_batch(batch, &[], now).await?;
        return Ok(true);
    };
    let failed = |source| BatchError::Provider { judge: judge.name.clone(), source };
    let (files, status) = match batch::look(judge, &batch.id).await {
        Ok(Standing::Ended { files, status }) => (files, status),
        Ok(Standing::Running(_)) if batch.deadline_at > now => return Ok(false),
        Ok(Standing::Running(status)) => {
            tracing::warn!(judge = judge.name, batch = batch.id, status, "batch not done in time, asking directly");
            batch::cancel(judge, &batch.id).await.map_err(failed)?;
            (Vec::new(), "given up".to_owned())
        }
        // The provider does not know it (any more).
        Err(ChatError::Unusable { status: 404, .. }) => (Vec::new(), "unknown".to_owned()),
        Err(error) => return Err(failed(error)),
    };
    let mut replies = Vec::new();
    for file in files {
        replies.extend(batch::replies(judge, &file).await.map_err(failed)?);
    }
    let woken = app.store.end_batch(batch, &replies, now).await?;
    tracing::info!(judge = judge.name, batch = batch.id, status, replies = replies.len(), woken, "batch collected");
    app.wake.jobs.notify_waiters();
    Ok(true)
}
