//! Step 1: spans into the inbox, answered only after their commit.
//!
//! Called by the doors in `server`. Its rule: spans of many requests are committed together (a few milliseconds or 1,000
//! rows), each request is answered after its own commit, and what waits is bounded: beyond it the sender is told to come
//! back. The way not taken: answering first and writing later, which loses what a crash finds in memory.

use super::note;
use crate::app::{App, Bench};
use crate::domain::ids::{ID_BYTES_MAX, short_hash};
use crate::domain::span::Span;
use crate::runtime::lifecycle::Lifecycle;
use crate::store::StoreError;
use crate::store::inbox::{DueAfter, InboxSpan};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Why spans were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too many spans wait for their commit.
    #[error("too many spans wait to be stored; send again later")]
    Busy,
    /// Too much work waits to be judged.
    #[error("the backlog is full; send again later")]
    Backlog,
    /// The database did not take them.
    #[error("the spans could not be stored; send again later")]
    Store,
    /// We are stopping.
    #[error("the service is stopping; send again later")]
    Stopping,
}

struct Submission {
    spans: Vec<InboxSpan>,
    reply: oneshot::Sender<Result<(), IngestError>>,
    /// Room taken in the queue; given back after the commit.
    room: OwnedSemaphorePermit,
}

/// The door to the inbox; clones share it.
#[derive(Debug, Clone)]
pub struct Inbox {
    app: Arc<App>,
    queue: mpsc::Sender<Submission>,
    room: Arc<Semaphore>,
}

/// Spans as they go into the inbox, redacted. Runs on rayon with the decoding, since it reads and encodes all text. This is
/// the only way from a door to the inbox.
#[must_use]
pub fn rows(bench: &Bench, spans: Vec<Span>) -> Vec<InboxSpan> {
    let take = |mut span: Span| {
        for (category, count) in bench.redactor.span(&mut span) {
            bench.metrics.redactions.with_label_values(&[category.as_str()]).inc_by(count);
        }
        row(&span)
    };
    spans.into_iter().map(take).collect()
}

/// A span that was redacted, or that our own benches made, as it goes into the inbox.
#[must_use]
pub fn row(span: &Span) -> InboxSpan {
    let root_ended = span.parent_id.is_none() && span.ended_at.is_some();
    // A Span is plain data with text keys, so this cannot fail.
    let body = serde_json::to_vec(span).expect("a span can be written as JSON");
    // The same one, sent again, has the same key; parts of a span, and copies that say more, stand beside it.
    let span_id = format!("{}+{}", span.span_id, short_hash(&[&body], 16));
    InboxSpan { trace_id: span.trace_id.clone(), span_id, root_ended, complete: span.complete, body }
}

/// Whether the ids can be keys.
#[must_use]
pub fn ids_are_usable(span: &Span) -> bool {
    let usable = |id: &str| !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains('\0');
    usable(&span.trace_id) && usable(&span.span_id)
}

impl Inbox {
    /// Starts the writers.
    #[must_use]
    pub fn start(app: &Arc<App>, life: &Lifecycle) -> Self {
        let config = &app.bench.config.ingest;
        // The semaphore bounds bytes; the channel never fills before it does.
        let room = kib(config.pending_bytes_max);
        let (queue, submissions) = mpsc::channel(room);
        let submissions = Arc::new(Mutex::new(submissions));
        for _ in 0..config.writers {
            life.spawn("ingest", write(Arc::clone(app), Arc::clone(&submissions), life.clone()));
        }
        Self { app: Arc::clone(app), queue, room: Arc::new(Semaphore::new(room)) }
    }

    /// Stores spans; returns after they are committed.
    ///
    /// # Errors
    /// When they were not stored; the sender may send them again.
    pub async fn submit(&self, spans: Vec<InboxSpan>) -> Result<(), IngestError> {
        if spans.is_empty() {
            return Ok(());
        }
        let config = &self.app.bench.config.ingest;
        if self.app.backlog.load(Ordering::Relaxed) >= config.backlog_max {
            self.app.bench.metrics.requests_refused.with_label_values(&["backlog"]).inc();
            return Err(IngestError::Backlog);
        }
        // A request larger than the whole queue is let in when the queue is empty.
        let bytes: usize = spans.iter().map(|s| s.body.len()).sum();
        let wanted = kib(bytes).min(kib(config.pending_bytes_max));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else {
            self.app.bench.metrics.requests_refused.with_label_values(&["busy"]).inc();
            return Err(IngestError::Busy);
        };
        let (reply, answer) = oneshot::channel();
        let submission = Submission { spans, reply, room };
        self.queue.send(submission).await.map_err(|_| IngestError::Stopping)?;
        answer.await.unwrap_or(Err(IngestError::Stopping))
    }

    /// Stores spans in a commit of their own, so that an error is about them and nobody else's.
    ///
    /// # Errors
    /// When they were not stored.
    pub async fn submit_alone(&self, spans: Vec<InboxSpan>) -> Result<(), StoreError> {
        self.app.store.put_spans(spans, due_after(&self.app), self.app.bench.clock.now()).await?;
        self.app.wake.spans.notify_one();
        Ok(())
    }
}

fn due_after(app: &App) -> DueAfter {
    let config = &app.bench.config.assembly;
    DueAfter { quiet_ms: config.quiet_ms, idle_ms: config.idle_ms, cap_ms: config.hard_cap_ms }
}

/// Room is counted in KiB, at least one.
fn kib(bytes: usize) -> usize {
    (bytes / 1024 + 1).min(Semaphore::MAX_PERMITS)
}

/// One writer: collects while nobody else does, commits while the next one collects.
async fn write(app: Arc<App>, submissions: Arc<Mutex<mpsc::Receiver<Submission>>>, life: Lifecycle) {
    while let Some(batch) = collect(&app, &submissions, &life).await {
        commit(&app, batch).await;
    }
}

async fn collect(
    app: &App,
    submissions: &Mutex<mpsc::Receiver<Submission>>,
    life: &Lifecycle,
) -> Option<Vec<Submission>> {
    let config = &app.bench.config.ingest;
    let mut queue = submissions.lock().await;
    let first = tokio::select! {
        biased;
        first = queue.recv() => first?,
        // What is in the queue was not answered yet, so it may be left; what arrives before the stop is still taken.
        () = life.soft.cancelled() => queue.try_recv().ok()?,
    };
    let mut spans = first.spans.len();
    let mut batch = vec![first];
    let until = Instant::now() + Duration::from_millis(config.batch_wait_ms);
    while spans < config.batch_spans_max {
        match tokio::time::timeout_at(until, queue.recv()).await {
            Ok(Some(next)) => {
                spans += next.spans.len();
                batch.push(next);
            }
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

async fn commit(app: &App, batch: Vec<Submission>) {
    let due = due_after(app);
    let (mut spans, mut replies) = (Vec::new(), Vec::new());
    for submission in batch {
        spans.extend(submission.spans);
        replies.push((submission.reply, submission.room));
    }
    app.bench.metrics.ingest_batch_spans.observe(spans.len() as f64);
    let result = match app.store.put_spans(spans, due, app.bench.clock.now()).await {
        Ok(()) => {
            app.wake.spans.notify_one();
            Ok(())
        }
        Err(error) => {
            note(app, &error, "spans were not stored, their senders were told");
            Err(IngestError::Store)
        }
    };
    for (reply, _room) in replies {
        // A sender that has gone away will send again, which is harmless.
        let _ = reply.send(result);
    }
}
