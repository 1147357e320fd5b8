//! OTLP/HTTP: traces, logs of which those about spans are kept, and metrics which are accepted, counted and dropped.
//!
//! Its rules are the protocol's: the answer has the request's encoding, every error about a body is a `google.rpc.Status`, a bad span is a partial
//! success that names it, and only 429 and 503 invite the sender to try again. The way not taken: refusing metrics, at
//! which an SDK that is configured for everything would log errors for ever.

use super::Shared;
use super::problem::Problem;
use crate::dialect::encoding::{UnpackError, unpack};
use crate::dialect::logs::decode_logs;
use crate::dialect::{DecodeError, Encoding, Signal, count_signal, decode};
use crate::pipeline::ingest::{IngestError, ids_are_usable, rows};
use crate::runtime::cpu;
use crate::store::inbox::InboxSpan;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;
use std::sync::Arc;

/// `google.rpc.Status`, of which OTLP uses code and message.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// An answer that is not 2xx.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: String,
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// Codes of `google.rpc.Code`.
    fn code(&self) -> i32 {
        match self.status.as_u16() {
            400 | 415 => 3,
            413 => 8,
            429 | 503 => 14,
            _ => 13,
        }
    }

    fn respond(self, encoding: Encoding) -> Response {
        let mut response = match encoding {
            Encoding::Protobuf => {
                let status = Status { code: self.code(), message: self.message.clone() };
                (self.status, [(header::CONTENT_TYPE, "application/x-protobuf")], status.encode_to_vec())
                    .into_response()
            }
            Encoding::Json => {
                (self.status, axum::Json(json!({"code": self.code(), "message": self.message}))).into_response()
            }
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    pub fn into_problem(self) -> Problem {
        Problem { status: self.status, detail: self.message, retry_after: self.retry_after }
    }
}

/// The body's encoding by its content type; parameters are allowed.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" | "application/protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        _ => {
            let detail = "the content type must be application/x-protobuf or application/json";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Reads and unpacks a body within the limit.
pub(super) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let text = format!("the body is larger than {limit} bytes (server.body_bytes_max); send smaller batches");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let raw = axum::body::to_bytes(body, limit).await.map_err(|e| {
        let cause = std::error::Error::source(&e);
        if cause.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
            too_large()
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "the body ended before it was whole")
        }
    })?;
    let name = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let unpacked =
        if name.is_none() { Ok(Ok(raw)) } else { cpu::run(move || unpack(raw, name.as_deref(), limit)).await };
    match unpacked {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Refusal::new(
            match error {
                UnpackError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                UnpackError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UnpackError::Corrupt(_) => StatusCode::BAD_REQUEST,
            },
            error.to_string(),
        )),
        Err(_) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "unpacking the body failed")),
    }
}

/// Stores spans, or says why not.
pub(super) async fn submit(shared: &Shared, spans: Vec<InboxSpan>) -> Result<(), Refusal> {
    let Some(inbox) = &shared.inbox else {
        let text = "this process does not take traces in (serve --roles); send to one that does";
        let seconds = shared.app.bench.config.ingest.retry_after_seconds;
        return Err(Refusal { retry_after: Some(seconds), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text) });
    };
    inbox.submit(spans).await.map_err(|error| {
        let status = match error {
            IngestError::Backlog => StatusCode::TOO_MANY_REQUESTS,
            IngestError::Busy | IngestError::Store | IngestError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        let seconds = shared.app.bench.config.ingest.retry_after_seconds;
        Refusal { retry_after: Some(seconds), ..Refusal::new(status, error.to_string()) }
    })
}

/// `POST /v1/traces`.
pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let encoding = match encoding(&headers) {
        Ok(encoding) => encoding,
        Err(problem) => return problem.into_response(),
    };
    match take(&shared, &headers, body, encoding).await {
        Ok(rejected) => partial(&rejected, encoding),
        Err(refusal) => refusal.respond(encoding),
    }
}

async fn take(shared: &Shared, headers: &HeaderMap, body: Body, encoding: Encoding) -> Result<Vec<String>, Refusal> {
    let bytes = read_body(headers, body, shared.app.bench.config.server.body_bytes_max).await?;
    let app = Arc::clone(&shared.app);
    let work = move || -> Result<(Vec<InboxSpan>, Vec<String>), DecodeError> {
        let decoded = decode(&bytes, encoding)?;
        let mut rejected = decoded.rejected;
        let (good, bad): (Vec<_>, Vec<_>) = decoded.spans.into_iter().partition(ids_are_usable);
        rejected.extend(bad.iter().map(|span| format!("span {:?}: its ids cannot be used", span.name)));
        Ok((rows(&app.bench, good), rejected))
    };
    let (rows, rejected) = match cpu::run(work).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            shared.app.bench.metrics.requests_refused.with_label_values(&["bad_body"]).inc();
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string()));
        }
        Err(_) => return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding the body failed")),
    };
    let count = rows.len() as u64;
    submit(shared, rows).await?;
    let metrics = &shared.app.bench.metrics;
    metrics.spans_accepted.with_label_values(&["otlp_http"]).inc_by(count);
    metrics.spans_rejected.with_label_values(&["otlp_http"]).inc_by(rejected.len() as u64);
    Ok(rejected)
}

/// 200, with the spans that were refused; a sender must not send them again.
fn partial(rejected: &[String], encoding: Encoding) -> Response {
    const NAMED_MAX: usize = 10;
    let count = i64::try_from(rejected.len()).unwrap_or(i64::MAX);
    let mut message = rejected.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if rejected.len() > NAMED_MAX {
        message.push_str("; …");
    }
    match encoding {
        Encoding::Protobuf => {
            let partial = ExportTracePartialSuccess { rejected_spans: count, error_message: message };
            let response = ExportTraceServiceResponse { partial_success: (count > 0).then_some(partial) };
            ([(header::CONTENT_TYPE, "application/x-protobuf")], response.encode_to_vec()).into_response()
        }
        Encoding::Json if count == 0 => axum::Json(json!({})).into_response(),
        Encoding::Json => {
            let partial = json!({"rejectedSpans": count.to_string(), "errorMessage": message});
            axum::Json(json!({"partialSuccess": partial})).into_response()
        }
    }
}

/// `POST /v1/logs`: records about spans are stored as parts of them, the others are counted and dropped.
pub(super) async fn logs(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let encoding = match encoding(&headers) {
        Ok(encoding) => encoding,
        Err(problem) => return problem.into_response(),
    };
    match take_logs(&shared, &headers, body, encoding).await {
        Ok(()) => partial(&[], encoding),
        Err(refusal) => refusal.respond(encoding),
    }
}

async fn take_logs(shared: &Shared, headers: &HeaderMap, body: Body, encoding: Encoding) -> Result<(), Refusal> {
    let bytes = read_body(headers, body, shared.app.bench.config.server.body_bytes_max).await?;
    let app = Arc::clone(&shared.app);
    let work = move || decode_logs(&bytes, encoding).map(|logs| (rows(&app.bench, logs.parts), logs.dropped));
    let (rows, dropped) = match cpu::run(work).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            shared.app.bench.metrics.requests_refused.with_label_values(&["bad_body"]).inc();
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string()));
        }
        Err(_) => return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding the body failed")),
    };
    let metrics = &shared.app.bench.metrics;
    metrics.signals_dropped.with_label_values(&[Signal::Logs.as_str()]).inc_by(dropped);
    let count = rows.len() as u64;
    // A process that takes no traces in still answers an SDK that sends it plain logs.
    if count > 0 {
        submit(shared, rows).await?;
        metrics.spans_accepted.with_label_values(&["otlp_logs"]).inc_by(count);
    }
    Ok(())
}

/// `POST /v1/metrics`.
pub(super) async fn metrics(state: State<Shared>, headers: HeaderMap, body: Body) -> Response {
    other(state.0, headers, body, Signal::Metrics).await
}

/// A signal that we take, count and drop: the empty success response is zero bytes in protobuf.
async fn other(shared: Shared, headers: HeaderMap, body: Body, signal: Signal) -> Response {
    let encoding = match encoding(&headers) {
        Ok(encoding) => encoding,
        Err(problem) => return problem.into_response(),
    };
    let bytes = match read_body(&headers, body, shared.app.bench.config.server.body_bytes_max).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal.respond(encoding),
    };
    match cpu::run(move || count_signal(signal, &bytes, encoding)).await {
        Ok(Ok(count)) => {
            shared.app.bench.metrics.signals_dropped.with_label_values(&[signal.as_str()]).inc_by(count);
            partial(&[], encoding)
        }
        Ok(Err(error)) => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()).respond(encoding),
        Err(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding the body failed").respond(encoding),
    }
}
