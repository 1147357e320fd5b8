//! Table `workers`: which processes judge, and ending the leases of those that died.
//!
//! Called by `pipeline::alive`. Its rule: a lease token begins with its worker's id, so that a lease is known to be a dead worker's
//! although nothing is written when it is taken; time is the database's, since the clocks of machines differ. The way not taken:
//! renewing every lease while its judge is asked, which writes a row a job every few seconds.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What was found dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buried {
    /// Workers that were silent for too long.
    pub workers: i64,
    /// Jobs that they held, and that are ready now.
    pub jobs: i64,
}

/// A new lease token of this worker: no two are the same.
pub(super) fn lease_token(worker: Uuid) -> Uuid {
    Uuid::from_u64_pair(worker.as_u64_pair().0, Uuid::new_v4().as_u64_pair().1)
}

/// The smallest and the largest lease token that this worker can give out.
fn lease_tokens(worker: Uuid) -> (Uuid, Uuid) {
    let own = worker.as_u64_pair().0;
    (Uuid::from_u64_pair(own, 0), Uuid::from_u64_pair(own, u64::MAX))
}

impl Store {
    /// Says that this worker lives.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn beat(&self, worker: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO workers AS w (worker, seen_at) VALUES ($1, clock_timestamp())
             ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at",
            worker
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("saying that this worker lives"))?;
        Ok(())
    }

    /// Ends the leases of workers that were silent for so many seconds; their jobs are ready from `now` on.
    ///
    /// A worker that was taken for dead and is not can no longer settle what it held.
    ///
    /// # Errors
    /// When a statement fails; then nothing was changed.
    pub async fn bury(&self, silent_seconds: f64, now: DateTime<Utc>) -> Result<Buried, StoreError> {
        let op = StoreError::op("ending the leases of dead workers");
        let mut tx = self.pool.begin().await.map_err(StoreError::op("ending the leases of dead workers"))?;
        let dead = sqlx::query_scalar!(
            "DELETE FROM workers WHERE worker IN
                 (SELECT worker FROM workers WHERE seen_at < clock_timestamp() - make_interval(secs => $1)
                  FOR UPDATE SKIP LOCKED)
             RETURNING worker",
            silent_seconds
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(op)?;
        if dead.is_empty() {
            return Ok(Buried::default());
        }
        let (first, last): (Vec<Uuid>, Vec<Uuid>) = dead.iter().map(|worker| lease_tokens(*worker)).unzip();
        let freed = sqlx::query!(
            "UPDATE jobs j SET visible_at = $3, lease_token = NULL
             FROM unnest($1::uuid[], $2::uuid[]) AS u(first, last)
             WHERE j.visible_at > $3 AND j.lease_token BETWEEN u.first AND u.last",
            &first,
            &last,
            now
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("ending the leases of dead workers"))?;
        tx.commit().await.map_err(StoreError::op("ending the leases of dead workers"))?;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(Buried { workers: count(dead.len() as u64), jobs: count(freed.rows_affected()) })
    }

    /// Takes this worker's row away, at a stop, when it holds nothing any more.
    ///
    /// # Errors
    /// When the statement fails; then the row runs out.
    pub async fn leave(&self, worker: Uuid) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM workers WHERE worker = $1", worker)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("signing this worker off"))?;
        Ok(())
    }
}
