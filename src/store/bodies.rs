//! Table `trace_bodies`: kept traces, whole; the largest table, partitioned by day.
//!
//! Written and read by `store::traces`, `reopen` and `sessions`. Its rule: the day is asked of `traces` first and then said, so that
//! a reading opens the partitions of its days and no others. A trace that was kept and has no body here has outlived it: retention
//! drops bodies before rows of `traces`. The way not taken: the body beside the decision, where it could only be deleted row by row.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::ops::RangeInclusive;

impl Store {
    /// Bodies of kept traces, as far as they are still there.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn trace_bodies(&self, ids: &[String]) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::op("reading traces"))?;
        let days = sqlx::query!(
            "SELECT min(decided_at) AS first, max(decided_at) AS last FROM traces WHERE trace_id = ANY($1) AND kept",
            ids
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::op("looking when traces were decided on"))?;
        let (Some(first), Some(last)) = (days.first, days.last) else { return Ok(Vec::new()) };
        read(&mut connection, ids, &(first..=last)).await
    }

    /// Bodies of kept traces that were decided on at or after `since`, of at most `max` traces, the newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn recent_bodies(&self, since: DateTime<Utc>, max: i64) -> Result<Vec<Vec<u8>>, StoreError> {
        sqlx::query_scalar!(
            r#"SELECT b.body
               FROM (SELECT trace_id, decided_at FROM traces WHERE kept AND decided_at >= $1
                     ORDER BY decided_at DESC, trace_id LIMIT $2) t
               JOIN trace_bodies b ON b.trace_id = t.trace_id AND b.decided_at = t.decided_at AND b.decided_at >= $1
               ORDER BY t.decided_at DESC, t.trace_id"#,
            since,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading recent traces"))
    }
}

/// Bodies of traces that were decided on within a time.
pub(super) async fn read(
    connection: &mut PgConnection,
    ids: &[String],
    decided: &RangeInclusive<DateTime<Utc>>,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT trace_id, body FROM trace_bodies WHERE trace_id = ANY($1) AND decided_at >= $2 AND decided_at <= $3",
        ids,
        decided.start(),
        decided.end()
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::op("reading traces"))?;
    Ok(rows.into_iter().map(|row| (row.trace_id, row.body)).collect())
}

/// Stores bodies of traces that were decided on at one time.
pub(super) async fn insert(
    tx: &mut PgConnection,
    (ids, bodies): (&[&str], &[&[u8]]),
    decided_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO trace_bodies (trace_id, decided_at, body)
         SELECT t, $3, b FROM unnest($1::text[], $2::bytea[]) AS u(t, b)",
        ids as &[&str],
        bodies as &[&[u8]],
        decided_at
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing traces"))?;
    Ok(())
}

/// Puts other bodies in the place of those of traces that were decided on within a time.
pub(super) async fn replace(
    tx: &mut PgConnection,
    (ids, bodies): (&[String], &[&[u8]]),
    decided: &RangeInclusive<DateTime<Utc>>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE trace_bodies b SET body = u.body FROM unnest($1::text[], $2::bytea[]) AS u(id, body)
         WHERE b.trace_id = u.id AND b.decided_at >= $3 AND b.decided_at <= $4",
        ids,
        bodies as &[&[u8]],
        decided.start(),
        decided.end()
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing reopened traces"))?;
    Ok(())
}

/// The size that `traces` says, in bytes.
pub(super) fn size(body: &[u8]) -> i32 {
    i32::try_from(body.len()).unwrap_or(i32::MAX)
}
