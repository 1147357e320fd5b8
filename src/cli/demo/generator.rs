//! The demo's conversations as OTLP spans, as real instrumentations would send them.
//!
//! Retrieval and tool conversations are written in the OTel GenAI conventions, JSON extraction in OpenInference, because only
//! that carries the requested schema. Its rule: nothing here is known to the receiving side; the spans go through the real door.

use super::corpus::Conversation;
use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SYSTEM: &str =
    "You are the support assistant of Furnish Hub, a furniture shop. Answer only from the provided context.";

/// Sampled and random, as W3C flags say it.
const FLAGS: u32 = 0x03;

/// A batch of conversations as an OTLP body.
pub(super) fn body(conversations: &[Conversation], now: DateTime<Utc>) -> Vec<u8> {
    let spans: Vec<Span> = conversations.iter().flat_map(|c| spans(c, now)).collect();
    let resource = Resource {
        attributes: vec![
            text("service.name", "furnish-hub"),
            text("service.version", "2026.11.2"),
            text("deployment.environment.name", "demo"),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "assize.demo".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

struct Builder<'a> {
    conversation: &'a Conversation,
    rng: StdRng,
    at: DateTime<Utc>,
    spans: Vec<Span>,
}

fn spans(conversation: &Conversation, now: DateTime<Utc>) -> Vec<Span> {
    let mut rng = StdRng::seed_from_u64(conversation.seed);
    let at = now - TimeDelta::milliseconds(rng.random_range(1_000..60_000));
    let mut builder = Builder { conversation, rng, at, spans: Vec::new() };
    let scenario = &conversation.scenario;
    let root_id = builder.id();
    if !scenario.documents.is_empty() {
        builder.retrieval(&root_id);
    }
    for index in 0..scenario.tool_calls.len() {
        builder.tool(&root_id, index);
    }
    if scenario.schema.is_some() {
        builder.openinference_call(&root_id);
    } else {
        builder.genai_call(&root_id);
    }
    builder.root(root_id);
    builder.spans
}

impl Builder<'_> {
    fn id(&mut self) -> Vec<u8> {
        // Never zero, which OTLP forbids.
        self.rng.random_range(1..u64::MAX).to_be_bytes().to_vec()
    }

    fn push(&mut self, parent: &[u8], name: &str, ms: i64, attributes: Vec<KeyValue>) {
        let span_id = self.id();
        let end = self.at + TimeDelta::milliseconds(ms);
        let span = self.span(span_id, name, (self.at, end), attributes);
        self.spans.push(Span { parent_span_id: parent.to_vec(), ..span });
        self.at = end;
    }

    fn span(
        &self,
        span_id: Vec<u8>,
        name: &str,
        (start, end): (DateTime<Utc>, DateTime<Utc>),
        attributes: Vec<KeyValue>,
    ) -> Span {
        let nanos = |t: DateTime<Utc>| u64::try_from(t.timestamp_nanos_opt().unwrap_or(0)).unwrap_or(0);
        Span {
            trace_id: self.conversation.trace_id.to_vec(),
            span_id,
            name: name.to_owned(),
            kind: 1,
            start_time_unix_nano: nanos(start),
            end_time_unix_nano: nanos(end),
            attributes,
            flags: FLAGS,
            ..Span::default()
        }
    }

    fn root(&mut self, span_id: Vec<u8>) {
        let c = self.conversation;
        let first = self.spans.iter().map(|s| s.start_time_unix_nano).min().unwrap_or(0);
        let start = DateTime::from_timestamp_nanos(i64::try_from(first).unwrap_or(0));
        let attributes = vec![
            text("gen_ai.operation.name", "invoke_agent"),
            text("gen_ai.agent.name", "support_assistant"),
            text("gen_ai.prompt.name", "support"),
            text("assize.prompt.version", c.version.name),
            text("assize.feature", &c.scenario.feature),
            text("assize.tag.language", &c.scenario.language),
            text("assize.tag.scenario", &c.scenario.id),
            text("gen_ai.input.messages", &json!([part("user", &c.scenario.question)]).to_string()),
            text("gen_ai.output.messages", &json!([part("assistant", &c.answer)]).to_string()),
        ];
        let root = self.span(span_id, "invoke_agent support_assistant", (start, self.at), attributes);
        self.spans.push(root);
    }

    fn retrieval(&mut self, root: &[u8]) {
        let scenario = &self.conversation.scenario;
        let documents: Vec<Value> =
            scenario.documents.iter().map(|d| json!({"id": d.id, "score": d.score, "content": d.content})).collect();
        let attributes = vec![
            text("gen_ai.operation.name", "retrieval"),
            text("gen_ai.data_source.id", "kb-furnish"),
            text("gen_ai.retrieval.query.text", &scenario.question),
            text("gen_ai.retrieval.documents", &Value::Array(documents).to_string()),
        ];
        let ms = self.rng.random_range(20..90);
        self.push(root, "retrieval kb-furnish", ms, attributes);
    }

    fn tool(&mut self, root: &[u8], index: usize) {
        let call = &self.conversation.scenario.tool_calls[index];
        let attributes = vec![
            text("gen_ai.operation.name", "execute_tool"),
            text("gen_ai.tool.name", &call.name),
            text("gen_ai.tool.call.arguments", &call.arguments.to_string()),
            text("gen_ai.tool.call.result", &call.result.to_string()),
        ];
        let name = format!("execute_tool {}", call.name);
        let ms = self.rng.random_range(30..200);
        self.push(root, &name, ms, attributes);
    }

    fn prompt_text(&self) -> String {
        let scenario = &self.conversation.scenario;
        let context: Vec<String> = scenario.documents.iter().map(|d| format!("[{}] {}", d.id, d.content)).collect();
        if context.is_empty() {
            scenario.question.clone()
        } else {
            format!("Context:\n{}\n\nQuestion: {}", context.join("\n"), scenario.question)
        }
    }

    fn genai_call(&mut self, root: &[u8]) {
        let c = self.conversation;
        let mut messages = vec![part("system", SYSTEM)];
        messages.extend(c.scenario.history.iter().map(|turn| part(&turn.role, &turn.content)));
        messages.push(part("user", &self.prompt_text()));
        let mut output = part("assistant", &c.answer);
        output["finish_reason"] = json!("stop");
        let input = Value::Array(messages).to_string();
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", "gpt-4o-mini"),
            text("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
            list("gen_ai.response.finish_reasons", &["stop"]),
            int("gen_ai.usage.input_tokens", input.len() / 4),
            int("gen_ai.usage.output_tokens", c.answer.len() / 4 + 1),
            text("gen_ai.input.messages", &input),
            text("gen_ai.output.messages", &json!([output]).to_string()),
        ];
        if !c.scenario.tools.is_empty() {
            attributes.push(text("gen_ai.tool.definitions", &json!(c.scenario.tools).to_string()));
        }
        let ms = self.rng.random_range(300..2_500);
        self.push(root, "chat gpt-4o-mini", ms, attributes);
    }

    fn openinference_call(&mut self, root: &[u8]) {
        let c = self.conversation;
        let schema = c.scenario.schema.as_ref().map(
            |s| json!({"type": "json_schema", "json_schema": {"name": s.name, "strict": true, "schema": s.schema}}),
        );
        let parameters = json!({"model": "gpt-4o-mini", "temperature": 0, "response_format": schema});
        let prompt = self.prompt_text();
        let attributes = vec![
            text("openinference.span.kind", "LLM"),
            text("llm.system", "openai"),
            text("llm.model_name", "gpt-4o-mini-2024-07-18"),
            text("llm.invocation_parameters", &parameters.to_string()),
            text("llm.input_messages.0.message.role", "system"),
            text("llm.input_messages.0.message.content", SYSTEM),
            text("llm.input_messages.1.message.role", "user"),
            text("llm.input_messages.1.message.content", &prompt),
            text("llm.output_messages.0.message.role", "assistant"),
            text("llm.output_messages.0.message.content", &c.answer),
            text("llm.finish_reason", "stop"),
            int("llm.token_count.prompt", prompt.len() / 4 + 40),
            int("llm.token_count.completion", c.answer.len() / 4 + 1),
        ];
        let ms = self.rng.random_range(300..2_500);
        self.push(root, "ChatCompletion", ms, attributes);
    }
}

fn part(role: &str, content: &str) -> Value {
    json!({"role": role, "parts": [{"type": "text", "content": content}]})
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: usize) -> KeyValue {
    attribute(key, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn list(key: &str, values: &[&str]) -> KeyValue {
    let values =
        values.iter().map(|v| AnyValue { value: Some(any_value::Value::StringValue((*v).to_owned())) }).collect();
    attribute(key, any_value::Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values }))
}
