//! Native JSON: one object a trace, as documented in `docs/ingest.md`.
//!
//! Called by `server::ingest` and `cli::eval`. Its rule: only `trace_id` is demanded (and `output`, without which there is
//! nothing to judge, is reported as missing by the checks, not refused here); unknown scalar fields become tags; a wrong
//! type is an error that names the field. A whole trace comes at once, so it is complete.

use super::context::tag;
use super::lenient::{argument, plain};
use crate::domain::ids::{ID_BYTES_MAX, short_hash};
use crate::domain::label::Draft;
use crate::domain::message::{
    Document, Message, ResponseFormat, ToolCall, ToolDefinition, ToolRequest, Usage, normal_role,
};
use crate::domain::span::{IdSource, PromptRef, Span, SpanKind, Status, normal_finish_reason};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// Reads one native trace into its spans; the root comes first and carries the trace-level fields.
///
/// # Errors
/// A message that names the field and what was expected.
pub fn spans(trace: &Value) -> Result<Vec<Span>, String> {
    let map = trace.as_object().ok_or("a trace must be a JSON object")?;
    let trace_id = match map.get("trace_id") {
        Some(Value::String(id)) if !id.is_empty() => id.replace('\0', "\u{fffd}"),
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => return Err("`trace_id` must be a text that is not empty".to_owned()),
        None => return Err("`trace_id` is missing".to_owned()),
    };
    if trace_id.len() > ID_BYTES_MAX {
        return Err(format!("`trace_id` is longer than {ID_BYTES_MAX} bytes"));
    }
    let trace_id = if is_w3c(&trace_id) { trace_id.to_ascii_lowercase() } else { trace_id };
    let mut root = fields(map, SpanKind::Agent)?;
    read_labels(map, &mut root);
    root.trace_id.clone_from(&trace_id);
    root.complete = true;
    let children = match map.get("spans") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(list)) => list,
        Some(_) => return Err("`spans` must be a list".to_owned()),
    };
    root.span_id = match map.get("span_id").and_then(Value::as_str) {
        Some(id) => id.to_owned(),
        None => short_hash(&[trace_id.as_bytes(), b"root"], 16),
    };
    // Only a span that its sender named can be joined elsewhere.
    let named = map.get("span_id").and_then(Value::as_str).is_some_and(is_w3c_span);
    root.id_source = if named && is_w3c(&trace_id) { IdSource::Otel } else { IdSource::Native };
    let mut spans = Vec::with_capacity(children.len() + 1);
    for (n, child) in children.iter().enumerate() {
        let place = |why: String| format!("`spans[{n}]`: {why}");
        let map = child.as_object().ok_or_else(|| place("must be an object".to_owned()))?;
        let mut span = fields(map, SpanKind::Other).map_err(place)?;
        span.trace_id.clone_from(&trace_id);
        span.id_source = root.id_source;
        let number = n.to_string();
        span.span_id = match map.get("span_id").and_then(Value::as_str) {
            Some(id) if id.len() <= ID_BYTES_MAX => id.replace('\0', "\u{fffd}"),
            _ => short_hash(&[trace_id.as_bytes(), number.as_bytes()], 16),
        };
        read_labels(map, &mut span);
        for label in &mut span.labels {
            label.span_id.get_or_insert_with(|| span.span_id.clone());
        }
        // A child without a parent hangs under the trace itself.
        let parent = map.get("parent_id").and_then(Value::as_str);
        span.parent_id = Some(parent.map_or_else(|| root.span_id.clone(), str::to_owned));
        spans.push(span);
    }
    spans.insert(0, root);
    Ok(spans)
}

/// A label that cannot be read does not cost the trace; the door names it, and so does `explain`.
fn read_labels(map: &Map<String, Value>, span: &mut Span) {
    match super::labels::of_trace(map.get("label").unwrap_or(&Value::Null)) {
        // It is about the trace that it came with.
        Ok(labels) => span.labels = labels.into_iter().map(|draft| Draft { trace_id: None, ..draft }).collect(),
        Err(why) => span.gap("label", why),
    }
}

fn is_w3c(id: &str) -> bool {
    crate::domain::ids::trace_randomness(id).is_some()
}

fn is_w3c_span(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The fields of a trace and of a span; others become tags.
pub use crate::domain::trace::NATIVE_FIELDS as KNOWN;

fn fields(map: &Map<String, Value>, default_kind: SpanKind) -> Result<Span, String> {
    let mut span = Span {
        dialect: "native".to_owned(),
        kind: match map.get("kind") {
            None | Some(Value::Null) => default_kind,
            Some(kind) => serde_json::from_value(kind.clone()).map_err(|_| format!("`kind` {kind} is not known"))?,
        },
        name: text(map, "name")?.unwrap_or_default(),
        started_at: time(map, "started_at")?,
        ended_at: time(map, "ended_at")?,
        error: map.get("error").filter(|v| !v.is_null()).map(plain),
        service: text(map, "service")?,
        service_version: text(map, "service_version")?,
        environment: text(map, "environment")?,
        feature: text(map, "feature")?,
        provider: text(map, "provider")?,
        model: text(map, "model")?,
        tenant: text(map, "tenant")?,
        session: text(map, "session")?,
        user: text(map, "user")?,
        system: text(map, "system")?,
        input: messages(map, "input", "user")?,
        output: messages(map, "output", "assistant")?,
        response_format: map.get("response_format").and_then(response_format),
        finish_reason: text(map, "finish_reason")?.as_deref().and_then(normal_finish_reason),
        cost_usd: map.get("cost_usd").and_then(Value::as_f64),
        ..Span::default()
    };
    let failed = matches!(map.get("status").and_then(Value::as_str), Some(s) if s.eq_ignore_ascii_case("error"));
    span.status = if failed { Status::Error } else { Status::Ok };
    if let Some(prompt) = map.get("prompt").and_then(Value::as_object) {
        span.prompt = PromptRef { name: text(prompt, "name")?, version: text(prompt, "version")? };
    }
    for item in list(map, "context")? {
        span.documents.push(match item {
            Value::String(content) => Document { content: Some(content.clone()), ..Document::default() },
            other => super::facts::document(other).ok_or("`context` must be a list of texts or objects")?,
        });
    }
    for tool in list(map, "tools")? {
        let tool = tool.get("function").unwrap_or(tool);
        let parsed: ToolDefinition =
            serde_json::from_value(tool.clone()).map_err(|e| format!("`tools` cannot be read: {e}"))?;
        span.tools.push(parsed);
    }
    for call in list(map, "tool_calls")? {
        let call: ToolCall =
            serde_json::from_value(call.clone()).map_err(|e| format!("`tool_calls` cannot be read: {e}"))?;
        span.tool_calls.push(call);
    }
    if let Some(usage) = map.get("usage").filter(|u| !u.is_null()) {
        let usage: Usage = serde_json::from_value(usage.clone()).map_err(|e| format!("`usage` cannot be read: {e}"))?;
        span.usage = Some(usage);
    }
    for (key, value) in map.get("tags").and_then(Value::as_object).into_iter().flatten() {
        tag(&mut span, key, value);
    }
    for (key, value) in map.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())) {
        tag(&mut span, key, value);
    }
    Ok(span)
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|t| !t.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("`{key}` must be text, not {}", type_name(other))),
    }
}

fn time(map: &Map<String, Value>, key: &str) -> Result<Option<DateTime<Utc>>, String> {
    let Some(text) = text(map, key)? else { return Ok(None) };
    let parsed = DateTime::parse_from_rfc3339(&text);
    parsed.map(|t| Some(t.to_utc())).map_err(|_| format!("`{key}` must be a time as in 2026-11-20T12:00:00Z"))
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(format!("`{key}` must be a list, not {}", type_name(other))),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn messages(map: &Map<String, Value>, key: &str, role: &str) -> Result<Vec<Message>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Message::text(role, text.clone())]),
        Some(Value::Array(list)) => {
            list.iter().map(|m| message(m, role).map_err(|e| format!("`{key}`: {e}"))).collect()
        }
        // An answer that is a JSON object was meant as its text.
        Some(other) => Ok(vec![Message::text(role, other.to_string())]),
    }
}

/// A message of OpenAI's form.
fn message(value: &Value, role: &str) -> Result<Message, String> {
    let map = match value {
        Value::String(text) => return Ok(Message::text(role, text.clone())),
        Value::Object(map) => map,
        other => return Err(format!("a message must be an object, not {}", type_name(other))),
    };
    let mut message = Message {
        role: text(map, "role")?.map_or_else(|| role.to_owned(), |r| normal_role(&r).to_owned()),
        refusal: text(map, "refusal")?,
        tool_call_id: text(map, "tool_call_id")?,
        ..Message::default()
    };
    match map.get("content") {
        Some(Value::Array(parts)) => {
            let mut texts = Vec::new();
            for part in parts {
                match part.get("text").and_then(Value::as_str) {
                    Some(text) => texts.push(text),
                    None => message.other.push(part.clone()),
                }
            }
            message.content = texts.join("\n");
        }
        Some(other) => message.content = plain(other),
        None => {}
    }
    for call in list(map, "tool_calls")? {
        let function = call.get("function").unwrap_or(call);
        message.tool_calls.push(ToolRequest {
            id: call.get("id").and_then(Value::as_str).map(str::to_owned),
            name: function.get("name").map(plain).unwrap_or_default(),
            arguments: function.get("arguments").map(argument).unwrap_or_default(),
        });
    }
    Ok(message)
}

/// An OpenAI `response_format`.
pub(super) fn response_format(value: &Value) -> Option<ResponseFormat> {
    let kind = value.get("type")?.as_str()?.to_owned();
    let inner = value.get("json_schema");
    let schema =
        inner.and_then(|s| s.get("schema").or((s.get("type").is_some() || s.get("properties").is_some()).then_some(s)));
    Some(ResponseFormat {
        kind,
        name: inner.and_then(|s| s.get("name")).and_then(Value::as_str).map(str::to_owned),
        schema: schema.or_else(|| value.get("schema")).cloned().unwrap_or_default(),
    })
}
