//! Table `endpoint_traits`: what was learnt about judges' endpoints.
//!
//! Read at start and written by `pipeline::upkeep`. Its rule: the newest knowledge wins, whichever worker has it.

use super::{Store, StoreError};
use crate::domain::rung::Traits;

impl Store {
    /// Everything that is known: endpoint, model, traits.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn endpoint_traits(&self) -> Result<Vec<(String, String, Traits)>, StoreError> {
        let rows = sqlx::query!("SELECT endpoint, model, traits FROM endpoint_traits")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading what is known of endpoints"))?;
        // A row that a newer version wrote in another form is as good as unknown.
        let read = rows.into_iter().filter_map(|r| Some((r.endpoint, r.model, serde_json::from_value(r.traits).ok()?)));
        Ok(read.collect())
    }

    /// Remembers what was learnt about one endpoint and model, unless something newer is there.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_endpoint_traits(&self, endpoint: &str, model: &str, traits: &Traits) -> Result<(), StoreError> {
        let Some(learnt_at) = traits.learnt_at else { return Ok(()) };
        sqlx::query!(
            "INSERT INTO endpoint_traits AS t (endpoint, model, traits, learnt_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (endpoint, model) DO UPDATE SET traits = excluded.traits, learnt_at = excluded.learnt_at
             WHERE t.learnt_at < excluded.learnt_at",
            endpoint,
            model,
            serde_json::to_value(traits).unwrap_or_default(),
            learnt_at,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("remembering what was learnt of an endpoint"))?;
        Ok(())
    }
}
