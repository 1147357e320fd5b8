//! Sections `ingest`, `assembly` and `sessions`: limits at the door, when a trace is whole, and when a session is judged.
//!
//! Its rule: every queue in front of the database has a bound, and reaching it is said to the sender (503 with
//! `Retry-After`), never hidden by dropping.

use super::{ConfigError, at_least_one};
use serde::{Deserialize, Serialize};

/// Section `ingest`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Spans committed together at most.
    pub batch_spans_max: usize,
    /// How long a commit waits for more spans, in milliseconds.
    pub batch_wait_ms: u64,
    /// Bytes of spans waiting for their commit at most; above it senders get 503.
    pub pending_bytes_max: usize,
    /// Commits under way at the same time.
    pub writers: usize,
    /// Spans in the inbox plus jobs in the queue at most; above it senders get 429.
    pub backlog_max: i64,
    /// What `Retry-After` says, in seconds.
    pub retry_after_seconds: u64,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            batch_spans_max: 1_000,
            batch_wait_ms: 3,
            pending_bytes_max: 256 * 1024 * 1024,
            writers: 2,
            backlog_max: 1_000_000,
            retry_after_seconds: 5,
        }
    }
}

impl Ingest {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("ingest.batch_spans_max", self.batch_spans_max as u64)?;
        at_least_one("ingest.pending_bytes_max", self.pending_bytes_max as u64)?;
        at_least_one("ingest.writers", self.writers as u64)
    }
}

/// A week.
const REOPEN_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Section `assembly`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assembly {
    /// A trace whose root has ended is whole after this long without another span, in milliseconds.
    pub quiet_ms: u64,
    /// A trace without an ended root is whole after this long without another span, in milliseconds.
    pub idle_ms: u64,
    /// A trace is taken as it is after this long since its first span, in milliseconds.
    pub hard_cap_ms: u64,
    /// How often the assembler looks, in milliseconds.
    pub tick_ms: u64,
    /// Traces assembled in one transaction at most.
    pub batch_traces_max: usize,
    /// Bytes of spans assembled in one transaction at most; one trace is always taken.
    pub batch_bytes_max: usize,
    /// A trace with more bytes of spans than this is not read and not judged.
    pub trace_bytes_max: usize,
    /// A trace with more spans than this is not read and not judged.
    pub trace_spans_max: usize,
    /// How long after its decision late spans and logs still reopen a trace, once, in milliseconds; 0 = never.
    pub reopen_ms: u64,
}

impl Default for Assembly {
    fn default() -> Self {
        Self {
            quiet_ms: 60_000,
            idle_ms: 180_000,
            hard_cap_ms: 600_000,
            tick_ms: 500,
            batch_traces_max: 500,
            batch_bytes_max: 64 * 1024 * 1024,
            trace_bytes_max: 32 * 1024 * 1024,
            trace_spans_max: 50_000,
            reopen_ms: 3_600_000,
        }
    }
}

impl Assembly {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("assembly.tick_ms", self.tick_ms)?;
        at_least_one("assembly.batch_traces_max", self.batch_traces_max as u64)?;
        at_least_one("assembly.trace_bytes_max", self.trace_bytes_max as u64)?;
        at_least_one("assembly.trace_spans_max", self.trace_spans_max as u64)?;
        if self.reopen_ms > REOPEN_MS_MAX {
            return Err(ConfigError::invalid(
                "assembly.reopen_ms",
                "must not be above 604800000 (a week): what is judged again much later changes reports that people have read",
            ));
        }
        if self.hard_cap_ms < self.quiet_ms {
            return Err(ConfigError::invalid("assembly.hard_cap_ms", "must not be below assembly.quiet_ms"));
        }
        Ok(())
    }
}

/// Section `sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// A session is judged after this long without another trace, in seconds; again when it goes on.
    pub quiet_seconds: u64,
    /// One that never rests is judged this long after its first trace that no judging covers, in seconds.
    pub cap_seconds: u64,
    /// How often due sessions are looked for, in milliseconds.
    pub tick_ms: u64,
    /// Traces of a session that are read to judge it at most: the first and the latest; the others count as dropped turns.
    pub traces_max: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { quiet_seconds: 900, cap_seconds: 86_400, tick_ms: 2_000, traces_max: 200 }
    }
}

impl Sessions {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("sessions.tick_ms", self.tick_ms)?;
        if self.traces_max < 2 {
            return Err(ConfigError::invalid(
                "sessions.traces_max",
                "must be at least 2: the first trace and the latest",
            ));
        }
        if self.cap_seconds < self.quiet_seconds {
            return Err(ConfigError::invalid("sessions.cap_seconds", "must not be below sessions.quiet_seconds"));
        }
        Ok(())
    }
}
