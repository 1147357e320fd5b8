//! Datadog LLM Observability: span events as ddtrace posts them, and as it hides them in APM traces.
//!
//! Called by `server`. Its rule: ids are Datadog's own (decimal or hex, of LLM Observability and not of the APM trace), so that an
//! evaluation finds its span again; a span event that makes no sense is refused by itself. APM spans without such an event are
//! counted and dropped, since their trace ids are others.

use super::context::tag;
use super::lenient::{placeholder, plain};
use super::{DecodeError, Decoded, facts, shapes, upstream};
use crate::domain::message::{Document, Message, ToolCall};
use crate::domain::span::{IdSource, Span, SpanKind, Status, normal_finish_reason};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// Nesting of msgpack beyond this is an attack or a mistake.
const DEPTH_MAX: usize = 64;

/// Reads the JSON of the paths `/api/v2/llmobs` and `/api/intake/llm-obs/v1/trace/spans`.
///
/// # Errors
/// When the body is not JSON, holds no span events, or none of them can be used.
pub fn decode_json(body: &[u8]) -> Result<Decoded, DecodeError> {
    let parsed = serde_json::from_slice(body)
        .or_else(|first| serde_json::from_slice(&super::otlp_json::mend_surrogates(body)).map_err(|_| first));
    let value: Value = parsed.map_err(|e| DecodeError(format!("the body is not JSON: {e}")))?;
    let payloads = match &value {
        Value::Array(list) => list.iter().collect(),
        other => vec![other],
    };
    let mut decoded = Decoded::default();
    for (n, payload) in payloads.into_iter().enumerate() {
        // The public API wraps the payload, and says application and session once.
        let outer = payload.get("data").and_then(|d| d.get("attributes")).unwrap_or(payload);
        match outer.get("spans") {
            Some(Value::Array(events)) => {
                for (m, event) in events.iter().enumerate() {
                    keep(span(event, Some(outer)), &format!("payload {n}, span {m}"), &mut decoded);
                }
            }
            None if outer.get("span_id").is_some() => keep(span(outer, None), &format!("payload {n}"), &mut decoded),
            _ => decoded.rejected.push(format!("payload {n}: `spans` must be a list of span events")),
        }
    }
    whole(decoded)
}

/// Spans of APM traces, and how many of them say nothing of language models.
#[derive(Debug, Default)]
pub struct DecodedApm {
    /// What was read.
    pub decoded: Decoded,
    /// Spans without an LLM Observability event.
    pub dropped: u64,
}

/// Reads the msgpack of `/v0.4/traces`: traces of APM spans, some with an event in `meta_struct._llmobs`.
///
/// # Errors
/// When the body is not a list of lists of spans in msgpack.
pub fn decode_msgpack(body: &[u8]) -> Result<DecodedApm, DecodeError> {
    let wrong = |why: &str| DecodeError(format!("the body is not a list of traces in msgpack: {why}"));
    let Value::Array(traces) = unpack(body).ok_or_else(|| wrong("it cannot be read"))? else {
        return Err(wrong("it is something else than a list"));
    };
    let mut all = DecodedApm::default();
    for (n, trace) in traces.iter().enumerate() {
        let spans = trace.as_array().ok_or_else(|| wrong(&format!("trace {n} is not a list")))?;
        // The first span of a chunk has the sampler's tags, which count for all of them.
        let sampled = spans.iter().find_map(|apm| {
            let tag = |key: &str| ["metrics", "meta"].into_iter().find_map(|map| apm.get(map)?.get(key));
            upstream::of_tracer(tag)
        });
        for (m, apm) in spans.iter().enumerate() {
            match apm.get("meta_struct").and_then(|s| s.get("_llmobs")) {
                Some(inside) => {
                    let read = of_apm(apm, inside).map(|mut span| {
                        span.upstream = span.upstream.take().or_else(|| sampled.clone());
                        span
                    });
                    keep(read, &format!("trace {n}, span {m}"), &mut all.decoded);
                }
                None => all.dropped += 1,
            }
        }
    }
    all.decoded = whole(all.decoded)?;
    Ok(all)
}

fn keep(read: Result<Span, String>, place: &str, decoded: &mut Decoded) {
    match read {
        Ok(span) => decoded.spans.push(span),
        Err(why) => decoded.rejected.push(format!("{place}: {why}")),
    }
}

fn whole(decoded: Decoded) -> Result<Decoded, DecodeError> {
    match decoded.rejected.first() {
        Some(first) if decoded.spans.is_empty() => {
            Err(DecodeError(format!("no span event of this body can be used; the first: {first}")))
        }
        _ => Ok(decoded),
    }
}

fn unpack(mut bytes: &[u8]) -> Option<Value> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH_MAX).ok()?;
    Some(json(value))
}

/// Bytes that are msgpack themselves become what they hold.
fn json(value: rmpv::Value) -> Value {
    use rmpv::Value as Packed;
    match value {
        Packed::Nil | Packed::Ext(..) => Value::Null,
        Packed::Boolean(b) => b.into(),
        Packed::Integer(i) => i.as_u64().map_or_else(|| i.as_i64().map_or(Value::Null, Value::from), Value::from),
        Packed::F32(f) => f64::from(f).into(),
        Packed::F64(f) => f.into(),
        Packed::String(s) => String::from_utf8_lossy(s.as_bytes()).into_owned().into(),
        Packed::Binary(bytes) => String::from_utf8(bytes).map_or(Value::Null, Value::from),
        Packed::Array(list) => list.into_iter().map(json).collect(),
        Packed::Map(pairs) => {
            let pair = |(key, value): (Packed, Packed)| {
                let key = json(key);
                let inner = match value {
                    Packed::Binary(bytes) => unpack(&bytes).unwrap_or_default(),
                    other => json(other),
                };
                (plain(&key), inner)
            };
            Value::Object(pairs.into_iter().map(pair).collect())
        }
    }
}

/// The event that ddtrace would have posted, of an APM span and what it holds.
fn of_apm(apm: &Value, inside: &Value) -> Result<Span, String> {
    let mut event = inside.as_object().cloned().ok_or("`meta_struct._llmobs` is not a map")?;
    let failed = apm.get("error").and_then(Value::as_i64).is_some_and(|e| e != 0);
    let copies = [("span_id", "span_id"), ("name", "name"), ("start_ns", "start"), ("duration", "duration")];
    for (name, theirs) in copies {
        if let Some(value) = apm.get(theirs) {
            event.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
    event.insert("status".to_owned(), if failed { "error" } else { "ok" }.into());
    if let Some(service) = apm.get("service") {
        event.entry("service".to_owned()).or_insert_with(|| service.clone());
    }
    let mut span = span(&Value::Object(event), None)?;
    let meta = apm.get("meta").and_then(Value::as_object);
    let text = |keys: &[&str]| keys.iter().find_map(|key| meta?.get(*key)?.as_str()).map(str::to_owned);
    span.environment = span.environment.take().or_else(|| text(&["env"]));
    span.service_version = span.service_version.take().or_else(|| text(&["version"]));
    if failed {
        span.error = span.error.take().or_else(|| text(&["error.message", "error.msg", "error.type"]));
    }
    Ok(span)
}

/// An id as text: decimal, hex, or a number.
fn id(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).filter(|v| v.is_string() || v.is_u64()).map(plain).filter(|id| !id.is_empty())
}

fn span(event: &Value, outer: Option<&Value>) -> Result<Span, String> {
    let map = event.as_object().ok_or("not an object")?;
    let time = |key: &str| map.get(key).and_then(facts_ns);
    let started = time("start_ns");
    let ended = started.zip(map.get("duration").and_then(facts_ns)).and_then(|(s, d)| s.checked_add(d));
    let mut span = Span {
        trace_id: id(map, "trace_id").ok_or("`trace_id` is missing")?,
        span_id: id(map, "span_id").ok_or("`span_id` is missing")?,
        parent_id: id(map, "parent_id").filter(|p| p != "undefined" && p != "0"),
        name: map.get("name").map(plain).unwrap_or_default(),
        started_at: started.and_then(instant),
        ended_at: ended.or(started).and_then(instant),
        upstream: upstream::of_event(map.get("_dd")),
        id_source: IdSource::Datadog,
        dialect: "datadog".to_owned(),
        ..Span::default()
    };
    let empty = Value::Null;
    let meta = map.get("meta").unwrap_or(&empty);
    let failed = map.get("status").and_then(Value::as_str) == Some("error");
    if failed {
        span.status = Status::Error;
        let error = meta.get("error");
        let text = |key: &str| error.and_then(|e| e.get(key)).map(plain).filter(|t| !t.is_empty());
        let message = map.get("status_message").map(plain).filter(|t| !t.is_empty());
        span.error = text("message").or(message).or_else(|| text("type"));
    }
    span.kind = kind(meta);
    labels(map, outer, &mut span);
    model(map, meta, &mut span);
    content(meta, &mut span);
    if super::is_evaluation(&span) {
        span.kind = SpanKind::Evaluator;
    }
    Ok(span)
}

/// Nanoseconds; the intake takes floats too.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what an absurd number deserves")]
fn facts_ns(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| facts::number(value).map(|n| n as i64)).filter(|n| *n >= 0)
}

fn instant(nanos: i64) -> Option<DateTime<Utc>> {
    (nanos > 0).then(|| DateTime::from_timestamp_nanos(nanos))
}

fn kind(meta: &Value) -> SpanKind {
    let said =
        meta.get("span").and_then(|s| s.get("kind")).or_else(|| meta.get("kind")).or_else(|| meta.get("span.kind"));
    match said.and_then(Value::as_str).unwrap_or_default() {
        "llm" => SpanKind::Llm,
        "workflow" | "task" => SpanKind::Chain,
        "agent" | "step" => SpanKind::Agent,
        "tool" => SpanKind::Tool,
        "embedding" => SpanKind::Embedding,
        "retrieval" => SpanKind::Retrieval,
        // A run over a data set is no production traffic.
        "experiment" => SpanKind::Evaluator,
        _ => SpanKind::Other,
    }
}

/// Tags are `key:value`, or a map inside APM traces; session and application may be said once a payload.
fn labels(map: &Map<String, Value>, outer: Option<&Value>, span: &mut Span) {
    const OURS: [&str; 6] = ["ddtrace.version", "language", "source", "error", "error_type", "integration"];
    let mut pairs: Vec<(String, String)> = Vec::new();
    for tags in [map.get("tags"), outer.and_then(|o| o.get("tags"))].into_iter().flatten() {
        match tags {
            Value::Array(list) => {
                let texts = list.iter().filter_map(Value::as_str);
                pairs.extend(
                    texts.map(|t| t.split_once(':').unwrap_or((t, "true"))).map(|(k, v)| (k.to_owned(), v.to_owned())),
                );
            }
            Value::Object(map) => pairs.extend(map.iter().map(|(k, v)| (k.clone(), plain(v)))),
            _ => {}
        }
    }
    let find = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| pairs.iter().find(|(k, _)| k == key));
        found.map(|(_, v)| v.clone()).filter(|v| !v.is_empty() && placeholder(v).is_none())
    };
    let field =
        |key: &str| id(map, key).or_else(|| outer.and_then(|o| o.get(key)).and_then(Value::as_str).map(str::to_owned));
    span.service = field("service").or_else(|| find(&["service", "ml_app"])).or_else(|| field("ml_app"));
    span.service_version = find(&["version"]);
    span.environment = find(&["env"]);
    span.feature = find(&["assize.feature", "feature"]);
    span.tenant = find(&["assize.tenant", "tenant.id", "tenant"]);
    span.session = field("session_id").or_else(|| find(&["session_id"]));
    span.user = find(&["user_id", "user.id", "usr.id"]);
    for (key, value) in pairs.iter().filter(|(key, _)| !OURS.contains(&key.as_str())) {
        tag(span, key, &Value::String(value.clone()));
    }
}

fn model(map: &Map<String, Value>, meta: &Value, span: &mut Span) {
    let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
    span.model = text("model_name");
    span.provider = text("model_provider").filter(|p| p != "unknown");
    if let Some(metadata) = meta.get("metadata").and_then(Value::as_object) {
        facts::params(metadata.iter().map(|(k, v)| (k.as_str(), v)), span);
        let reason = metadata.get("finish_reason").and_then(Value::as_str);
        span.finish_reason = reason.and_then(normal_finish_reason);
        span.response_format = metadata.get("response_format").and_then(facts::response_format);
    }
    span.tools = meta.get("tool_definitions").map(facts::tools).unwrap_or_default();
    if let Some(metrics) = map.get("metrics") {
        span.usage = facts::usage(metrics);
        span.cost_usd = metrics.get("total_cost").and_then(facts::number);
    }
    let prompt = meta.get("input").and_then(|i| i.get("prompt"));
    let of_prompt = |keys: &[&str]| keys.iter().find_map(|key| prompt?.get(*key)).map(plain).filter(|t| !t.is_empty());
    span.prompt.name = of_prompt(&["id", "name"]);
    span.prompt.version = of_prompt(&["version"]);
}

fn content(meta: &Value, span: &mut Span) {
    let (input, output) = (io(meta, "input", span), io(meta, "output", span));
    match span.kind {
        SpanKind::Tool => {
            span.tool_calls = vec![ToolCall {
                name: span.name.clone(),
                arguments: shapes::tool_arguments(&input.get("value").cloned().unwrap_or_default()),
                result: shapes::tool_result(&output.get("value").cloned().unwrap_or_default()),
                error: span.error.clone(),
            }];
            return;
        }
        SpanKind::Retrieval => span.documents = output.get("documents").map(facts::documents).unwrap_or_default(),
        _ => {}
    }
    span.documents.extend(variables(&input));
    let said = |io: &Map<String, Value>, role: &str, keys: &[&str]| -> Vec<Message> {
        match io.get("messages").filter(|m| m.as_array().is_some_and(|l| !l.is_empty())) {
            Some(Value::Array(list)) => list.iter().flat_map(|m| shapes::message(m, role)).collect(),
            _ => io.get("value").map(|v| shapes::spoken(v, role, keys)).unwrap_or_default(),
        }
    };
    span.input = said(&input, "user", shapes::ASKED);
    span.output = said(&output, "assistant", shapes::TOLD);
    // An errored call has an answer without any text.
    if span.status == Status::Error && span.output.iter().all(Message::is_empty) {
        span.output.clear();
    }
}

/// One side of a span, unless it was dropped for its size.
fn io(meta: &Value, side: &str, span: &mut Span) -> Map<String, Value> {
    let map = meta.get(side).and_then(Value::as_object).cloned().unwrap_or_default();
    let value = map.get("value").and_then(Value::as_str);
    if let Some(why) = value.and_then(placeholder) {
        span.gap(side, why);
        return Map::new();
    }
    map
}

/// Variables of the prompt that its author called context.
fn variables(input: &Map<String, Value>) -> Vec<Document> {
    let Some(prompt) = input.get("prompt") else { return Vec::new() };
    let names = prompt.get("rag_context_variables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let values = names.iter().filter_map(|name| prompt.get("variables")?.get(name.as_str()?));
    values.map(|value| Document { content: Some(plain(value)), ..Document::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn packed(value: &Value) -> rmpv::Value {
        match value {
            Value::Null => rmpv::Value::Nil,
            Value::Bool(b) => (*b).into(),
            Value::Number(n) => n.as_u64().map_or_else(|| n.as_f64().unwrap_or(0.0).into(), rmpv::Value::from),
            Value::String(s) => s.as_str().into(),
            Value::Array(list) => rmpv::Value::Array(list.iter().map(packed).collect()),
            Value::Object(map) => rmpv::Value::Map(map.iter().map(|(k, v)| (k.as_str().into(), packed(v))).collect()),
        }
    }

    fn bytes(value: &rmpv::Value) -> Vec<u8> {
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, value).expect("memory can be written");
        out
    }

    fn inside() -> Value {
        json!({"name": "call", "parent_id": "undefined", "trace_id": "6b00d00d", "session_id": "s", "tags": {"tenant": "t"},
            "metrics": {"input_tokens": 3, "output_tokens": 1}, "meta": {"span": {"kind": "llm"}, "model_name": "m",
            "input": {"messages": [{"role": "user", "content": "q"}]}, "output": {"messages": [{"role": "assistant", "content": "a"}]}}})
    }

    fn apm_body() -> Vec<u8> {
        let mut apm = packed(
            &json!({"trace_id": 1, "span_id": 18_446_744_073_709_551_615_u64, "name": "openai.request",
            "service": "svc", "start": 1_795_215_373_240_061_976_u64, "duration": 1000, "error": 0, "meta": {"env": "prod"}}),
        );
        if let rmpv::Value::Map(pairs) = &mut apm {
            let event = rmpv::Value::Binary(bytes(&packed(&inside())));
            pairs.push(("meta_struct".into(), rmpv::Value::Map(vec![("_llmobs".into(), event)])));
        }
        let plain = packed(&json!({"trace_id": 1, "span_id": 2, "name": "web.request", "meta": {"_dd.p.dm": "-3"},
            "metrics": {"_dd.rule_psr": 0.25, "_sampling_priority_v1": 2}}));
        bytes(&rmpv::Value::Array(vec![rmpv::Value::Array(vec![plain, apm])]))
    }

    #[test]
    fn events_inside_apm_traces_are_read() {
        let read = decode_msgpack(&apm_body()).expect("valid");
        assert_eq!((read.dropped, read.decoded.spans.len()), (1, 1), "{:?}", read.decoded.rejected);
        let span = &read.decoded.spans[0];
        assert_eq!((span.kind, span.span_id.as_str()), (SpanKind::Llm, "18446744073709551615"));
        assert_eq!((span.service.as_deref(), span.environment.as_deref()), (Some("svc"), Some("prod")));
        assert_eq!((span.tenant.as_deref(), span.session.as_deref()), (Some("t"), Some("s")));
        assert_eq!(
            (&span.input[..], &span.output[..]),
            (&[Message::text("user", "q")][..], &[Message::text("assistant", "a")][..])
        );
        assert_eq!(span.id_source, IdSource::Datadog);
        assert!(span.ended_at > span.started_at && span.parent_id.is_none());
        assert_eq!(span.upstream.as_ref().map(|u| (u.probability, u.kept)), Some((0.25, true)), "of the chunk's root");
    }

    #[test]
    fn both_json_forms_are_read_and_nonsense_is_named() {
        let event = json!({"span_id": "1", "trace_id": "2", "parent_id": "undefined", "name": "n", "start_ns": 5, "duration": 7,
            "meta": {"kind": "workflow", "input": {"value": "q"}, "output": {"value": "a"}}});
        let public = json!({"data": {"type": "span", "attributes": {"ml_app": "app", "session_id": "s", "tags": ["env:e"],
            "spans": [event, {"span_id": "3"}]}}});
        let read = decode_json(public.to_string().as_bytes()).expect("valid");
        assert_eq!((read.spans.len(), read.rejected.len()), (1, 1));
        let span = &read.spans[0];
        assert_eq!((span.service.as_deref(), span.session.as_deref()), (Some("app"), Some("s")));
        assert_eq!((span.environment.as_deref(), span.kind), (Some("e"), SpanKind::Chain));
        assert!(read.rejected[0].contains("payload 0, span 1") && read.rejected[0].contains("trace_id"));
        assert!(decode_json(b"[{\"spans\": 1}]").is_err());
        assert!(decode_json(b"x").is_err());
        assert!(decode_json(b"[]").is_ok_and(|d| d.spans.is_empty()));
        assert!(decode_msgpack(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..2000, byte in any::<u8>()) {
            drop(decode_json(&body));
            drop(decode_msgpack(&body));
            let mut whole = apm_body();
            let at = at % whole.len();
            whole[at] = byte;
            drop(decode_msgpack(&whole));
        }

        #[test]
        fn no_event_panics(key in "meta|metrics|tags|start_ns|duration|span_id|name", value in prop_oneof![
            any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), "\\PC{0,9}".prop_map(Value::from),
            Just(json!({"input": [], "output": {"documents": [1]}, "span": 3, "metadata": {"finish_reason": {}}}))]) {
            let mut event = inside();
            event[key] = value;
            drop(span(&event, Some(&json!({"tags": 3}))));
        }
    }
}
