//! Table `pauses`: judges that are not asked and the queue that is not worked on.
//!
//! Written by `pipeline::upkeep` and `cli::queue`, read by both and by `cli::doctor`. Its rule: what a person paused, only a
//! person resumes.

use super::{Store, StoreError};
use crate::domain::pause::Pause;
use std::collections::BTreeMap;

/// Name of the pause of the whole queue.
pub const QUEUE: &str = "all";

impl Store {
    /// Every pause by kind (`judge`, `queue`) and name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn pauses(&self) -> Result<BTreeMap<(String, String), Pause>, StoreError> {
        let rows = sqlx::query!("SELECT kind, name, reason, by_person, since, probe_at FROM pauses")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading pauses"))?;
        Ok(rows
            .into_iter()
            .map(|r| {
                let pause = Pause { reason: r.reason, by_person: r.by_person, since: r.since, probe_at: r.probe_at };
                ((r.kind, r.name), pause)
            })
            .collect())
    }

    /// Stores a pause. One that a program makes does not replace a person's.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_pause(&self, kind: &str, name: &str, pause: &Pause) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO pauses AS p (kind, name, reason, by_person, since, probe_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (kind, name) DO UPDATE SET reason = excluded.reason, by_person = excluded.by_person,
                 probe_at = excluded.probe_at
             WHERE excluded.by_person OR NOT p.by_person",
            kind,
            name,
            pause.reason,
            pause.by_person,
            pause.since,
            pause.probe_at,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("storing a pause"))?;
        Ok(())
    }

    /// Ends a pause; a person's only when a person asks. Whether there was one.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn end_pause(&self, kind: &str, name: &str, by_person: bool) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM pauses WHERE kind = $1 AND name = $2 AND ($3 OR NOT by_person)",
            kind,
            name,
            by_person
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("ending a pause"))?;
        Ok(done.rows_affected() > 0)
    }
}
