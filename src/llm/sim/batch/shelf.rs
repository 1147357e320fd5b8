//! What the simulated judge keeps of batches: the files, the batches, and what they look like as JSON.
//!
//! Called by the routes in `batch.rs`. Its rule: memory is bounded, so the oldest file and the oldest batch go when there
//! are too many. The way not taken: dropping by age, which bounds nothing under load.

use super::lines::Answers;
use super::{ENDPOINT, Order, Refusal, WINDOW};
use crate::domain::clock::{Clock, SystemClock};
use axum::body::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most files and most batches that are kept; beyond it the oldest goes.
pub(super) const KEPT_MAX: usize = 64;
/// Seconds in the one window there is.
const WINDOW_SECONDS: i64 = 24 * 60 * 60;

/// The files and batches of one simulated judge.
#[derive(Debug, Default)]
pub(in crate::llm::sim) struct Batches(Mutex<Shelf>);

impl Batches {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept, the newest last.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) files: VecDeque<StoredFile>,
    pub(super) batches: VecDeque<Batch>,
    files_made: u64,
    batches_made: u64,
}

/// A file, uploaded or written by a batch.
#[derive(Debug)]
pub(super) struct StoredFile {
    pub(super) id: String,
    name: String,
    pub(super) purpose: &'static str,
    created_at: i64,
    pub(super) content: Bytes,
}

/// How far a batch is, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Validating,
    InProgress,
    Completed,
    Failed,
    Expired,
    Cancelling,
    Cancelled,
}

/// A batch, from its creation on.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    input_file_id: String,
    metadata: Value,
    created_at: i64,
    since: Instant,
    pub(super) status: Status,
    /// The input until somebody starts to answer it: held here, so that it may be deleted or dropped as a file.
    pub(super) input: Option<Bytes>,
    mistakes: Vec<Value>,
    total: usize,
    completed: usize,
    failed: usize,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
}

/// A batch that somebody has begun to answer or to cancel.
pub(super) struct Due {
    pub(super) number: u64,
    pub(super) input: Bytes,
    pub(super) cancelled: bool,
}

impl StoredFile {
    pub(super) fn as_json(&self) -> Value {
        json!({"id": self.id, "object": "file", "bytes": self.content.len(), "created_at": self.created_at,
               "filename": self.name, "purpose": self.purpose})
    }
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Batch {
    fn id(&self) -> String {
        format!("batch_sim_{}", self.number)
    }

    pub(super) fn is_due(&self, after: Duration) -> bool {
        self.input.is_some() && (self.status == Status::Cancelling || self.since.elapsed() >= after)
    }

    pub(super) fn as_json(&self, status: Status) -> Value {
        let errors =
            if self.mistakes.is_empty() { Value::Null } else { json!({"object": "list", "data": self.mistakes}) };
        json!({
            "id": self.id(),
            "object": "batch",
            "endpoint": ENDPOINT,
            "errors": errors,
            "input_file_id": self.input_file_id,
            "completion_window": WINDOW,
            "status": status.name(),
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.created_at + WINDOW_SECONDS,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        })
    }
}

impl Shelf {
    pub(super) fn keep_file(&mut self, name: String, purpose: &'static str, content: Bytes) -> &StoredFile {
        self.files_made += 1;
        if self.files.len() >= KEPT_MAX {
            self.files.pop_front();
        }
        let id = format!("file-sim-{}", self.files_made);
        self.files.push_back(StoredFile { id, name, purpose, created_at: SystemClock.now().timestamp(), content });
        self.files.back().expect("one was just put there")
    }

    pub(super) fn file(&self, id: &str) -> Result<&StoredFile, Refusal> {
        self.files.iter().find(|file| file.id == id).ok_or_else(|| Refusal::unknown("File object", id))
    }

    /// A file for a batch's answers; none when it would be empty, as at OpenAI.
    fn keep_answers(&mut self, batch: u64, kind: &str, content: Vec<u8>) -> Option<String> {
        let name = format!("batch_sim_{batch}_{kind}.jsonl");
        (!content.is_empty()).then(|| self.keep_file(name, "batch_output", content.into()).id.clone())
    }

    pub(super) fn batch(&mut self, id: &str) -> Result<&mut Batch, Refusal> {
        self.batches.iter_mut().find(|batch| batch.id() == id).ok_or_else(|| Refusal::unknown("batch", id))
    }

    pub(super) fn keep_batch(&mut self, order: Order, input: Bytes, checked: Result<usize, Vec<Value>>) -> &Batch {
        self.batches_made += 1;
        if self.batches.len() >= KEPT_MAX {
            self.batches.pop_front();
        }
        let (status, total, mistakes) = match checked {
            Ok(total) => (Status::InProgress, total, Vec::new()),
            Err(mistakes) => (Status::Failed, 0, mistakes),
        };
        self.batches.push_back(Batch {
            number: self.batches_made,
            input_file_id: order.input_file_id,
            metadata: order.metadata,
            created_at: SystemClock.now().timestamp(),
            since: Instant::now(),
            status,
            input: (status == Status::InProgress).then_some(input),
            mistakes,
            total,
            completed: 0,
            failed: 0,
            output_file_id: None,
            error_file_id: None,
        });
        self.batches.back().expect("one was just put there")
    }

    pub(super) fn take_due(&mut self, after: Duration) -> Vec<Due> {
        let due = self.batches.iter_mut().filter(|batch| batch.is_due(after));
        due.filter_map(|batch| {
            let cancelled = batch.status == Status::Cancelling;
            Some(Due { number: batch.number, input: batch.input.take()?, cancelled })
        })
        .collect()
    }

    pub(super) fn finish(&mut self, due: &Due, answers: Answers) {
        // It may have been dropped as the oldest meanwhile; then its answers are nobody's.
        let Some(place) = self.batches.iter().position(|batch| batch.number == due.number) else { return };
        let output = self.keep_answers(due.number, "output", answers.output);
        let errors = self.keep_answers(due.number, "error", answers.errors);
        let batch = &mut self.batches[place];
        batch.output_file_id = output;
        batch.error_file_id = errors;
        batch.completed = answers.completed;
        batch.failed = answers.failed;
        batch.status = match answers.silent {
            _ if due.cancelled => Status::Cancelled,
            0 => Status::Completed,
            _ => Status::Expired,
        };
    }
}
