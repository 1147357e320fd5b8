//! The read API: verdicts, one trace with everything about it, rubrics, the queue.
//!
//! Its rule: lists are bounded and go on by a cursor; a verdict has the form of `eval --out`. The way not taken: offsets, which
//! skip and repeat while rows arrive.

use super::Shared;
use super::problem::Problem;
use crate::domain::clock::time_or_age;
use crate::domain::verdict::Outcome;
use crate::pipeline::explain::{Explanation, explain};
use crate::pipeline::steps;
use crate::rubrics::catalog::Entry;
use crate::store::verdicts::VerdictFilter;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Rows of a page at most.
pub(super) const LIMIT_MAX: i64 = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct VerdictQuery {
    trace_id: Option<String>,
    rubric: Option<String>,
    outcome: Option<String>,
    since: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Counts and logs what the database said; the answer says only that it failed.
pub(super) fn failed(shared: &Shared) -> impl FnOnce(crate::store::StoreError) -> Problem {
    let metrics = shared.app.bench.metrics.clone();
    move |error| {
        metrics.store_errors.with_label_values(&[error.operation()]).inc();
        tracing::error!(%error, cause = std::error::Error::source(&error).map(ToString::to_string), "a read failed");
        Problem::store()
    }
}

pub(super) async fn verdicts(
    State(shared): State<Shared>,
    query: Result<Query<VerdictQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let outcome = query.outcome.as_deref().map(|name| {
        Outcome::parse(name).ok_or_else(|| {
            let known: Vec<&str> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
            Problem::bad_request(format!("`{name}` is not an outcome; there are {}", known.join(", ")))
        })
    });
    let before = query.cursor.as_deref().map(cursor_of);
    let limit = query.limit.unwrap_or(100).clamp(1, LIMIT_MAX);
    let filter = VerdictFilter {
        session_id: None,
        trace_id: query.trace_id,
        rubric: query.rubric,
        outcome: outcome.transpose()?,
        since: query.since.as_deref().map(|text| since(text, shared.app.bench.clock.now())).transpose()?,
        before: before.transpose()?,
        limit,
    };
    let found = shared.app.store.verdicts(&filter).await.map_err(failed(&shared))?;
    let full = i64::try_from(found.len()).is_ok_and(|n| n == limit);
    let next = found.last().filter(|_| full).map(|v| format!("{}_{}", v.created_at.timestamp_micros(), v.id));
    let lines: Vec<Value> = found.iter().map(crate::domain::verdict::Verdict::line).collect();
    Ok(Json(json!({"verdicts": lines, "next": next})))
}

/// A time as in 2026-11-20T12:00:00Z, or an age as in 90m, 24h, 7d.
pub(super) fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    time_or_age(text, now).ok_or_else(|| {
        Problem::bad_request("`since` must be a time as in 2026-11-20T12:00:00Z or an age as in 90m, 24h or 7d")
    })
}

/// Where the page before ended.
pub(super) fn cursor_of(text: &str) -> Result<(DateTime<Utc>, Uuid), Problem> {
    cursor(text).ok_or_else(|| Problem::bad_request("the cursor is not one of ours; take `next` from the page before"))
}

/// Microseconds and id, as Postgres keeps them.
pub(super) fn cursor(text: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (micros, id) = text.split_once('_')?;
    Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?))
}

pub(super) async fn trace(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<Explanation>, Problem> {
    if id.contains('\0') {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no trace id has a NUL in it"));
    }
    let found = explain(&shared.app.store, &shared.app.bench.config, &id, None).await.map_err(failed(&shared))?;
    if !found.is_known() {
        let text = format!("trace {id} is not known: it never came, or sampling left it out more than a day ago");
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    }
    Ok(Json(found))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SamplingQuery {
    since: Option<String>,
    limit: Option<i64>,
}

/// The rates in force, and what was seen, kept and judged by stratum and hour.
pub(super) async fn sampling(
    State(shared): State<Shared>,
    query: Result<Query<SamplingQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let (app, now) = (&shared.app, shared.app.bench.clock.now());
    let since = since(query.since.as_deref().unwrap_or("24h"), now)?;
    let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let step = steps::latest(&app.store, &app.bench.config).await.map_err(failed(&shared))?;
    let tallies = app.store.tallies(since, limit).await.map_err(failed(&shared))?;
    let truncated = i64::try_from(tallies.len()).is_ok_and(|n| n == limit);
    Ok(Json(json!({"step": step.began().map(|_| &step), "tallies": tallies, "truncated": truncated})))
}

pub(super) async fn rubrics(State(shared): State<Shared>) -> Json<Value> {
    let catalog = shared.app.bench.rubrics.load();
    let one = |(name, entry): (&String, &Entry)| {
        let version = entry.judging.as_ref().map(|rubric| &rubric.version);
        json!({
            "name": name, "state": entry.state.as_str(), "version": version, "why": entry.why(),
            "file": entry.file.file_name().map(|file| file.to_string_lossy()), "tests": entry.tests.len(),
        })
    };
    let all: Vec<Value> = catalog.entries().iter().map(one).collect();
    Json(json!({"rubrics": all}))
}

pub(super) async fn queue(State(shared): State<Shared>) -> Result<Json<Value>, Problem> {
    let stats = shared.app.store.queue_stats(shared.app.bench.clock.now()).await.map_err(failed(&shared))?;
    Ok(Json(json!(stats)))
}
