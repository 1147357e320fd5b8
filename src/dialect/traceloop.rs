//! `OpenLLMetry` (Traceloop): the `OTel` conventions with additions, and before that numbered attributes.
//!
//! Its rule: `traceloop.span.kind` is the kind of a framework's span; there is no kind for retrievers, so a task whose output is a
//! list of documents is one. Arguments of decorated functions and outputs of `LangChain` are unwrapped.

use super::indexed::{Fields, indexed, nested};
use super::langfuse::shown;
use super::lenient::{argument, plain, structured};
use super::wire::{Attrs, WireSpan};
use super::{Dialect, context, facts, otel_genai, otel_genai_old, shapes};
use crate::domain::message::{Message, ToolCall, ToolDefinition, ToolRequest, normal_role};
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "traceloop", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    let ours = |key: &String| {
        key.starts_with("traceloop.")
            || key == "llm.request.type"
            || key.starts_with("gen_ai.prompt.0.")
            || key == "gen_ai.is_streaming"
    };
    wire.attrs.0.keys().any(ours)
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    otel_genai::attributes(attrs, span);
    numbered(attrs, span);
    otel_genai_old::content(wire, span);
    if span.kind == SpanKind::Other && attrs.get("llm.request.type").is_some() {
        span.kind = match attrs.text("llm.request.type").as_deref() {
            Some("embedding") => SpanKind::Embedding,
            Some("rerank") => SpanKind::Reranker,
            _ => SpanKind::Llm,
        };
    }
    if let Some(schema) = attrs.get("gen_ai.request.structured_output_schema") {
        span.response_format = facts::of_schema(schema, None).or(span.response_format.take());
    }
    framework(wire, span);
    otel_genai::nothing_captured(span);
}

/// Spans of workflows, tasks, agents and tools.
fn framework(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    let explicit = match attrs.text("traceloop.span.kind").as_deref() {
        Some("workflow") => Some(SpanKind::Chain),
        Some("agent") => Some(SpanKind::Agent),
        Some("tool") => Some(SpanKind::Tool),
        // An operation that says more than "task" counts.
        Some("task") if matches!(span.kind, SpanKind::Other | SpanKind::Llm) => Some(SpanKind::Chain),
        _ => None,
    };
    span.kind = explicit.unwrap_or(span.kind);
    if span.kind == SpanKind::Llm {
        return;
    }
    let first = |keys: &[&str]| keys.iter().find_map(|key| attrs.get(key));
    let input = first(&["traceloop.entity.input", "gen_ai.tool.call.arguments", "gen_ai.task.input"]);
    let output = first(&["traceloop.entity.output", "gen_ai.tool.call.result", "gen_ai.task.output"]);
    let (input, output) = (shown(input, "input", span), shown(output, "output", span));
    // LangChain's tags stand beside its inputs.
    let around = input.as_ref().and_then(structured);
    if let Some(around) = around.filter(|a| a.get("inputs").is_some() || a.get("input_str").is_some()) {
        context::names(around.get("tags"), span);
    }
    if span.kind == SpanKind::Tool {
        let name = attrs.first_text(&["gen_ai.tool.name", "traceloop.entity.name"]);
        span.tool_calls = vec![ToolCall {
            name: name.unwrap_or_else(|| span.name.clone()),
            arguments: shapes::tool_arguments(&input.unwrap_or_default()),
            result: shapes::tool_result(&output.unwrap_or_default()),
            error: span.error.clone(),
        }];
        return;
    }
    if span.input.is_empty() {
        span.input = input.map(|v| shapes::spoken(&v, "user", shapes::ASKED)).unwrap_or_default();
    }
    let documents = output.as_ref().map(facts::documents).unwrap_or_default();
    if span.kind == SpanKind::Retrieval || (span.kind == SpanKind::Chain && facts::look_like_documents(&documents)) {
        span.kind = SpanKind::Retrieval;
        span.documents = documents;
    } else if span.output.is_empty() {
        span.output = output.map(|v| shapes::spoken(&v, "assistant", shapes::TOLD)).unwrap_or_default();
    }
}

/// `gen_ai.prompt.N.…`, `gen_ai.completion.N.…` and `llm.request.functions.N.…`, for what is still empty.
pub(super) fn numbered(attrs: &Attrs, span: &mut Span) {
    if span.input.is_empty() {
        span.input = indexed(attrs, "gen_ai.prompt.").values().map(|f| message(f, "user")).collect();
    }
    let completions = indexed(attrs, "gen_ai.completion.");
    if span.output.is_empty() {
        let told = completions.values().map(|f| message(f, "assistant"));
        span.output = told.filter(|m| !m.is_empty()).collect();
    }
    let reason = completions.values().find_map(|f| f.get("finish_reason").map(|v| plain(v)));
    span.finish_reason = span.finish_reason.take().or_else(|| reason.as_deref().and_then(normal_finish_reason));
    if span.tools.is_empty() {
        let offered = indexed(attrs, "llm.request.functions.");
        span.tools = offered.values().filter_map(definition).collect();
    }
}

fn definition(fields: &Fields<'_>) -> Option<ToolDefinition> {
    Some(ToolDefinition {
        name: fields.get("name").map(|v| plain(v))?,
        description: fields.get("description").map(|v| plain(v)),
        parameters: fields.get("parameters").map(|v| argument(v)).unwrap_or_default(),
    })
}

fn message(fields: &Fields<'_>, role: &str) -> Message {
    let text = |key: &str| fields.get(key).map(|v| plain(v)).filter(|t| !t.is_empty());
    let role = text("role").map_or_else(|| role.to_owned(), |r| normal_role(&r).to_owned());
    // Several parts are JSON text in the one attribute.
    let parts = fields.get("content").and_then(|v| super::lenient::structured(v)).filter(is_parts);
    let mut message = match parts {
        Some(parts) => shapes::message(&serde_json::json!({"role": role, "content": parts}), &role).remove(0),
        None => Message::text(&role, text("content").unwrap_or_default()),
    };
    message.tool_call_id = text("tool_call_id").or(message.tool_call_id);
    message.refusal = text("refusal").or(message.refusal);
    message.tool_calls = nested(fields, "tool_calls.")
        .values()
        .map(|call| ToolRequest {
            id: call.get("id").map(|v| plain(v)),
            name: call.get("name").map(|v| plain(v)).unwrap_or_default(),
            arguments: call.get("arguments").map(|v| argument(v)).unwrap_or_default(),
        })
        .collect();
    if let Some(name) = text("function_call.name") {
        let arguments = fields.get("function_call.arguments").map(|v| argument(v)).unwrap_or_default();
        message.tool_calls.push(ToolRequest { id: None, name, arguments });
    }
    message
}

fn is_parts(value: &Value) -> bool {
    let typed = |part: &Value| part.get("type").and_then(Value::as_str).is_some() && part.get("role").is_none();
    value.as_array().is_some_and(|parts| !parts.is_empty() && parts.iter().all(typed))
}

/// Tool calls that stand in the numbered completions.
pub(super) fn function_calls(attrs: &Attrs) -> Vec<ToolRequest> {
    indexed(attrs, "gen_ai.completion.").values().flat_map(|f| message(f, "assistant").tool_calls).collect()
}
