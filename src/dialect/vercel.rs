//! The Vercel AI SDK: `ai.*` attributes up to version 6, the `OTel` conventions with `ai.*` beside them since 7.
//!
//! Its rule: `ai.generateText` and its like are around the call, `….doGenerate` and `….doStream` are the call. The schema of an
//! object is on the outer span only, from where assembly takes it.

use super::lenient::{placeholder, structured};
use super::wire::{Attrs, WireSpan};
use super::{Dialect, facts, otel_genai, shapes};
use crate::domain::message::{Message, ToolCall};
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::{Value, json};

pub(super) const DIALECT: Dialect = Dialect { name: "vercel_ai", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    let ours =
        ["ai.operationId", "ai.settings.", "ai.response.", "ai.usage.", "ai.schema", "ai.prompt", "ai.toolCall."];
    wire.attrs.0.keys().any(|key| ours.iter().any(|start| key.starts_with(start)))
}

fn kind(operation: &str) -> SpanKind {
    let call = operation.ends_with(".doGenerate") || operation.ends_with(".doStream");
    match operation {
        "ai.toolCall" => SpanKind::Tool,
        _ if call => SpanKind::Llm,
        _ if operation.ends_with(".doEmbed") => SpanKind::Embedding,
        _ if operation.ends_with(".doRerank") => SpanKind::Reranker,
        _ => SpanKind::Chain,
    }
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    otel_genai::attributes(attrs, span);
    if let Some(operation) = attrs.text("ai.operationId") {
        span.kind = kind(&operation);
    }
    span.model = attrs.first_text(&["ai.response.model"]).or(span.model.take()).or_else(|| attrs.text("ai.model.id"));
    span.provider = span.provider.take().or_else(|| attrs.text("ai.model.provider"));
    // "openai.chat" is a provider and one of its interfaces.
    if let Some((provider, _)) = span
        .provider
        .as_deref()
        .and_then(|p| p.split_once('.'))
        .filter(|(p, _)| *p != "azure" && *p != "gcp" && *p != "aws")
    {
        span.provider = Some(provider.to_owned());
    }
    facts::params_under(attrs, "ai.settings.", span);
    usage(attrs, span);
    if span.kind == SpanKind::Tool {
        if attrs.get("ai.toolCall.name").is_some() {
            tool(attrs, span);
        }
        return;
    }
    asked(attrs, span);
    told(attrs, span);
    form(attrs, span);
    if let Some(Value::Array(tools)) = attrs.get("ai.prompt.tools").and_then(structured) {
        span.tools = tools.iter().filter_map(facts::tool).collect();
    }
    otel_genai::nothing_captured(span);
}

fn usage(attrs: &Attrs, span: &mut Span) {
    let pairs =
        attrs.0.iter().filter_map(|(key, value)| Some((key.strip_prefix("ai.usage.")?.to_owned(), value.clone())));
    let map: serde_json::Map<String, Value> = pairs.collect();
    let Some(theirs) = facts::usage(&Value::Object(map)) else { return };
    let mut known = span.usage.unwrap_or(theirs);
    known.cached_input_tokens = known.cached_input_tokens.max(theirs.cached_input_tokens);
    known.reasoning_tokens = known.reasoning_tokens.max(theirs.reasoning_tokens);
    span.usage = Some(known);
}

fn tool(attrs: &Attrs, span: &mut Span) {
    let any = |key: &str| attrs.get(key).cloned().unwrap_or_default();
    span.tool_calls = vec![ToolCall {
        name: attrs.text("ai.toolCall.name").unwrap_or_default(),
        arguments: shapes::tool_arguments(&any("ai.toolCall.args")),
        result: shapes::tool_result(&any("ai.toolCall.result")),
        error: span.error.clone(),
    }];
}

fn asked(attrs: &Attrs, span: &mut Span) {
    if let Some(messages) = attrs.get("ai.prompt.messages") {
        span.input = otel_genai::messages(messages, "user", "input", span);
    } else if let Some(prompt) = attrs.get("ai.prompt").and_then(structured) {
        span.system = prompt.get("system").and_then(Value::as_str).map(str::to_owned).or(span.system.take());
        let inner = prompt.get("messages").or_else(|| prompt.get("prompt"));
        span.input = inner.map(|v| shapes::spoken(v, "user", shapes::ASKED)).unwrap_or_default();
    }
}

fn told(attrs: &Attrs, span: &mut Span) {
    let first =
        |name: &str| attrs.get(&format!("ai.response.{name}")).or_else(|| attrs.get(&format!("ai.result.{name}")));
    let reason = first("finishReason").and_then(Value::as_str).and_then(normal_finish_reason);
    span.finish_reason = reason.or(span.finish_reason.take());
    let text = first("text").or_else(|| first("object"));
    if let Some(why) = text.and_then(Value::as_str).and_then(placeholder) {
        span.gap("output", why);
        return;
    }
    let calls = first("toolCalls").and_then(structured);
    if !span.output.is_empty() || (text.is_none() && calls.is_none()) {
        return;
    }
    let mut message = json!({"role": "assistant", "content": text.map(super::lenient::plain)});
    if let Some(calls) = calls {
        message["tool_calls"] = calls;
    }
    span.output = shapes::message(&message, "assistant");
    if let Some(thought) = first("reasoning")
        && let Some(last) = span.output.last_mut()
    {
        last.other.push(json!({"type": "reasoning", "content": thought}));
    }
    span.output.retain(|message: &Message| !message.is_empty());
}

fn form(attrs: &Attrs, span: &mut Span) {
    if let Some(schema) = attrs.get("ai.schema") {
        span.response_format = facts::of_schema(schema, attrs.text("ai.schema.name"));
    }
    if span.response_format.is_none()
        && attrs.text("ai.settings.output").is_some_and(|o| matches!(o.as_str(), "object" | "array"))
    {
        span.response_format = Some(facts::json_without_schema());
    }
}
