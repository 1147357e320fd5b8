//! `/api/v1/alerts` and `/api/v1/deployments`.
//!
//! Its rules: reading needs the scope `read` and shows judges' reasons, as the verdicts do; acknowledging and resolving need
//! `admin`; a deployment is reported with `ingest`, since a build job does that. A change that is already made is answered
//! with the alert as it is. The way not taken: a PATCH of the state, which would not say who and why.

use super::Shared;
use super::problem::Problem;
use super::read::{cursor, failed, since};
use crate::domain::alert::Severity;
use crate::domain::alert::incident::{Alert, State as Life};
use crate::domain::alert::notice::shown;
use crate::domain::deployment::Deployment;
use crate::store::alerts::{AlertFilter, By};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

const LIMIT_MAX: i64 = 500;

/// Longest name, version or reason that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AlertQuery {
    state: Option<String>,
    severity: Option<String>,
    rubric: Option<String>,
    since: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<AlertQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let states = query.state.iter().flat_map(|list| list.split(',')).map(|name| {
        Life::parse(name).ok_or_else(|| {
            Problem::bad_request(format!("`{name}` is not a state; there are open, acknowledged and resolved"))
        })
    });
    let severity = query.severity.as_deref().map(|name| {
        Severity::parse(name).ok_or_else(|| {
            Problem::bad_request(format!("`{name}` is not a severity; there are info, warning and critical"))
        })
    });
    let before = query.cursor.as_deref().map(|text| {
        cursor(text)
            .ok_or_else(|| Problem::bad_request("the cursor is not one of ours; take `next` from the page before"))
    });
    let limit = query.limit.unwrap_or(100).clamp(1, LIMIT_MAX);
    let filter = AlertFilter {
        states: states.collect::<Result<_, _>>()?,
        severity: severity.transpose()?,
        rubric: query.rubric,
        since: query.since.as_deref().map(|text| since(text, shared.app.bench.clock.now())).transpose()?,
        before: before.transpose()?,
        limit,
    };
    let found = shared.app.store.alerts(&filter).await.map_err(failed(&shared))?;
    let full = i64::try_from(found.len()).is_ok_and(|n| n == limit);
    let next = found.last().filter(|_| full).map(|a| format!("{}_{}", a.opened_at.timestamp_micros(), a.id));
    let alerts: Vec<Value> = found.iter().map(|alert| answer(&shared, alert)).collect();
    Ok(Json(json!({"alerts": alerts, "next": next})))
}

fn answer(shared: &Shared, alert: &Alert) -> Value {
    shown(alert, true, &shared.app.bench.config.alerts.links())
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is no alert {id}; GET /api/v1/alerts lists them"))
}

pub(super) async fn one(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let parsed: Uuid = id.parse().map_err(|_| unknown(&id))?;
    let alert = shared.app.store.alert(parsed).await.map_err(failed(&shared))?;
    alert.map(|alert| Json(answer(&shared, &alert))).ok_or_else(|| unknown(&id))
}

/// Who changes an alert, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Act {
    by: Option<String>,
    why: Option<String>,
}

impl Act {
    fn read(body: Result<Json<Self>, JsonRejection>) -> Result<(String, Option<String>), Problem> {
        let Json(act) = body.map_err(|_| bad_body(r#"{"by": "ann", "why": "rolled back"}"#))?;
        let by = act.by.unwrap_or_else(|| "somebody, through the API".to_owned());
        short("by", &by)?;
        short("why", act.why.as_deref().unwrap_or_default())?;
        Ok((by, act.why))
    }
}

fn bad_body(example: &str) -> Problem {
    Problem::bad_request(format!("send a JSON object with content-type application/json, as {example}"))
}

fn short(key: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(Problem::bad_request(format!("`{key}` is longer than {TEXT_BYTES_MAX} bytes")))
}

pub(super) async fn acknowledge(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    body: Result<Json<Act>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let (parsed, (by, why)) = (id.parse().map_err(|_| unknown(&id))?, Act::read(body)?);
    let (app, by) = (&shared.app, By { whom: Some(&by), why: why.as_deref() });
    let done = app.store.acknowledge(parsed, by, &app.bench.config.alerts, app.bench.clock.now()).await;
    changed(&shared, &id, done.map_err(failed(&shared))?)
}

pub(super) async fn resolve(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    body: Result<Json<Act>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let (parsed, (by, why)) = (id.parse().map_err(|_| unknown(&id))?, Act::read(body)?);
    if why.as_deref().is_none_or(|why| why.trim().is_empty()) {
        return Err(Problem::bad_request("say why it is over: {\"by\": \"ann\", \"why\": \"rolled back\"}"));
    }
    let (app, by) = (&shared.app, By { whom: Some(&by), why: why.as_deref() });
    let done = app.store.resolve(parsed, by, &app.bench.config.alerts, app.bench.clock.now()).await;
    changed(&shared, &id, done.map_err(failed(&shared))?)
}

fn changed(shared: &Shared, id: &str, alert: Option<Alert>) -> Result<Json<Value>, Problem> {
    let alert = alert.ok_or_else(|| unknown(id))?;
    shared.app.wake.alerts.notify_waiters();
    Ok(Json(answer(shared, &alert)))
}

/// A deployment as it is reported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    service: String,
    version: String,
    environment: Option<String>,
    at: Option<DateTime<Utc>>,
    link: Option<String>,
}

pub(super) async fn deployed(
    State(shared): State<Shared>,
    body: Result<Json<Report>, JsonRejection>,
) -> Result<Json<Deployment>, Problem> {
    const EXAMPLE: &str = r#"{"service": "shop", "version": "1.4.2", "environment": "production", "at": "2026-11-20T12:00:00Z", "link": "https://…"}"#;
    let Json(report) = body.map_err(|_| bad_body(EXAMPLE))?;
    let now = shared.app.bench.clock.now();
    for (key, text) in [("service", &report.service), ("version", &report.version)] {
        short(key, text)?;
        if text.trim().is_empty() {
            return Err(Problem::bad_request(format!("`{key}` is empty; send {EXAMPLE}")));
        }
    }
    short("environment", report.environment.as_deref().unwrap_or_default())?;
    short("link", report.link.as_deref().unwrap_or_default())?;
    if report.link.as_ref().is_some_and(|l| !(l.starts_with("https://") || l.starts_with("http://"))) {
        return Err(Problem::bad_request("`link` must begin with http:// or https://"));
    }
    if report.at.is_some_and(|at| at > now + TimeDelta::hours(1)) {
        return Err(Problem::bad_request("`at` is in the future; report a deployment when it is done"));
    }
    let at = report.at.unwrap_or(now);
    let made = Deployment::reported(&report.service, &report.version, report.environment.as_deref(), at);
    let made = Deployment { link: report.link, ..made };
    let stored = shared.app.store.put_deployment(made, report.at.is_some(), now).await;
    stored.map(Json).map_err(failed(&shared))
}
