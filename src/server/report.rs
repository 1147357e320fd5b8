//! `GET /api/v1/report`: rates with their intervals.
//!
//! Its rule: as `assize report`, from the same code. The way not taken: sums that the reader divides, wrongly.

use super::Shared;
use super::problem::Problem;
use super::read::{failed, since};
use crate::domain::dimension::Dimension;
use crate::pipeline::report::{self, Asked};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReportQuery {
    since: Option<String>,
    until: Option<String>,
    rubric: Option<String>,
    by: Option<String>,
    compare: Option<String>,
}

pub(super) async fn report(
    State(shared): State<Shared>,
    query: Result<Query<ReportQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let now = shared.app.bench.clock.now();
    let dimension = |name: &str| {
        Dimension::parse(name).ok_or_else(|| {
            let known: Vec<&str> = Dimension::ALL.iter().map(|d| d.as_str()).collect();
            Problem::bad_request(format!("`{name}` in `by` is none of {}", known.join(", ")))
        })
    };
    let by = query.by.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(dimension);
    let asked = Asked {
        since: since(query.since.as_deref().unwrap_or("24h"), now)?,
        until: query.until.as_deref().map_or(Ok(now + chrono::TimeDelta::seconds(1)), |text| since(text, now))?,
        rubric: query.rubric,
        by: by.collect::<Result<_, _>>()?,
    };
    if asked.since >= asked.until {
        return Err(Problem::bad_request("`since` is not before `until`"));
    }
    let pair = query.compare.as_deref().map(|text| {
        let first = asked.by.first().ok_or_else(|| Problem::bad_request("`compare` needs `by`"))?;
        let pair =
            text.split_once(',').ok_or_else(|| Problem::bad_request("`compare` is two values, as in 1.0,1.1"))?;
        Ok::<_, Problem>((*first, pair))
    });
    let pair = pair.transpose()?;
    let made = report::report(&shared.app, &asked).await.map_err(failed(&shared))?;
    let changes = pair.map(|(dimension, pair)| report::changes(&made.lines, dimension, pair));
    let mut value = json!(made);
    if let Some(changes) = changes {
        value["changes"] = json!(changes);
    }
    Ok(Json(value))
}
