//! Table `limit_shares`: how the live workers divide the limit of an endpoint and model.
//!
//! Called by `pipeline::shares` once a second. Its rule: one statement says "I am here and want this much" and answers who
//! else is; a worker that stays silent is left out when its row runs out. The way not taken: a token bucket in a row, which
//! every request of every worker would lock.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What one live worker wants of one limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Endpoint and model.
    pub key: (String, String),
    /// The worker.
    pub worker: Uuid,
    /// Part of the limit.
    pub part: f64,
}

impl Store {
    /// Says what this worker wants and returns what all live workers want, itself included.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn exchange_shares(
        &self,
        worker: Uuid,
        wanted: &[((String, String), f64)],
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<Wanted>, StoreError> {
        let rows = sqlx::query!(
            "WITH own AS (
                 INSERT INTO limit_shares AS s (endpoint, model, worker, wanted, until)
                 SELECT e, m, $4, w, $5 FROM unnest($1::text[], $2::text[], $3::float8[]) AS u(e, m, w)
                 ON CONFLICT (endpoint, model, worker) DO UPDATE SET wanted = excluded.wanted, until = excluded.until
                 RETURNING s.endpoint, s.model, s.worker, s.wanted),
             gone AS (DELETE FROM limit_shares WHERE until < $6::timestamptz - interval '1 minute')
             SELECT endpoint AS \"endpoint!\", model AS \"model!\", worker AS \"worker!\", wanted AS \"wanted!\" FROM own
             UNION ALL SELECT endpoint, model, worker, wanted FROM limit_shares
             WHERE until > $6 AND worker <> $4 AND (endpoint, model) IN (SELECT endpoint, model FROM own)",
            &wanted.iter().map(|(key, _)| key.0.clone()).collect::<Vec<_>>(),
            &wanted.iter().map(|(key, _)| key.1.clone()).collect::<Vec<_>>(),
            &wanted.iter().map(|(_, part)| *part).collect::<Vec<_>>(),
            worker,
            until,
            now,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("sharing limits"))?;
        let read = rows.into_iter().map(|r| Wanted { key: (r.endpoint, r.model), worker: r.worker, part: r.wanted });
        Ok(read.collect())
    }

    /// Gives this worker's shares back, at a stop.
    ///
    /// # Errors
    /// When the statement fails; then they run out.
    pub async fn leave_shares(&self, worker: Uuid) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM limit_shares WHERE worker = $1", worker)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("giving shares of limits back"))?;
        Ok(())
    }
}
