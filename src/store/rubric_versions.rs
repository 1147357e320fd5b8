//! Table `rubric_versions`: every version that was ever loaded.
//!
//! Written when rubrics are loaded, read by `pipeline::evaluate` for jobs whose version is no longer in the files. Its rule:
//! a version is written once and never changed.

use super::{Store, StoreError};
use crate::domain::rubric::Rubric;
use chrono::{DateTime, Utc};

impl Store {
    /// Stores versions that are not stored yet. A version that is only tried on stored traces is first seen at the epoch, until a
    /// worker loads it: it is not the newest.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_rubrics(&self, rubrics: &[&Rubric], now: DateTime<Utc>) -> Result<(), StoreError> {
        let body = |r: &&Rubric| super::columns::json(serde_json::to_value(r).unwrap_or_default());
        sqlx::query!(
            "INSERT INTO rubric_versions (rubric, version, body, first_seen_at)
             SELECT r, v, b, $4 FROM unnest($1::text[], $2::text[], $3::jsonb[]) AS u(r, v, b)
             ON CONFLICT (rubric, version) DO UPDATE SET first_seen_at = excluded.first_seen_at
             WHERE rubric_versions.first_seen_at = 'epoch'",
            &rubrics.iter().map(|r| r.name.clone()).collect::<Vec<_>>(),
            &rubrics.iter().map(|r| r.version.clone()).collect::<Vec<_>>(),
            &rubrics.iter().map(body).collect::<Vec<_>>(),
            now,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("storing rubric versions"))?;
        Ok(())
    }

    /// One version of a rubric.
    ///
    /// # Errors
    /// When the statement fails or the stored rubric cannot be read.
    pub async fn rubric_version(&self, name: &str, version: &str) -> Result<Option<Rubric>, StoreError> {
        let body =
            sqlx::query_scalar!("SELECT body FROM rubric_versions WHERE rubric = $1 AND version = $2", name, version)
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::op("reading a rubric version"))?;
        body.map(|b| {
            serde_json::from_value(b)
                .map_err(|source| StoreError::Content { what: format!("rubric {name} {version}"), source })
        })
        .transpose()
    }

    /// Versions of a rubric, the one that was first loaded last at first; at most `max`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn rubric_versions(&self, name: &str, max: i64) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT version, first_seen_at FROM rubric_versions WHERE rubric = $1 ORDER BY first_seen_at DESC, version LIMIT $2",
            name,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("listing rubric versions"))?;
        Ok(rows.into_iter().map(|row| (row.version, row.first_seen_at)).collect())
    }

    /// The version of each rubric that was first loaded last.
    ///
    /// # Errors
    /// As [`Store::rubric_version`].
    pub async fn newest_rubrics(&self) -> Result<Vec<Rubric>, StoreError> {
        let rows = sqlx::query!(
            "SELECT DISTINCT ON (rubric) rubric, body FROM rubric_versions ORDER BY rubric, first_seen_at DESC, version"
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading the newest rubrics"))?;
        let read = |row: (String, serde_json::Value)| {
            serde_json::from_value(row.1)
                .map_err(|source| StoreError::Content { what: format!("rubric {}", row.0), source })
        };
        rows.into_iter().map(|row| read((row.rubric, row.body))).collect()
    }
}
