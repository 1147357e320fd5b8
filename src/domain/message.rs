//! Chat messages as every dialect's messages end up: a role, text, tool calls, and the parts we do not know.
//!
//! Built by `dialect`, read by `checks` and `judge`. Its rule: nothing is thrown away; a part of unknown type is kept in
//! `other`. The way not taken: a list of typed parts for each message; nearly every reader wants the text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one spelling of a role among those seen in the field; unknown ones pass as they are.
#[must_use]
pub fn normal_role(raw: &str) -> &str {
    match raw {
        "human" | "Human" | "HumanMessage" | "HumanMessageChunk" => "user",
        "ai" | "AI" | "AIMessage" | "AIMessageChunk" | "model" => "assistant",
        "developer" | "SystemMessage" => "system",
        "function" | "ToolMessage" | "FunctionMessage" => "tool",
        other => other,
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what the sender wrote.
    pub role: String,
    /// The text parts, joined by newlines; empty when there are none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// Text in which the provider declined, where it sends that apart from the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Tool calls that the assistant asked for in this message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolRequest>,
    /// The call that a `tool` message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Parts that are not text (images, audio, files, reasoning), as they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<Value>,
}

impl Message {
    /// A message that is only text.
    #[must_use]
    pub fn text(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into(), ..Self::default() }
    }

    /// True when the message carries nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.refusal.is_none() && self.tool_calls.is_empty() && self.other.is_empty()
    }
}

/// A call of a tool that the model asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolRequest {
    /// The call's id, where the provider gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// Arguments: an object when they could be parsed, else the text as it came.
    pub arguments: Value,
}

/// A tool that the model was offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolDefinition {
    /// The tool's name.
    pub name: String,
    /// What the model was told it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments; null where it was not sent.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
}

/// A tool call that was carried out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// What it was called with: any JSON, or text.
    pub arguments: Value,
    /// What it gave: any JSON, or text.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// Why it failed, when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A retrieved document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// Its id in the store it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its text; absent when the sender transmits only ids and scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The retriever's score, on the retriever's own scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What else its sender says of it (source, section, …); null when nothing.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
}

/// What form the caller demanded of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema's name, when one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The JSON Schema; null means JSON was demanded, but the schema did not travel with the trace.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub schema: Value,
}

impl ResponseFormat {
    /// True when the answer had to be JSON.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        self.kind.starts_with("json")
    }
}

/// Tokens that a call used. Input includes cached tokens, output includes reasoning tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Completion tokens, reasoning included.
    pub output_tokens: u64,
    /// Of the input, those served from the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_input_tokens: u64,
    /// Of the output, those spent on reasoning.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Adds another call's tokens.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
