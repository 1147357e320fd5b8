//! Tables `label_batches` and `label_queue`: which traces people are asked about, and with which probability they were drawn.
//!
//! Written and read by `pipeline::label_queue`. Its rule: a batch holds every trace that its draw took, also those that are in
//! an earlier batch, so that each batch is a probability sample by itself; a trace is done once an annotator or expert
//! has labelled it or somebody has skipped it. The way not taken: a state column, which the labels would contradict.

use super::columns::text;
use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A drawing.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The batch.
    pub id: Uuid,
    /// The rubric.
    pub rubric: String,
    /// The version whose verdicts were drawn from.
    pub rubric_version: String,
    /// Verdicts from this time on.
    pub since: DateTime<Utc>,
    /// Verdicts before this time.
    pub until: DateTime<Utc>,
    /// Traces drawn from.
    pub population: i64,
    /// Traces wanted.
    pub wanted: i32,
    /// When it was drawn.
    pub made_at: DateTime<Utc>,
}

/// A trace that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The trace.
    pub trace_id: String,
    /// Feature and range of the score.
    pub stratum: String,
    /// Its draw, 0 to 1; below the probability.
    pub draw: f64,
    /// Probability with which it was to be drawn, given that it was judged.
    pub probability: f64,
}

/// A judged trace that may be drawn.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The trace.
    pub trace_id: String,
    /// The panel's score, 0 to 1.
    pub score: f64,
    /// Mean distance of two votes; absent with fewer than two.
    pub disagreement: Option<f64>,
    /// The feature.
    pub feature: Option<String>,
    /// Probability with which trace and rubric were to be judged.
    pub inclusion_probability: f64,
}

/// A trace that waits to be labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The batch that asks.
    pub batch_id: Uuid,
    /// The trace.
    pub trace_id: String,
    /// Feature and range of the score.
    pub stratum: String,
    /// Probability with which it was drawn.
    pub probability: f64,
}

/// How far the queue of a rubric has been worked off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Traces in its batches, each once.
    pub traces: i64,
    /// Of these, labelled.
    pub labelled: i64,
    /// Of these, skipped and not labelled.
    pub skipped: i64,
}

impl Store {
    /// Traces with a scored verdict of a rubric version that was made within `[since, until)`, by trace id; at most `max`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn judged_for_labels(
        &self,
        (rubric, version): (&str, &str),
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        max: i64,
    ) -> Result<Vec<Judged>, StoreError> {
        sqlx::query_as!(
            Judged,
            r#"SELECT trace_id, score AS "score!", disagreement, feature, inclusion_probability FROM verdicts
               WHERE rubric = $1 AND rubric_version = $2 AND outcome = 'scored' AND created_at >= $3 AND created_at < $4
                 AND superseded_at IS NULL AND span_id IS NULL
               ORDER BY trace_id LIMIT $5"#,
            rubric,
            version,
            since,
            until,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading verdicts to draw from"))
    }

    /// Stores a batch with what it drew.
    ///
    /// # Errors
    /// When a statement fails; then nothing is stored.
    pub async fn put_batch(&self, batch: &Batch, drawn: &[Drawn]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to queue labels"))?;
        sqlx::query!(
            "INSERT INTO label_batches (id, rubric, rubric_version, since, until, population, wanted, made_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            batch.id,
            batch.rubric,
            batch.rubric_version,
            batch.since,
            batch.until,
            batch.population,
            batch.wanted,
            batch.made_at,
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing a batch of the label queue"))?;
        sqlx::query!(
            // Who could not tell before is not asked again.
            "INSERT INTO label_queue (batch_id, rubric, trace_id, stratum, draw, probability, skipped_at)
             SELECT $1, $2, t, s, d, p,
                    (SELECT max(q.skipped_at) FROM label_queue q WHERE q.rubric = $2 AND q.trace_id = t)
             FROM unnest($3::text[], $4::text[], $5::float8[], $6::float8[]) AS u(t, s, d, p)",
            batch.id,
            batch.rubric,
            &drawn.iter().map(|d| d.trace_id.clone()).collect::<Vec<_>>(),
            &drawn.iter().map(|d| text(&d.stratum)).collect::<Vec<_>>(),
            &drawn.iter().map(|d| d.draw).collect::<Vec<_>>(),
            &drawn.iter().map(|d| d.probability).collect::<Vec<_>>(),
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing the label queue"))?;
        tx.commit().await.map_err(StoreError::op("committing the label queue"))
    }

    /// Traces of a rubric that wait to be labelled, in the order in which they must be done: by batch, then by draw over
    /// probability. A trace of several batches comes once.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn waiting_for_labels(&self, rubric: &str, max: i64) -> Result<Vec<Waiting>, StoreError> {
        sqlx::query_as!(
            Waiting,
            r#"SELECT batch_id AS "batch_id!", trace_id AS "trace_id!", stratum AS "stratum!", probability AS "probability!"
               FROM (SELECT DISTINCT ON (q.trace_id) q.*, b.made_at
                     FROM label_queue q JOIN label_batches b ON b.id = q.batch_id
                     WHERE q.rubric = $1 AND q.skipped_at IS NULL AND NOT EXISTS (
                               SELECT 1 FROM labels l WHERE l.rubric = $1 AND l.trace_id = q.trace_id
                                                        AND l.superseded_at IS NULL AND l.rank >= 2)
                     ORDER BY q.trace_id, b.made_at, b.id) AS first
               ORDER BY made_at, batch_id, draw / probability, trace_id LIMIT $2"#,
            rubric,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading the label queue"))
    }

    /// How far the queue of a rubric has been worked off.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn label_progress(&self, rubric: &str) -> Result<Progress, StoreError> {
        let row = sqlx::query!(
            r#"SELECT count(*) AS "traces!", count(*) FILTER (WHERE labelled) AS "labelled!",
                      count(*) FILTER (WHERE skipped AND NOT labelled) AS "skipped!"
               FROM (SELECT q.trace_id, bool_or(q.skipped_at IS NOT NULL) AS skipped,
                            EXISTS (SELECT 1 FROM labels l WHERE l.rubric = $1 AND l.trace_id = q.trace_id
                                                             AND l.superseded_at IS NULL AND l.rank >= 2) AS labelled
                     FROM label_queue q WHERE q.rubric = $1 GROUP BY q.trace_id) AS each"#,
            rubric
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting the label queue"))?;
        Ok(Progress { traces: row.traces, labelled: row.labelled, skipped: row.skipped })
    }

    /// Rubrics that have a queue, by name.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn queued_rubrics(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!("SELECT DISTINCT rubric FROM label_batches ORDER BY rubric")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading rubrics with a label queue"))
    }

    /// Marks a trace as one that people cannot tell; says whether it was in the queue.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn skip_label(&self, rubric: &str, trace_id: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "UPDATE label_queue SET skipped_at = $3 WHERE rubric = $1 AND trace_id = $2 AND skipped_at IS NULL",
            rubric,
            trace_id,
            now
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("skipping a label"))?;
        Ok(done.rows_affected() > 0)
    }
}
