//! Table `jobs`: the queue. Claiming, giving back, retrying; completion is in `store::verdicts`, with the verdict.
//!
//! Called by `pipeline::claim` and `record`. Its rule: `visible_at` says all; a lease that ran out is a ready job, claimed by
//! the same query as any other, and whoever still holds the old lease can no longer settle it. The way not taken: holding a
//! row lock while a judge is asked.

use super::{Store, StoreError};
use crate::domain::job::{Job, Lease, QueueStats, SinkStats};
use crate::domain::unit::{SessionRef, Unit};
use crate::domain::verdict::Vote;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use uuid::Uuid;

/// An attempt that did not settle its job.
#[derive(Debug)]
pub struct Unsettled {
    /// The job's lease.
    pub lease: Lease<Job>,
    /// When it may be claimed again.
    pub at: DateTime<Utc>,
    /// Votes that were paid for and are kept for the next attempt.
    pub votes: Vec<Vote>,
    /// Why; absent for an interruption.
    pub error: Option<String>,
    /// Whether the attempt counts; if not, it is given back.
    pub counts: bool,
}

/// Jobs of a replay that one statement claims at most.
const REPLAYS_MAX: i64 = 32;

struct JobRow {
    id: Uuid,
    trace_id: String,
    rubric: String,
    rubric_version: String,
    inclusion_probability: f64,
    attempts: i32,
    votes: Option<serde_json::Value>,
    enqueued_at: DateTime<Utc>,
    deadline_at: DateTime<Utc>,
    span_id: Option<String>,
    session: Option<String>,
    session_id: Option<Uuid>,
    session_ordinal: Option<i32>,
    replay: bool,
    canary: bool,
}

impl JobRow {
    fn into_job(self) -> Job {
        let session = self.session.zip(self.session_id).zip(self.session_ordinal);
        let unit = match (session, self.span_id) {
            (Some(((session, key), ordinal)), _) => Unit::Session(SessionRef { key, session, ordinal }),
            (None, Some(span)) => Unit::Span(span),
            (None, None) => Unit::Trace,
        };
        Job {
            id: self.id,
            trace_id: self.trace_id,
            unit,
            replay: self.replay,
            canary: self.canary,
            rubric: Arc::from(self.rubric),
            rubric_version: Arc::from(self.rubric_version),
            inclusion_probability: self.inclusion_probability,
            attempts: self.attempts,
            votes: self.votes.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default(),
            enqueued_at: self.enqueued_at,
            deadline_at: self.deadline_at,
        }
    }
}

impl Store {
    /// Leases up to `max` jobs that are visible at `now` to this worker, oldest first; jobs of a replay only when there is no other.
    ///
    /// Does not wait for the disk: a lease that a crash of Postgres forgets is a job that is ready, and whoever held it can
    /// no longer settle it.
    ///
    /// # Errors
    /// When the statement fails; then nothing is leased.
    pub async fn claim(
        &self,
        worker: Uuid,
        max: usize,
        lease_for: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<Lease<Job>>, StoreError> {
        let (token, until) = (super::workers::lease_token(worker), now + lease_for);
        let most = i64::try_from(max).unwrap_or(i64::MAX);
        let fresh = sqlx::query_as!(
            JobRow,
            "WITH ready AS (SELECT id FROM jobs WHERE visible_at <= $1 AND NOT replay ORDER BY visible_at LIMIT $2
                            FOR UPDATE SKIP LOCKED)
             UPDATE jobs j SET visible_at = $3, lease_token = $4, attempts = j.attempts + 1
             FROM ready, set_config('synchronous_commit', 'off', true) WHERE j.id = ready.id
             RETURNING j.id, j.trace_id, j.rubric, j.rubric_version, j.inclusion_probability, j.attempts, j.votes,
                       j.enqueued_at, j.deadline_at, j.span_id, j.session, j.session_id, j.session_ordinal, j.replay,
                       j.canary",
            now,
            most,
            until,
            token,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("claiming jobs"))?;
        let rows = if fresh.is_empty() {
            self.claim_replays(most.min(REPLAYS_MAX), (token, until), now).await?
        } else {
            fresh
        };
        Ok(rows.into_iter().map(|row| Lease { item: row.into_job(), token, until }).collect())
    }

    /// A few at a time, so that what comes in meanwhile finds permits. A statement of its own: the condition is written out, since
    /// each of the two indexes is of one kind of job only.
    async fn claim_replays(
        &self,
        most: i64,
        (token, until): (Uuid, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> Result<Vec<JobRow>, StoreError> {
        sqlx::query_as!(
            JobRow,
            "WITH ready AS (SELECT id FROM jobs WHERE visible_at <= $1 AND replay ORDER BY visible_at LIMIT $2
                            FOR UPDATE SKIP LOCKED)
             UPDATE jobs j SET visible_at = $3, lease_token = $4, attempts = j.attempts + 1
             FROM ready, set_config('synchronous_commit', 'off', true) WHERE j.id = ready.id
             RETURNING j.id, j.trace_id, j.rubric, j.rubric_version, j.inclusion_probability, j.attempts, j.votes,
                       j.enqueued_at, j.deadline_at, j.span_id, j.session, j.session_id, j.session_ordinal, j.replay,
                       j.canary",
            now,
            most,
            until,
            token,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("claiming jobs to judge again"))
    }

    /// Gives jobs back: for a later attempt, or at once after an interruption.
    ///
    /// # Errors
    /// When the statement fails; then the leases run out by themselves.
    pub async fn give_back(&self, unsettled: Vec<Unsettled>) -> Result<(), StoreError> {
        if unsettled.is_empty() {
            return Ok(());
        }
        let votes = |votes: &[Vote]| {
            let kept = serde_json::to_value(votes).ok().filter(|_| !votes.is_empty());
            kept.map(super::columns::json)
        };
        sqlx::query!(
            "UPDATE jobs j SET visible_at = u.at, lease_token = NULL, votes = coalesce(u.votes, j.votes),
                               last_error = coalesce(u.error, j.last_error),
                               attempts = j.attempts - CASE WHEN u.counts THEN 0 ELSE 1 END
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::jsonb[], $5::text[], $6::bool[])
                  AS u(id, token, at, votes, error, counts)
             WHERE j.id = u.id AND j.lease_token = u.token",
            &unsettled.iter().map(|u| u.lease.item.id).collect::<Vec<_>>(),
            &unsettled.iter().map(|u| u.lease.token).collect::<Vec<_>>(),
            &unsettled.iter().map(|u| u.at).collect::<Vec<_>>(),
            &unsettled.iter().map(|u| votes(&u.votes)).collect::<Vec<_>>() as &[Option<serde_json::Value>],
            &unsettled.iter().map(|u| super::columns::optional(u.error.as_ref())).collect::<Vec<_>>()
                as &[Option<String>],
            &unsettled.iter().map(|u| u.counts).collect::<Vec<_>>(),
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("giving jobs back"))?;
        Ok(())
    }

    /// Jobs of one trace that still wait: rubric, attempts, when visible, last error.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn jobs_of_trace(
        &self,
        trace_id: &str,
    ) -> Result<Vec<(String, i32, DateTime<Utc>, Option<String>)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT rubric, attempts, visible_at, last_error FROM jobs WHERE trace_id = $1 AND NOT replay ORDER BY rubric",
            trace_id
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading the jobs of a trace"))?;
        Ok(rows.into_iter().map(|r| (r.rubric, r.attempts, r.visible_at, r.last_error)).collect())
    }

    /// How much work waits.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn queue_stats(&self, now: DateTime<Utc>) -> Result<QueueStats, StoreError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM inbox_spans) AS "spans!", (SELECT count(*) FROM open_traces) AS "open!",
                      count(*) FILTER (WHERE visible_at <= $1) AS "ready!",
                      count(*) FILTER (WHERE visible_at > $1 AND lease_token IS NULL) AS "delayed!",
                      count(*) FILTER (WHERE visible_at > $1 AND lease_token IS NOT NULL) AS "leased!",
                      min(visible_at) FILTER (WHERE visible_at <= $1) AS oldest,
                      (SELECT count(*) FROM jobs WHERE replay) AS "replays!"
               FROM jobs WHERE NOT replay"#,
            now
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting jobs"))?;
        let outbox = sqlx::query_as!(
            SinkStats,
            r#"SELECT sink, count(*) FILTER (WHERE dead_at IS NULL) AS "waiting!",
                      count(*) FILTER (WHERE dead_at IS NOT NULL) AS "dead!",
                      (array_agg(last_error ORDER BY visible_at DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
               FROM outbox GROUP BY sink ORDER BY sink"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("counting events"))?;
        Ok(QueueStats {
            inbox_spans: row.spans,
            open_traces: row.open,
            ready: row.ready,
            delayed: row.delayed,
            leased: row.leased,
            replays: row.replays,
            oldest_ready_seconds: row.oldest.map_or(0.0, |at| (now - at).as_seconds_f64()),
            outbox,
        })
    }
}
