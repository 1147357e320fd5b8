//! OTLP protobuf bodies, read with the generated types of the opentelemetry-proto crate.
//!
//! Its rule: ids must be 16 and 8 bytes and not zero. prost refuses a body with invalid UTF-8 or more than about 47 nested
//! lists; then the whole body is answered with 400.

use super::wire::{Attrs, WireEvent, WireLog, WireSpan, id_problem, time};
use super::{DecodeError, Signal};
use base64::Engine;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use std::sync::Arc;

fn parse<T: Message + Default>(what: &str, body: &[u8]) -> Result<T, DecodeError> {
    T::decode(body).map_err(|e| DecodeError(format!("the body is not an OTLP {what} request in protobuf: {e}")))
}

pub(super) fn spans(body: &[u8]) -> Result<(Vec<WireSpan>, Vec<String>), DecodeError> {
    let request: ExportTraceServiceRequest = parse("traces", body)?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (r, resource_spans) in request.resource_spans.into_iter().enumerate() {
        let resource = Arc::new(attrs(resource_spans.resource.map(|r| r.attributes).unwrap_or_default()));
        for (s, scope_spans) in resource_spans.scope_spans.into_iter().enumerate() {
            for (n, span) in scope_spans.spans.into_iter().enumerate() {
                let name = span.name.clone();
                match wire(span, &resource) {
                    Ok(span) => good.push(span),
                    Err(why) => bad.push(format!("resource {r}, scope {s}, span {n} ({name:?}): {why}")),
                }
            }
        }
    }
    Ok((good, bad))
}

/// Records with usable ids, and how many have none.
pub(super) fn logs(body: &[u8]) -> Result<(Vec<WireLog>, u64), DecodeError> {
    let request: ExportLogsServiceRequest = parse("logs", body)?;
    let (mut good, mut bad) = (Vec::new(), 0);
    for resource_logs in request.resource_logs {
        let resource = Arc::new(attrs(resource_logs.resource.map(|r| r.attributes).unwrap_or_default()));
        for record in resource_logs.scope_logs.into_iter().flat_map(|s| s.log_records) {
            let (trace_id, span_id) = (hex::encode(&record.trace_id), hex::encode(&record.span_id));
            if id_problem("trace id", &trace_id, 16).or_else(|| id_problem("span id", &span_id, 8)).is_some() {
                bad += 1;
                continue;
            }
            good.push(WireLog {
                resource: Arc::clone(&resource),
                trace_id,
                span_id,
                time: time(record.time_unix_nano).or_else(|| time(record.observed_time_unix_nano)),
                event_name: record.event_name,
                attrs: attrs(record.attributes),
                body: record.body.map_or(Value::Null, value),
            });
        }
    }
    Ok((good, bad))
}

pub(super) fn count(signal: Signal, body: &[u8]) -> Result<u64, DecodeError> {
    let count: usize = match signal {
        Signal::Logs => {
            let request: ExportLogsServiceRequest = parse("logs", body)?;
            request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum()
        }
        Signal::Metrics => {
            let request: ExportMetricsServiceRequest = parse("metrics", body)?;
            request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).map(|s| s.metrics.len()).sum()
        }
    };
    Ok(count as u64)
}

fn wire(span: Span, resource: &Arc<Attrs>) -> Result<WireSpan, String> {
    let (trace_id, span_id) = (hex::encode(&span.trace_id), hex::encode(&span.span_id));
    if let Some(problem) = id_problem("trace id", &trace_id, 16).or_else(|| id_problem("span id", &span_id, 8)) {
        return Err(problem);
    }
    let parent = hex::encode(&span.parent_span_id);
    let events = span.events.into_iter().map(|e| WireEvent { name: e.name, attrs: attrs(e.attributes) });
    Ok(WireSpan {
        resource: Arc::clone(resource),
        trace_id,
        span_id,
        parent_id: id_problem("parent", &parent, 8).is_none().then_some(parent),
        trace_state: Some(span.trace_state),
        flags: span.flags,
        name: span.name,
        started_at: time(span.start_time_unix_nano),
        ended_at: time(span.end_time_unix_nano),
        attrs: attrs(span.attributes),
        events: events.collect(),
        status_code: span.status.as_ref().map_or(0, |s| s.code.into()),
        status_message: span.status.map(|s| s.message),
        dropped_attributes: span.dropped_attributes_count.into(),
    })
}

fn attrs(pairs: Vec<KeyValue>) -> Attrs {
    Attrs(pairs.into_iter().map(|kv| (kv.key, kv.value.map_or(Value::Null, value))).collect())
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(s)) => Value::String(s),
        Some(any_value::Value::BoolValue(b)) => Value::Bool(b),
        Some(any_value::Value::IntValue(i)) => i.into(),
        Some(any_value::Value::DoubleValue(d)) => {
            serde_json::Number::from_f64(d).map_or_else(|| Value::String(d.to_string()), Value::Number)
        }
        Some(any_value::Value::ArrayValue(a)) => a.values.into_iter().map(value).collect(),
        Some(any_value::Value::KvlistValue(kv)) => {
            kv.values.into_iter().map(|kv| (kv.key, kv.value.map_or(Value::Null, value))).collect()
        }
        Some(any_value::Value::BytesValue(b)) => base64::engine::general_purpose::STANDARD.encode(b).into(),
        _ => Value::Null,
    }
}
