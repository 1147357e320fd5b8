//! `POST /api/v1/labels`, `GET /api/v1/labels`: what people said.
//!
//! Its rule: each label is taken or refused by itself, refused ones are named by line; comments are taken and never given out,
//! since people write into them what they read. The way not taken: refusing all for one bad line.

use super::native::{by_line, named};
use super::problem::Problem;
use super::{Shared, body as bodies, read};
use crate::dialect::labels;
use crate::domain::label::{Label, Source, Untimed};
use crate::pipeline::labels::{Book, import};
use crate::runtime::cpu;
use crate::store::labels::LabelFilter;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// `POST /api/v1/labels`: one label, a list, or one a line.
pub(super) async fn post(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let bytes = bodies::read(&shared, &headers, body).await?;
    let lines = by_line(&headers);
    let drafts = cpu::run(move || labels::drafts(&bytes, lines))
        .await
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the body failed"))?;
    if drafts.is_empty() {
        let text = "the body has no label; send {\"trace_id\": …, \"rubric\": …, \"passed\": true}";
        return Err(Problem::bad_request(text));
    }
    let book = Book::of(&shared.app.bench.rubrics.load());
    let when = (Untimed::IsNow, shared.app.bench.clock.now());
    let report = import(&shared.app.store, &book, drafts, when, false).await.map_err(read::failed(&shared))?;
    let counter = &shared.app.bench.metrics.labels;
    counter.with_label_values(&["api", "accepted"]).inc_by(report.taken() as u64);
    counter.with_label_values(&["api", "refused"]).inc_by(report.refused.len() as u64);
    match report.refused.first() {
        Some((line, why)) if report.taken() == 0 => Err(Problem::bad_request(format!("line {line}: {why}"))),
        _ => Ok(Json(json!({
            "accepted": report.taken(), "imported": report.imported, "unchanged": report.unchanged,
            "replaced": report.replaced, "superseded": report.superseded, "rejected": report.refused.len(),
            "errors": named(&report.refused),
        }))),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LabelQuery {
    trace_id: Option<String>,
    rubric: Option<String>,
    source: Option<String>,
    labeller: Option<String>,
    since: Option<String>,
    superseded: bool,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// `GET /api/v1/labels`, newest first, by pages.
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<LabelQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let source = query.source.as_deref().map(|name| {
        let names = Source::ALL.map(Source::as_str).join(", ");
        Source::parse(name).ok_or_else(|| Problem::bad_request(format!("`source` is one of {names}")))
    });
    let limit = query.limit.unwrap_or(100).clamp(1, read::LIMIT_MAX);
    let filter = LabelFilter {
        trace_id: query.trace_id,
        rubric: query.rubric,
        source: source.transpose()?,
        labeller: query.labeller,
        since: query.since.as_deref().map(|text| read::since(text, shared.app.bench.clock.now())).transpose()?,
        superseded: query.superseded,
        before: query.cursor.as_deref().map(read::cursor_of).transpose()?,
        limit,
    };
    let found = shared.app.store.labels(&filter).await.map_err(read::failed(&shared))?;
    let full = i64::try_from(found.len()).is_ok_and(|n| n == limit);
    let next = found.last().filter(|_| full).map(|l| format!("{}_{}", l.made_at.timestamp_micros(), l.id));
    Ok(Json(json!({"labels": found.iter().map(shown).collect::<Vec<_>>(), "next": next})))
}

/// A label without its comment.
fn shown(label: &Label) -> Value {
    let mut line = json!(label);
    if let Some(map) = line.as_object_mut() {
        map.remove("comment");
    }
    line
}
