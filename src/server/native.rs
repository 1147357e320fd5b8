//! `POST /api/v1/traces`: native JSON, one object, a list, or one object a line.
//!
//! Its rule: each trace is taken or refused by itself, refused ones are named by line; a trace is one unit, stored with all its
//! spans. The way not taken: refusing the whole file for one bad line.

use super::Shared;
use super::intake::submit;
use super::problem::Problem;
use crate::dialect::{native, units};
use crate::domain::span::Span;
use crate::pipeline::ingest::{ids_are_usable, rows};
use crate::pipeline::labels::{Book, refusals};
use crate::runtime::cpu;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::sync::Arc;

/// Refused traces named in the answer at most.
const NAMED_MAX: usize = 20;

#[derive(Default)]
struct Read {
    spans: Vec<Span>,
    traces: usize,
    rejected: Vec<(usize, String)>,
    /// Labels that will be refused; their traces are taken.
    labels: Vec<(usize, String)>,
}

impl Read {
    /// Whether it was a trace.
    fn take(&mut self, line: usize, parsed: Result<Value, String>, book: &Book, now: DateTime<Utc>) -> bool {
        let spans = parsed.and_then(|value| native::spans(&value)).and_then(|spans| {
            if spans.iter().all(ids_are_usable) { Ok(spans) } else { Err("a span id cannot be used".to_owned()) }
        });
        match spans {
            Ok(spans) => {
                self.traces += 1;
                self.labels.extend(refusals(book, &spans, now).into_iter().map(|why| (line, why)));
                self.spans.extend(spans);
                true
            }
            Err(why) => {
                self.rejected.push((line, why));
                false
            }
        }
    }
}

pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match take(&shared, &headers, body).await {
        Ok(read) => {
            let mut answer =
                json!({"accepted": read.traces, "rejected": read.rejected.len(), "errors": named(&read.rejected)});
            if !read.labels.is_empty() {
                answer["labels"] = json!({"rejected": read.labels.len(), "errors": named(&read.labels)});
            }
            axum::Json(answer).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// The first of what was refused, by line.
pub(super) fn named(refused: &[(usize, String)]) -> Vec<Value> {
    refused.iter().take(NAMED_MAX).map(|(line, why)| json!({"line": line, "error": why})).collect()
}

/// Whether the content type says that each line is a unit.
pub(super) fn by_line(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    kind.contains("ndjson") || kind.contains("jsonl") || kind.contains("json-seq")
}

async fn take(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
    let bytes = super::body::read(shared, headers, body).await?;
    let by_line = by_line(headers);
    let (book, now) = (Book::of(&shared.app.bench.rubrics.load()), shared.app.bench.clock.now());
    let app = Arc::clone(&shared.app);
    let work = move || {
        let mut read = read(&bytes, by_line, &book, now);
        let rows = rows(&app.bench, std::mem::take(&mut read.spans));
        (read, rows)
    };
    let (read, rows) =
        cpu::run(work).await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the body failed"))?;
    if read.traces == 0 {
        let why = read.rejected.first().map_or_else(
            || "the body is empty; send a trace as {\"trace_id\": …, \"input\": …, \"output\": …}".to_owned(),
            |(line, why)| format!("line {line}: {why}"),
        );
        return Err(Problem::bad_request(why));
    }
    let count = rows.len() as u64;
    submit(shared, rows).await?;
    let metrics = &shared.app.bench.metrics;
    metrics.spans_accepted.with_label_values(&["native"]).inc_by(count);
    metrics.spans_rejected.with_label_values(&["native"]).inc_by(read.rejected.len() as u64);
    Ok(read)
}

fn read(bytes: &Bytes, by_line: bool, book: &Book, now: DateTime<Utc>) -> Read {
    let mut read = Read::default();
    if let Some(error) = units::each(bytes, by_line, &mut |line, unit| read.take(line, unit, book, now)) {
        read.rejected = vec![error];
    }
    read
}
