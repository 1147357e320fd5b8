//! Table `outbox`: verdicts that sinks are still to be told about.
//!
//! Called by `pipeline::export` and by `queue dead|redrive`. Its rule: an event leaves the table only when its sink has it; one that a
//! sink refuses for good stays as dead, with the reason, until somebody looks. The way not taken: sending from the
//! transaction that stores the verdict.

use super::{Store, StoreError, verdicts};
use crate::domain::event::OutboxEvent;
use crate::domain::job::Lease;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// What became of a leased event.
#[derive(Debug)]
pub enum Settled {
    /// The sink has it.
    Delivered(Lease<OutboxEvent>),
    /// To be tried again.
    Retry {
        /// The event.
        lease: Lease<OutboxEvent>,
        /// When.
        at: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// Given up.
    Dead {
        /// The event.
        lease: Lease<OutboxEvent>,
        /// Why.
        reason: String,
    },
}

/// A dead event, to be looked at.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeadEvent {
    /// The event.
    pub id: Uuid,
    /// Its sink.
    pub sink: String,
    /// The verdict it tells about.
    pub verdict_id: Uuid,
    /// That verdict's trace.
    pub trace_id: String,
    /// And its rubric.
    pub rubric: String,
    /// Deliveries tried.
    pub attempts: i32,
    /// Why it was given up.
    pub last_error: Option<String>,
    /// When.
    pub dead_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Leases up to `max` events of `sink` that are visible at `now`, with their verdicts.
    ///
    /// # Errors
    /// When a statement fails; leases that were taken run out.
    pub async fn claim_events(
        &self,
        sink: &str,
        max: usize,
        lease_for: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Lease<OutboxEvent>, DateTime<Utc>)>, StoreError> {
        let (token, until) = (Uuid::now_v7(), now + lease_for);
        let rows = sqlx::query!(
            "WITH ready AS (SELECT id FROM outbox WHERE sink = $1 AND dead_at IS NULL AND visible_at <= $2
                            ORDER BY visible_at LIMIT $3 FOR UPDATE SKIP LOCKED)
             UPDATE outbox o SET visible_at = $4, lease_token = $5, attempts = o.attempts + 1
             FROM ready WHERE o.id = ready.id RETURNING o.id, o.verdict_id, o.attempts, o.created_at, o.verdict_at",
            sink,
            now,
            i64::try_from(max).unwrap_or(i64::MAX),
            until,
            token,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("claiming events"))?;
        let Some(made) = verdicts::span(rows.iter().map(|row| row.verdict_at)) else { return Ok(Vec::new()) };
        let ids: Vec<Uuid> = rows.iter().map(|row| row.verdict_id).collect();
        let mut verdicts: std::collections::HashMap<Uuid, _> =
            self.verdicts_by_id(&ids, made).await?.into_iter().map(|v| (v.id, v)).collect();
        let leases = rows.into_iter().filter_map(|row| {
            let verdict = verdicts.remove(&row.verdict_id)?;
            let event = OutboxEvent { id: row.id, attempts: row.attempts, verdict };
            Some((Lease { item: event, token, until }, row.created_at))
        });
        Ok(leases.collect())
    }

    /// Settles leased events, in one transaction.
    ///
    /// # Errors
    /// When a statement fails; then events that were delivered may be delivered again.
    pub async fn settle_events(&self, settled: Vec<Settled>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut gone = (vec![], vec![]);
        let (mut ids, mut tokens, mut times, mut reasons, mut dead) = (vec![], vec![], vec![], vec![], vec![]);
        for one in settled {
            let (lease, at, reason, is_dead) = match one {
                Settled::Delivered(lease) => {
                    gone.0.push(lease.item.id);
                    gone.1.push(lease.token);
                    continue;
                }
                Settled::Retry { lease, at, reason } => (lease, at, reason, false),
                Settled::Dead { lease, reason } => (lease, now, reason, true),
            };
            ids.push(lease.item.id);
            tokens.push(lease.token);
            times.push(at);
            reasons.push(super::columns::text(&reason));
            dead.push(is_dead);
        }
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to settle events"))?;
        sqlx::query!(
            "DELETE FROM outbox o USING unnest($1::uuid[], $2::uuid[]) AS u(id, token)
             WHERE o.id = u.id AND o.lease_token = u.token",
            &gone.0,
            &gone.1
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("removing delivered events"))?;
        if !ids.is_empty() {
            sqlx::query!(
                "UPDATE outbox o SET visible_at = u.at, lease_token = NULL, last_error = u.reason,
                                     dead_at = CASE WHEN u.dead THEN $6::timestamptz END
                 FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bool[])
                      AS u(id, token, at, reason, dead)
                 WHERE o.id = u.id AND o.lease_token = u.token",
                &ids,
                &tokens,
                &times,
                &reasons,
                &dead,
                now,
            )
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("postponing events"))?;
        }
        tx.commit().await.map_err(StoreError::op("committing events"))
    }

    /// Dead events, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn dead_events(&self, limit: i64) -> Result<Vec<DeadEvent>, StoreError> {
        sqlx::query_as!(
            DeadEvent,
            "SELECT o.id, o.sink, o.verdict_id, v.trace_id, v.rubric, o.attempts, o.last_error, o.dead_at
             FROM outbox o JOIN verdicts v ON v.id = o.verdict_id AND v.created_at = o.verdict_at WHERE o.dead_at IS NOT NULL
             ORDER BY o.dead_at DESC LIMIT $1",
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading dead events"))
    }

    /// Removes events of verdicts that were made before `before`, for those have gone.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_events(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!("DELETE FROM outbox WHERE verdict_at < $1", before)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("forgetting events"))?;
        Ok(done.rows_affected())
    }

    /// Makes dead events deliverable again.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn redrive_events(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "UPDATE outbox SET dead_at = NULL, visible_at = $1, created_at = $1, attempts = 0 WHERE dead_at IS NOT NULL",
            now
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("redriving events"))?;
        Ok(done.rows_affected())
    }
}
