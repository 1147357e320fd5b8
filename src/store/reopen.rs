//! Tables `traces`, `jobs`, `verdicts`, for traces that were decided on and of which spans have come since.
//!
//! Called by `store::traces` within its transaction, and by `store::verdicts` where a verdict takes another's place. Its rule: what
//! is judged again gets a new id, made of the old one, so that nothing that is under way for the old job can be taken for the
//! new; a verdict is superseded in the transaction that stores the one in its place, so there is never none and never two. The
//! way not taken: updating the verdict, which would lose what was told to people before.

use super::traces::{DecidedTrace, Due, DueTraces, how};
use super::verdicts::{self, CLOCKS_APART_MAX, VerdictRows};
use super::{Store, StoreError, bodies, tallies};
use crate::domain::ids::{event_id, job_id};
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::verdict::{Outcome, Verdict, Vote};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Versions of rubrics whose jobs are looked for, the latest ones: a job waits for a day, not for two hundred changes.
const VERSIONS_MAX: i64 = 200;

/// A trace that was decided on, of which more has come.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// When it was decided on.
    pub decided_at: DateTime<Utc>,
    /// What sampling said.
    pub decision: SampleDecision,
    /// Whether it was judged again before.
    pub reopened: bool,
    /// When the first of the late spans came.
    pub late_since: DateTime<Utc>,
    /// Spans that it has.
    pub spans: i32,
    /// `domain::Trace` as JSON, if it was kept.
    pub body: Option<Vec<u8>>,
    /// What has become of it so far, by rubric; spans and sessions are not among it.
    pub units: Vec<Unit>,
}

/// A current verdict of a trace, or a job that is to make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Id of the job and of its verdict.
    pub id: Uuid,
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// How it ended; `None` while the job waits or is worked on.
    pub outcome: Option<Outcome>,
    /// Why, in words.
    pub explanation: String,
    /// Probability with which trace and rubric were to be judged.
    pub inclusion_probability: f64,
}

/// Spans that came after their trace was decided on and are not put into it.
#[derive(Debug, Clone)]
pub struct LateSpans {
    /// The trace.
    pub trace_id: String,
    /// How many.
    pub count: i32,
}

/// A trace that late spans were put into.
#[derive(Debug, Clone)]
pub struct Reopened {
    /// The trace.
    pub trace_id: String,
    /// How many came late.
    pub count: i32,
    /// `domain::Trace` as JSON, with them.
    pub body: Vec<u8>,
    /// When it was decided on first, and how it was and is to be tallied then; absent where that is the same.
    pub tally: Option<Box<Retally>>,
    /// What is judged again; if anything is, the trace is not reopened another time.
    pub again: Vec<Again>,
}

/// A trace that belongs in another tally than the one it is counted in.
#[derive(Debug, Clone)]
pub struct Retally {
    /// When it was decided on, and counted.
    pub decided_at: DateTime<Utc>,
    /// As it was counted.
    pub was: DecidedTrace,
    /// As it is to be counted.
    pub is: DecidedTrace,
}

/// A job or verdict in the place of an earlier one.
#[derive(Debug, Clone)]
pub struct Again {
    /// The earlier one.
    pub old: Uuid,
    /// What takes its place.
    pub new: Renewed,
}

/// What takes the place of a job or verdict.
#[derive(Debug, Clone)]
pub enum Renewed {
    /// It is judged again. With `true` the votes still count, for what the judges were asked is the same.
    Job(Job, bool),
    /// There is nothing to judge.
    Verdict(Box<Verdict>),
}

impl DueTraces {
    /// Versions of rubrics, in the same transaction; those that cannot be read are left out.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn rubrics(&mut self, wanted: &[(String, String)]) -> Result<Vec<Rubric>, StoreError> {
        let rows = sqlx::query!(
            "SELECT r.body FROM rubric_versions r JOIN unnest($1::text[], $2::text[]) AS u(n, v)
             ON r.rubric = u.n AND r.version = u.v",
            &wanted.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            &wanted.iter().map(|(_, version)| version.clone()).collect::<Vec<_>>(),
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(StoreError::op("reading rubric versions"))?;
        Ok(rows.into_iter().filter_map(|row| serde_json::from_value(row.body).ok()).collect())
    }
}

impl Store {
    /// Verdicts of a trace, and of a session, whose place others have taken, newest first, with when that was.
    ///
    /// # Errors
    /// As [`Store::verdicts`].
    pub async fn superseded(
        &self,
        trace_id: &str,
        session: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<(Verdict, DateTime<Utc>)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id, created_at, superseded_at AS "superseded_at!" FROM verdicts
               WHERE (trace_id = $1 OR session_id = $3) AND superseded_at IS NOT NULL
               ORDER BY created_at DESC, id DESC LIMIT $2"#,
            trace_id,
            limit,
            session
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading superseded verdicts"))?;
        let Some(made) = verdicts::span(rows.iter().map(|row| row.created_at)) else { return Ok(Vec::new()) };
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut found: HashMap<Uuid, Verdict> =
            self.verdicts_by_id(&ids, made).await?.into_iter().map(|v| (v.id, v)).collect();
        Ok(rows.into_iter().filter_map(|row| Some((found.remove(&row.id)?, row.superseded_at))).collect())
    }
}

/// Those of the due traces that were decided on before, locked; adds what they have already to what is due.
pub(super) async fn decided(tx: &mut PgConnection, due: &mut [Due]) -> Result<HashMap<String, Earlier>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source, reopened_at,
                  span_count + late_spans - late_left_out AS "spans!", body_bytes AS bytes,
                  upstream_probability, step_at, sampling
           FROM traces WHERE trace_id = ANY($1) FOR UPDATE"#,
        &due.iter().map(|d| d.trace_id.clone()).collect::<Vec<_>>()
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("looking for decided traces"))?;
    let mut earlier = HashMap::with_capacity(rows.len());
    for row in rows {
        let Some(late) = due.iter_mut().find(|d| d.trace_id == row.trace_id) else { continue };
        late.spans = late.spans.saturating_add(i64::from(row.spans));
        // The body holds most text twice, in a span and in the view.
        late.bytes = late.bytes.saturating_add(i64::from(row.bytes.unwrap_or(0) / 2));
        let (parts, upstream) = how(row.sampling, row.upstream_probability)
            .map_err(|source| StoreError::Content { what: format!("sampling of trace {}", row.trace_id), source })?;
        let decision = SampleDecision {
            kept: row.kept,
            rule: row.rule,
            probability: row.probability,
            randomness: row.randomness.cast_unsigned(),
            threshold: row.threshold.cast_unsigned(),
            source: row.randomness_source,
            parts,
            step: row.step_at,
            upstream,
        };
        let one = Earlier {
            decided_at: row.decided_at,
            decision,
            reopened: row.reopened_at.is_some(),
            late_since: late.since,
            spans: row.spans,
            body: None,
            units: Vec::new(),
        };
        earlier.insert(row.trace_id, one);
    }
    Ok(earlier)
}

/// Reads bodies, and what has become of the traces, as far as they are among `ids`.
pub(super) async fn read(
    tx: &mut PgConnection,
    decided: &mut HashMap<String, Earlier>,
    ids: &[String],
) -> Result<(), StoreError> {
    let wanted: Vec<String> =
        ids.iter().filter(|id| decided.get(*id).is_some_and(|e| e.decision.kept)).cloned().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let at = verdicts::span(wanted.iter().filter_map(|id| decided.get(id)).map(|earlier| earlier.decided_at));
    let Some(at) = at else { return Ok(()) };
    for (trace_id, body) in bodies::read(tx, &wanted, &at).await? {
        if let Some(earlier) = decided.get_mut(&trace_id) {
            earlier.body = Some(body);
        }
    }
    // Jobs first: one that is settled in between is then found twice, and not missed.
    let mut units = waiting(tx, &wanted).await?;
    units.extend(judged(tx, &wanted, *at.start() - CLOCKS_APART_MAX).await?);
    let once: BTreeMap<Uuid, (String, Unit)> = units.into_iter().map(|(id, unit)| (unit.id, (id, unit))).collect();
    for (trace_id, unit) in once.into_values() {
        if let Some(earlier) = decided.get_mut(&trace_id) {
            earlier.units.push(unit);
        }
    }
    Ok(())
}

/// Jobs of these traces, found by their ids: an index by trace would cost every job.
async fn waiting(tx: &mut PgConnection, traces: &[String]) -> Result<Vec<(String, Unit)>, StoreError> {
    let versions = sqlx::query!(
        "SELECT rubric, version FROM rubric_versions ORDER BY first_seen_at DESC, rubric, version LIMIT $1",
        VERSIONS_MAX
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("reading rubric versions"))?;
    let of_trace = |id: &String| versions.iter().map(|v| job_id(id, &v.rubric, &v.version)).collect::<Vec<_>>();
    let ids: Vec<Uuid> = traces.iter().flat_map(of_trace).collect();
    let rows = sqlx::query!(
        "SELECT id, trace_id, rubric, rubric_version, inclusion_probability FROM jobs WHERE id = ANY($1)",
        &ids
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("looking for jobs of decided traces"))?;
    let units = rows.into_iter().map(|row| {
        let unit = Unit {
            id: row.id,
            rubric: row.rubric,
            rubric_version: row.rubric_version,
            outcome: None,
            explanation: String::new(),
            inclusion_probability: row.inclusion_probability,
        };
        (row.trace_id, unit)
    });
    Ok(units.collect())
}

async fn judged(
    tx: &mut PgConnection,
    traces: &[String],
    since: DateTime<Utc>,
) -> Result<Vec<(String, Unit)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, trace_id, rubric, rubric_version, outcome, explanation, inclusion_probability FROM verdicts
         WHERE trace_id = ANY($1) AND span_id IS NULL AND session_id IS NULL AND superseded_at IS NULL AND created_at >= $2",
        traces,
        since
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("looking for verdicts of decided traces"))?;
    let units = rows.into_iter().map(|row| {
        let unit = Unit {
            id: row.id,
            rubric: row.rubric,
            rubric_version: row.rubric_version,
            outcome: Outcome::parse(&row.outcome),
            explanation: row.explanation,
            inclusion_probability: row.inclusion_probability,
        };
        (row.trace_id, unit)
    });
    Ok(units.collect())
}

/// Counts spans that are not put into their traces.
pub(super) async fn count_late(tx: &mut PgConnection, late: &[LateSpans]) -> Result<(), StoreError> {
    if late.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE traces t SET late_spans = late_spans + u.n, late_left_out = late_left_out + u.n
         FROM unnest($1::text[], $2::int[]) AS u(id, n) WHERE t.trace_id = u.id",
        &late.iter().map(|l| l.trace_id.clone()).collect::<Vec<_>>(),
        &late.iter().map(|l| l.count).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("counting late spans"))?;
    Ok(())
}

/// Writes traces that late spans were put into, and what is judged again because of it.
pub(super) async fn settle(
    tx: &mut PgConnection,
    reopened: Vec<Reopened>,
    sinks: &[&'static str],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if reopened.is_empty() {
        return Ok(());
    }
    let since = put_together(tx, &reopened, now).await?;
    let (mut jobs, mut verdicts) = (Vec::new(), Vec::new());
    for one in reopened {
        if let Some(tally) = one.tally {
            retally(tx, &tally, since).await?;
        }
        for again in one.again {
            match again.new {
                Renewed::Job(job, votes_count) => jobs.push((again.old, job, votes_count)),
                Renewed::Verdict(verdict) => verdicts.push((again.old, *verdict)),
            }
        }
    }
    let gone: Vec<Uuid> = jobs.iter().map(|(old, ..)| *old).chain(verdicts.iter().map(|(old, _)| *old)).collect();
    let votes = end_jobs(tx, &gone).await?;
    insert_jobs(tx, jobs, votes, since).await?;
    let pairs: Vec<(Uuid, Uuid)> = verdicts.iter().map(|(old, v)| (*old, v.id)).collect();
    let rows = VerdictRows::of(verdicts.iter().map(|(_, v)| v));
    if !pairs.is_empty() {
        verdicts::insert_events(tx, &rows, sinks, now).await?;
        verdicts::insert(tx, rows).await?;
    }
    supersede(tx, &pairs, since, sinks, now).await
}

/// Stores reopened traces as they are now; since when there may be verdicts of them.
async fn put_together(
    tx: &mut PgConnection,
    reopened: &[Reopened],
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let ids: Vec<String> = reopened.iter().map(|r| r.trace_id.clone()).collect();
    let bodies: Vec<&[u8]> = reopened.iter().map(|r| r.body.as_slice()).collect();
    let rows = sqlx::query!(
        "UPDATE traces t SET late_spans = late_spans + u.n, body_bytes = u.b,
                             reopened_at = CASE WHEN u.a THEN $5 ELSE t.reopened_at END
         FROM unnest($1::text[], $2::int[], $3::int[], $4::bool[]) AS u(id, n, b, a) WHERE t.trace_id = u.id
         RETURNING t.decided_at",
        &ids,
        &reopened.iter().map(|r| r.count).collect::<Vec<_>>(),
        &bodies.iter().map(|body| bodies::size(body)).collect::<Vec<_>>(),
        &reopened.iter().map(|r| !r.again.is_empty()).collect::<Vec<_>>(),
        now,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("storing reopened traces"))?;
    let Some(at) = verdicts::span(rows.iter().map(|row| row.decided_at)) else { return Ok(now) };
    bodies::replace(tx, (&ids, &bodies), &at).await?;
    Ok(*at.start() - CLOCKS_APART_MAX)
}

/// Since when there may be verdicts of these traces: from when the first of them was decided on.
pub(super) async fn decided_first(
    tx: &mut PgConnection,
    traces: &[String],
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let first = sqlx::query_scalar!("SELECT min(decided_at) FROM traces WHERE trace_id = ANY($1)", traces)
        .fetch_one(tx)
        .await
        .map_err(StoreError::op("looking when traces were decided on"))?;
    Ok(first.unwrap_or(now) - CLOCKS_APART_MAX)
}

/// Moves a trace from one stratum to another, in the hour in which it was decided on.
async fn retally(tx: &mut PgConnection, tally: &Retally, since: DateTime<Utc>) -> Result<(), StoreError> {
    let Retally { decided_at, was, is } = tally;
    let (before, after) = (tallies::stratum(was), tallies::stratum(is));
    if before == after || !tallies::take_out(tx, was, *decided_at).await? {
        return Ok(()); // tallied by a program that counted otherwise: better there than twice
    }
    tallies::insert(tx, std::slice::from_ref(is), *decided_at).await?;
    let current = sqlx::query_scalar!(
        "SELECT id FROM verdicts WHERE trace_id = $1 AND superseded_at IS NULL AND created_at >= $2",
        is.trace_id,
        since
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("looking for verdicts of a reopened trace"))?;
    tallies::recount(tx, &current, since, -1).await?;
    sqlx::query!("UPDATE traces SET stratum = $2 WHERE trace_id = $1", is.trace_id, after)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("moving a trace to another stratum"))?;
    tallies::recount(tx, &current, since, 1).await
}

/// Ends jobs whose trace has changed, whoever works on them; gives the votes that they had.
async fn end_jobs(tx: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Vote>>, StoreError> {
    let rows = sqlx::query!("DELETE FROM jobs WHERE id = ANY($1) RETURNING id, votes", ids)
        .fetch_all(tx)
        .await
        .map_err(StoreError::op("ending jobs of reopened traces"))?;
    let read = |votes: Option<serde_json::Value>| votes.and_then(|v| serde_json::from_value::<Vec<Vote>>(v).ok());
    Ok(rows.into_iter().map(|row| (row.id, read(row.votes).unwrap_or_default())).collect())
}

async fn insert_jobs(
    tx: &mut PgConnection,
    jobs: Vec<(Uuid, Job, bool)>,
    waiting: HashMap<Uuid, Vec<Vote>>,
    since: DateTime<Utc>,
) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let kept = |(old, _, votes_count): &(Uuid, Job, bool)| {
        let votes = waiting.get(old).filter(|_| *votes_count)?;
        // A question that is under way belongs to the old job.
        let settled: Vec<&Vote> = votes.iter().filter(|vote| vote.is_settled()).collect();
        let kept = serde_json::to_value(&settled).ok().filter(|_| !settled.is_empty());
        kept.map(super::columns::json)
    };
    sqlx::query!(
        "INSERT INTO jobs (id, trace_id, rubric, rubric_version, inclusion_probability, votes, visible_at, enqueued_at,
                           deadline_at, supersedes)
         SELECT i, t, r, v, p,
                CASE WHEN k THEN coalesce(w, (SELECT jsonb_agg(body ORDER BY position) FROM votes
                                              WHERE verdict_id = o AND created_at >= $11)) END,
                e, e, d, (SELECT id FROM verdicts WHERE id = o AND superseded_at IS NULL AND created_at >= $11)
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::jsonb[], $7::timestamptz[],
                     $8::timestamptz[], $9::uuid[], $10::bool[]) AS u(i, t, r, v, p, w, e, d, o, k)
         ON CONFLICT (id) DO NOTHING",
        &jobs.iter().map(|(_, j, _)| j.id).collect::<Vec<_>>(),
        &jobs.iter().map(|(_, j, _)| j.trace_id.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|(_, j, _)| j.rubric.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|(_, j, _)| j.rubric_version.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|(_, j, _)| j.inclusion_probability).collect::<Vec<_>>(),
        &jobs.iter().map(kept).collect::<Vec<_>>() as &[Option<serde_json::Value>],
        &jobs.iter().map(|(_, j, _)| j.enqueued_at).collect::<Vec<_>>(),
        &jobs.iter().map(|(_, j, _)| j.deadline_at).collect::<Vec<_>>(),
        &jobs.iter().map(|(old, ..)| *old).collect::<Vec<_>>(),
        &jobs.iter().map(|(.., votes_count)| *votes_count).collect::<Vec<_>>(),
        since,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("enqueuing jobs of reopened traces"))?;
    Ok(())
}

/// Verdicts take the place of others: pairs of the old one and the new one, which is stored already; none was made before `since`.
/// What sinks were not told yet about the old one they are not told any more. Where the old one is stored last, as may be of a
/// session, the new one does not point to it.
pub(super) async fn supersede(
    tx: &mut PgConnection,
    pairs: &[(Uuid, Uuid)],
    since: DateTime<Utc>,
    sinks: &[&'static str],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if pairs.is_empty() {
        return Ok(());
    }
    let old: Vec<Uuid> = pairs.iter().map(|(old, _)| *old).collect();
    let new: Vec<Uuid> = pairs.iter().map(|(_, new)| *new).collect();
    let replaced = sqlx::query_scalar!(
        r#"WITH replaced AS (UPDATE verdicts SET superseded_at = $3
                             WHERE id = ANY($1) AND superseded_at IS NULL AND created_at >= $4 RETURNING id, tx),
                pointed AS (UPDATE verdicts v SET supersedes = u.o
                            FROM unnest($1::uuid[], $2::uuid[]) AS u(o, n) JOIN replaced r ON r.id = u.o
                            WHERE v.id = u.n AND r.tx <= v.tx AND v.created_at >= $4)
           SELECT id AS "id!" FROM replaced"#,
        &old,
        &new,
        now,
        since
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("superseding verdicts"))?;
    tallies::recount(tx, &replaced, since, -1).await?;
    let events: Vec<Uuid> = sinks.iter().flat_map(|sink| old.iter().map(|id| event_id(*id, sink))).collect();
    sqlx::query!("DELETE FROM outbox WHERE id = ANY($1)", &events)
        .execute(tx)
        .await
        .map_err(StoreError::op("taking back events of superseded verdicts"))?;
    Ok(())
}
