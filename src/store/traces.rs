//! Table `traces` (whose bodies are in `store::bodies`), and the transaction that turns inbox spans into decided traces and jobs.
//!
//! Called by `pipeline::assemble`: [`Store::take_due`] hands out spans inside an open transaction, the caller computes (no
//! network in between), [`DueTraces::settle`] writes what came of them and commits. Its rule: a trace that is decided on
//! is never decided on again; what becomes of spans that come later is in `store::reopen`. The way not taken: reading, then
//! deleting by id later, which would need a lock of its own against spans that arrive in between.

use super::columns::{json_text, text};
use super::reopen::{self, Earlier, LateSpans, Reopened};
use super::sessions::{self, SessionTimes, SessionTrace};
use super::verdicts::{self, VerdictRows};
use super::{Store, StoreError, bodies, labels, sampling_steps, tallies};
use crate::domain::job::Job;
use crate::domain::label::Label;
use crate::domain::policy::{RateParts, SampleDecision, Upstream};
use crate::domain::step::Count;
use crate::domain::verdict::{TraceLabels, Verdict};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, Transaction};
use std::collections::{HashMap, HashSet};

/// Traces that are due, with their spans, locked until settled. Dropping it undoes everything.
#[derive(Debug)]
pub struct DueTraces {
    pub(super) tx: Transaction<'static, Postgres>,
    /// Trace id to the JSON bodies of its new spans.
    pub spans: HashMap<String, Vec<Vec<u8>>>,
    /// Traces larger than the limit, with their number of spans; their spans are gone.
    pub oversized: Vec<(String, i32)>,
    /// Those among them that were decided on before.
    pub decided: HashMap<String, Earlier>,
    /// Those among them of which somebody has said that they are not good, where that was asked for.
    pub disliked: HashSet<String>,
}

/// What one taking of due traces may hold.
#[derive(Debug, Clone, Copy)]
pub struct DueLimits {
    /// Traces.
    pub traces: usize,
    /// Bytes of all their spans together; one trace is always taken.
    pub batch_bytes: i64,
    /// Bytes of one trace; a larger one is not read.
    pub trace_bytes: i64,
    /// Spans of one trace; one with more is not read.
    pub trace_spans: i64,
    /// Whether to look for what people have said about them.
    pub feedback: bool,
}

/// A trace that was decided on.
#[derive(Debug, Clone)]
pub struct DecidedTrace {
    /// The trace.
    pub trace_id: String,
    /// What sampling said.
    pub decision: SampleDecision,
    /// Spans it consists of.
    pub span_count: i32,
    /// `domain::Trace` as JSON, if it was kept.
    pub body: Option<Vec<u8>>,
    /// Its labels, for the tally.
    pub labels: TraceLabels,
    /// `ok` or `error`.
    pub status: &'static str,
    /// What it adds to the counts of limits.
    pub counts: Vec<Count>,
}

/// All that came of a batch of due traces.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Traces decided on now.
    pub traces: Vec<DecidedTrace>,
    /// Jobs of those that were kept.
    pub jobs: Vec<Job>,
    /// Verdicts that need no judging: filtered, not applicable, sampled out by the rubric.
    pub verdicts: Vec<Verdict>,
    /// Late spans of which only the number is stored.
    pub late: Vec<LateSpans>,
    /// Traces that late spans were put into.
    pub reopened: Vec<Reopened>,
    /// Labels that came with the spans.
    pub labels: Vec<Label>,
    /// Traces that are part of a session.
    pub sessions: Vec<SessionTrace>,
    /// When sessions are due.
    pub session_times: SessionTimes,
}

/// A trace as it can be looked up.
#[derive(Debug, Clone)]
pub struct StoredTrace {
    /// The trace.
    pub trace_id: String,
    /// When it was decided on.
    pub decided_at: DateTime<Utc>,
    /// What sampling said.
    pub decision: SampleDecision,
    /// Spans it was assembled from.
    pub span_count: i32,
    /// Spans that came later.
    pub late_spans: i32,
    /// Of these, those that are not in the body.
    pub late_left_out: i32,
    /// When it was judged again.
    pub reopened_at: Option<DateTime<Utc>>,
    /// `domain::Trace` as JSON, if it was kept and retention has not removed it.
    pub body: Option<Vec<u8>>,
}

/// A trace that is due.
pub(super) struct Due {
    pub(super) trace_id: String,
    pub(super) since: DateTime<Utc>,
    pub(super) bytes: i64,
    pub(super) spans: i64,
}

impl Store {
    /// Takes traces that are due at `now`, within the limits.
    ///
    /// # Errors
    /// When a statement fails; then nothing is taken.
    pub async fn take_due(&self, now: DateTime<Utc>, limits: DueLimits) -> Result<Option<DueTraces>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to take traces"))?;
        let due = sqlx::query!(
            "SELECT trace_id, first_seen_at, bytes, span_count FROM open_traces WHERE due_at <= $1 ORDER BY due_at LIMIT $2
             FOR UPDATE SKIP LOCKED",
            now,
            i64::try_from(limits.traces).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for due traces"))?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut due: Vec<Due> = due
            .into_iter()
            .map(|row| Due {
                trace_id: row.trace_id,
                since: row.first_seen_at,
                bytes: row.bytes,
                spans: i64::from(row.span_count),
            })
            .collect();
        recount(&mut tx, &mut due, limits).await?;
        let mut decided = reopen::decided(&mut tx, &mut due).await?;
        let (ids, oversized) = fitting(due, limits);
        let too_large: Vec<String> = oversized.iter().map(|(id, _)| id.clone()).collect();
        let gone = [ids.clone(), too_large.clone()].concat();
        sqlx::query!("DELETE FROM open_traces WHERE trace_id = ANY($1)", &gone)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("taking due traces"))?;
        if !too_large.is_empty() {
            sqlx::query!("DELETE FROM inbox_spans WHERE trace_id = ANY($1)", &too_large)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::op("dropping spans of oversized traces"))?;
        }
        let rows = sqlx::query!("DELETE FROM inbox_spans WHERE trace_id = ANY($1) RETURNING trace_id, body", &ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::op("taking spans"))?;
        let mut spans: HashMap<String, Vec<Vec<u8>>> = HashMap::with_capacity(ids.len());
        for row in rows {
            spans.entry(row.trace_id).or_default().push(row.body);
        }
        reopen::read(&mut tx, &mut decided, &ids).await?;
        let disliked = if limits.feedback { labels::disliked(&mut tx, &ids).await? } else { HashSet::new() };
        Ok(Some(DueTraces { tx, spans, oversized, decided, disliked }))
    }

    /// The trace, if it was decided on and its row is still kept.
    ///
    /// # Errors
    /// When the statement fails or the row cannot be read.
    pub async fn trace(&self, trace_id: &str) -> Result<Option<StoredTrace>, StoreError> {
        let row = sqlx::query!(
            "SELECT trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source, span_count,
                    late_spans, late_left_out, reopened_at, upstream_probability, step_at, sampling
             FROM traces WHERE trace_id = $1",
            trace_id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("reading a trace"))?;
        let Some(r) = row else { return Ok(None) };
        let body = if r.kept {
            self.trace_bodies(std::slice::from_ref(&r.trace_id)).await?.pop().map(|(_, body)| body)
        } else {
            None
        };
        let (parts, upstream) = how(r.sampling, r.upstream_probability)
            .map_err(|source| StoreError::Content { what: format!("sampling of trace {trace_id}"), source })?;
        Ok(Some(StoredTrace {
            trace_id: r.trace_id,
            decided_at: r.decided_at,
            decision: SampleDecision {
                kept: r.kept,
                rule: r.rule,
                probability: r.probability,
                randomness: r.randomness.cast_unsigned(),
                threshold: r.threshold.cast_unsigned(),
                source: r.randomness_source,
                parts,
                step: r.step_at,
                upstream,
            },
            span_count: r.span_count,
            late_spans: r.late_spans,
            late_left_out: r.late_left_out,
            reopened_at: r.reopened_at,
            body,
        }))
    }

    /// How many spans of a trace wait in the inbox, and when it is due.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn open_trace(&self, trace_id: &str) -> Result<Option<(i32, DateTime<Utc>)>, StoreError> {
        let row = sqlx::query!("SELECT span_count, due_at FROM open_traces WHERE trace_id = $1", trace_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::op("reading an open trace"))?;
        Ok(row.map(|r| (r.span_count, r.due_at)))
    }

    /// Removes up to `max` rows of traces that sampling left out before `before`; their tallies stay.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_sampled_out(&self, before: DateTime<Utc>, max: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM traces WHERE trace_id IN
                 (SELECT trace_id FROM traces WHERE NOT kept AND decided_at < $1 LIMIT $2)",
            before,
            max
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("forgetting traces that were left out"))?;
        Ok(done.rows_affected())
    }

    /// Removes up to `max` rows of traces that were kept, decided on before `before`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_kept(&self, before: DateTime<Utc>, max: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM traces WHERE trace_id IN (SELECT trace_id FROM traces WHERE kept AND decided_at < $1 LIMIT $2)",
            before,
            max
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("forgetting traces that were kept"))?;
        Ok(done.rows_affected())
    }
}

impl DueTraces {
    /// Writes what came of the traces and commits; verdicts that need no judging get an event for each of `sinks`.
    ///
    /// # Errors
    /// When a statement fails; then the traces are due as before.
    pub async fn settle(
        mut self,
        settlement: Settlement,
        sinks: &[&'static str],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        insert_traces(&mut self.tx, &settlement.traces, now).await?;
        tallies::insert(&mut self.tx, &settlement.traces, now).await?;
        sampling_steps::insert_counts(&mut self.tx, &settlement.traces, now).await?;
        insert_jobs(&mut self.tx, settlement.jobs).await?;
        if !settlement.verdicts.is_empty() {
            let rows = VerdictRows::of(&settlement.verdicts);
            verdicts::insert_events(&mut self.tx, &rows, sinks, now).await?;
            verdicts::insert(&mut self.tx, rows).await?;
        }
        reopen::count_late(&mut self.tx, &settlement.late).await?;
        reopen::settle(&mut self.tx, settlement.reopened, sinks, now).await?;
        sessions::insert(&mut self.tx, &settlement.sessions, settlement.session_times, now).await?;
        // Last, since it waits for others who store labels.
        labels::insert(&mut self.tx, &settlement.labels, now).await?;
        self.tx.commit().await.map_err(StoreError::op("committing decided traces"))
    }
}

/// Counts what really waits of traces that seem too large: a span that was sent again was counted again.
async fn recount(tx: &mut PgConnection, due: &mut [Due], limits: DueLimits) -> Result<(), StoreError> {
    let is_large = |d: &Due| d.bytes > limits.trace_bytes || d.spans > limits.trace_spans;
    let ids: Vec<String> = due.iter().filter(|d| is_large(d)).map(|d| d.trace_id.clone()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query!(
        r#"SELECT trace_id, count(*) AS "spans!", sum(octet_length(body))::bigint AS "bytes!"
           FROM inbox_spans WHERE trace_id = ANY($1) GROUP BY trace_id"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("counting spans of large traces"))?;
    for row in rows {
        if let Some(one) = due.iter_mut().find(|d| d.trace_id == row.trace_id) {
            (one.bytes, one.spans) = (row.bytes, row.spans);
        }
    }
    Ok(())
}

/// As many as fit into memory together, one at least; and those that are too large by themselves, which are not read.
fn fitting(due: Vec<Due>, limits: DueLimits) -> (Vec<String>, Vec<(String, i32)>) {
    let (mut ids, mut oversized, mut total) = (Vec::new(), Vec::new(), 0_i64);
    for one in due {
        if one.bytes > limits.trace_bytes || one.spans > limits.trace_spans {
            oversized.push((one.trace_id, i32::try_from(one.spans).unwrap_or(i32::MAX)));
            continue;
        }
        total = total.saturating_add(one.bytes);
        if total > limits.batch_bytes && !ids.is_empty() {
            break;
        }
        ids.push(one.trace_id);
    }
    (ids, oversized)
}

/// How a decision came about: the part of it that is for people.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(flatten)]
    parts: RateParts,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Said>,
}

/// Who said the upstream probability, and whether that sampler was for keeping the trace.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Said {
    source: String,
    kept: bool,
}

impl Detail {
    fn of(decision: &SampleDecision) -> Self {
        let said = |u: &Upstream| Said { source: u.source.clone(), kept: u.kept };
        Self { parts: decision.parts.clone(), upstream: decision.upstream.as_ref().map(said) }
    }
}

/// How a probability came about, and what a sampler before us said, as they are stored.
pub(super) fn how(
    sampling: serde_json::Value,
    upstream: Option<f64>,
) -> Result<(RateParts, Option<Upstream>), serde_json::Error> {
    let detail: Detail = serde_json::from_value(sampling)?;
    let said = detail.upstream.unwrap_or_default();
    let upstream = upstream.map(|probability| Upstream { probability, source: said.source, kept: said.kept });
    Ok((detail.parts, upstream))
}

async fn insert_traces(tx: &mut PgConnection, traces: &[DecidedTrace], now: DateTime<Utc>) -> Result<(), StoreError> {
    let column = |f: fn(&DecidedTrace) -> String| traces.iter().map(f).collect::<Vec<_>>();
    let upstream = |t: &DecidedTrace| t.decision.upstream.as_ref().map(|u| u.probability);
    sqlx::query!(
        "INSERT INTO traces (trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source,
                             span_count, body_bytes, upstream_probability, step_at, sampling, stratum)
         SELECT t, $10, k, r, p, x, h, s, n, b, up, st, d::jsonb, sm
         FROM unnest($1::text[], $2::bool[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[], $7::text[],
                     $8::int[], $9::int[], $11::float8[], $12::timestamptz[], $13::text[], $14::text[])
              AS u(t, k, r, p, x, h, s, n, b, up, st, d, sm)",
        &column(|t| t.trace_id.clone()),
        &traces.iter().map(|t| t.decision.kept).collect::<Vec<_>>(),
        &column(|t| t.decision.rule.clone()),
        &traces.iter().map(|t| t.decision.probability).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.randomness.cast_signed()).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.threshold.cast_signed()).collect::<Vec<_>>(),
        &column(|t| t.decision.source.clone()),
        &traces.iter().map(|t| t.span_count).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.body.as_deref().map(bodies::size)).collect::<Vec<_>>() as &[Option<i32>],
        now,
        &traces.iter().map(upstream).collect::<Vec<_>>() as &[Option<f64>],
        &traces.iter().map(|t| t.decision.step).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &column(|t| json_text(&Detail::of(&t.decision))),
        &column(tallies::stratum),
    )
    .execute(&mut *tx)
    .await
    .map_err(StoreError::op("storing decided traces"))?;
    let kept = || traces.iter().filter_map(|t| Some((t.trace_id.as_str(), t.body.as_deref()?)));
    let (ids, stored): (Vec<&str>, Vec<&[u8]>) = kept().unzip();
    bodies::insert(tx, (&ids, &stored), now).await
}

pub(super) async fn insert_jobs(tx: &mut PgConnection, jobs: Vec<Job>) -> Result<u64, StoreError> {
    if jobs.is_empty() {
        return Ok(0);
    }
    let session = |job: &Job| job.unit.session().cloned();
    let done = sqlx::query!(
        "INSERT INTO jobs (id, trace_id, rubric, rubric_version, inclusion_probability, visible_at, enqueued_at, deadline_at,
                           span_id, session, session_id, session_ordinal, replay, canary)
         SELECT i, t, r, v, p, e, e, d, s, n, k, o, y, c
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::timestamptz[], $7::timestamptz[],
                     $8::text[], $9::text[], $10::uuid[], $11::int[], $12::bool[], $13::bool[])
              AS u(i, t, r, v, p, e, d, s, n, k, o, y, c)
         ON CONFLICT (id) DO NOTHING",
        &jobs.iter().map(|j| j.id).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.trace_id.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.rubric.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.rubric_version.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.inclusion_probability).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.enqueued_at).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.deadline_at).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.unit.span_id().map(text)).collect::<Vec<_>>() as &[Option<String>],
        &jobs.iter().map(|j| session(j).map(|s| text(&s.session))).collect::<Vec<_>>() as &[Option<String>],
        &jobs.iter().map(|j| session(j).map(|s| s.key)).collect::<Vec<_>>() as &[Option<uuid::Uuid>],
        &jobs.iter().map(|j| session(j).map(|s| s.ordinal)).collect::<Vec<_>>() as &[Option<i32>],
        &jobs.iter().map(|j| j.replay).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.canary).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("enqueuing jobs"))?;
    Ok(done.rows_affected())
}
