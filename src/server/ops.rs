//! `/livez`, `/readyz`, `/metrics`.
//!
//! Its rule: alive means that the process answers; ready means that it can do its work: the database answers and its tables are
//! up to date. Nothing here tells any content.

use super::Shared;
use super::problem::Problem;
use super::status::{Form, form, told};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shared): State<Shared>) -> Response {
    let ready = tokio::time::timeout(Duration::from_secs(3), shared.app.store.is_migrated()).await;
    match ready {
        Ok(Ok(true)) => "ready\n".into_response(),
        Ok(Ok(false)) => {
            let text = "the database's tables are not up to date; run `assize migrate`";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Ok(Err(_)) | Err(_) => Problem::store().into_response(),
    }
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.app.bench.metrics.render()).into_response()
}

pub(super) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    let text = format!("there is nothing at {}; OTLP goes to /v1/traces, native JSON to /api/v1/traces", uri.path());
    let problem = Problem::new(StatusCode::NOT_FOUND, text);
    let response = problem.clone().into_response();
    // A gRPC client takes an HTTP status for a broken connection.
    if form(&headers) == Some(Form::Grpc) { told(Form::Grpc, &problem, response) } else { response }
}

/// `Allow` says which methods there are.
pub(super) async fn not_allowed(uri: Uri) -> Response {
    let text = format!("{} does not take this method; `Allow` says which it takes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, text).into_response()
}
