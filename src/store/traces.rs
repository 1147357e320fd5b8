//! Table `traces`, and the transaction that turns inbox spans into decided traces and jobs.
//!
//! Called by `pipeline::assemble`: [`Store::take_due`] hands out spans inside an open transaction, the caller computes (no
//! network in between), [`DueTraces::settle`] writes what came of them and commits. Its rule: a trace that is decided on
//! is never decided on again; spans that come later are added to it, and its jobs stay as they are. The way not taken:
//! reading, then deleting by id later, which would need a lock of its own against spans that arrive in between.

use super::columns::json_text;
use super::verdicts::{self, VerdictRows};
use super::{Store, StoreError, labels, sampling_steps, tallies};
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
    tx: Transaction<'static, Postgres>,
    /// Trace id to the JSON bodies of its new spans.
    pub spans: HashMap<String, Vec<Vec<u8>>>,
    /// Traces larger than the limit, with their number of spans; their spans are gone.
    pub oversized: Vec<(String, i32)>,
    /// Those among them that were decided on before, with the stored body if they were kept.
    pub decided: HashMap<String, Option<Vec<u8>>>,
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

/// Spans that came after their trace was decided on.
#[derive(Debug, Clone)]
pub struct LateSpans {
    /// The trace.
    pub trace_id: String,
    /// How many.
    pub count: i32,
    /// The trace's new body; absent when it was not kept.
    pub body: Option<Vec<u8>>,
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
    /// Late spans.
    pub late: Vec<LateSpans>,
    /// Labels that came with the spans.
    pub labels: Vec<Label>,
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
    /// `domain::Trace` as JSON, if it was kept.
    pub body: Option<Vec<u8>>,
}

impl Store {
    /// Takes traces that are due at `now`, within the limits.
    ///
    /// # Errors
    /// When a statement fails; then nothing is taken.
    pub async fn take_due(&self, now: DateTime<Utc>, limits: DueLimits) -> Result<Option<DueTraces>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to take traces"))?;
        let due = sqlx::query!(
            "SELECT trace_id, bytes, span_count FROM open_traces WHERE due_at <= $1 ORDER BY due_at LIMIT $2
             FOR UPDATE SKIP LOCKED",
            now,
            i64::try_from(limits.traces).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for due traces"))?;
        let due = due.into_iter().map(|row| (row.trace_id, row.bytes, row.span_count));
        let (ids, oversized) = fitting(due, limits);
        if ids.is_empty() && oversized.is_empty() {
            return Ok(None);
        }
        let too_large: Vec<String> = oversized.iter().map(|(id, _)| id.clone()).collect();
        let gone = [ids.clone(), too_large.clone()].concat();
        sqlx::query!("DELETE FROM open_traces WHERE trace_id = ANY($1)", &gone)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("taking due traces"))?;
        sqlx::query!("DELETE FROM inbox_spans WHERE trace_id = ANY($1)", &too_large)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("dropping spans of oversized traces"))?;
        let rows = sqlx::query!("DELETE FROM inbox_spans WHERE trace_id = ANY($1) RETURNING trace_id, body", &ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::op("taking spans"))?;
        let mut spans: HashMap<String, Vec<Vec<u8>>> = HashMap::with_capacity(ids.len());
        for row in rows {
            spans.entry(row.trace_id).or_default().push(row.body);
        }
        let decided = sqlx::query!("SELECT trace_id, body FROM traces WHERE trace_id = ANY($1) FOR UPDATE", &gone)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::op("looking for decided traces"))?;
        let decided = decided.into_iter().map(|row| (row.trace_id, row.body)).collect();
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
                    late_spans, body, upstream_probability, step_at, sampling FROM traces WHERE trace_id = $1",
            trace_id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("reading a trace"))?;
        let Some(r) = row else { return Ok(None) };
        let detail: Detail = serde_json::from_value(r.sampling)
            .map_err(|source| StoreError::Content { what: format!("sampling of trace {trace_id}"), source })?;
        let said = detail.upstream.unwrap_or_default();
        let upstream =
            r.upstream_probability.map(|probability| Upstream { probability, source: said.source, kept: said.kept });
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
                parts: detail.parts,
                step: r.step_at,
                upstream,
            },
            span_count: r.span_count,
            late_spans: r.late_spans,
            body: r.body,
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

    /// Bodies of kept traces.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn trace_bodies(&self, ids: &[String]) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT trace_id, body AS "body!" FROM traces WHERE trace_id = ANY($1) AND body IS NOT NULL"#,
            ids
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading traces"))?;
        Ok(rows.into_iter().map(|row| (row.trace_id, row.body)).collect())
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
        for late in settlement.late {
            update_late(&mut self.tx, late).await?;
        }
        // Last, since it waits for others who store labels.
        labels::insert(&mut self.tx, &settlement.labels, now).await?;
        self.tx.commit().await.map_err(StoreError::op("committing decided traces"))
    }
}

/// As many as fit into memory together, one at least; and those that are too large by themselves, which are not read.
fn fitting(due: impl Iterator<Item = (String, i64, i32)>, limits: DueLimits) -> (Vec<String>, Vec<(String, i32)>) {
    let (mut ids, mut oversized, mut total) = (Vec::new(), Vec::new(), 0_i64);
    for (id, bytes, spans) in due {
        if bytes > limits.trace_bytes {
            oversized.push((id, spans));
            continue;
        }
        total = total.saturating_add(bytes);
        if total > limits.batch_bytes && !ids.is_empty() {
            break;
        }
        ids.push(id);
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

async fn insert_traces(tx: &mut PgConnection, traces: &[DecidedTrace], now: DateTime<Utc>) -> Result<(), StoreError> {
    let column = |f: fn(&DecidedTrace) -> String| traces.iter().map(f).collect::<Vec<_>>();
    let upstream = |t: &DecidedTrace| t.decision.upstream.as_ref().map(|u| u.probability);
    sqlx::query!(
        "INSERT INTO traces (trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source,
                             span_count, body, upstream_probability, step_at, sampling, stratum)
         SELECT t, $10, k, r, p, x, h, s, n, b, up, st, d::jsonb, sm
         FROM unnest($1::text[], $2::bool[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[], $7::text[],
                     $8::int[], $9::bytea[], $11::float8[], $12::timestamptz[], $13::text[], $14::text[])
              AS u(t, k, r, p, x, h, s, n, b, up, st, d, sm)",
        &column(|t| t.trace_id.clone()),
        &traces.iter().map(|t| t.decision.kept).collect::<Vec<_>>(),
        &column(|t| t.decision.rule.clone()),
        &traces.iter().map(|t| t.decision.probability).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.randomness.cast_signed()).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.decision.threshold.cast_signed()).collect::<Vec<_>>(),
        &column(|t| t.decision.source.clone()),
        &traces.iter().map(|t| t.span_count).collect::<Vec<_>>(),
        &traces.iter().map(|t| t.body.as_deref()).collect::<Vec<_>>() as &[Option<&[u8]>],
        now,
        &traces.iter().map(upstream).collect::<Vec<_>>() as &[Option<f64>],
        &traces.iter().map(|t| t.decision.step).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &column(|t| json_text(&Detail::of(&t.decision))),
        &column(tallies::stratum),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing decided traces"))?;
    Ok(())
}

async fn insert_jobs(tx: &mut PgConnection, jobs: Vec<Job>) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO jobs (id, trace_id, rubric, rubric_version, inclusion_probability, visible_at, enqueued_at, deadline_at)
         SELECT i, t, r, v, p, e, e, d
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::timestamptz[], $7::timestamptz[])
              AS u(i, t, r, v, p, e, d)
         ON CONFLICT (id) DO NOTHING",
        &jobs.iter().map(|j| j.id).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.trace_id.clone()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.rubric.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.rubric_version.to_string()).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.inclusion_probability).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.enqueued_at).collect::<Vec<_>>(),
        &jobs.iter().map(|j| j.deadline_at).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("enqueuing jobs"))?;
    Ok(())
}

async fn update_late(tx: &mut PgConnection, late: LateSpans) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE traces SET late_spans = late_spans + $2, body = coalesce($3, body) WHERE trace_id = $1",
        late.trace_id,
        late.count,
        late.body,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("adding late spans"))?;
    Ok(())
}
