//! `POST /api/v1/traces`: native JSON, one object, a list, or one object a line.
//!
//! Its rule: each trace is taken or refused by itself, refused ones are named by line; a trace is one unit, stored with all its
//! spans. The way not taken: refusing the whole file for one bad line.

use super::Shared;
use super::otlp::{read_body, submit};
use super::problem::Problem;
use crate::dialect::native;
use crate::domain::span::Span;
use crate::pipeline::ingest::{ids_are_usable, rows};
use crate::runtime::cpu;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// Refused traces named in the answer at most.
const NAMED_MAX: usize = 20;

#[derive(Default)]
struct Read {
    spans: Vec<Span>,
    traces: usize,
    rejected: Vec<(usize, String)>,
}

impl Read {
    fn take(&mut self, line: usize, parsed: Result<Value, String>) {
        let spans = parsed.and_then(|value| native::spans(&value)).and_then(|spans| {
            if spans.iter().all(ids_are_usable) { Ok(spans) } else { Err("a span id cannot be used".to_owned()) }
        });
        match spans {
            Ok(spans) => {
                self.traces += 1;
                self.spans.extend(spans);
            }
            Err(why) => self.rejected.push((line, why)),
        }
    }
}

pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match take(&shared, &headers, body).await {
        Ok(read) => {
            let named: Vec<Value> =
                read.rejected.iter().take(NAMED_MAX).map(|(line, why)| json!({"line": line, "error": why})).collect();
            axum::Json(json!({"accepted": read.traces, "rejected": read.rejected.len(), "errors": named}))
                .into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn take(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Read, Problem> {
    let limit = shared.app.bench.config.server.body_bytes_max;
    let bytes = read_body(headers, body, limit).await.map_err(super::otlp::Refusal::into_problem)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let by_line = kind.contains("ndjson") || kind.contains("jsonl") || kind.contains("json-seq");
    let app = Arc::clone(&shared.app);
    let work = move || {
        let mut read = read(&bytes, by_line);
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
    submit(shared, rows).await.map_err(super::otlp::Refusal::into_problem)?;
    let metrics = &shared.app.bench.metrics;
    metrics.spans_accepted.with_label_values(&["native"]).inc_by(count);
    metrics.spans_rejected.with_label_values(&["native"]).inc_by(read.rejected.len() as u64);
    Ok(read)
}

fn read(bytes: &Bytes, by_line: bool) -> Read {
    let mut read = Read::default();
    if bytes.trim_ascii().is_empty() {
        return read;
    }
    let mut whole = None;
    if !by_line {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Array(traces)) => {
                traces.into_iter().enumerate().for_each(|(n, trace)| read.take(n + 1, Ok(trace)));
                return read;
            }
            Ok(trace) => {
                read.take(1, Ok(trace));
                return read;
            }
            // Several lines sent as application/json are meant as lines.
            Err(error) if bytes.trim_ascii_end().contains(&b'\n') => whole = Some(error),
            Err(error) => {
                read.rejected.push((error.line(), format!("not JSON: {error}")));
                return read;
            }
        }
    }
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
        read.take(n + 1, serde_json::from_slice(line).map_err(|e| format!("not JSON: {e}")));
    }
    // Not one line is a trace, so it was meant as one document: then its own mistake is the one to name.
    if let Some(error) = whole.filter(|_| read.traces == 0) {
        read.rejected = vec![(error.line(), format!("not JSON: {error}"))];
    }
    read
}
