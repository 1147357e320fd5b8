//! Tables `traces` and `tallies`, and the transaction that turns inbox spans into decided traces and jobs.
//!
//! Called by `pipeline::assemble`: [`Store::take_due`] hands out spans inside an open transaction, the caller computes (no
//! network in between), [`DueTraces::settle`] writes what came of them and commits. Its rule: a trace that is decided on
//! is never decided on again; spans that come later are added to it, and its jobs stay as they are. The way not taken:
//! reading, then deleting by id later, which would need a lock of its own against spans that arrive in between.

use super::columns::{optional, text};
use super::sessions::{self, SessionTimes, SessionTrace};
use super::verdicts::{self, VerdictRows};
use super::{Store, StoreError, labels};
use crate::domain::job::Job;
use crate::domain::label::Label;
use crate::domain::policy::SampleDecision;
use crate::domain::verdict::{TraceLabels, Verdict};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use std::collections::HashMap;

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
        Ok(Some(DueTraces { tx, spans, oversized, decided }))
    }

    /// The trace, if it was decided on and its row is still kept.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn trace(&self, trace_id: &str) -> Result<Option<StoredTrace>, StoreError> {
        let row = sqlx::query!(
            "SELECT trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source, span_count,
                    late_spans, body FROM traces WHERE trace_id = $1",
            trace_id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("reading a trace"))?;
        Ok(row.map(|r| StoredTrace {
            trace_id: r.trace_id,
            decided_at: r.decided_at,
            decision: SampleDecision {
                kept: r.kept,
                rule: r.rule,
                probability: r.probability,
                randomness: r.randomness.cast_unsigned(),
                threshold: r.threshold.cast_unsigned(),
                source: r.randomness_source,
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

    /// Traces decided on and kept, over all tallies.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn tally_totals(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(sum(seen), 0)::bigint AS "seen!", coalesce(sum(kept), 0)::bigint AS "kept!" FROM tallies"#
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("adding up tallies"))?;
        Ok((row.seen, row.kept))
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
        insert_tallies(&mut self.tx, &settlement.traces, now).await?;
        insert_jobs(&mut self.tx, settlement.jobs).await?;
        if !settlement.verdicts.is_empty() {
            let rows = VerdictRows::of(&settlement.verdicts);
            verdicts::insert_events(&mut self.tx, &rows, sinks, now).await?;
            verdicts::insert(&mut self.tx, rows).await?;
        }
        for late in settlement.late {
            update_late(&mut self.tx, late).await?;
        }
        sessions::insert(&mut self.tx, &settlement.sessions, settlement.session_times, now).await?;
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

async fn insert_traces(tx: &mut PgConnection, traces: &[DecidedTrace], now: DateTime<Utc>) -> Result<(), StoreError> {
    let column = |f: fn(&DecidedTrace) -> String| traces.iter().map(f).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO traces (trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source,
                             span_count, body)
         SELECT t, $10, k, r, p, x, h, s, n, b
         FROM unnest($1::text[], $2::bool[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[], $7::text[],
                     $8::int[], $9::bytea[]) AS u(t, k, r, p, x, h, s, n, b)",
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
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing decided traces"))?;
    Ok(())
}

async fn insert_tallies(tx: &mut PgConnection, traces: &[DecidedTrace], now: DateTime<Utc>) -> Result<(), StoreError> {
    // Added up here, so that a batch of one stratum updates one row; in the order of the key, so that two assemblers
    // cannot lock each other out.
    let mut strata = std::collections::BTreeMap::<String, (&DecidedTrace, i64, i64)>::new();
    for trace in traces {
        let entry = strata.entry(stratum(trace)).or_insert((trace, 0, 0));
        entry.1 += 1;
        entry.2 += i64::from(trace.decision.kept);
    }
    let rows: Vec<_> = strata.into_iter().collect();
    let label = |f: fn(&TraceLabels) -> &Option<String>| -> Vec<Option<String>> {
        rows.iter().map(|(_, (t, ..))| optional(f(&t.labels).as_ref())).collect()
    };
    let hour = chrono::DurationRound::duration_trunc(now, chrono::TimeDelta::hours(1)).unwrap_or(now);
    sqlx::query!(
        "INSERT INTO tallies AS t (hour, stratum, rule, probability, service, environment, feature, prompt_version,
                                   model, tenant, status, seen, kept)
         SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::text[],
                                    $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[]) u
         ON CONFLICT (hour, stratum) DO UPDATE SET seen = t.seen + excluded.seen, kept = t.kept + excluded.kept",
        hour,
        &rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (t, ..))| text(&t.decision.rule)).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (t, ..))| t.decision.probability).collect::<Vec<_>>(),
        &label(|l| &l.service) as &[Option<String>],
        &label(|l| &l.environment) as &[Option<String>],
        &label(|l| &l.feature) as &[Option<String>],
        &label(|l| &l.prompt_version) as &[Option<String>],
        &label(|l| &l.model) as &[Option<String>],
        &label(|l| &l.tenant) as &[Option<String>],
        &rows.iter().map(|(_, (t, ..))| t.status.to_owned()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (_, seen, _))| *seen).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (.., kept))| *kept).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("tallying traces"))?;
    Ok(())
}

fn stratum(trace: &DecidedTrace) -> String {
    let l = &trace.labels;
    let labels = [&l.service, &l.environment, &l.feature, &l.prompt_version, &l.model, &l.tenant];
    let rate = trace.decision.probability.to_bits().to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![trace.decision.rule.as_bytes(), &rate, trace.status.as_bytes()];
    parts.extend(labels.iter().map(|label| label.as_deref().map_or(&b"\0"[..], str::as_bytes)));
    crate::domain::ids::short_hash(&parts, 24)
}

pub(super) async fn insert_jobs(tx: &mut PgConnection, jobs: Vec<Job>) -> Result<u64, StoreError> {
    if jobs.is_empty() {
        return Ok(0);
    }
    let session = |job: &Job| job.unit.session().cloned();
    let done = sqlx::query!(
        "INSERT INTO jobs (id, trace_id, rubric, rubric_version, inclusion_probability, visible_at, enqueued_at, deadline_at,
                           span_id, session, session_id, session_ordinal, replay)
         SELECT i, t, r, v, p, e, e, d, s, n, k, o, y
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::timestamptz[], $7::timestamptz[],
                     $8::text[], $9::text[], $10::uuid[], $11::int[], $12::bool[])
              AS u(i, t, r, v, p, e, d, s, n, k, o, y)
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
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("enqueuing jobs"))?;
    Ok(done.rows_affected())
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
