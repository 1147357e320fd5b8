//! The `LiteLLM` proxy's own spans.
//!
//! `litellm_request` follows the `OTel` conventions but loses tool calls and the response format; its child `raw_gen_ai_request` has the
//! same call again as the provider saw it, as Python prints it (`llm.PROVIDER.…`). Its rule: both are calls, so the leaf-most is
//! judged and takes from the other what it lacks. The proxy's other spans stay in the tree.

use super::lenient::structured;
use super::wire::WireSpan;
use super::{Dialect, facts, otel_genai, shapes, traceloop};
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "litellm", recognises, read };

/// The call as the provider saw it.
const RAW: &str = "raw_gen_ai_request";

fn recognises(wire: &WireSpan) -> bool {
    wire.name == RAW
        || wire.name == "litellm_request"
        || wire.attrs.0.keys().any(|key| key.starts_with("litellm.") || key == "hidden_params")
}

fn read(wire: &WireSpan, span: &mut Span) {
    let attrs = &wire.attrs;
    if wire.name == RAW {
        raw(wire, span);
        return;
    }
    otel_genai::attributes(attrs, span);
    if wire.name == "litellm_request" && span.kind == SpanKind::Other {
        span.kind = SpanKind::Llm;
    }
    traceloop::numbered(attrs, span);
    for message in &mut span.output {
        // Its calls are only in attributes of their own.
        if message.is_empty() {
            message.tool_calls = traceloop::function_calls(attrs);
        }
    }
    if let Some(message) = attrs.text("error.message").filter(|_| span.kind == SpanKind::Llm) {
        span.error = Some(message);
    }
    otel_genai::nothing_captured(span);
}

fn raw(wire: &WireSpan, span: &mut Span) {
    span.kind = SpanKind::Llm;
    let provider =
        wire.attrs.0.keys().filter_map(|key| key.strip_prefix("llm.")?.split_once('.')).map(|(p, _)| p).min();
    let Some(provider) = provider else { return };
    let get = |key: &str| wire.attrs.get(&format!("llm.{provider}.{key}"));
    span.provider = Some(provider.to_owned());
    span.model = get("model").and_then(Value::as_str).map(str::to_owned);
    facts::params_under(&wire.attrs, &format!("llm.{provider}."), span);
    span.input = ["messages", "input", "prompt"]
        .iter()
        .find_map(|key| get(key))
        .map_or_else(Vec::new, |value| shapes::spoken(value, "user", shapes::ASKED));
    span.tools = get("tools").map(facts::tools).unwrap_or_default();
    span.response_format = get("response_format").or_else(|| get("text")).and_then(facts::response_format);
    let choices = get("choices").or_else(|| get("output")).or_else(|| get("content")).and_then(structured);
    let choice = choices.as_ref().and_then(|c| c.get(0));
    let reason = choice.and_then(|c| c.get("finish_reason")).or_else(|| get("stop_reason")).and_then(Value::as_str);
    span.finish_reason = reason.and_then(normal_finish_reason);
    span.output = choices.as_ref().and_then(|c| shapes::dialogue(c, "assistant")).unwrap_or_default();
    span.usage = get("usage").and_then(facts::usage);
}
