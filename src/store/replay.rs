//! Table `replay_verdicts`: what a rubric version says of stored units when it judges them again, and what was said before.
//!
//! Written by `store::verdicts` when such a job is settled, read by `pipeline::replay`. Its rule: a replayed verdict is in no table that a
//! report, a stream or a sink reads, so it cannot be counted with the live ones. The way not taken: a mark on `verdicts` that every
//! query must remember.

use super::columns::{json_text, optional, text};
use super::traces::{how, insert_jobs};
use super::verdicts::CLOCKS_APART_MAX;
use super::{Store, StoreError};
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::unit::SessionRef;
use crate::domain::verdict::{TraceLabels, Verdict};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// Which stored traces are judged again.
#[derive(Debug, Clone, Default)]
pub struct ReplayFilter {
    /// The rubric's name.
    pub rubric: String,
    /// Decided on at or after this time; of sessions, judged.
    pub since: DateTime<Utc>,
    /// And before this time.
    pub until: DateTime<Utc>,
    /// Labels that must be just these; absent ones are any.
    pub labels: TraceLabels,
    /// Also those that this rubric has not judged before.
    pub all: bool,
    /// At most so many.
    pub limit: i64,
}

/// A stored trace that is to be judged again.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The trace.
    pub trace_id: String,
    /// What sampling said of it.
    pub decision: SampleDecision,
}

/// A session that is to be judged again, as it was judged last.
#[derive(Debug, Clone)]
pub struct SessionCandidate {
    /// Its latest trace.
    pub trace_id: String,
    /// The session.
    pub session: SessionRef,
    /// Probability with which it was to be judged.
    pub inclusion_probability: f64,
}

/// What is to be stored for a replay.
#[derive(Debug, Default)]
pub struct Again {
    /// Jobs.
    pub jobs: Vec<Job>,
    /// Verdicts where nothing is to be judged.
    pub verdicts: Vec<Verdict>,
}

/// A unit that was judged again, with what was said of it before; that is absent where nothing was.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ReplayPair {
    /// The trace; of a session, its latest.
    pub trace_id: String,
    /// The span.
    pub span_id: Option<String>,
    /// How it ended now.
    pub outcome: String,
    /// The score now.
    pub score: Option<f64>,
    /// Whether it passes now.
    pub passed: Option<bool>,
    /// The label now.
    pub label: Option<String>,
    /// Probability with which it was kept and drawn.
    pub inclusion_probability: f64,
    /// What it cost now.
    pub cost_usd: f64,
    /// The version that judged live.
    pub old_version: Option<String>,
    /// How it ended then.
    pub old_outcome: Option<String>,
    /// The score then.
    pub old_score: Option<f64>,
    /// Whether it passed then.
    pub old_passed: Option<bool>,
    /// The label then.
    pub old_label: Option<String>,
}

impl Store {
    /// Stored traces that fit, in the order of a hash of their ids, so that the first so many are a fair draw; and how many fit.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn replay_candidates(&self, filter: &ReplayFilter) -> Result<(Vec<Candidate>, u64), StoreError> {
        let l = &filter.labels;
        let rows = sqlx::query!(
            r#"SELECT t.trace_id, t.rule, t.probability, t.randomness, t.threshold, t.randomness_source,
                      t.upstream_probability, t.step_at, t.sampling, count(*) OVER () AS "fitting!"
               FROM traces t
               WHERE t.kept AND t.decided_at >= $1 AND t.decided_at < $2
                 AND EXISTS (SELECT 1 FROM verdicts v
                             WHERE v.trace_id = t.trace_id AND v.superseded_at IS NULL AND v.created_at >= $13
                               AND ($3 OR (v.rubric = $4 AND v.outcome NOT IN ('filtered', 'not_applicable', 'sampled_out')))
                               AND ($5::text IS NULL OR v.feature = $5) AND ($6::text IS NULL OR v.prompt_version = $6)
                               AND ($7::text IS NULL OR v.model = $7) AND ($8::text IS NULL OR v.tenant = $8)
                               AND ($9::text IS NULL OR v.environment = $9) AND ($10::text IS NULL OR v.service = $10)
                               AND ($11::text IS NULL OR v.prompt_name = $11))
               ORDER BY md5(t.trace_id) LIMIT $12"#,
            filter.since,
            filter.until,
            filter.all,
            filter.rubric,
            l.feature,
            l.prompt_version,
            l.model,
            l.tenant,
            l.environment,
            l.service,
            l.prompt_name,
            filter.limit,
            filter.since - CLOCKS_APART_MAX
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("looking for traces to judge again"))?;
        let fitting = rows.first().map_or(0, |row| row.fitting.unsigned_abs());
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let (parts, upstream) = how(row.sampling, row.upstream_probability).map_err(|source| {
                StoreError::Content { what: format!("sampling of trace {}", row.trace_id), source }
            })?;
            let decision = SampleDecision {
                kept: true,
                rule: row.rule,
                probability: row.probability,
                randomness: row.randomness.cast_unsigned(),
                threshold: row.threshold.cast_unsigned(),
                source: row.randomness_source,
                parts,
                step: row.step_at,
                upstream,
            };
            found.push(Candidate { trace_id: row.trace_id, decision });
        }
        Ok((found, fitting))
    }

    /// Sessions whose verdicts that count fit, in the order of a hash, and how many fit.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn replay_sessions(&self, filter: &ReplayFilter) -> Result<(Vec<SessionCandidate>, u64), StoreError> {
        let l = &filter.labels;
        let rows = sqlx::query!(
            r#"SELECT v.trace_id, v.session AS "session!", v.session_id AS "session_id!",
                      v.session_ordinal AS "session_ordinal!", v.inclusion_probability, count(*) OVER () AS "fitting!"
               FROM verdicts v
               WHERE v.created_at >= $1 AND v.created_at < $2 AND v.rubric = $3 AND v.session_id IS NOT NULL
                 AND v.superseded_at IS NULL AND v.outcome NOT IN ('filtered', 'not_applicable', 'sampled_out')
                 AND ($4::text IS NULL OR v.feature = $4) AND ($5::text IS NULL OR v.prompt_version = $5)
                 AND ($6::text IS NULL OR v.model = $6) AND ($7::text IS NULL OR v.tenant = $7)
                 AND ($8::text IS NULL OR v.environment = $8) AND ($9::text IS NULL OR v.service = $9)
                 AND ($10::text IS NULL OR v.prompt_name = $10)
               ORDER BY md5(v.session_id::text) LIMIT $11"#,
            filter.since,
            filter.until,
            filter.rubric,
            l.feature,
            l.prompt_version,
            l.model,
            l.tenant,
            l.environment,
            l.service,
            l.prompt_name,
            filter.limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("looking for sessions to judge again"))?;
        let fitting = rows.first().map_or(0, |row| row.fitting.unsigned_abs());
        let found = rows.into_iter().map(|row| SessionCandidate {
            trace_id: row.trace_id,
            session: SessionRef { key: row.session_id, session: row.session, ordinal: row.session_ordinal },
            inclusion_probability: row.inclusion_probability,
        });
        Ok((found.collect(), fitting))
    }

    /// Of these ids of jobs and verdicts, live or replayed, those that are there already.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn known_units(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let rows = sqlx::query_scalar!(
            r#"SELECT id AS "id!" FROM jobs WHERE id = ANY($1) UNION SELECT id FROM verdicts WHERE id = ANY($1)
               UNION SELECT id FROM replay_verdicts WHERE id = ANY($1)"#,
            ids
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("looking for units that were judged"))?;
        Ok(rows.into_iter().collect())
    }

    /// Stores jobs and verdicts of a replay; what is there already stays.
    ///
    /// # Errors
    /// When a statement fails; then nothing is stored.
    pub async fn put_replay(&self, again: Again) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to judge again"))?;
        let verdicts: Vec<&Verdict> = again.verdicts.iter().collect();
        insert(&mut tx, (&verdicts, &vec![false; verdicts.len()])).await?;
        let stored = insert_jobs(&mut tx, again.jobs).await?;
        tx.commit().await.map_err(StoreError::op("committing what is judged again"))?;
        Ok(stored)
    }

    /// What of a version's replay still waits, in jobs.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn replay_waiting(&self, rubric: &str, version: &str) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM jobs
               WHERE replay AND NOT canary AND rubric = $1 AND rubric_version = $2"#,
            rubric,
            version
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting what is judged again"))?;
        Ok(count.unsigned_abs())
    }

    /// What a version said of units that it judged again, each with the live verdict that counts.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn replay_pairs(&self, rubric: &str, version: &str, max: i64) -> Result<Vec<ReplayPair>, StoreError> {
        sqlx::query_as!(
            ReplayPair,
            r#"SELECT r.trace_id, r.span_id, r.outcome, r.score, r.passed, r.label, r.inclusion_probability, r.cost_usd,
                      v.rubric_version AS "old_version?", v.outcome AS "old_outcome?", v.score AS old_score,
                      v.passed AS old_passed, v.label AS old_label
               FROM replay_verdicts r
               LEFT JOIN LATERAL (
                   SELECT * FROM verdicts v
                   WHERE v.rubric = r.rubric AND v.superseded_at IS NULL
                     AND CASE WHEN r.session_id IS NULL THEN v.trace_id = r.trace_id ELSE v.session_id = r.session_id END
                     AND v.span_id IS NOT DISTINCT FROM r.span_id AND v.session_id IS NOT DISTINCT FROM r.session_id
                   ORDER BY v.created_at DESC, v.id LIMIT 1) v ON true
               WHERE r.rubric = $1 AND r.rubric_version = $2 AND NOT r.canary
               ORDER BY r.trace_id, r.span_id LIMIT $3"#,
            rubric,
            version,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading what was judged again"))
    }

    /// Removes up to `max` verdicts that replays made before `before`. Those of drift canaries stay: later runs are compared
    /// with them, and they are few.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_replays(&self, before: DateTime<Utc>, max: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM replay_verdicts WHERE id IN
                 (SELECT id FROM replay_verdicts WHERE NOT canary AND created_at < $1 LIMIT $2)",
            before,
            max
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("forgetting replays"))?;
        Ok(done.rows_affected())
    }

    /// What a verdict of the rubric that judges decided has cost since a time, on average; `None` when there was none.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn mean_cost(&self, rubric: &str, since: DateTime<Utc>) -> Result<Option<f64>, StoreError> {
        sqlx::query_scalar!(
            "SELECT avg(cost_usd) FROM verdicts WHERE rubric = $1 AND created_at >= $2 AND decided_by = 'panel' AND cost_usd > 0",
            rubric,
            since
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("reading what a rubric has cost"))
    }
}

/// Stores verdicts of a replay; of each whether it is that of a canary.
pub(super) async fn insert(
    tx: &mut PgConnection,
    (verdicts, canaries): (&[&Verdict], &[bool]),
) -> Result<(), StoreError> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let texts = |f: fn(&Verdict) -> &str| verdicts.iter().map(|v| text(f(v))).collect::<Vec<_>>();
    let optionals = |f: fn(&Verdict) -> Option<&String>| verdicts.iter().map(|v| optional(f(v))).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO replay_verdicts (id, trace_id, span_id, session_id, rubric, rubric_version, outcome, score, passed, label,
                                      inclusion_probability, cost_usd, created_at, body, canary)
         SELECT i, t, s, k, r, v, o, c, p, l, n, u, a, b::jsonb, y
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::float8[],
                     $9::bool[], $10::text[], $11::float8[], $12::float8[], $13::timestamptz[], $14::text[],
                     $15::bool[])
              AS x(i, t, s, k, r, v, o, c, p, l, n, u, a, b, y)
         ON CONFLICT (id) DO NOTHING",
        &verdicts.iter().map(|v| v.id).collect::<Vec<_>>(),
        &texts(|v| &v.trace_id),
        &optionals(|v| v.span_id.as_ref()) as &[Option<String>],
        &verdicts.iter().map(|v| v.session.as_ref().map(|s| s.key)).collect::<Vec<_>>() as &[Option<Uuid>],
        &texts(|v| &v.rubric),
        &texts(|v| &v.rubric_version),
        &texts(|v| v.outcome.as_str()),
        &verdicts.iter().map(|v| v.score).collect::<Vec<_>>() as &[Option<f64>],
        &verdicts.iter().map(|v| v.passed).collect::<Vec<_>>() as &[Option<bool>],
        &optionals(|v| v.label.as_ref()) as &[Option<String>],
        &verdicts.iter().map(|v| v.inclusion_probability).collect::<Vec<_>>(),
        &verdicts.iter().map(|v| v.cost_usd).collect::<Vec<_>>(),
        &verdicts.iter().map(|v| v.created_at).collect::<Vec<_>>(),
        &verdicts.iter().map(json_text).collect::<Vec<_>>(),
        canaries,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing replayed verdicts"))?;
    Ok(())
}
