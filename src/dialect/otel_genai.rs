//! The OpenTelemetry GenAI conventions as of 1.37 and later: on spans, in span events and in log records.
//!
//! Content is in `gen_ai.input.messages`, `gen_ai.output.messages` and `gen_ai.system_instructions`, as JSON text or structured. Read
//! also by the dialects that add to these names. Its rule: unknown operations keep the span in the tree as `other` unless
//! what it carries tells more; the tool response member is `response` in the schema and `result` in its examples.

use super::lenient::{mended, placeholder, plain, structured};
use super::wire::{Attrs, WireSpan};
use super::{Dialect, context, facts, otel_genai_old, shapes};
use crate::domain::message::{Message, ToolCall, Usage};
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "otel_genai", recognises, read };

/// The event that carries a call's content, as a log record or as a span event.
pub(super) const DETAILS: &str = "gen_ai.client.inference.operation.details";

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.0.keys().any(|key| key.starts_with("gen_ai."))
}

fn kind(operation: &str) -> SpanKind {
    match operation {
        "chat" | "generate_content" | "text_completion" | "completion" | "acompletion" | "responses" | "aresponses"
        | "atext_completion" => SpanKind::Llm,
        "embeddings" | "embedding" | "aembedding" => SpanKind::Embedding,
        "retrieval" | "vector_db_retrieve" | "search_memory" => SpanKind::Retrieval,
        "rerank" | "arerank" => SpanKind::Reranker,
        "execute_tool" => SpanKind::Tool,
        "create_agent" | "invoke_agent" => SpanKind::Agent,
        "invoke_workflow" | "agent_step" | "execute_task" | "plan" => SpanKind::Chain,
        _ => SpanKind::Other,
    }
}

pub(super) fn read(wire: &WireSpan, span: &mut Span) {
    attributes(&wire.attrs, span);
    for event in wire.events.iter().filter(|e| e.name == DETAILS) {
        content(&event.attrs, span);
    }
    otel_genai_old::content(wire, span);
    nothing_captured(span);
}

/// What attributes say, whether they are a span's or a log record's.
pub(super) fn attributes(attrs: &Attrs, span: &mut Span) {
    let said = attrs.text("gen_ai.operation.name").map_or(SpanKind::Other, |operation| kind(&operation));
    // An unknown operation says nothing; what the span carries does.
    span.kind = match said {
        SpanKind::Other if attrs.get("gen_ai.tool.name").or_else(|| attrs.get("gen_ai.tool.call.id")).is_some() => {
            SpanKind::Tool
        }
        SpanKind::Other
            if attrs.get("gen_ai.request.model").is_some() || attrs.get("gen_ai.output.messages").is_some() =>
        {
            SpanKind::Llm
        }
        known => known,
    };
    span.provider = attrs.first_text(&["gen_ai.provider.name", "gen_ai.system"]);
    span.model = attrs.first_text(&["gen_ai.response.model", "gen_ai.request.model"]);
    facts::params_under(attrs, "gen_ai.request.", span);
    content(attrs, span);
    span.usage = usage(attrs).or(span.usage.take());
    span.cost_usd = ["gen_ai.cost.total_cost", "gen_ai.usage.cost", "operation.cost"]
        .iter()
        .find_map(|key| attrs.get(key).and_then(facts::number));
    match span.kind {
        SpanKind::Retrieval => retrieval(attrs, span),
        SpanKind::Tool => tool(attrs, span),
        _ => {}
    }
    if let Some(agent) = attrs.first_text(&["gen_ai.agent.name", "gen_ai.workflow.name"]) {
        context::tag(span, "agent", &Value::String(agent));
    }
    for (key, field) in [("gen_ai.input.messages.ref", "input"), ("gen_ai.output.messages.ref", "output")] {
        if attrs.get(key).is_some() {
            span.gap(field, "stored elsewhere by the sender");
        }
    }
}

/// Messages and what goes with them; what is there already stays.
fn content(attrs: &Attrs, span: &mut Span) {
    if span.system.is_none()
        && let Some(value) = attrs.get("gen_ai.system_instructions")
    {
        span.system = Some(system(value)).filter(|s| !s.is_empty());
    }
    if span.input.is_empty()
        && let Some(value) = attrs.get("gen_ai.input.messages")
    {
        span.input = messages(value, "user", "input", span);
    }
    if let Some(value) = attrs.get("gen_ai.output.messages") {
        if span.output.is_empty() {
            span.output = messages(value, "assistant", "output", span);
        }
        span.finish_reason = span.finish_reason.take().or_else(|| finish_in_messages(value));
    }
    if let Some(reason) = attrs.get("gen_ai.response.finish_reasons").and_then(finish_reason) {
        span.finish_reason = Some(reason);
    }
    if let Some(value) = attrs.get("gen_ai.tool.definitions").filter(|_| span.tools.is_empty()) {
        span.tools = facts::tools(value);
        if span.tools.is_empty()
            && let Some(mended) = value.as_str().and_then(mended)
        {
            span.tools = facts::tools(&mended);
            span.gap("tools", "cut by the sender");
        }
    }
    let form = attrs.first_text(&["gen_ai.output.type", "gen_ai.request.response_format"]);
    if span.response_format.is_none() && form.as_deref() == Some("json") {
        // The schema itself does not travel with these conventions.
        span.response_format = Some(facts::json_without_schema());
    }
}

/// Why the model stopped: a list, a list as text, or one word.
pub(super) fn finish_reason(value: &Value) -> Option<String> {
    let first = match structured(value) {
        Some(Value::Array(list)) => list.first().map(plain),
        _ => Some(plain(value)),
    };
    first.as_deref().and_then(normal_finish_reason)
}

fn usage(attrs: &Attrs) -> Option<Usage> {
    let count = |keys: &[&str]| keys.iter().find_map(|key| attrs.count(&format!("gen_ai.usage.{key}")));
    let input = count(&["input_tokens", "prompt_tokens"]);
    let output = count(&["output_tokens", "completion_tokens"]);
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        cached_input_tokens: count(&[
            "cache_read.input_tokens",
            "cache_read_input_tokens",
            "details.cache_read_tokens",
        ])
        .unwrap_or(0),
        reasoning_tokens: count(&["reasoning.output_tokens", "reasoning_tokens", "details.reasoning_tokens"])
            .unwrap_or(0),
    })
}

fn retrieval(attrs: &Attrs, span: &mut Span) {
    if let Some(query) = attrs.text("gen_ai.retrieval.query.text") {
        span.input = vec![Message::text("user", query)];
    }
    let Some(value) = attrs.get("gen_ai.retrieval.documents") else { return };
    span.documents = facts::documents(value);
    if span.documents.is_empty()
        && let Some(mended) = value.as_str().and_then(mended)
    {
        span.documents = mended.as_array().into_iter().flatten().filter_map(facts::document).collect();
        span.gap("documents", "cut by the sender: the last text may be incomplete, later documents are lost");
    }
    if span.documents.iter().all(|d| d.content.is_none()) && !span.documents.is_empty() {
        span.gap("documents", "the sender transmits ids and scores without text");
    }
}

fn tool(attrs: &Attrs, span: &mut Span) {
    let any = |keys: &[&str]| keys.iter().find_map(|key| attrs.get(key)).cloned().unwrap_or_default();
    span.tool_calls = vec![ToolCall {
        name: attrs.text("gen_ai.tool.name").unwrap_or_else(|| span.name.clone()),
        arguments: shapes::tool_arguments(&any(&["gen_ai.tool.call.arguments", "tool_arguments"])),
        result: shapes::tool_result(&any(&["gen_ai.tool.call.result", "tool_response"])),
        error: span.error.clone(),
    }];
}

fn system(value: &Value) -> String {
    match structured(value) {
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|p| p.get("content").or_else(|| p.get("text")).and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => plain(value),
    }
}

fn finish_in_messages(value: &Value) -> Option<String> {
    let Some(Value::Array(list)) = structured(value) else { return None };
    list.iter().rev().find_map(|m| m.get("finish_reason").and_then(Value::as_str)).and_then(normal_finish_reason)
}

/// Messages of an attribute; what was hidden or cut is a gap, and what is left of it is kept.
pub(super) fn messages(value: &Value, role: &str, field: &str, span: &mut Span) -> Vec<Message> {
    if let Some(why) = value.as_str().and_then(placeholder) {
        span.gap(field, why);
        return Vec::new();
    }
    let of = |value: &Value| match value {
        Value::Array(list) => list.iter().flat_map(|m| shapes::message(m, role)).collect(),
        other => shapes::message(other, role),
    };
    if let Some(found) = structured(value) {
        return of(&found);
    }
    let text = plain(value);
    match mended(&text) {
        Some(left) => {
            span.gap(field, "cut by the sender: it begins as JSON and does not end");
            of(&left).into_iter().filter(|m: &Message| !m.is_empty()).collect()
        }
        None => vec![Message::text(role, text)],
    }
}

/// Content is opt-in with these conventions, so a call without any says nothing about the application.
pub(super) fn nothing_captured(span: &mut Span) {
    if span.kind != SpanKind::Llm {
        return;
    }
    let noted = |field: &str| span.gaps.iter().any(|g| g.field == field);
    let (input, output) = (span.input.is_empty() && !noted("input"), span.output.is_empty() && !noted("output"));
    if input {
        span.gap("input", NOT_CAPTURED);
    }
    if output && span.error.is_none() {
        span.gap("output", NOT_CAPTURED);
    }
}

/// The reason of a gap that content in a log record closes.
pub(super) const NOT_CAPTURED: &str = "not captured: the span carries no content";
