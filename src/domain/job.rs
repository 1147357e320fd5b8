//! A unit of judging work, and the lease that says whose it is.
//!
//! Made by `pipeline::enqueue`, handed out by `store::jobs`. Its rule: a lease is taken by value by whatever settles the
//! job, so the compiler sees to it that a job is settled once. The way not taken: a status column with a rescuer for
//! stuck rows; one `visible_at` column means ready, retry later and leased alike.

use super::unit::{Unit, unit_job_id};
use super::verdict::{JoinIds, Outcome, TraceLabels, Verdict, Vote};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// One unit to be judged by one version of one rubric.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Hash of unit, rubric and rubric version.
    pub id: Uuid,
    /// The trace; of a session, its latest.
    pub trace_id: String,
    /// What of it is judged.
    pub unit: Unit,
    /// Whether it is judged once more beside what was judged live; then nobody waits for it, and no sink hears of it.
    pub replay: bool,
    /// Whether the replay asks if judges still say the same: no vote of it comes from the cache or goes into it.
    pub canary: bool,
    /// The rubric's name.
    pub rubric: Arc<str>,
    /// The rubric's version when the trace was kept.
    pub rubric_version: Arc<str>,
    /// Probability with which trace and rubric were to be judged.
    pub inclusion_probability: f64,
    /// Claims so far that were not given back, this one included.
    pub attempts: i32,
    /// Votes that earlier attempts already paid for.
    pub votes: Vec<Vote>,
    /// When it was enqueued.
    pub enqueued_at: DateTime<Utc>,
    /// After this it is expired, not judged.
    pub deadline_at: DateTime<Utc>,
}

impl Job {
    /// A job that nobody has claimed yet, of all that there is (inclusion probability 1), to be judged live: what differs is
    /// written over it. `rubric` is name and version, `times` when it is enqueued and its deadline.
    #[must_use]
    pub fn new(
        trace_id: &str,
        unit: Unit,
        (rubric, version): (&str, &str),
        (enqueued_at, deadline_at): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        Self {
            id: unit_job_id(trace_id, &unit, rubric, version),
            trace_id: trace_id.to_owned(),
            unit,
            replay: false,
            canary: false,
            rubric: rubric.into(),
            rubric_version: version.into(),
            inclusion_probability: 1.0,
            attempts: 0,
            votes: Vec::new(),
            enqueued_at,
            deadline_at,
        }
    }

    /// A verdict of this job that has no score, which is where every verdict starts from.
    #[must_use]
    pub fn unscored(&self, outcome: Outcome, explanation: String, trace: TraceLabels, now: DateTime<Utc>) -> Verdict {
        Verdict {
            id: self.id,
            trace_id: self.trace_id.clone(),
            span_id: self.unit.span_id().map(str::to_owned),
            session: self.unit.session().cloned(),
            superseded_at: None,
            rubric: self.rubric.to_string(),
            rubric_version: self.rubric_version.to_string(),
            kind: super::rubric::OutputKind::default(),
            outcome,
            score: None,
            raw: serde_json::Value::Null,
            label: None,
            passed: None,
            confidence: None,
            disagreement: None,
            detail: serde_json::json!({}),
            explanation,
            decided_by: None,
            checks: Vec::new(),
            votes: Vec::new(),
            cost_usd: 0.0,
            latency_ms: 0,
            inclusion_probability: self.inclusion_probability,
            trace,
            join: JoinIds::default(),
            created_at: now,
        }
    }
}

/// The right to settle a job, until it runs out. Must be given back to the store: by complete, `retry_at` or release.
#[must_use = "a lease that is dropped blocks its job until it runs out"]
#[derive(Debug)]
pub struct Lease<T> {
    /// What is leased.
    pub item: T,
    /// Proves whose lease it is.
    pub token: Uuid,
    /// When it runs out.
    pub until: DateTime<Utc>,
}

/// How much work waits, for `queue stats` and metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Spans not yet put together.
    pub inbox_spans: i64,
    /// Traces not yet decided on.
    pub open_traces: i64,
    /// Jobs that could be claimed now.
    pub ready: i64,
    /// Jobs that wait for their next attempt.
    pub delayed: i64,
    /// Jobs under a lease.
    pub leased: i64,
    /// Jobs that judge again what is stored, ready or not; in none of the other numbers.
    #[serde(default)]
    pub replays: i64,
    /// Age of the oldest job that could be claimed, in seconds.
    pub oldest_ready_seconds: f64,
    /// Events to be sent, by sink.
    pub outbox: Vec<SinkStats>,
}

/// Events of one sink that wait or were given up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkStats {
    /// The sink's name.
    pub sink: String,
    /// Events still to be delivered.
    pub waiting: i64,
    /// Events that were given up and can be looked at.
    pub dead: i64,
    /// The most recent reason for not delivering.
    pub last_error: Option<String>,
}
