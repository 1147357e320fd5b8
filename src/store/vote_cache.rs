//! Table `vote_cache`: votes that may be used again for the same question.
//!
//! Read by `pipeline::evaluate` before it asks, written in the transaction that stores verdicts. Its rule: only scored votes are
//! kept, a vote from the cache is marked and costs nothing, and the table is bounded by time and by number. The way not
//! taken: a cache in each process, which every restart and every further worker begins empty.

use super::columns::{json_text, text};
use super::{Store, StoreError};
use crate::domain::verdict::Vote;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::BTreeMap;

impl Store {
    /// Cached votes by key, as they were given.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn cached_votes(
        &self,
        keys: &[String],
        now: DateTime<Utc>,
    ) -> Result<BTreeMap<String, Vote>, StoreError> {
        let rows = sqlx::query!("SELECT key, vote FROM vote_cache WHERE key = ANY($1) AND expires_at > $2", keys, now)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("looking for cached votes"))?;
        Ok(rows.into_iter().filter_map(|row| Some((row.key, serde_json::from_value(row.vote).ok()?))).collect())
    }

    /// Keeps new votes for `keep_for`, where no verdict is stored that would do it.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn cache_votes(&self, votes: &[Vote], keep_for: TimeDelta, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::op("keeping votes"))?;
        insert(&mut connection, votes.iter(), keep_for, now).await
    }

    /// Removes up to `max` votes that are out of date, or beyond the newest `keep`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn trim_vote_cache(&self, keep: i64, max: i64, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM vote_cache WHERE key IN (
                 (SELECT key FROM vote_cache WHERE expires_at <= $1 LIMIT $3)
                 UNION ALL (SELECT key FROM vote_cache ORDER BY expires_at DESC OFFSET $2 LIMIT $3))",
            now,
            keep,
            max,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("trimming the vote cache"))?;
        Ok(done.rows_affected())
    }
}

/// Keeps new votes; one that is there already stays.
pub(super) async fn insert<'a>(
    tx: &mut PgConnection,
    votes: impl Iterator<Item = &'a Vote>,
    keep_for: TimeDelta,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let fresh = votes.filter(|v| v.score.is_some() && !v.cached && !v.cache_key.is_empty());
    // In the order of the key, so that two writers cannot lock each other out.
    let by_key: BTreeMap<&str, &Vote> = fresh.map(|v| (v.cache_key.as_str(), v)).collect();
    if by_key.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO vote_cache (key, vote, created_at, expires_at)
         SELECT k, v::jsonb, $3, $4 FROM unnest($1::text[], $2::text[]) AS u(k, v) ON CONFLICT (key) DO NOTHING",
        &by_key.keys().map(|key| text(key)).collect::<Vec<_>>(),
        &by_key.values().map(json_text).collect::<Vec<_>>(),
        now,
        now + keep_for,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("caching votes"))?;
    Ok(())
}
