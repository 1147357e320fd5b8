//! `MLflow` tracing over OTLP: every attribute is JSON text, also plain strings.
//!
//! Its rule: `mlflow.spanInputs` is the whole request and `mlflow.spanOutputs` the whole reply, so everything is taken from them
//! that the smaller attributes do not say.

use super::langfuse::shown;
use super::lenient::{structured, unquoted};
use super::wire::WireSpan;
use super::{Dialect, facts, shapes};
use crate::domain::message::ToolCall;
use crate::domain::span::{Span, SpanKind, normal_finish_reason};
use serde_json::Value;

pub(super) const DIALECT: Dialect = Dialect { name: "mlflow", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.get("mlflow.spanType").is_some() || wire.attrs.get("mlflow.spanInputs").is_some()
}

fn kind(name: &str) -> SpanKind {
    match name {
        "LLM" | "CHAT_MODEL" => SpanKind::Llm,
        "AGENT" => SpanKind::Agent,
        "TOOL" => SpanKind::Tool,
        "RETRIEVER" => SpanKind::Retrieval,
        "EMBEDDING" => SpanKind::Embedding,
        "RERANKER" => SpanKind::Reranker,
        "GUARDRAIL" => SpanKind::Guardrail,
        "EVALUATOR" => SpanKind::Evaluator,
        "CHAIN" | "WORKFLOW" | "TASK" | "PARSER" | "MEMORY" | "UNKNOWN" => SpanKind::Chain,
        _ => SpanKind::Other,
    }
}

fn read(wire: &WireSpan, span: &mut Span) {
    let text = |key: &str| wire.attrs.text(key).map(|t| unquoted(&t)).filter(|t| !t.is_empty() && t != "null");
    span.kind = kind(&text("mlflow.spanType").unwrap_or_default());
    span.model = text("mlflow.llm.model");
    span.provider = text("mlflow.llm.provider");
    let input = shown(wire.attrs.get("mlflow.spanInputs"), "input", span);
    let output = shown(wire.attrs.get("mlflow.spanOutputs"), "output", span);
    if let Some(tools) = wire.attrs.get("mlflow.chat.tools") {
        span.tools = facts::tools(tools);
    }
    span.usage = wire.attrs.get("mlflow.chat.tokenUsage").and_then(facts::usage);
    let cost = wire.attrs.get("mlflow.llm.cost").and_then(structured);
    span.cost_usd = cost.as_ref().and_then(|c| c.get("total_cost")).and_then(facts::number);
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
        SpanKind::Retrieval => span.documents = output.as_ref().map(facts::documents).unwrap_or_default(),
        SpanKind::Llm => call(input.as_ref(), output.as_ref(), span),
        _ => {}
    }
    span.input = input.map(|v| shapes::spoken(&v, "user", shapes::ASKED)).unwrap_or_default();
    if span.kind != SpanKind::Retrieval {
        span.output = output.map(|v| shapes::spoken(&v, "assistant", shapes::TOLD)).unwrap_or_default();
    }
}

/// What a request and a reply say beside their messages.
fn call(input: Option<&Value>, output: Option<&Value>, span: &mut Span) {
    if let Some(Value::Object(request)) = input.and_then(structured) {
        facts::params(request.iter().map(|(k, v)| (k.as_str(), v)), span);
        span.response_format = request.get("response_format").and_then(facts::response_format);
        let model = request.get("model").and_then(Value::as_str).map(str::to_owned);
        span.model = span.model.take().or(model);
        if span.tools.is_empty() {
            span.tools = request.get("tools").map(facts::tools).unwrap_or_default();
        }
    }
    let Some(reply) = output.and_then(structured) else { return };
    span.model = reply.get("model").and_then(Value::as_str).map(str::to_owned).or(span.model.take());
    span.usage = span.usage.take().or_else(|| facts::usage(reply.get("usage")?));
    let choice = reply.get("choices").and_then(|c| c.get(0));
    let reason = choice.and_then(|c| c.get("finish_reason")).and_then(Value::as_str);
    span.finish_reason = reason.and_then(normal_finish_reason);
}
