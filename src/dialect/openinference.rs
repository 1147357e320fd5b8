//! OpenInference: flat, numbered attributes, and the request's parameters as JSON text.
//!
//! Its rule: `input.value` and `output.value` stand in where there are no messages. `llm.invocation_parameters` is where
//! `response_format` travels, with its schema.

use super::indexed::{Fields, indexed, nested};
use super::lenient::{argument, placeholder, plain, structured};
use super::wire::{Attrs, WireSpan};
use super::{Dialect, facts, shapes};
use crate::domain::message::{Document, Message, ToolCall, ToolRequest, Usage, normal_role};
use crate::domain::span::{Span, SpanKind, Status, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "openinference", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.get("openinference.span.kind").is_some()
}

fn kind(name: &str) -> SpanKind {
    match name {
        "LLM" => SpanKind::Llm,
        "EMBEDDING" => SpanKind::Embedding,
        "CHAIN" => SpanKind::Chain,
        "RETRIEVER" => SpanKind::Retrieval,
        "RERANKER" => SpanKind::Reranker,
        "TOOL" => SpanKind::Tool,
        "AGENT" => SpanKind::Agent,
        "GUARDRAIL" => SpanKind::Guardrail,
        "EVALUATOR" => SpanKind::Evaluator,
        _ => SpanKind::Other,
    }
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    span.kind = kind(&attrs.text("openinference.span.kind").unwrap_or_default().to_ascii_uppercase());
    span.provider = attrs.first_text(&["llm.provider", "llm.system"]);
    span.model = attrs.first_text(&["llm.response.model_name", "llm.model_name", "llm.request.model_name"]);
    span.input = messages(attrs, "llm.input_messages.");
    span.output = messages(attrs, "llm.output_messages.");
    completions(attrs, span);
    let tools = indexed(attrs, "llm.tools.");
    span.tools = tools.values().filter_map(|f| facts::tool(f.get("tool.json_schema")?)).collect();
    span.finish_reason = attrs.text("llm.finish_reason").as_deref().and_then(normal_finish_reason);
    parameters(attrs, span);
    response_body(attrs, span);
    span.usage = usage(attrs).or(span.usage.take());
    span.cost_usd = attrs.get("llm.cost.total").and_then(Value::as_f64);
    let retrieved = indexed(attrs, "retrieval.documents.");
    let reranked = indexed(attrs, "reranker.output_documents.");
    span.documents = retrieved.values().chain(reranked.values()).filter_map(flat_document).collect();
    match span.kind {
        SpanKind::Tool => tool(attrs, span),
        SpanKind::Retrieval if span.documents.is_empty() => {
            let found = attrs.get("output.value").map(facts::documents).unwrap_or_default();
            span.documents = found.into_iter().filter(|d| d.content.is_some()).collect();
        }
        _ => {}
    }
    if span.input.is_empty() {
        span.input = value_message(attrs, "input", span);
    }
    if span.output.is_empty() && span.kind != SpanKind::Retrieval {
        span.output = value_message(attrs, "output", span);
    }
    // An errored call of LangChain has an answer without any text.
    if span.status == Status::Error && span.output.iter().all(Message::is_empty) {
        span.output.clear();
    }
    if wire.dropped_attributes > 0 {
        span.gap("input", "the oldest messages may be among the dropped attributes");
    }
}

fn value_message(attrs: &Attrs, field: &str, span: &mut Span) -> Vec<Message> {
    let Some(value) = attrs.get(&format!("{field}.value")) else { return Vec::new() };
    if let Some(why) = value.as_str().and_then(placeholder) {
        span.gap(field, why);
        return Vec::new();
    }
    let (role, keys) = if field == "input" { ("user", shapes::ASKED) } else { ("assistant", shapes::TOLD) };
    shapes::spoken(value, role, keys)
}

fn messages(attrs: &Attrs, prefix: &str) -> Vec<Message> {
    indexed(attrs, prefix).values().map(message).collect()
}

fn message(fields: &Fields<'_>) -> Message {
    let text = |key: &str| fields.get(key).map(|v| plain(v)).filter(|s| !s.is_empty());
    let mut message = Message {
        role: text("message.role").map(|r| normal_role(&r).to_owned()).unwrap_or_default(),
        content: text("message.content").unwrap_or_default(),
        tool_call_id: text("message.tool_call_id"),
        ..Message::default()
    };
    let contents = nested(fields, "message.contents.");
    let mut texts: Vec<String> = Vec::new();
    for part in contents.values() {
        match part.get("message_content.text") {
            Some(text) => texts.push(plain(text)),
            None => message.other.push(part.iter().map(|(k, v)| ((*k).to_owned(), (*v).clone())).collect()),
        }
    }
    if message.content.is_empty() {
        message.content = texts.join("\n");
    }
    let calls = nested(fields, "message.tool_calls.");
    message.tool_calls = calls
        .values()
        .map(|call| ToolRequest {
            id: call.get("tool_call.id").map(|v| plain(v)),
            name: call.get("tool_call.function.name").map(|v| plain(v)).unwrap_or_default(),
            arguments: call.get("tool_call.function.arguments").map(|v| argument(v)).unwrap_or_default(),
        })
        .collect();
    if let Some(name) = text("message.function_call_name") {
        let arguments = fields.get("message.function_call_arguments_json").map(|v| argument(v)).unwrap_or_default();
        message.tool_calls.push(ToolRequest { id: None, name, arguments });
    }
    message
}

/// The completions API has prompts and choices instead of messages.
fn completions(attrs: &Attrs, span: &mut Span) {
    let texts = |prefix: &str, field: &str, role: &str| -> Vec<Message> {
        let found = indexed(attrs, prefix);
        found.values().filter_map(|f| f.get(field)).map(|v| Message::text(role, plain(v))).collect()
    };
    if span.input.is_empty() {
        span.input = texts("llm.prompts.", "prompt.text", "user");
    }
    if span.output.is_empty() {
        span.output = texts("llm.choices.", "completion.text", "assistant");
    }
}

fn parameters(attrs: &Attrs, span: &mut Span) {
    let Some(parameters) = attrs.get("llm.invocation_parameters").and_then(structured) else { return };
    span.response_format = parameters.get("response_format").and_then(facts::response_format);
    if span.model.is_none() {
        span.model = parameters.get("model").and_then(Value::as_str).map(str::to_owned);
    }
    facts::params(parameters.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)), span);
}

/// Older versions say only in `output.value`, the provider's whole response, why the model stopped and that it declined.
fn response_body(attrs: &Attrs, span: &mut Span) {
    if span.kind != SpanKind::Llm {
        return;
    }
    let Some(body) = attrs.get("output.value").and_then(structured) else { return };
    span.usage = span.usage.take().or_else(|| facts::usage(body.get("usage")?));
    let Some(choice) = body.get("choices").and_then(|c| c.get(0)) else { return };
    if span.finish_reason.is_none() {
        span.finish_reason = choice.get("finish_reason").and_then(Value::as_str).and_then(normal_finish_reason);
    }
    let refusal = choice.get("message").and_then(|m| m.get("refusal")).and_then(Value::as_str);
    if let (Some(refusal), Some(last)) = (refusal, span.output.last_mut()) {
        last.refusal = Some(refusal.to_owned());
    }
}

fn usage(attrs: &Attrs) -> Option<Usage> {
    let count = |key: &str| attrs.count(&format!("llm.token_count.{key}"));
    let (input, output) = (count("prompt"), count("completion"));
    (input.is_some() || output.is_some()).then(|| Usage {
        input_tokens: input.unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        cached_input_tokens: count("prompt_details.cache_read").unwrap_or(0),
        reasoning_tokens: count("completion_details.reasoning").unwrap_or(0),
    })
}

fn flat_document(fields: &Fields<'_>) -> Option<Document> {
    let text = |key: &str| fields.get(key).map(|v| plain(v)).filter(|s| !s.is_empty());
    let metadata = fields.get("document.metadata").and_then(|m| structured(m));
    let metadata = metadata.unwrap_or_default();
    let document = Document {
        // LangChain puts id and score into the metadata.
        id: text("document.id").or_else(|| Some(metadata.get("id")?.as_str()?.to_owned())),
        content: text("document.content"),
        score: fields.get("document.score").copied().or_else(|| metadata.get("score")).and_then(facts::number),
        metadata,
    };
    (document.id.is_some() || document.content.is_some()).then_some(document)
}

fn tool(attrs: &Attrs, span: &mut Span) {
    let value = |key: &str| attrs.get(key).cloned().unwrap_or_default();
    span.tool_calls = vec![ToolCall {
        name: attrs.text("tool.name").unwrap_or_else(|| span.name.clone()),
        arguments: shapes::tool_arguments(&value("input.value")),
        result: shapes::tool_result(&value("output.value")),
        error: span.error.clone(),
    }];
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn holes_in_numbers_are_closed_and_order_is_numeric() {
        let pairs = json!({
            "llm.input_messages.14.message.content": "b", "llm.input_messages.14.message.role": "user",
            "llm.input_messages.9.message.content": "a", "llm.input_messages.9.message.role": "user",
            "llm.input_messages.x.message.content": "never",
        });
        let attrs = Attrs(serde_json::from_value(pairs).expect("a map"));
        let texts: Vec<String> = messages(&attrs, "llm.input_messages.").into_iter().map(|m| m.content).collect();
        assert_eq!(texts, ["a", "b"]);
    }
}
