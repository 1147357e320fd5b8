//! Langfuse's SDKs, versions 3 to 5, which post OTLP with attributes of their own.
//!
//! Its rule: SDKs before 3.4 call a generation `span`, so a span with a model, usage or parameters is a call; tokens of the
//! `LangChain` handler are counted in buckets apart. Trace-level attributes are in `context`.

use super::lenient::{argument, placeholder, plain, structured};
use super::wire::WireSpan;
use super::{Dialect, facts, otel_genai, shapes};
use crate::domain::message::{Message, ToolCall};
use crate::domain::span::{Span, SpanKind, Status, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "langfuse", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.0.keys().any(|key| key.starts_with("langfuse.observation.") || key.starts_with("langfuse.trace."))
}

fn observed<'a>(wire: &'a WireSpan, key: &str) -> Option<&'a Value> {
    wire.attrs.get(&format!("langfuse.observation.{key}"))
}

fn kind(wire: &WireSpan) -> SpanKind {
    let said = observed(wire, "type").map(plain).unwrap_or_default();
    let calls = ["model.name", "usage_details", "cost_details", "model.parameters"];
    match said.as_str() {
        "generation" => SpanKind::Llm,
        "embedding" => SpanKind::Embedding,
        "agent" => SpanKind::Agent,
        "tool" => SpanKind::Tool,
        "retriever" => SpanKind::Retrieval,
        "guardrail" => SpanKind::Guardrail,
        "evaluator" => SpanKind::Evaluator,
        _ if calls.iter().any(|key| observed(wire, key).is_some()) => SpanKind::Llm,
        "event" => SpanKind::Other,
        _ => SpanKind::Chain,
    }
}

fn read(wire: &WireSpan, span: &mut Span) {
    if wire.attrs.0.keys().any(|key| key.starts_with("gen_ai.")) {
        otel_genai::attributes(&wire.attrs, span);
    }
    span.kind = kind(wire);
    let text = |key: &str| observed(wire, key).map(plain).filter(|t| !t.is_empty());
    span.model = text("model.name").or(span.model.take());
    span.provider = span.provider.take().or_else(|| text("metadata.ls_provider").map(|p| super::lenient::unquoted(&p)));
    if let Some(Value::Object(map)) = observed(wire, "model.parameters").and_then(structured) {
        facts::params(map.iter().map(|(k, v)| (k.as_str(), v)), span);
    }
    span.response_format = observed(wire, "metadata.response_format").and_then(facts::response_format);
    span.usage = observed(wire, "usage_details").and_then(facts::usage).or(span.usage.take());
    cost(wire, span);
    if text("level").as_deref() == Some("ERROR") {
        span.status = Status::Error;
    }
    if span.status == Status::Error {
        span.error = text("status_message").or(span.error.take());
    }
    let reason = text("metadata.finish_reason").map(|r| super::lenient::unquoted(&r));
    span.finish_reason = reason.as_deref().and_then(normal_finish_reason);
    content(wire, span);
}

fn cost(wire: &WireSpan, span: &mut Span) {
    let details = observed(wire, "cost_details").and_then(structured);
    let total = details.as_ref().and_then(|d| d.get("total")).and_then(facts::number);
    // An errored call says that it cost nothing, which is no measurement.
    span.cost_usd = total.filter(|total| *total > 0.0 || span.status == Status::Ok);
}

fn content(wire: &WireSpan, span: &mut Span) {
    let (trace_in, trace_out) = (wire.attrs.get("langfuse.trace.input"), wire.attrs.get("langfuse.trace.output"));
    let input = shown(observed(wire, "input").or(trace_in), "input", span);
    let output = shown(observed(wire, "output").or(trace_out), "output", span);
    match span.kind {
        SpanKind::Tool => {
            span.tool_calls = vec![ToolCall {
                name: span.name.clone(),
                arguments: shapes::tool_arguments(&input.unwrap_or_default()),
                result: shapes::tool_result(&output.unwrap_or_default()),
                error: span.error.clone(),
            }];
            return;
        }
        SpanKind::Llm => request(input.as_ref(), span),
        _ => span.input = input.map(|v| shapes::spoken(&v, "user", shapes::ASKED)).unwrap_or_default(),
    }
    let documents = output.as_ref().map(facts::documents).unwrap_or_default();
    // Version 3 has no type for retrievers: what gives documents is one.
    if span.kind == SpanKind::Retrieval || (span.kind == SpanKind::Chain && facts::look_like_documents(&documents)) {
        span.kind = SpanKind::Retrieval;
        span.documents = documents;
        return;
    }
    span.output = output.map(|v| shapes::spoken(&v, "assistant", shapes::TOLD)).unwrap_or_default();
    if span.kind == SpanKind::Llm && span.finish_reason.is_none() && asks_for_tools(&span.output) {
        span.finish_reason = Some("tool_calls".to_owned());
    }
}

fn asks_for_tools(output: &[Message]) -> bool {
    output.iter().any(|m| !m.tool_calls.is_empty())
}

/// The value, unless it was hidden.
pub(super) fn shown(value: Option<&Value>, field: &str, span: &mut Span) -> Option<Value> {
    let value = value?;
    if let Some(why) = value.as_str().and_then(placeholder) {
        span.gap(field, why);
        return None;
    }
    Some(value.clone())
}

/// A call's input: messages, alone or beside the tools; the `LangChain` handler puts tools among the messages.
fn request(input: Option<&Value>, span: &mut Span) {
    let Some(input) = input else { return };
    let whole = argument(input);
    if let Some(tools) = whole.get("tools") {
        span.tools = facts::tools(tools);
    }
    span.input = shapes::spoken(&whole, "user", shapes::ASKED);
    let mut messages = Vec::new();
    for message in std::mem::take(&mut span.input) {
        let offered = message.role == "tool" && message.content.is_empty() && message.tool_call_id.is_none();
        let tools: Vec<_> = if offered { message.other.iter().filter_map(facts::tool).collect() } else { Vec::new() };
        if tools.is_empty() { messages.push(message) } else { span.tools.extend(tools) }
    }
    span.input = messages;
}
