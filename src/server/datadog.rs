//! The doors of Datadog's tracers: LLM Observability events in JSON, and APM traces in msgpack, as to an Agent.
//!
//! Its rule: what an Agent answers is what these clients understand, so a tracer can be pointed at us by its address alone; spans
//! without a model's work are counted and dropped. The way not taken: passing on to Datadog; who wants both runs the Agent.

use super::intake::submit;
use super::problem::Problem;
use super::{Shared, body};
use crate::dialect::datadog::{decode_json, decode_msgpack};
use crate::dialect::{DecodeError, Decoded};
use crate::pipeline::ingest::{ids_are_usable, rows};
use crate::runtime::cpu;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// `POST /api/v2/llmobs` and its like: 202 with an empty object, as Datadog's intake answers.
pub(super) async fn llmobs(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match take(&shared, &headers, body, |bytes| Ok((decode_json(bytes)?, 0))).await {
        Ok(_) => (StatusCode::ACCEPTED, axum::Json(json!({}))).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `PUT` or `POST /v0.4/traces`: 200 with sampling rates, of which we give none.
pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let decode = |bytes: &[u8]| decode_msgpack(bytes).map(|apm| (apm.decoded, apm.dropped));
    match take(&shared, &headers, body, decode).await {
        Ok(dropped) => {
            shared.app.bench.metrics.signals_dropped.with_label_values(&["apm_spans"]).inc_by(dropped);
            axum::Json(json!({"rate_by_service": {}})).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// `GET /info`: what an Agent can do; a tracer asks before it sends.
pub(super) async fn info() -> Response {
    let endpoints = ["/v0.4/traces", "/evp_proxy/v2/", "/evp_proxy/v4/"];
    axum::Json(json!({"version": env!("CARGO_PKG_VERSION"), "endpoints": endpoints, "client_drop_p0s": false}))
        .into_response()
}

async fn take(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
    decode: impl FnOnce(&[u8]) -> Result<(Decoded, u64), DecodeError> + Send + 'static,
) -> Result<u64, Problem> {
    let bytes = body::read(shared, headers, body).await?;
    let app = Arc::clone(&shared.app);
    let work = move || {
        let (decoded, dropped) = decode(&bytes)?;
        let (good, bad): (Vec<_>, Vec<_>) = decoded.spans.into_iter().partition(ids_are_usable);
        let rejected = (decoded.rejected.len() + bad.len()) as u64;
        Ok::<_, DecodeError>((rows(&app.bench, good), rejected, dropped))
    };
    let metrics = &shared.app.bench.metrics;
    let (rows, rejected, dropped) = match cpu::run(work).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            metrics.requests_refused.with_label_values(&["bad_body"]).inc();
            return Err(Problem::bad_request(error.to_string()));
        }
        Err(_) => return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding the body failed")),
    };
    let count = rows.len() as u64;
    if count > 0 {
        submit(shared, rows).await?;
    }
    metrics.spans_accepted.with_label_values(&["datadog"]).inc_by(count);
    metrics.spans_rejected.with_label_values(&["datadog"]).inc_by(rejected);
    Ok(dropped)
}
