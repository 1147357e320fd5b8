//! Tables `inbox_spans` and `open_traces`: spans that were acknowledged, and when their traces are due.
//!
//! Written by `pipeline::ingest`, emptied by `store::traces`. Its rule: both tables change in one transaction, in the order of
//! trace ids, so that two writers cannot lock each other out. Spans that are there already are left as they are.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};

/// A span as it is put into the inbox.
#[derive(Debug, Clone)]
pub struct InboxSpan {
    /// Its trace.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// Whether it is a root that has ended.
    pub root_ended: bool,
    /// Whether the sender says that the trace is whole.
    pub complete: bool,
    /// `domain::Span` as JSON.
    pub body: Vec<u8>,
}

/// When traces are due, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct DueAfter {
    /// After the latest span, once the root has ended.
    pub quiet_ms: u64,
    /// After the latest span, without an ended root.
    pub idle_ms: u64,
    /// After the first span.
    pub cap_ms: u64,
}

impl Store {
    /// Stores spans and moves their traces' due times, in one transaction.
    ///
    /// # Errors
    /// When the transaction fails; then nothing is stored.
    pub async fn put_spans(
        &self,
        mut spans: Vec<InboxSpan>,
        due: DueAfter,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if spans.is_empty() {
            return Ok(());
        }
        spans.sort_unstable_by(|a, b| (&a.trace_id, &a.span_id).cmp(&(&b.trace_id, &b.span_id)));
        let opened = open_rows(&spans);
        let mut ids = (Vec::with_capacity(spans.len()), Vec::with_capacity(spans.len()));
        let mut bodies = Vec::with_capacity(spans.len());
        for span in spans {
            ids.0.push(span.trace_id);
            ids.1.push(span.span_id);
            bodies.push(span.body);
        }
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to store spans"))?;
        sqlx::query!(
            "INSERT INTO inbox_spans (trace_id, span_id, received_at, body)
             SELECT t, s, $4, b FROM unnest($1::text[], $2::text[], $3::bytea[]) AS u(t, s, b)
             ON CONFLICT (trace_id, span_id) DO NOTHING",
            &ids.0,
            &ids.1,
            &bodies,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing spans"))?;
        upsert_open(&mut tx, opened, due, now).await?;
        tx.commit().await.map_err(StoreError::op("committing spans"))
    }

    /// How many spans and jobs wait, counted up to `limit` and no further.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn backlog(&self, limit: i64) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            r#"SELECT (SELECT count(*) FROM (SELECT 1 FROM inbox_spans LIMIT $1) a)
                    + (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE NOT replay LIMIT $1) b) AS "waiting!""#,
            limit
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("counting the backlog"))
    }
}

#[derive(Default)]
struct OpenRows {
    trace_ids: Vec<String>,
    counts: Vec<i32>,
    roots: Vec<bool>,
    complete: Vec<bool>,
    bytes: Vec<i64>,
}

/// One row a trace; the spans are sorted by trace.
fn open_rows(spans: &[InboxSpan]) -> OpenRows {
    let mut rows = OpenRows::default();
    for group in spans.chunk_by(|a, b| a.trace_id == b.trace_id) {
        rows.trace_ids.push(group[0].trace_id.clone());
        rows.counts.push(i32::try_from(group.len()).unwrap_or(i32::MAX));
        rows.roots.push(group.iter().any(|s| s.root_ended));
        rows.complete.push(group.iter().any(|s| s.complete));
        let bytes: usize = group.iter().map(|s| s.body.len()).sum();
        rows.bytes.push(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    rows
}

async fn upsert_open(
    tx: &mut sqlx::PgConnection,
    rows: OpenRows,
    due: DueAfter,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ms = |value: u64| chrono::TimeDelta::milliseconds(i64::try_from(value).unwrap_or(i64::MAX / 2_000));
    sqlx::query!(
        "INSERT INTO open_traces AS o (trace_id, first_seen_at, last_seen_at, root_ended, span_count, bytes, due_at)
         SELECT t, $5::timestamptz, $5, r, n, b, CASE WHEN c THEN $5 WHEN r THEN $6::timestamptz ELSE $7::timestamptz END
         FROM unnest($1::text[], $2::int[], $3::bool[], $4::bool[], $9::bigint[]) AS u(t, n, r, c, b)
         ON CONFLICT (trace_id) DO UPDATE SET
             last_seen_at = greatest(o.last_seen_at, excluded.last_seen_at),
             root_ended = o.root_ended OR excluded.root_ended,
             span_count = o.span_count + excluded.span_count,
             bytes = o.bytes + excluded.bytes,
             due_at = CASE WHEN excluded.due_at = excluded.first_seen_at THEN excluded.due_at
                           ELSE least(CASE WHEN o.root_ended OR excluded.root_ended THEN $6 ELSE $7 END,
                                      o.first_seen_at + make_interval(secs => $8)) END",
        &rows.trace_ids,
        &rows.counts,
        &rows.roots,
        &rows.complete,
        now,
        now + ms(due.quiet_ms.min(due.cap_ms)),
        now + ms(due.idle_ms.min(due.cap_ms)),
        ms(due.cap_ms).as_seconds_f64(),
        &rows.bytes,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("opening traces"))?;
    Ok(())
}
