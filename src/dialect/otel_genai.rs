//! The OpenTelemetry GenAI conventions as of 1.37 and later, on spans.
//!
//! Content is in `gen_ai.input.messages`, `gen_ai.output.messages` and `gen_ai.system_instructions`, as JSON text or structured. Its
//! rule: unknown operations keep the span in the tree as `other`; the tool response member is `response` in the schema and
//! `result` in its examples, so both are read.

use super::lenient::{argument, placeholder, plain, structured};
use super::wire::WireSpan;
use super::{Dialect, context};
use crate::domain::message::{
    Document, Message, ResponseFormat, ToolCall, ToolDefinition, ToolRequest, Usage, normal_role,
};
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "otel_genai", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.0.keys().any(|key| key.starts_with("gen_ai."))
}

fn kind(operation: &str) -> SpanKind {
    match operation {
        "chat" | "generate_content" | "text_completion" | "completion" | "acompletion" | "responses" => SpanKind::Llm,
        "embeddings" => SpanKind::Embedding,
        "retrieval" | "vector_db_retrieve" => SpanKind::Retrieval,
        "rerank" => SpanKind::Reranker,
        "execute_tool" => SpanKind::Tool,
        "create_agent" | "invoke_agent" => SpanKind::Agent,
        "invoke_workflow" | "agent_step" | "execute_task" | "plan" => SpanKind::Chain,
        _ => SpanKind::Other,
    }
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    let said = attrs.text("gen_ai.operation.name").map_or(SpanKind::Other, |operation| kind(&operation));
    // An unknown operation says nothing; what the span carries does.
    span.kind = match said {
        SpanKind::Other if attrs.get("gen_ai.tool.name").is_some() => SpanKind::Tool,
        SpanKind::Other
            if attrs.get("gen_ai.request.model").is_some() || attrs.get("gen_ai.output.messages").is_some() =>
        {
            SpanKind::Llm
        }
        known => known,
    };
    span.provider = attrs.first_text(&["gen_ai.provider.name", "gen_ai.system"]);
    span.model = attrs.first_text(&["gen_ai.response.model", "gen_ai.request.model"]);
    if let Some(value) = attrs.get("gen_ai.system_instructions") {
        span.system = Some(system(value)).filter(|s| !s.is_empty());
    }
    if let Some(value) = attrs.get("gen_ai.input.messages") {
        span.input = messages(value, "user", "input", span);
    }
    if let Some(value) = attrs.get("gen_ai.output.messages") {
        span.output = messages(value, "assistant", "output", span);
        span.finish_reason = finish_in_messages(value);
    }
    if let Some(reason) = attrs.get("gen_ai.response.finish_reasons") {
        let first = match reason {
            Value::Array(list) => list.first().map(plain),
            other => Some(plain(other)),
        };
        span.finish_reason = first.as_deref().and_then(normal_finish_reason).or(span.finish_reason.take());
    }
    if let Some(Value::Array(tools)) = attrs.get("gen_ai.tool.definitions").and_then(structured) {
        span.tools = tools.iter().filter_map(definition).collect();
    }
    if attrs.text("gen_ai.output.type").as_deref() == Some("json") {
        // The schema itself does not travel with these conventions.
        span.response_format = Some(ResponseFormat { kind: "json_object".to_owned(), ..ResponseFormat::default() });
    }
    span.usage = usage(wire);
    match span.kind {
        SpanKind::Retrieval => retrieval(wire, span),
        SpanKind::Tool => tool(wire, span),
        _ => {}
    }
    if let Some(agent) = attrs.first_text(&["gen_ai.agent.name", "gen_ai.workflow.name"]) {
        context::tag(span, "agent", &Value::String(agent));
    }
}

fn usage(wire: &WireSpan) -> Option<Usage> {
    let count = |keys: &[&str]| keys.iter().find_map(|key| wire.attrs.count(key));
    let input = count(&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"]);
    let output = count(&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"]);
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        cached_input_tokens: count(&["gen_ai.usage.cache_read.input_tokens"]).unwrap_or(0),
        reasoning_tokens: count(&["gen_ai.usage.reasoning.output_tokens"]).unwrap_or(0),
    })
}

fn retrieval(wire: &WireSpan, span: &mut Span) {
    if let Some(query) = wire.attrs.text("gen_ai.retrieval.query.text") {
        span.input = vec![Message::text("user", query)];
    }
    if let Some(Value::Array(documents)) = wire.attrs.get("gen_ai.retrieval.documents").and_then(structured) {
        span.documents = documents.iter().filter_map(document).collect();
        if span.documents.iter().all(|d| d.content.is_none()) && !span.documents.is_empty() {
            span.gap("documents", "the sender transmits ids and scores without text");
        }
    }
}

/// A document object of any of the usual shapes.
pub(super) fn document(value: &Value) -> Option<Document> {
    let map = value.as_object()?;
    let text = |keys: &[&str]| keys.iter().find_map(|k| map.get(*k)).filter(|v| !v.is_null()).map(plain);
    Some(Document {
        id: text(&["id", "document_id"]),
        content: text(&["content", "text", "page_content"]),
        score: map.get("score").and_then(Value::as_f64),
    })
}

fn tool(wire: &WireSpan, span: &mut Span) {
    let any = |key: &str| wire.attrs.get(key).map(argument).unwrap_or_default();
    span.tool_calls = vec![ToolCall {
        name: wire.attrs.text("gen_ai.tool.name").unwrap_or_else(|| span.name.clone()),
        arguments: any("gen_ai.tool.call.arguments"),
        result: any("gen_ai.tool.call.result"),
        error: span.error.clone(),
    }];
}

fn definition(value: &Value) -> Option<ToolDefinition> {
    let map = value.as_object()?;
    // Flat by convention, nested under `function` where the SDK passes OpenAI's form through.
    let map = map.get("function").and_then(Value::as_object).unwrap_or(map);
    Some(ToolDefinition {
        name: map.get("name")?.as_str()?.to_owned(),
        description: map.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: map.get("parameters").cloned().unwrap_or_default(),
    })
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

fn messages(value: &Value, role: &str, field: &str, span: &mut Span) -> Vec<Message> {
    if let Some(why) = value.as_str().and_then(placeholder) {
        span.gap(field, why);
        return Vec::new();
    }
    match structured(value) {
        Some(Value::Array(list)) => list.iter().flat_map(|m| message(m, role)).collect(),
        Some(Value::Object(map)) => message(&Value::Object(map), role),
        _ => {
            let text = plain(value);
            if text.trim_start().starts_with(['[', '{']) {
                span.gap(field, "cut by the sender: it begins as JSON and does not end");
                return Vec::new();
            }
            vec![Message::text(role, text)]
        }
    }
}

/// One message; tool responses become messages of their own, since each answers a call of its own.
fn message(value: &Value, role: &str) -> Vec<Message> {
    let Some(map) = value.as_object() else { return vec![Message::text(role, plain(value))] };
    let role = normal_role(map.get("role").and_then(Value::as_str).unwrap_or(role));
    let mut main = Message { role: role.to_owned(), ..Message::default() };
    let (mut texts, mut responses) = (Vec::new(), Vec::new());
    let parts = match map.get("parts").or_else(|| map.get("content")) {
        Some(Value::Array(parts)) => parts.clone(),
        Some(Value::String(text)) => vec![serde_json::json!({"type": "text", "content": text})],
        _ => Vec::new(),
    };
    for part in parts {
        let id = part.get("id").and_then(Value::as_str).map(str::to_owned);
        match part.get("type").and_then(Value::as_str) {
            Some("text") => texts.push(part.get("content").or_else(|| part.get("text")).map(plain).unwrap_or_default()),
            Some("refusal") => main.refusal = part.get("content").or_else(|| part.get("refusal")).map(plain),
            Some("tool_call") => main.tool_calls.push(ToolRequest {
                id,
                name: part.get("name").map(plain).unwrap_or_default(),
                arguments: part.get("arguments").map(argument).unwrap_or_default(),
            }),
            Some("tool_call_response") => {
                let content = part.get("response").or_else(|| part.get("result")).map(plain).unwrap_or_default();
                responses.push(Message { tool_call_id: id, ..Message::text("tool", content) });
            }
            _ => main.other.push(part),
        }
    }
    main.content = texts.join("\n");
    if responses.is_empty() || !main.is_empty() {
        responses.insert(0, main);
    }
    responses
}
