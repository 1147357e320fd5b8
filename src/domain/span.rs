//! One span, whatever dialect it came in.
//!
//! Built by `dialect`, kept in the inbox by `store::inbox`, put together to a trace by `pipeline::assemble`. Its rule: a
//! field is empty when the sender did not send it, and `gaps` says so when we know why; nothing is guessed. The way not
//! taken: keeping OTLP as the inner form, which would make every reader know every dialect.

use super::label::Draft;
use super::message::{Document, Message, ResponseFormat, ToolCall, ToolDefinition, Usage};
use super::policy::Upstream;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a span did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// A call of a language model.
    Llm,
    /// A search for documents.
    Retrieval,
    /// A tool that was run.
    Tool,
    /// An agent's turn.
    Agent,
    /// A chain or workflow around other spans.
    Chain,
    /// An embedding call.
    Embedding,
    /// A reranking of documents.
    Reranker,
    /// A guardrail.
    Guardrail,
    /// An evaluation that somebody else ran; never taken for content of the application.
    Evaluator,
    /// HTTP, database and other spans that say nothing about language models.
    #[default]
    Other,
}

impl SpanKind {
    /// All kinds, by name.
    pub const NAMES: [&'static str; 10] =
        ["llm", "retrieval", "tool", "agent", "chain", "embedding", "reranker", "guardrail", "evaluator", "other"];

    /// Its name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// How a span or trace ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Well, or nothing else was said.
    #[default]
    Ok,
    /// With an error.
    Error,
}

/// Which naming scheme the ids belong to, so that an evaluation can be joined to the right span in Datadog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdSource {
    /// W3C ids in hex, from OpenTelemetry.
    Otel,
    /// Ids of Datadog's own LLM Observability spans.
    Datadog,
    /// Ids that the application made up.
    #[default]
    Native,
}

/// The prompt template behind a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptRef {
    /// The template's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Content that is missing, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// The field that is missing or cut: `output`, `context`, `attributes`, …
    pub field: String,
    /// Why: `redacted`, `truncated`, `dropped by limits`, `not understood: …`.
    pub reason: String,
}

/// One unit of work of the traced application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Span {
    /// The trace it belongs to: 32 lower-case hex digits from OpenTelemetry, else any text.
    pub trace_id: String,
    /// Its id within the trace.
    pub span_id: String,
    /// The span it ran under; absent at the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// What it did.
    pub kind: SpanKind,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub status: Status,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The dialect its attributes were read as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dialect: String,
    /// What its ids are.
    pub id_source: IdSource,
    /// W3C trace flags; bit 1 says that the trace id is random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// W3C tracestate, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// What a sampler before us said, where the dialect has a place for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// True when the sender says that no more spans of this trace will come (a whole native trace).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Set when this is not the span but content that came apart from it, in a log record: its place among those of the
    /// same time. Assembly puts the parts into their span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,

    /// The service that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// That service's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_version: Option<String>,
    /// `production`, `staging`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The product feature it served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The customer or organisation it ran for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The conversation it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The user, as the application named them (hashed, we hope).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The prompt template.
    pub prompt: PromptRef,
    /// Scalar attributes without a place of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,

    /// `openai`, `anthropic`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that answered, or else the one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Parameters of the request that are one value each: `temperature`, `max_tokens`, `seed`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// System instructions sent apart from the messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What went in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<Message>,
    /// What came out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Message>,
    /// Documents that were retrieved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document>,
    /// Tools that were offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// Tools that were run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The form that the answer had to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Why the model stopped: `stop`, `length`, `content_filter`, `tool_calls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost, where the sender says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// What is missing, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// What people said about it; taken out before anything is judged, and never part of a trace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Draft>,
}

impl Span {
    /// Notes that a field is missing or cut.
    pub fn gap(&mut self, field: &str, reason: impl Into<String>) {
        let gap = Gap { field: field.to_owned(), reason: reason.into() };
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }
}

/// The one spelling of a finish reason among those seen in the field; unknown ones pass as they are.
#[must_use]
pub fn normal_finish_reason(raw: &str) -> Option<String> {
    let text = raw.trim().trim_matches(['[', ']', '"']).to_ascii_lowercase().replace('-', "_");
    Some(match text.as_str() {
        "" | "none" | "null" => return None,
        "stop" | "end_turn" | "stop_sequence" => "stop".to_owned(),
        "length" | "max_tokens" | "max_output_tokens" => "length".to_owned(),
        "tool_call" | "tool_calls" | "tool_use" | "function_call" => "tool_calls".to_owned(),
        "content_filter" | "refusal" | "safety" => "content_filter".to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finish_reasons_have_one_spelling() {
        for (raw, want) in [
            ("tool-calls", Some("tool_calls")),
            ("[\"tool_calls\"]", Some("tool_calls")),
            ("end_turn", Some("stop")),
            ("", None),
            ("weird", Some("weird")),
        ] {
            assert_eq!(normal_finish_reason(raw).as_deref(), want, "{raw}");
        }
    }
}
