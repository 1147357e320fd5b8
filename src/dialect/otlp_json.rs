//! OTLP/JSON bodies, read tolerantly.
//!
//! A reader of our own, because the serde support of the generated types refuses whole requests for what real senders
//! write: `{"arrayValue":{}}`, null for lists, `"NaN"`, enum names, snake_case keys, lone surrogates. Its rule: a span that makes no
//! sense is refused by itself. The way not taken: turning JSON into protobuf first, which would refuse the same bodies.

use super::wire::{Attrs, WireEvent, WireLog, WireSpan, id_problem, time};
use super::{DecodeError, Signal};
use base64::Engine;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The nearest thing to "a message of this type": an object; null and absent are an empty one.
type Object = Map<String, Value>;

pub(super) fn spans(body: &[u8]) -> Result<(Vec<WireSpan>, Vec<String>), DecodeError> {
    let request = parse(body)?;
    right_door(&request, &["resourceSpans", "resource_spans"])?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (r, resource_spans) in list(&request, "resourceSpans", "resource_spans")?.iter().enumerate() {
        let Some(resource_spans) = resource_spans.as_object() else {
            bad.push(format!("resource {r}: not an object"));
            continue;
        };
        let resource = resource_spans.get("resource").and_then(Value::as_object);
        let resource = Arc::new(resource.map(|r| attrs(r.get("attributes"))).unwrap_or_default());
        for (s, scope_spans) in list(resource_spans, "scopeSpans", "scope_spans")?.iter().enumerate() {
            let Some(scope_spans) = scope_spans.as_object() else {
                bad.push(format!("resource {r}, scope {s}: not an object"));
                continue;
            };
            for (n, span) in list(scope_spans, "spans", "spans")?.iter().enumerate() {
                let made = span.as_object().ok_or_else(|| "not an object".to_owned()).and_then(|o| wire(o, &resource));
                match made {
                    Ok(span) => good.push(span),
                    Err(why) => bad.push(format!("resource {r}, scope {s}, span {n}: {why}")),
                }
            }
        }
    }
    Ok((good, bad))
}

/// Records with usable ids, and how many have none.
pub(super) fn logs(body: &[u8]) -> Result<(Vec<WireLog>, u64), DecodeError> {
    let request = parse(body)?;
    right_door(&request, &["resourceLogs", "resource_logs"])?;
    let (mut good, mut bad) = (Vec::new(), 0);
    for resource_logs in list(&request, "resourceLogs", "resource_logs")?.iter().filter_map(Value::as_object) {
        let resource = resource_logs.get("resource").and_then(Value::as_object);
        let resource = Arc::new(resource.map(|r| attrs(r.get("attributes"))).unwrap_or_default());
        for scope in list(resource_logs, "scopeLogs", "scope_logs")?.iter().filter_map(Value::as_object) {
            for record in list(scope, "logRecords", "log_records")? {
                match record.as_object().and_then(|r| log(r, &resource)) {
                    Some(log) => good.push(log),
                    None => bad += 1,
                }
            }
        }
    }
    Ok((good, bad))
}

fn log(record: &Object, resource: &Arc<Attrs>) -> Option<WireLog> {
    let (trace_id, span_id) = (id(record, "traceId", "trace_id"), id(record, "spanId", "span_id"));
    if id_problem("trace id", &trace_id, 16).or_else(|| id_problem("span id", &span_id, 8)).is_some() {
        return None;
    }
    let nanos = |camel, snake| time(number(record, camel, snake));
    Some(WireLog {
        resource: Arc::clone(resource),
        trace_id,
        span_id,
        time: nanos("timeUnixNano", "time_unix_nano")
            .or_else(|| nanos("observedTimeUnixNano", "observed_time_unix_nano")),
        event_name: string(record, "eventName", "event_name").unwrap_or_default(),
        attrs: attrs(record.get("attributes")),
        body: record.get("body").map_or(Value::Null, value),
    })
}

pub(super) fn count(signal: Signal, body: &[u8]) -> Result<u64, DecodeError> {
    let request = parse(body)?;
    let names = match signal {
        Signal::Logs => [("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records")],
        Signal::Metrics => {
            [("resourceMetrics", "resource_metrics"), ("scopeMetrics", "scope_metrics"), ("metrics", "metrics")]
        }
    };
    right_door(&request, &[names[0].0, names[0].1])?;
    let mut count = 0;
    for resource in list(&request, names[0].0, names[0].1)?.iter().filter_map(Value::as_object) {
        for scope in list(resource, names[1].0, names[1].1)?.iter().filter_map(Value::as_object) {
            count += list(scope, names[2].0, names[2].1)?.len() as u64;
        }
    }
    Ok(count)
}

fn parse(body: &[u8]) -> Result<Object, DecodeError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::new());
    }
    let first = serde_json::from_slice(body);
    let parsed = first.or_else(|e| serde_json::from_slice(&mend_surrogates(body)).map_err(|_| e));
    match parsed {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(DecodeError("the body is not an OTLP request: it is JSON, but not an object".to_owned())),
        Err(e) => Err(DecodeError(format!("the body is not JSON: {e}"))),
    }
}

/// A body of another signal would otherwise be taken for an empty one, and be lost without a word.
fn right_door(request: &Object, wanted: &[&str]) -> Result<(), DecodeError> {
    match request.keys().next() {
        Some(first) if !wanted.iter().any(|name| request.contains_key(*name)) => Err(DecodeError(format!(
            "the body has `{first}` where `{}` is wanted; was it sent to the wrong path?",
            wanted[0]
        ))),
        _ => Ok(()),
    }
}

/// Replaces surrogate escapes that have no partner, which a string that was cut in the middle of an emoji contains.
pub(super) fn mend_surrogates(body: &[u8]) -> Cow<'_, [u8]> {
    let escape = |at: usize| -> Option<u32> {
        let digits = body.get(at..at + 6).filter(|d| d.starts_with(b"\\u"))?;
        u32::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        let (len, keep) = match escape(at) {
            Some(0xd800..=0xdbff) if matches!(escape(at + 6), Some(0xdc00..=0xdfff)) => (12, true),
            Some(0xd800..=0xdfff) => (6, false),
            // Any other escape is two bytes at least, so that `\\u` is not taken for the start of `\u`.
            _ if body[at] == b'\\' => (2.min(body.len() - at), true),
            _ => (1, true),
        };
        out.extend_from_slice(if keep { &body[at..at + len] } else { b"\\ufffd" });
        at += len;
    }
    out.into()
}

/// A list member under either spelling; absent and null are empty, anything else is an error of the whole body.
fn list<'a>(object: &'a Object, camel: &str, snake: &str) -> Result<&'a [Value], DecodeError> {
    match object.get(camel).or_else(|| object.get(snake)) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(DecodeError(format!("`{camel}` must be a list"))),
    }
}

fn member<'a>(object: &'a Object, camel: &str, snake: &str) -> Option<&'a Value> {
    object.get(camel).or_else(|| object.get(snake)).filter(|v| !v.is_null())
}

fn string(object: &Object, camel: &str, snake: &str) -> Option<String> {
    member(object, camel, snake).and_then(Value::as_str).map(str::to_owned)
}

fn number(object: &Object, camel: &str, snake: &str) -> u64 {
    member(object, camel, snake).and_then(integer).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// 64-bit integers come as numbers, as text, and as floats.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(n) => n.as_i128().or_else(|| n.as_f64().map(whole)),
        Value::String(s) => s.trim().parse().ok().or_else(|| s.trim().parse::<f64>().ok().map(whole)),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what an absurd number deserves")]
fn whole(float: f64) -> i128 {
    float as i128
}

fn id(object: &Object, camel: &str, snake: &str) -> String {
    string(object, camel, snake).unwrap_or_default().to_ascii_lowercase()
}

fn wire(span: &Object, resource: &Arc<Attrs>) -> Result<WireSpan, String> {
    let (trace_id, span_id) = (id(span, "traceId", "trace_id"), id(span, "spanId", "span_id"));
    if let Some(problem) = id_problem("trace id", &trace_id, 16).or_else(|| id_problem("span id", &span_id, 8)) {
        return Err(problem);
    }
    let parent = id(span, "parentSpanId", "parent_span_id");
    let status = member(span, "status", "status").and_then(Value::as_object);
    let code = match status.and_then(|s| member(s, "code", "code")) {
        Some(Value::String(name)) if name == "STATUS_CODE_ERROR" => 2,
        Some(value) => integer(value).and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
        None => 0,
    };
    let events = member(span, "events", "events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let events = events.iter().filter_map(Value::as_object);
    Ok(WireSpan {
        resource: Arc::clone(resource),
        trace_id,
        span_id,
        parent_id: id_problem("parent", &parent, 8).is_none().then_some(parent),
        trace_state: string(span, "traceState", "trace_state"),
        flags: u32::try_from(number(span, "flags", "flags")).unwrap_or(0),
        name: string(span, "name", "name").unwrap_or_default(),
        started_at: time(number(span, "startTimeUnixNano", "start_time_unix_nano")),
        ended_at: time(number(span, "endTimeUnixNano", "end_time_unix_nano")),
        attrs: attrs(span.get("attributes")),
        events: events
            .map(|e| WireEvent {
                name: string(e, "name", "name").unwrap_or_default(),
                attrs: attrs(e.get("attributes")),
            })
            .collect(),
        status_code: code,
        status_message: status.and_then(|s| string(s, "message", "message")),
        dropped_attributes: number(span, "droppedAttributesCount", "dropped_attributes_count"),
    })
}

fn attrs(list: Option<&Value>) -> Attrs {
    let pairs = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Attrs(pairs.iter().filter_map(Value::as_object).filter_map(pair).collect())
}

fn pair(kv: &Object) -> Option<(String, Value)> {
    Some((string(kv, "key", "key")?, kv.get("value").map_or(Value::Null, value)))
}

/// An `AnyValue`; several members are not allowed, the first that we know counts.
fn value(any: &Value) -> Value {
    let Some(any) = any.as_object() else { return Value::Null };
    let values = |v: &Value| v.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(v) = member(any, "stringValue", "string_value") {
        return super::lenient::plain(v).into();
    }
    if let Some(v) = member(any, "boolValue", "bool_value") {
        return v.as_bool().unwrap_or(v == "true").into();
    }
    if let Some(v) = member(any, "intValue", "int_value") {
        return integer(v).and_then(|n| i64::try_from(n).ok()).map_or(Value::Null, Value::from);
    }
    if let Some(v) = member(any, "doubleValue", "double_value") {
        let parsed = v.as_str().and_then(|s| s.parse::<f64>().ok()).and_then(serde_json::Number::from_f64);
        return parsed.map_or_else(|| v.clone(), Value::Number);
    }
    if let Some(v) = member(any, "arrayValue", "array_value") {
        return values(v).iter().map(value).collect();
    }
    if let Some(v) = member(any, "kvlistValue", "kvlist_value") {
        return values(v).iter().filter_map(Value::as_object).filter_map(pair).collect();
    }
    match member(any, "bytesValue", "bytes_value").and_then(Value::as_str) {
        // Senders write it padded and unpadded; kept padded, as from protobuf.
        Some(text) => base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_or_else(|_| text.into(), |b| base64::engine::general_purpose::STANDARD.encode(b).into()),
        None => Value::Null,
    }
}
