//! pydantic-ai, alone or with logfire: the `OTel` conventions with the whole request beside them.
//!
//! Its rule: `model_request_parameters` has the schema that the answer must have; an agent's span tells the run as
//! `pydantic_ai.all_messages` and `final_result`. Older formats (`all_messages_events`, `running tool`) are read too.

use super::lenient::{plain, structured};
use super::wire::WireSpan;
use super::{Dialect, facts, otel_genai, otel_genai_old, shapes};
use crate::domain::message::Message;
use crate::domain::span::{Span, SpanKind};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "pydantic_ai", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    let ours =
        ["model_request_parameters", "pydantic_ai.all_messages", "all_messages_events", "agent_name", "logfire.msg"];
    let calls = wire.attrs.0.keys().any(|key| key.starts_with("gen_ai.")) || wire.attrs.get("agent_name").is_some();
    calls && ours.iter().any(|key| wire.attrs.get(key).is_some())
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    // A pending span is sent at the start of one that will be sent whole.
    if attrs.text("logfire.span_type").as_deref() == Some("pending_span") {
        return;
    }
    otel_genai::attributes(attrs, span);
    if span.kind == SpanKind::Other || (wire.name == "agent run" && span.kind == SpanKind::Llm) {
        span.kind = match wire.name.as_str() {
            "agent run" => SpanKind::Agent,
            "running tool" => SpanKind::Tool,
            _ if attrs.get("agent_name").is_some() => SpanKind::Agent,
            _ => span.kind,
        };
    }
    if let Some(parameters) = attrs.get("model_request_parameters").and_then(structured) {
        request(&parameters, span);
    }
    if span.kind == SpanKind::Agent {
        agent(wire, span);
    }
    otel_genai_old::content(wire, span);
    otel_genai::nothing_captured(span);
}

fn request(parameters: &Value, span: &mut Span) {
    if span.tools.is_empty() {
        span.tools = parameters.get("function_tools").map(facts::tools).unwrap_or_default();
    }
    let object = parameters.get("output_object").filter(|o| o.is_object());
    if let Some(schema) = object.and_then(|o| o.get("json_schema")) {
        let name = object.and_then(|o| o.get("name")).and_then(Value::as_str).map(str::to_owned);
        span.response_format = facts::of_schema(schema, name);
    }
}

fn agent(wire: &WireSpan, span: &mut Span) {
    let all = wire.attrs.get("pydantic_ai.all_messages").and_then(|v| shapes::dialogue(v, "user")).unwrap_or_default();
    // The run's own question and answer; what is between them is in its spans.
    if let Some(last) = all.iter().rposition(|m| m.role == "user") {
        span.input = all[..=last].to_vec();
        span.output = all[last + 1..].iter().rev().find(|m| !m.content.is_empty()).cloned().into_iter().collect();
    }
    if let Some(result) = wire.attrs.get("final_result") {
        span.output = vec![Message::text("assistant", plain(result))];
    }
    // What the run used is what its calls used.
    span.usage = None;
}
