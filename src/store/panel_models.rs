//! Table `panel_models`: what human labels have taught about panels.
//!
//! Written by the calibration, read by `pipeline::upkeep`. Its rule: one model a rubric version, the newest.

use super::{Store, StoreError};
use crate::domain::panel::PanelModel;

impl Store {
    /// Every model.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn panel_models(&self) -> Result<Vec<PanelModel>, StoreError> {
        let rows = sqlx::query_scalar!("SELECT model FROM panel_models ORDER BY rubric, rubric_version")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading panel models"))?;
        // A row that a newer version wrote in another form is as good as unknown.
        Ok(rows.into_iter().filter_map(|model| serde_json::from_value(model).ok()).collect())
    }

    /// Stores a model in place of the one before.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_panel_model(&self, model: &PanelModel) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO panel_models (rubric, rubric_version, model, fitted_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (rubric, rubric_version) DO UPDATE SET model = excluded.model, fitted_at = excluded.fitted_at",
            model.rubric,
            model.rubric_version,
            super::columns::json(serde_json::to_value(model).unwrap_or_default()),
            model.fitted_at,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("storing a panel model"))?;
        Ok(())
    }
}
