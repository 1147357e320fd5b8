//! Log records that carry content of a span: `gen_ai.client.inference.operation.details`, one event a message, evaluation
//! results, feature flags.
//!
//! Called by `server` for `/v1/logs`. Its rule: a record becomes a part of the span whose ids it has ([`Span::part`]), and
//! assembly puts them together whichever came first; any other record is counted and dropped. The way not taken: holding records
//! back until their span comes, which a restart would lose.

use super::wire::{WireEvent, WireLog, WireSpan};
use super::{DecodeError, Encoding, context, labels, otel_genai, otel_genai_old, otlp_json, otlp_proto};
use crate::domain::span::{IdSource, Span, SpanKind};
use std::collections::HashMap;

/// The parts that a body of logs holds.
#[derive(Debug, Default)]
pub struct DecodedLogs {
    /// Parts of spans.
    pub parts: Vec<Span>,
    /// Records that say nothing about a span, or have no usable ids.
    pub dropped: u64,
}

/// Reads an OTLP logs body.
///
/// # Errors
/// When the body as a whole is not an `ExportLogsServiceRequest`.
pub fn decode_logs(body: &[u8], encoding: Encoding) -> Result<DecodedLogs, DecodeError> {
    let (records, mut dropped) = match encoding {
        Encoding::Protobuf => otlp_proto::logs(body)?,
        Encoding::Json => otlp_json::logs(body)?,
    };
    let mut places: HashMap<(String, String), u32> = HashMap::new();
    let mut parts = Vec::new();
    for record in records {
        let place = places.entry((record.trace_id.clone(), record.span_id.clone())).or_default();
        match part(&record, *place) {
            Some(part) => {
                *place = place.saturating_add(1);
                parts.push(part);
            }
            None => dropped += 1,
        }
    }
    Ok(DecodedLogs { parts, dropped })
}

fn part(record: &WireLog, place: u32) -> Option<Span> {
    let name = record.name()?;
    let mut span = Span {
        trace_id: record.trace_id.clone(),
        span_id: record.span_id.clone(),
        started_at: record.time,
        id_source: IdSource::Otel,
        part: Some(place),
        ..Span::default()
    };
    match name.as_str() {
        otel_genai::DETAILS => {
            "otel_genai".clone_into(&mut span.dialect);
            otel_genai::attributes(&record.attrs, &mut span);
            span.error = record.attrs.text("error.type");
        }
        message if otel_genai_old::is_message(message) => {
            "otel_genai_old".clone_into(&mut span.dialect);
            span.kind = SpanKind::Llm;
            otel_genai_old::put(message, &record.body, &mut span);
        }
        "gen_ai.evaluation.result" | "feature_flag.evaluation" | "feature_flag" | "assize.feedback" => {}
        _ => return None,
    }
    // Whose trace it is, flags and evaluations are read as from a span with this event.
    let event = WireEvent { name, attrs: record.attrs.clone() };
    let wire = WireSpan {
        resource: std::sync::Arc::clone(&record.resource),
        attrs: record.attrs.clone(),
        events: vec![event],
        ..WireSpan::default()
    };
    context::read(&wire, &mut span);
    labels::feedback(&wire, &mut span);
    if super::is_evaluation(&span) {
        span.kind = SpanKind::Evaluator;
    }
    Some(span)
}
