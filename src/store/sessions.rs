//! Tables `sessions` and `session_traces`: which traces belong together, and when they are judged together.
//!
//! Written in the transaction that decides on traces (`store::traces`), taken by `pipeline::sessions`, read by the worker. Its rule: a session
//! is taken under a row lock and its jobs are made in the same transaction, so two processes never judge it twice; a verdict is
//! superseded in the transaction that stores its successor. The way not taken: finding quiet sessions by a query over all
//! traces at each tick.

use super::columns::{json_text, optional, text};
use super::traces::insert_jobs;
use super::verdicts::{self, CLOCKS_APART_MAX, VerdictRows};
use super::{Store, StoreError, bodies, reopen};
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::verdict::{TraceLabels, Verdict};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// A trace as a part of its session.
#[derive(Debug, Clone)]
pub struct SessionTrace {
    /// The session.
    pub key: Uuid,
    /// Its id, as it was sent.
    pub session: String,
    /// The trace.
    pub trace_id: String,
    /// When it began, if it says.
    pub started_at: Option<DateTime<Utc>>,
    /// What sampling said.
    pub decision: SampleDecision,
    /// Its labels.
    pub labels: TraceLabels,
}

/// When sessions are due.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionTimes {
    /// After the latest trace.
    pub quiet: TimeDelta,
    /// After the first trace that no judging covers.
    pub cap: TimeDelta,
}

/// A trace of a session that is due.
#[derive(Debug, Clone)]
pub struct Member {
    /// The trace.
    pub trace_id: String,
    /// What sampling said.
    pub decision: SampleDecision,
}

/// A session that is due.
#[derive(Debug, Clone)]
pub struct DueSession {
    /// Its key.
    pub key: Uuid,
    /// Its id, as it was sent.
    pub session: String,
    /// Labels of its latest trace.
    pub labels: TraceLabels,
    /// How often it was taken, this time included.
    pub ordinal: i32,
    /// Its traces, the oldest first.
    pub members: Vec<Member>,
}

/// Sessions that are due, locked until settled. Dropping it undoes everything.
#[derive(Debug)]
pub struct DueSessions {
    tx: Transaction<'static, Postgres>,
    /// The sessions.
    pub sessions: Vec<DueSession>,
}

/// A session as `explain` tells it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SessionStory {
    /// Its id, as it was sent.
    pub session: String,
    /// Traces of it that were decided on.
    pub traces: i64,
    /// Of these, those that are stored.
    pub kept: i64,
    /// How often it was taken to be judged.
    pub judged: i32,
    /// When it is to be judged (again); absent when nothing new has come.
    pub due_at: Option<DateTime<Utc>>,
    /// Its row.
    #[serde(skip)]
    pub key: Uuid,
}

/// Bodies of a session's traces.
#[derive(Debug, Clone, Default)]
pub struct SessionBodies {
    /// The oldest first: the first and the latest, where there are more than were asked for.
    pub bodies: Vec<Vec<u8>>,
    /// Traces in all.
    pub known: usize,
    /// Of these, those that sampling rules exclude altogether.
    pub excluded: usize,
}

impl Store {
    /// Takes up to `max` sessions that are due at `now`.
    ///
    /// # Errors
    /// When a statement fails; then nothing is taken.
    pub async fn take_due_sessions(&self, now: DateTime<Utc>, max: i64) -> Result<Option<DueSessions>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to take sessions"))?;
        let rows = sqlx::query!(
            "SELECT id, session, labels, ordinal FROM sessions WHERE due_at <= $1 ORDER BY due_at LIMIT $2
             FOR UPDATE SKIP LOCKED",
            now,
            max
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for due sessions"))?;
        if rows.is_empty() {
            return Ok(None);
        }
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let members = sqlx::query!(
            "SELECT session_id, trace_id, kept, rule, probability, randomness, threshold, randomness_source
             FROM session_traces WHERE session_id = ANY($1) ORDER BY session_id, started_at, trace_id",
            &ids
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("reading the traces of sessions"))?;
        let mut by_session: HashMap<Uuid, Vec<Member>> = HashMap::new();
        for row in members {
            by_session.entry(row.session_id).or_default().push(Member {
                trace_id: row.trace_id,
                decision: SampleDecision {
                    kept: row.kept,
                    rule: row.rule,
                    probability: row.probability,
                    randomness: row.randomness.cast_unsigned(),
                    threshold: row.threshold.cast_unsigned(),
                    source: row.randomness_source,
                    ..SampleDecision::default()
                },
            });
        }
        let sessions = rows.into_iter().map(|row| DueSession {
            key: row.id,
            session: row.session,
            labels: serde_json::from_value(row.labels).unwrap_or_default(),
            ordinal: row.ordinal + 1,
            members: by_session.remove(&row.id).unwrap_or_default(),
        });
        Ok(Some(DueSessions { sessions: sessions.collect(), tx }))
    }

    /// Bodies of the traces of a session that were decided on by `until`: the first and the latest, `max` at most.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn session_bodies(&self, key: Uuid, until: DateTime<Utc>, max: i64) -> Result<SessionBodies, StoreError> {
        let counts = sqlx::query!(
            r#"SELECT count(*) AS "known!", count(*) FILTER (WHERE NOT kept) AS "excluded!"
               FROM session_traces WHERE session_id = $1 AND decided_at <= $2"#,
            key,
            until
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting the traces of a session"))?;
        let rows = sqlx::query!(
            r#"SELECT t.trace_id, t.decided_at
               FROM (SELECT trace_id, started_at, row_number() OVER (ORDER BY started_at, trace_id) AS from_first,
                            row_number() OVER (ORDER BY started_at DESC, trace_id DESC) AS from_last
                     FROM session_traces WHERE session_id = $1 AND decided_at <= $2 AND kept) s
               JOIN traces t USING (trace_id)
               WHERE s.from_first = 1 OR s.from_last < $3
               ORDER BY s.from_first"#,
            key,
            until,
            max
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading the traces of a session"))?;
        let mut bodies = HashMap::new();
        if let Some(decided) = verdicts::span(rows.iter().map(|row| row.decided_at)) {
            let ids: Vec<String> = rows.iter().map(|row| row.trace_id.clone()).collect();
            let mut connection =
                self.pool.acquire().await.map_err(StoreError::op("reading the traces of a session"))?;
            bodies.extend(bodies::read(&mut connection, &ids, &decided).await?);
        }
        let bodies = rows.iter().filter_map(|row| bodies.remove(&row.trace_id)).collect();
        let count = |n: i64| usize::try_from(n).unwrap_or_default();
        Ok(SessionBodies { bodies, known: count(counts.known), excluded: count(counts.excluded) })
    }

    /// Removes up to `max` sessions of which no trace came since `before`, with their turns; none that is still to be judged.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_sessions(&self, before: DateTime<Utc>, max: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "WITH gone AS (SELECT id FROM sessions WHERE last_seen_at < $1 AND due_at IS NULL
                           ORDER BY last_seen_at LIMIT $2 FOR UPDATE SKIP LOCKED),
                  turns AS (DELETE FROM session_traces t USING gone WHERE t.session_id = gone.id)
             DELETE FROM sessions s USING gone WHERE s.id = gone.id",
            before,
            max
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("forgetting sessions"))?;
        Ok(done.rows_affected())
    }

    /// The session of a trace.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn session_story(&self, trace_id: &str) -> Result<Option<SessionStory>, StoreError> {
        sqlx::query_as!(
            SessionStory,
            r#"SELECT s.id AS key, s.session, s.ordinal AS judged, s.due_at,
                      (SELECT count(*) FROM session_traces m WHERE m.session_id = s.id) AS "traces!",
                      (SELECT count(*) FROM session_traces m WHERE m.session_id = s.id AND m.kept) AS "kept!"
               FROM sessions s JOIN session_traces t ON t.session_id = s.id WHERE t.trace_id = $1
               ORDER BY s.last_seen_at DESC LIMIT 1"#,
            trace_id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("reading the session of a trace"))
    }
}

impl DueSessions {
    /// Stores what came of the sessions and commits: jobs, verdicts where nothing is to be judged (with an event for each of
    /// `sinks`), and that they were taken. Jobs of earlier judgings that nobody works on go: these cover what they would have.
    ///
    /// # Errors
    /// When a statement fails; then the sessions are due as before.
    pub async fn settle(
        mut self,
        (jobs, verdicts): (Vec<Job>, Vec<Verdict>),
        sinks: &[&'static str],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let keys: Vec<Uuid> = self.sessions.iter().map(|s| s.key).collect();
        let tx = &mut self.tx;
        sqlx::query!(
            "UPDATE sessions SET ordinal = ordinal + 1, due_at = NULL, open_since = NULL WHERE id = ANY($1)",
            &keys
        )
        .execute(&mut **tx)
        .await
        .map_err(StoreError::op("taking sessions"))?;
        sqlx::query!(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE session_id = ANY($1) AND NOT replay
                                             AND (lease_token IS NULL OR visible_at <= $2) FOR UPDATE SKIP LOCKED)",
            &keys,
            now
        )
        .execute(&mut **tx)
        .await
        .map_err(StoreError::op("ending jobs of earlier judgings"))?;
        insert_jobs(tx, jobs).await?;
        if !verdicts.is_empty() {
            let rows = VerdictRows::of(&verdicts);
            verdicts::insert_events(tx, &rows, sinks, now).await?;
            verdicts::insert(tx, rows).await?;
            let since = lock(tx, &keys, now).await?;
            supersede(tx, &keys, since, sinks, now).await?;
        }
        self.tx.commit().await.map_err(StoreError::op("committing sessions"))
    }
}

/// Notes traces of sessions that were decided on; each moves the time when its session is judged.
pub(super) async fn insert(
    tx: &mut PgConnection,
    traces: &[SessionTrace],
    times: SessionTimes,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if traces.is_empty() {
        return Ok(());
    }
    // In the order of the key, so that two assemblers cannot lock each other out.
    let by_key: BTreeMap<Uuid, &SessionTrace> = traces.iter().map(|t| (t.key, t)).collect();
    let one = |f: fn(&TraceLabels) -> &Option<String>| -> Vec<Option<String>> {
        by_key.values().map(|t| optional(f(&t.labels).as_ref())).collect()
    };
    sqlx::query!(
        "INSERT INTO sessions AS s (id, session, service, tenant, labels, first_seen_at, last_seen_at, open_since, due_at)
         SELECT i, n, v, t, l::jsonb, $6::timestamptz, $6, $6, $7::timestamptz
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u(i, n, v, t, l)
         ON CONFLICT (id) DO UPDATE SET
             labels = excluded.labels,
             last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at),
             open_since = coalesce(s.open_since, excluded.open_since),
             due_at = least(excluded.due_at, coalesce(s.open_since, excluded.open_since) + make_interval(secs => $8))",
        &by_key.keys().copied().collect::<Vec<_>>(),
        &by_key.values().map(|t| text(&t.session)).collect::<Vec<_>>(),
        &one(|l| &l.service) as &[Option<String>],
        &one(|l| &l.tenant) as &[Option<String>],
        &by_key.values().map(|t| json_text(&t.labels)).collect::<Vec<_>>(),
        now,
        now + times.quiet.min(times.cap),
        times.cap.as_seconds_f64(),
    )
    .execute(&mut *tx)
    .await
    .map_err(StoreError::op("noting sessions"))?;
    let column = |f: fn(&SessionTrace) -> String| traces.iter().map(f).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO session_traces (session_id, trace_id, started_at, decided_at, kept, rule, probability, randomness,
                                     threshold, randomness_source)
         SELECT i, t, coalesce(a, $10), $10, k, r, p, x, h, c
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bool[], $5::text[], $6::float8[], $7::bigint[],
                     $8::bigint[], $9::text[]) AS u(i, t, a, k, r, p, x, h, c)
         ON CONFLICT (session_id, trace_id) DO NOTHING",
        &traces.iter().map(|t| t.key).collect::<Vec<_>>(),
        &column(|t| t.trace_id.clone()),
        &traces.iter().map(|t| t.started_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &traces.iter().map(|t| t.decision.kept).collect::<Vec<_>>(),
        &column(|t| text(&t.decision.rule)),
        &traces.iter().map(|t| t.decision.probability).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.randomness.cast_signed()).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.threshold.cast_signed()).collect::<Vec<_>>(),
        &column(|t| t.decision.source.clone()),
        now,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("noting traces of sessions"))?;
    Ok(())
}

/// Of each session and rubric only the verdict of the latest judging counts. None was made before `since`.
pub(super) async fn supersede(
    tx: &mut PgConnection,
    keys: &[Uuid],
    since: DateTime<Utc>,
    sinks: &[&'static str],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"SELECT v.id AS "old!", n.id AS "new!"
           FROM verdicts v
           JOIN LATERAL (SELECT id, session_ordinal FROM verdicts n
                         WHERE n.session_id = v.session_id AND n.rubric = v.rubric AND n.created_at >= $2
                         ORDER BY n.session_ordinal DESC, n.id LIMIT 1) n ON n.session_ordinal > v.session_ordinal
           WHERE v.session_id = ANY($1) AND v.superseded_at IS NULL AND v.created_at >= $2"#,
        keys,
        since
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("looking for verdicts of earlier judgings"))?;
    let pairs: Vec<(Uuid, Uuid)> = rows.into_iter().map(|row| (row.old, row.new)).collect();
    reopen::supersede(tx, &pairs, since, sinks, now).await
}

/// Locks sessions, in the order of their keys, so that of two judgings of one the older is superseded whichever is stored first;
/// since when there may be verdicts of them.
pub(super) async fn lock(
    tx: &mut PgConnection,
    keys: &[Uuid],
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let rows =
        sqlx::query_scalar!("SELECT first_seen_at FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE", keys)
            .fetch_all(tx)
            .await
            .map_err(StoreError::op("locking sessions"))?;
    Ok(rows.into_iter().min().unwrap_or(now) - CLOCKS_APART_MAX)
}
