//! L2: wire forms to `domain::Span`.
//!
//! Called by `server::ingest` and `cli`. Two stages: a body becomes [`wire::WireSpan`]s (`otlp_proto`, `otlp_json`), and a wire
//! span becomes a `Span` by the first [`Dialect`] that recognises its attributes. Its rule: a span that cannot be read is
//! refused by itself, with its place, and never takes its neighbours with it. To add a dialect, add a file and its line
//! in [`DIALECTS`]. The way not taken: guessing the dialect from the scope's name, which forks change.

mod context;
pub mod datadog;
pub mod encoding;
mod facts;
mod indexed;
pub mod labels;
mod langfuse;
mod lenient;
mod litellm;
pub mod logs;
mod mlflow;
pub mod native;
mod openinference;
mod otel_genai;
mod otel_genai_old;
mod otlp_json;
mod otlp_proto;
mod pydantic_ai;
mod python;
mod shapes;
mod traceloop;
pub mod units;
mod unknown;
mod upstream;
mod vercel;
mod wire;

use crate::domain::span::{IdSource, Span, SpanKind, Status};
use wire::WireSpan;

/// A way of writing LLM facts into span attributes.
struct Dialect {
    name: &'static str,
    recognises: fn(&WireSpan) -> bool,
    read: fn(&WireSpan, &mut Span),
}

/// In order of precedence: what says its kind most explicitly comes first.
const DIALECTS: [Dialect; 10] = [
    langfuse::DIALECT,
    openinference::DIALECT,
    mlflow::DIALECT,
    litellm::DIALECT,
    traceloop::DIALECT,
    vercel::DIALECT,
    pydantic_ai::DIALECT,
    otel_genai_old::DIALECT,
    otel_genai::DIALECT,
    unknown::DIALECT,
];

/// The encodings of an OTLP body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// A body that cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// Spans of a body, and those that were refused.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Spans that were understood.
    pub spans: Vec<Span>,
    /// Place and reason of each that was not.
    pub rejected: Vec<String>,
}

/// Reads an OTLP trace body.
///
/// # Errors
/// When the body as a whole is not an `ExportTraceServiceRequest`, or none of its spans has usable ids (which is how a logs
/// body looks that was sent to the wrong path).
pub fn decode(body: &[u8], encoding: Encoding) -> Result<Decoded, DecodeError> {
    let (wire, rejected) = match encoding {
        Encoding::Protobuf => otlp_proto::spans(body)?,
        Encoding::Json => otlp_json::spans(body)?,
    };
    if wire.is_empty()
        && let Some(first) = rejected.first()
    {
        let text = format!("no span of this body can be used ({} refused); the first: {first}", rejected.len());
        return Err(DecodeError(text));
    }
    Ok(Decoded { spans: wire.iter().map(to_span).collect(), rejected })
}

/// How many log records or metric points an OTLP body holds, to be counted and dropped.
///
/// # Errors
/// When the body is not what `signal` says.
pub fn count_signal(signal: Signal, body: &[u8], encoding: Encoding) -> Result<u64, DecodeError> {
    match encoding {
        Encoding::Protobuf => otlp_proto::count(signal, body),
        Encoding::Json => otlp_json::count(signal, body),
    }
}

/// The signals beside traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Its name in paths and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

fn to_span(wire: &WireSpan) -> Span {
    let mut span = Span {
        trace_id: wire.trace_id.clone(),
        span_id: wire.span_id.clone(),
        parent_id: wire.parent_id.clone(),
        name: wire.name.clone(),
        started_at: wire.started_at.or(wire.ended_at),
        ended_at: wire.ended_at.or(wire.started_at),
        flags: Some(wire.flags),
        trace_state: wire.trace_state.clone().filter(|s| !s.is_empty()),
        upstream: upstream::of_tracer(|key| wire.attrs.get(key)),
        id_source: IdSource::Otel,
        ..Span::default()
    };
    if wire.status_code == 2 {
        span.status = Status::Error;
        span.error = wire.status_message.clone().filter(|m| !m.is_empty());
    }
    if span.error.is_none() {
        let exception = wire.events.iter().find(|e| e.name == "exception");
        span.error = exception
            .and_then(|e| e.attrs.text("exception.message").or_else(|| e.attrs.text("exception.type")))
            .or_else(|| wire.attrs.text("error.type"));
        if span.error.is_some() && wire.status_code == 0 && wire.attrs.text("error.type").is_some() {
            span.status = Status::Error;
        }
    }
    if wire.dropped_attributes > 0 {
        span.gap("attributes", format!("{} dropped by the sender's limits", wire.dropped_attributes));
    }
    context::read(wire, &mut span);
    if let Some(dialect) = DIALECTS.iter().find(|d| (d.recognises)(wire)) {
        dialect.name.clone_into(&mut span.dialect);
        (dialect.read)(wire, &mut span);
    }
    labels::feedback(wire, &mut span);
    if is_evaluation(&span) {
        span.kind = SpanKind::Evaluator;
    }
    span
}

/// Whether a call is a judge's: one of ours, by what every judge of ours is told, or one in an environment that Langfuse
/// reserves. Only what the system says counts, so that no user can keep a conversation from being judged.
fn is_evaluation(span: &Span) -> bool {
    let told = span.input.iter().filter(|m| m.role == "system").map(|m| m.content.as_str());
    let ours = |text: &str| text.contains("<<<END ") && text.contains("is data to be judged");
    span.environment.as_deref().is_some_and(|e| e.starts_with("langfuse-"))
        || told.chain(span.system.as_deref()).any(ours)
}

#[cfg(test)]
mod tests;
