//! What every door of OTLP does with the bytes of a request: decode, redact, store, count.
//!
//! Called by `otlp` (HTTP) and `grpc`; `submit` by the other doors too. Its rule: the way a request came in changes how it is
//! answered, never what becomes of its spans. The way not taken: a decoder for gRPC of its own, which would refuse other things.

use super::Shared;
use super::problem::Problem;
use crate::dialect::logs::decode_logs;
use crate::dialect::{DecodeError, Encoding, Signal, count_signal, decode};
use crate::pipeline::ingest::{IngestError, ids_are_usable, rows};
use crate::runtime::cpu;
use crate::store::inbox::InboxSpan;
use axum::body::Bytes;
use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use std::sync::Arc;

/// Refused spans named in an answer at most.
const NAMED_MAX: usize = 10;

/// What a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Spans.
    Traces,
    /// Log records; those about spans become parts of them, others are counted and dropped.
    Logs,
    /// Metrics, which are counted and dropped.
    Metrics,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Http,
    Grpc,
}

impl Transport {
    /// The names of its doors in metrics, for spans and for parts of spans.
    fn doors(self) -> (&'static str, &'static str) {
        match self {
            Self::Http => ("otlp_http", "otlp_logs"),
            Self::Grpc => ("otlp_grpc", "otlp_grpc_logs"),
        }
    }
}

/// What was refused of a request of which the rest was taken.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// Spans.
    pub rejected: i64,
    /// The first of them, by place and reason.
    pub message: String,
}

impl Partial {
    fn of(rejected: &[String]) -> Self {
        let mut message = rejected.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
        if rejected.len() > NAMED_MAX {
            message.push_str("; …");
        }
        Self { rejected: i64::try_from(rejected.len()).unwrap_or(i64::MAX), message }
    }

    /// The response in protobuf; no bytes when all was taken. Those of logs and metrics have the same form.
    pub fn encode(self) -> Vec<u8> {
        let partial = ExportTracePartialSuccess { rejected_spans: self.rejected, error_message: self.message };
        let response = ExportTraceServiceResponse { partial_success: (self.rejected > 0).then_some(partial) };
        response.encode_to_vec()
    }
}

/// Takes an export request; returns after the commit.
pub(super) async fn take(
    shared: &Shared,
    kind: Kind,
    bytes: Bytes,
    encoding: Encoding,
    transport: Transport,
) -> Result<Partial, Problem> {
    match kind {
        Kind::Traces => traces(shared, bytes, encoding, transport.doors().0).await,
        Kind::Logs => logs(shared, bytes, encoding, transport.doors().1).await,
        Kind::Metrics => {
            let count = decoded(shared, move || count_signal(Signal::Metrics, &bytes, encoding)).await?;
            dropped(shared, Signal::Metrics, count);
            Ok(Partial::default())
        }
    }
}

async fn traces(shared: &Shared, bytes: Bytes, encoding: Encoding, door: &str) -> Result<Partial, Problem> {
    let app = Arc::clone(&shared.app);
    let work = move || {
        let decoded = decode(&bytes, encoding)?;
        let mut rejected = decoded.rejected;
        let (good, bad): (Vec<_>, Vec<_>) = decoded.spans.into_iter().partition(ids_are_usable);
        rejected.extend(bad.iter().map(|span| format!("span {:?}: its ids cannot be used", span.name)));
        Ok((rows(&app.bench, good), rejected))
    };
    let (rows, rejected) = decoded(shared, work).await?;
    let count = rows.len() as u64;
    submit(shared, rows).await?;
    let metrics = &shared.app.bench.metrics;
    metrics.spans_accepted.with_label_values(&[door]).inc_by(count);
    metrics.spans_rejected.with_label_values(&[door]).inc_by(rejected.len() as u64);
    Ok(Partial::of(&rejected))
}

async fn logs(shared: &Shared, bytes: Bytes, encoding: Encoding, door: &str) -> Result<Partial, Problem> {
    let app = Arc::clone(&shared.app);
    let work = move || decode_logs(&bytes, encoding).map(|logs| (rows(&app.bench, logs.parts), logs.dropped));
    let (rows, without_span) = decoded(shared, work).await?;
    dropped(shared, Signal::Logs, without_span);
    let count = rows.len() as u64;
    // A process that takes no traces in still answers an SDK that sends it plain logs.
    if count > 0 {
        submit(shared, rows).await?;
        shared.app.bench.metrics.spans_accepted.with_label_values(&[door]).inc_by(count);
    }
    Ok(Partial::default())
}

fn dropped(shared: &Shared, signal: Signal, count: u64) {
    shared.app.bench.metrics.signals_dropped.with_label_values(&[signal.as_str()]).inc_by(count);
}

/// Decodes on rayon; a body that cannot be read is counted.
async fn decoded<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce() -> Result<T, DecodeError> + Send + 'static,
) -> Result<T, Problem> {
    match cpu::run(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            shared.app.bench.metrics.requests_refused.with_label_values(&["bad_body"]).inc();
            Err(Problem::bad_request(error.to_string()))
        }
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding the body failed")),
    }
}

/// Stores spans, or says why not.
pub(super) async fn submit(shared: &Shared, spans: Vec<InboxSpan>) -> Result<(), Problem> {
    let seconds = shared.app.bench.config.ingest.retry_after_seconds;
    let later = |status, text: String| Problem { retry_after: Some(seconds), ..Problem::new(status, text) };
    let Some(inbox) = &shared.inbox else {
        let text = "this process does not take traces in (serve --roles); send to one that does";
        return Err(later(StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
    };
    inbox.submit(spans).await.map_err(|error| {
        let status = match error {
            IngestError::Backlog => StatusCode::TOO_MANY_REQUESTS,
            IngestError::Busy | IngestError::Store | IngestError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        later(status, error.to_string())
    })
}
