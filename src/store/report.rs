//! Verdicts counted for a report: rows that are alike in all that an estimate needs, with how many there are.
//!
//! Read by `pipeline::report`. Its rule: versions of a rubric are never counted together, and a row keeps its inclusion
//! probability, so that whoever sums it up can correct for sampling. The way not taken: averages in SQL, which are wrong as soon
//! as two traces had different rates.

use super::{Store, StoreError};
use crate::domain::dimension::Dimension;
use crate::domain::verdict::{Outcome, TraceLabels};
use chrono::{DateTime, TimeDelta, Utc};

/// Which verdicts are counted, and how finely.
#[derive(Debug, Clone)]
pub struct Counting {
    /// Made at or after this time.
    pub since: DateTime<Utc>,
    /// Made before this time.
    pub until: DateTime<Utc>,
    /// Only of this rubric.
    pub rubric: Option<String>,
    /// What they are told apart by.
    pub by: Vec<Dimension>,
    /// Length of the pieces of time that are counted apart, from `since` on.
    pub bucket: TimeDelta,
    /// Rows at most, the latest ones.
    pub limit: i64,
}

/// Verdicts that are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The values of the keys that were asked for; the others are absent.
    pub labels: TraceLabels,
    /// Which piece of time, counted from 0.
    pub bucket: i64,
    /// What became of them.
    pub outcome: Outcome,
    /// Whether they passed.
    pub passed: Option<bool>,
    /// Their score.
    pub score: Option<f64>,
    /// Their inclusion probability.
    pub inclusion_probability: f64,
    /// How many they are.
    pub count: u64,
    /// What they cost together, in US dollars.
    pub cost_usd: f64,
    /// When the first was made.
    pub first_at: DateTime<Utc>,
}

impl Store {
    /// Counts verdicts.
    ///
    /// # Errors
    /// When the statement fails or an outcome is unknown.
    pub async fn count_alike(&self, counting: &Counting) -> Result<Vec<Alike>, StoreError> {
        let by: Vec<String> = counting.by.iter().map(|key| key.as_str().to_owned()).collect();
        let seconds = counting.bucket.as_seconds_f64().max(1.0);
        let rows = sqlx::query!(
            r#"SELECT rubric, rubric_version,
                      CASE WHEN 'feature' = ANY($4) THEN feature END AS feature,
                      CASE WHEN 'prompt_version' = ANY($4) THEN prompt_version END AS prompt_version,
                      CASE WHEN 'model' = ANY($4) THEN model END AS model,
                      CASE WHEN 'tenant' = ANY($4) THEN tenant END AS tenant,
                      CASE WHEN 'environment' = ANY($4) THEN environment END AS environment,
                      CASE WHEN 'service' = ANY($4) THEN service END AS service,
                      CASE WHEN 'service_version' = ANY($4) THEN service_version END AS service_version,
                      floor(extract(epoch FROM created_at - $1) / $5::float8)::bigint AS "bucket!",
                      outcome, passed, score, inclusion_probability,
                      count(*) AS "count!", sum(cost_usd) AS "cost_usd!", min(created_at) AS "first_at!"
               FROM verdicts
               WHERE created_at >= $1 AND created_at < $2 AND ($3::text IS NULL OR rubric = $3)
                 AND superseded_at IS NULL
               GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
               ORDER BY min(created_at) DESC LIMIT $6"#,
            counting.since,
            counting.until,
            counting.rubric,
            &by,
            seconds,
            counting.limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("counting verdicts"))?;
        let alike = rows.into_iter().map(|row| Alike {
            rubric: row.rubric,
            rubric_version: row.rubric_version,
            labels: TraceLabels {
                feature: row.feature,
                prompt_version: row.prompt_version,
                model: row.model,
                tenant: row.tenant,
                environment: row.environment,
                service: row.service,
                service_version: row.service_version,
                ..TraceLabels::default()
            },
            bucket: row.bucket,
            // The column's CHECK admits only names that `parse` knows.
            outcome: Outcome::parse(&row.outcome).expect("the table holds known outcomes only"),
            passed: row.passed,
            score: row.score,
            inclusion_probability: row.inclusion_probability,
            count: row.count.unsigned_abs(),
            cost_usd: row.cost_usd,
            first_at: row.first_at,
        });
        Ok(alike.collect())
    }
}
