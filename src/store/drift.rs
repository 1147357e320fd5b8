//! Tables `drift_runs` and `drift_canaries`: stored units that judges judge again, and what came of it.
//!
//! Written and read by `pipeline::drift`; its jobs and verdicts are those of a replay, marked. Its rule: a run has a number within
//! its rubric version, so that two processes that begin the same one begin one; its jobs are made in the same transaction. The way
//! not taken: verdicts of canaries beside the live ones.

use super::columns::{json, json_text};
use super::traces::insert_jobs;
use super::{Store, StoreError};
use crate::domain::drift::{Canary, Compared, Ended, Marks, Run, Why};
use crate::domain::job::Job;
use crate::domain::verdict::Verdict;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Verdicts that canaries are drawn from at most: the newest.
const DRAWN_FROM_MAX: i64 = 20_000;

/// Verdicts that are looked at for the models that answered at most: the newest.
const ANSWERS_MAX: i64 = 2_000;

/// Verdicts for canaries are made at most so long ago, unless a person has labelled them.
const AGE_MAX: TimeDelta = TimeDelta::days(30);

/// And at least so long ago: what was judged a moment ago says nothing of a drift.
const AGE_MIN: TimeDelta = TimeDelta::days(1);

/// A live verdict whose unit can be judged again.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The verdict.
    pub verdict: Uuid,
    /// The trace.
    pub trace_id: String,
    /// The span.
    pub span_id: Option<String>,
    /// Probability with which it was to be judged.
    pub inclusion_probability: f64,
    /// Whether a person has labelled it.
    pub labelled: bool,
}

struct RunRow {
    id: Uuid,
    rubric: String,
    rubric_version: String,
    number: i32,
    why: String,
    judges: serde_json::Value,
    usd_max: f64,
    started_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    usd: Option<f64>,
    result: Option<serde_json::Value>,
}

impl RunRow {
    fn into_run(self) -> Result<Run, StoreError> {
        let content = |source| StoreError::Content { what: format!("drift run {}", self.id), source };
        let ended = match self.ended_at {
            None => None,
            Some(at) => {
                let result: Compared =
                    self.result.map_or(Ok(Compared::default()), serde_json::from_value).map_err(content)?;
                Some(Ended { at, usd: self.usd.unwrap_or_default(), result })
            }
        };
        Ok(Run {
            id: self.id,
            why: Why::parse(&self.why).unwrap_or(Why::Scheduled),
            judges: serde_json::from_value(self.judges).map_err(content)?,
            rubric: self.rubric,
            rubric_version: self.rubric_version,
            number: self.number,
            usd_max: self.usd_max,
            started_at: self.started_at,
            due_at: self.due_at,
            ended,
        })
    }
}

impl Store {
    /// Of each of these rubric versions the runs since a time, and the last one before it; in the order of their numbers.
    ///
    /// # Errors
    /// When the statement fails or a run cannot be read.
    pub async fn drift_runs(
        &self,
        versions: &[(String, String)],
        since: DateTime<Utc>,
    ) -> Result<Vec<Run>, StoreError> {
        let rows = sqlx::query_as!(
            RunRow,
            "SELECT r.id, r.rubric, r.rubric_version, r.number, r.why, r.judges, r.usd_max, r.started_at, r.due_at, r.ended_at,
                    r.usd, r.result
             FROM drift_runs r JOIN unnest($1::text[], $2::text[]) AS a(rubric, version)
                  ON r.rubric = a.rubric AND r.rubric_version = a.version
             WHERE r.started_at >= $3
                OR r.number = (SELECT max(l.number) FROM drift_runs l
                               WHERE l.rubric = a.rubric AND l.rubric_version = a.version)
             ORDER BY r.rubric, r.rubric_version, r.number",
            &versions.iter().map(|(rubric, _)| rubric.clone()).collect::<Vec<_>>(),
            &versions.iter().map(|(_, version)| version.clone()).collect::<Vec<_>>(),
            since
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading runs of drift canaries"))?;
        rows.into_iter().map(RunRow::into_run).collect()
    }

    /// What runs since a time have cost or may still cost, in US dollars.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn drift_usd(&self, since: DateTime<Utc>) -> Result<f64, StoreError> {
        sqlx::query_scalar!(
            r#"SELECT coalesce(sum(coalesce(usd, usd_max)), 0) AS "usd!" FROM drift_runs WHERE started_at >= $1"#,
            since
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting what drift canaries cost"))
    }

    /// Live verdicts of a rubric version whose units may be canaries: those that a person has labelled first, then a draw by a hash;
    /// each decided by a panel whose votes are its own, not an earlier trace's.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn draw_canaries(
        &self,
        (rubric, version): (&str, &str),
        most: i64,
        now: DateTime<Utc>,
    ) -> Result<Vec<Drawn>, StoreError> {
        sqlx::query_as!(
            Drawn,
            r#"WITH newest AS (
                   SELECT v.id FROM verdicts v
                   WHERE v.rubric = $1 AND v.rubric_version = $2 AND v.created_at >= $3 AND v.created_at < $4
                     AND v.decided_by = 'panel' AND v.outcome = 'scored' AND v.superseded_at IS NULL
                   ORDER BY v.created_at DESC LIMIT $5),
               labelled AS (
                   SELECT v.id FROM labels l JOIN verdicts v ON v.trace_id = l.trace_id AND v.rubric = l.rubric
                      AND v.span_id IS NOT DISTINCT FROM l.span_id
                   WHERE l.rubric = $1 AND l.superseded_at IS NULL AND v.rubric_version = $2 AND v.created_at < $4
                   LIMIT $5)
               SELECT v.id AS "verdict!", v.trace_id AS "trace_id!", v.span_id, v.inclusion_probability AS "inclusion_probability!",
                      (v.id IN (SELECT id FROM labelled)) AS "labelled!"
               FROM verdicts v JOIN traces t ON t.trace_id = v.trace_id JOIN trace_bodies b ON b.trace_id = t.trace_id AND b.decided_at = t.decided_at
               WHERE v.id IN (SELECT id FROM newest UNION SELECT id FROM labelled)
                 AND v.decided_by = 'panel' AND v.outcome = 'scored' AND v.superseded_at IS NULL AND v.session_id IS NULL
                 AND NOT EXISTS (SELECT 1 FROM votes w WHERE w.verdict_id = v.id AND w.created_at = v.created_at AND w.body ->> 'cached' = 'true')
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.trace_id = v.trace_id AND NOT j.replay)
               ORDER BY 5 DESC, md5(v.id::text) LIMIT $6"#,
            rubric,
            version,
            now - AGE_MAX,
            now - AGE_MIN,
            DRAWN_FROM_MAX,
            most
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("drawing drift canaries"))
    }

    /// Of these live verdicts those that still stand, as canaries that were drawn.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn drawn_before(&self, verdicts: &[Uuid]) -> Result<Vec<Drawn>, StoreError> {
        sqlx::query_as!(
            Drawn,
            r#"SELECT v.id AS "verdict!", v.trace_id, v.span_id, v.inclusion_probability, false AS "labelled!"
               FROM verdicts v WHERE v.id = ANY($1) AND v.superseded_at IS NULL ORDER BY md5(v.id::text)"#,
            verdicts
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading drift canaries"))
    }

    /// Stores a run, its canaries and their jobs; false when it is there already.
    ///
    /// # Errors
    /// When a statement fails; then nothing is stored.
    pub async fn begin_drift_run(&self, run: &Run, canaries: &[Canary], jobs: Vec<Job>) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning a run of drift canaries"))?;
        let made = sqlx::query!(
            "INSERT INTO drift_runs (id, rubric, rubric_version, number, why, judges, usd_max, started_at, due_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            run.id,
            run.rubric,
            run.rubric_version,
            run.number,
            run.why.as_str(),
            marks(&run.judges),
            run.usd_max,
            run.started_at,
            run.due_at
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing a run of drift canaries"))?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        insert_canaries(&mut tx, run.id, canaries).await?;
        insert_jobs(&mut tx, jobs).await?;
        tx.commit().await.map_err(StoreError::op("committing a run of drift canaries"))?;
        Ok(true)
    }

    /// The canaries of a run.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn drift_canaries(&self, run: Uuid) -> Result<Vec<Canary>, StoreError> {
        sqlx::query_as!(
            Canary,
            "SELECT verdict_id AS verdict, job_id AS job, reference_id AS reference FROM drift_canaries WHERE run_id = $1
             ORDER BY verdict_id",
            run
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading drift canaries"))
    }

    /// How many of a run's jobs are open, and what the others have cost, in US dollars.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn drift_progress(&self, run: Uuid) -> Result<(u64, f64), StoreError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM drift_canaries c JOIN jobs j ON j.id = c.job_id WHERE c.run_id = $1) AS "open!",
                      (SELECT coalesce(sum(r.cost_usd), 0) FROM drift_canaries c JOIN replay_verdicts r ON r.id = c.job_id
                       WHERE c.run_id = $1) AS "usd!""#,
            run
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("looking after drift canaries"))?;
        Ok((row.open.unsigned_abs(), row.usd))
    }

    /// Takes back the jobs of a run that nobody holds.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn stop_drift_run(&self, run: Uuid, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM jobs j USING drift_canaries c
             WHERE c.run_id = $1 AND j.id = c.job_id AND (j.lease_token IS NULL OR j.visible_at <= $2)",
            run,
            now
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("stopping a run of drift canaries"))?;
        Ok(done.rows_affected())
    }

    /// Stores how a run ended, once.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn end_drift_run(&self, run: Uuid, judges: &Marks, ended: &Ended) -> Result<bool, StoreError> {
        let result = json(serde_json::to_value(&ended.result).unwrap_or_default());
        let done = sqlx::query!(
            "UPDATE drift_runs SET ended_at = $2, usd = $3, result = $4, judges = $5 WHERE id = $1 AND ended_at IS NULL",
            run,
            ended.at,
            ended.usd,
            result,
            marks(judges)
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("ending a run of drift canaries"))?;
        Ok(done.rows_affected() > 0)
    }

    /// What a run found of a judge is the new normal.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn rebase_drift(&self, run: Uuid, judge: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE drift_runs SET judges = jsonb_set(judges, ARRAY[$2::text, 'rebased'], 'true')
             WHERE id = $1 AND judges ? $2",
            run,
            judge
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("taking a judge as it is now"))?;
        Ok(())
    }

    /// Verdicts of replays and canaries, by id.
    ///
    /// # Errors
    /// When the statement fails or a verdict cannot be read.
    pub async fn replayed(&self, ids: &[Uuid]) -> Result<Vec<Verdict>, StoreError> {
        let rows = sqlx::query!("SELECT id, body FROM replay_verdicts WHERE id = ANY($1)", ids)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading what was judged again"))?;
        let read = |row: (Uuid, serde_json::Value)| {
            serde_json::from_value(row.1)
                .map_err(|source| StoreError::Content { what: format!("replayed verdict {}", row.0), source })
        };
        rows.into_iter().map(|row| read((row.id, row.body))).collect()
    }

    /// The judges that answered lately, each with a model that it names itself.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn answered(&self, since: DateTime<Utc>) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT DISTINCT w.judge, w.model
               FROM (SELECT id, created_at FROM verdicts WHERE created_at >= $1 AND decided_by = 'panel'
                     ORDER BY created_at DESC LIMIT $2) v
               JOIN votes w ON w.verdict_id = v.id AND w.created_at = v.created_at
               WHERE w.score IS NOT NULL AND w.model <> '' AND w.body ->> 'stood_in' IS NULL
                 AND w.body ->> 'cached' IS DISTINCT FROM 'true'"#,
            since,
            ANSWERS_MAX
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading which models answered"))?;
        Ok(rows.into_iter().map(|row| (row.judge, row.model)).collect())
    }
}

fn marks(judges: &Marks) -> serde_json::Value {
    serde_json::from_str(&json_text(judges)).unwrap_or_default()
}

async fn insert_canaries(tx: &mut PgConnection, run: Uuid, canaries: &[Canary]) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO drift_canaries (run_id, verdict_id, job_id, reference_id)
         SELECT $1, v, j, r FROM unnest($2::uuid[], $3::uuid[], $4::uuid[]) AS u(v, j, r)",
        run,
        &canaries.iter().map(|c| c.verdict).collect::<Vec<_>>(),
        &canaries.iter().map(|c| c.job).collect::<Vec<_>>(),
        &canaries.iter().map(|c| c.reference).collect::<Vec<_>>() as &[Option<Uuid>]
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing drift canaries"))?;
    Ok(())
}
