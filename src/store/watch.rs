//! Tables `watch_cursor` and `watch_streams`, and the reading of verdicts that were not counted yet.
//!
//! Used by `pipeline::watch`. Its rule: streams and cursor move in one transaction, fenced by who holds the cursor, so that a
//! verdict is counted once whatever dies when; verdicts are read up to the oldest transaction that is still open, so that
//! none is skipped because it was stored late. The way not taken: an outbox row a verdict, which doubles the writes of judging.

use super::{Store, StoreError, verdicts};
use crate::domain::rubric::OutputKind;
use crate::domain::verdict::TraceLabels;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// The last verdict that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Its transaction.
    pub tx: i64,
    /// Its id.
    pub id: Uuid,
}

/// A scored verdict, as far as watching needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Where the cursor is after it.
    pub at: Cursor,
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The form of its output.
    pub kind: OutputKind,
    /// 0 to 1.
    pub score: f64,
    /// Probability with which it was to be judged.
    pub inclusion_probability: f64,
    /// Labels of the trace.
    pub labels: TraceLabels,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A verdict that was not counted yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unwatched {
    /// Where the cursor is after it.
    pub at: Cursor,
    /// What it says; `None` when it takes the place of another and is not scored itself.
    pub scored: Option<Scored>,
    /// The scored verdict whose place it took.
    pub replaced: Option<Scored>,
}

/// A stream as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamRow {
    /// Hash of what it is.
    pub id: String,
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The slice of the traffic.
    pub stream: Value,
    /// Compressed state.
    pub state: Vec<u8>,
}

/// What verdicts of a window come to, in one slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The rubric.
    pub rubric: String,
    /// The feature.
    pub feature: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// Verdicts that were to be judged: scored ones and those whose judges failed.
    pub judged: i64,
    /// Of them, those whose judges failed.
    pub judge_errors: i64,
    /// Scored ones.
    pub scored: i64,
    /// Pass rate of the scored ones, corrected for sampling.
    pub pass_rate: Option<f64>,
    /// Mean score, likewise.
    pub mean_score: Option<f64>,
    /// Mean cost of one that was to be judged, in US dollars.
    pub cost_usd: Option<f64>,
    /// 95th percentile of the latency of judging, in seconds.
    pub latency_seconds: Option<f64>,
}

/// A trace that shows the trouble.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// The trace.
    pub trace_id: String,
    /// Its score.
    pub score: Option<f64>,
    /// Why.
    pub explanation: String,
}

/// What sampling kept of what it saw, by one rule at one rate in one hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The rule.
    pub rule: String,
    /// Its rate.
    pub probability: f64,
    /// Traces that it decided on.
    pub seen: i64,
    /// Of them, those that were kept.
    pub kept: i64,
}

impl Store {
    /// Becomes, or stays, the one that watches: the cursor; `None` while another does.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn hold_watch(
        &self,
        worker: Uuid,
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Option<Cursor>, StoreError> {
        sqlx::query_as!(
            Cursor,
            "UPDATE watch_cursor SET holder = $1, held_until = $3
             WHERE holder IS NULL OR holder = $1 OR held_until < $2 RETURNING tx, id",
            worker,
            now,
            until
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("becoming the one that watches"))
    }

    /// Lets another process watch.
    ///
    /// # Errors
    /// When the statement fails; then another may when the hold is over.
    pub async fn leave_watch(&self, worker: Uuid) -> Result<(), StoreError> {
        sqlx::query!("UPDATE watch_cursor SET holder = NULL, held_until = NULL WHERE holder = $1", worker)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("giving the watch away"))?;
        Ok(())
    }

    /// Repairs the order after the database was restored into another cluster, where transactions are numbered anew: what is
    /// there counts as counted. True when that was so.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn mend_watch(&self) -> Result<bool, StoreError> {
        let mended = sqlx::query!(
            "WITH ahead AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next),
                  old AS (UPDATE verdicts SET tx = 0 WHERE tx <> 0
                          AND EXISTS (SELECT 1 FROM watch_cursor, ahead WHERE watch_cursor.tx > ahead.next))
             UPDATE watch_cursor SET tx = 0, id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' FROM ahead
             WHERE tx > ahead.next"
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("mending the watch"))?;
        Ok(mended.rows_affected() > 0)
    }

    /// What sampling kept in the whole hours between two times, in their order.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn kept_by_hour(&self, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<Vec<Kept>, StoreError> {
        sqlx::query_as!(
            Kept,
            r#"SELECT rule, probability, sum(seen)::bigint AS "seen!", sum(kept)::bigint AS "kept!" FROM tallies
               WHERE hour >= $1 AND hour + interval '1 hour' <= $2
               GROUP BY hour, rule, probability ORDER BY hour, rule, probability"#,
            since,
            until
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading what sampling kept"))
    }

    /// When the first verdict was made that waits to be counted; `None` when none waits.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn unwatched_since(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        sqlx::query_scalar!(
            "SELECT v.created_at FROM verdicts v, watch_cursor c
             WHERE (v.tx, v.id) > (c.tx, c.id)
               AND CASE WHEN v.session_id IS NULL THEN v.outcome = 'scored' OR v.supersedes IS NOT NULL
                        ELSE v.outcome = 'scored'
                             AND NOT EXISTS (SELECT 1 FROM verdicts n
                                             WHERE n.session_id = v.session_id AND n.rubric = v.rubric
                                               AND n.outcome = 'scored' AND n.tx < v.tx
                                               AND n.session_ordinal > v.session_ordinal) END
             ORDER BY v.tx, v.id LIMIT 1"
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("looking whether verdicts wait to be watched"))
    }

    /// Whether scored verdicts wait to be counted.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn watch_is_behind(&self) -> Result<bool, StoreError> {
        Ok(self.unwatched_since().await?.is_some())
    }

    /// Verdicts after the cursor that are scored or took the place of another, in order. Superseded ones are among them: what is
    /// counted must not depend on when it is looked at, and the one in their place says what it replaced. Of a session that is the
    /// last one before it that was scored, since a judging may fail between two others; and one that was stored after a later judging
    /// of the same session counts for nothing.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn unwatched(&self, after: Cursor, limit: i64) -> Result<Vec<Unwatched>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT v.id, v.tx, v.created_at,
                      CASE WHEN v.session_id IS NULL THEN v.supersedes
                           ELSE (SELECT e.id FROM verdicts e
                                 WHERE e.session_id = v.session_id AND e.rubric = v.rubric AND e.outcome = 'scored'
                                   AND e.tx <= v.tx AND e.session_ordinal < v.session_ordinal
                                 ORDER BY e.session_ordinal DESC LIMIT 1) END AS replaced
               FROM verdicts v
               WHERE (v.tx, v.id) > ($1, $2) AND v.tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                 AND CASE WHEN v.session_id IS NULL THEN v.outcome = 'scored' OR v.supersedes IS NOT NULL
                          ELSE v.outcome = 'scored'
                               AND NOT EXISTS (SELECT 1 FROM verdicts n
                                               WHERE n.session_id = v.session_id AND n.rubric = v.rubric
                                                 AND n.outcome = 'scored' AND n.tx < v.tx
                                                 AND n.session_ordinal > v.session_ordinal) END
               ORDER BY v.tx, v.id LIMIT $3"#,
            after.tx,
            after.id,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading verdicts to watch"))?;
        let Some(made) = verdicts::span(rows.iter().map(|row| row.created_at)) else { return Ok(Vec::new()) };
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut scored = self.scored(&ids, *made.start()).await?;
        // Few, and of any day.
        let replaced: Vec<Uuid> = rows.iter().filter_map(|row| row.replaced).collect();
        if !replaced.is_empty() {
            scored.extend(self.scored(&replaced, DateTime::UNIX_EPOCH).await?);
        }
        let found = rows.into_iter().map(|row| Unwatched {
            at: Cursor { tx: row.tx, id: row.id },
            scored: scored.get(&row.id).cloned(),
            replaced: row.replaced.and_then(|id| scored.get(&id).cloned()),
        });
        Ok(found.collect())
    }

    async fn scored(&self, ids: &[Uuid], since: DateTime<Utc>) -> Result<HashMap<Uuid, Scored>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT tx, id, rubric, rubric_version, kind, score AS "score!", inclusion_probability, created_at,
                      service, service_version, environment, feature, prompt_name, prompt_version, model, tenant
               FROM verdicts WHERE id = ANY($1) AND outcome = 'scored' AND created_at >= $2"#,
            ids,
            since
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading verdicts to watch"))?;
        let scored = rows.into_iter().map(|row| {
            let scored = Scored {
                at: Cursor { tx: row.tx, id: row.id },
                rubric: row.rubric,
                rubric_version: row.rubric_version,
                kind: serde_json::from_value(Value::String(row.kind)).unwrap_or_default(),
                score: row.score,
                inclusion_probability: row.inclusion_probability,
                created_at: row.created_at,
                labels: TraceLabels {
                    service: row.service,
                    service_version: row.service_version,
                    environment: row.environment,
                    feature: row.feature,
                    prompt_name: row.prompt_name,
                    prompt_version: row.prompt_version,
                    model: row.model,
                    tenant: row.tenant,
                },
            };
            (scored.at.id, scored)
        });
        Ok(scored.collect())
    }

    /// Every stored stream.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn watched_streams(&self) -> Result<Vec<StreamRow>, StoreError> {
        sqlx::query_as!(StreamRow, "SELECT id, rubric, rubric_version, stream, state FROM watch_streams ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading streams"))
    }

    /// Stores streams, moves the cursor from `before` to `after` and holds it `until` then, if it still is ours; false = it is another's
    /// now, and nothing is stored.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn put_streams(
        &self,
        worker: Uuid,
        (before, after): (Cursor, Cursor),
        streams: &[StreamRow],
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to store streams"))?;
        let moved = sqlx::query!(
            "UPDATE watch_cursor SET tx = $4, id = $5, held_until = greatest(held_until, $6)
             WHERE holder = $1 AND tx = $2 AND id = $3",
            worker,
            before.tx,
            before.id,
            after.tx,
            after.id,
            until
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("moving the watch"))?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "INSERT INTO watch_streams (id, rubric, rubric_version, stream, state, updated_at)
             SELECT i, r, v, s, b, $6
             FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::bytea[]) AS u(i, r, v, s, b)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
            &streams.iter().map(|s| s.id.clone()).collect::<Vec<_>>(),
            &streams.iter().map(|s| s.rubric.clone()).collect::<Vec<_>>(),
            &streams.iter().map(|s| s.rubric_version.clone()).collect::<Vec<_>>(),
            &streams.iter().map(|s| super::columns::json(s.stream.clone())).collect::<Vec<_>>(),
            &streams.iter().map(|s| s.state.clone()).collect::<Vec<_>>(),
            now
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing streams"))?;
        tx.commit().await.map_err(StoreError::op("committing streams"))?;
        Ok(true)
    }

    /// Removes streams that were not stored since `before`, for nothing has come into them for long; their ids.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_streams(&self, before: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!("DELETE FROM watch_streams WHERE updated_at < $1 RETURNING id", before)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("forgetting streams"))
    }

    /// What the verdicts made since a time come to, by rubric, feature and environment.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn windows(&self, since: DateTime<Utc>) -> Result<Vec<Window>, StoreError> {
        sqlx::query_as!(
            Window,
            r#"SELECT rubric, feature, environment,
                      count(*) FILTER (WHERE outcome IN ('scored', 'judge_error')) AS "judged!",
                      count(*) FILTER (WHERE outcome = 'judge_error') AS "judge_errors!",
                      count(*) FILTER (WHERE outcome = 'scored') AS "scored!",
                      sum(CASE WHEN passed THEN 1 / nullif(inclusion_probability, 0) ELSE 0 END) FILTER (WHERE outcome = 'scored')
                          / nullif(sum(1 / nullif(inclusion_probability, 0)) FILTER (WHERE outcome = 'scored'), 0) AS pass_rate,
                      sum(score / nullif(inclusion_probability, 0)) FILTER (WHERE outcome = 'scored')
                          / nullif(sum(1 / nullif(inclusion_probability, 0)) FILTER (WHERE outcome = 'scored'), 0) AS mean_score,
                      avg(cost_usd) FILTER (WHERE outcome IN ('scored', 'judge_error')) AS cost_usd,
                      percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms / 1000.0)
                          FILTER (WHERE outcome IN ('scored', 'judge_error')) AS latency_seconds
               FROM verdicts WHERE created_at >= $1 AND superseded_at IS NULL GROUP BY rubric, feature, environment"#,
            since
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("summing up a window"))
    }

    /// The worst scored traces of a rubric version since a time, worst first, in a slice of the traffic: exactly of its feature and
    /// environment, absent ones included; of the other labels `None` is any. Without a version any slice with these labels.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn worst(
        &self,
        (rubric, rubric_version): (&str, Option<&str>),
        slice: &TraceLabels,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Worst>, StoreError> {
        sqlx::query_as!(
            Worst,
            "SELECT trace_id, score, explanation FROM verdicts
             WHERE rubric = $1 AND ($2::text IS NULL OR rubric_version = $2) AND created_at >= $3 AND outcome = 'scored'
               AND superseded_at IS NULL
               AND (feature IS NOT DISTINCT FROM $4 OR ($2::text IS NULL AND $4::text IS NULL))
               AND (environment IS NOT DISTINCT FROM $5 OR ($2::text IS NULL AND $5::text IS NULL))
               AND ($6::text IS NULL OR prompt_version = $6) AND ($7::text IS NULL OR model = $7)
               AND ($8::text IS NULL OR service_version = $8) AND ($9::text IS NULL OR tenant = $9)
               AND ($10::text IS NULL OR service = $10)
             ORDER BY score, created_at DESC, id LIMIT $11",
            rubric,
            rubric_version,
            since,
            slice.feature,
            slice.environment,
            slice.prompt_version,
            slice.model,
            slice.service_version,
            slice.tenant,
            slice.service,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("looking for the worst traces"))
    }
}
