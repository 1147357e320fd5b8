//! OTLP/HTTP: traces, logs of which those about spans are kept, and metrics which are accepted, counted and dropped.
//!
//! Its rules are the protocol's: the answer has the request's content type, every error is a `google.rpc.Status` (see `status`), a
//! bad span is a partial success that names it, and only 429 and 503 invite the sender to try again. The way not taken:
//! refusing metrics, at which an SDK that is configured for everything would log errors for ever.

use super::intake::{Kind, Partial, Transport, take};
use super::problem::Problem;
use super::status::{Form, form};
use super::{Shared, body};
use crate::dialect::Encoding;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// `POST /v1/traces`.
pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Traces).await.into_response()
}

/// `POST /v1/logs`.
pub(super) async fn logs(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Logs).await.into_response()
}

/// `POST /v1/metrics`.
pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Metrics).await.into_response()
}

async fn answer(shared: &Shared, headers: &HeaderMap, body: Body, kind: Kind) -> Result<Response, Problem> {
    let (encoding, content_type) = match form(headers) {
        Some(Form::Protobuf(content_type)) => (Encoding::Protobuf, content_type),
        Some(Form::Json) => (Encoding::Json, "application/json"),
        Some(Form::Grpc) | None => {
            let detail = "the content type must be application/x-protobuf or application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    let bytes = body::read(shared, headers, body).await?;
    let partial = take(shared, kind, bytes, encoding, Transport::Http).await?;
    let body = match encoding {
        Encoding::Protobuf => partial.encode(),
        Encoding::Json => json(&partial),
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response())
}

/// 200, with the spans that were refused; a sender must not send them again.
fn json(partial: &Partial) -> Vec<u8> {
    if partial.rejected == 0 {
        return b"{}".to_vec();
    }
    let inside = json!({"rejectedSpans": partial.rejected.to_string(), "errorMessage": partial.message});
    json!({"partialSuccess": inside}).to_string().into_bytes()
}
