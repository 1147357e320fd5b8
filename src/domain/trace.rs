//! A whole trace: its spans, and the trace-level view lifted from them.
//!
//! Built by `pipeline::assemble`, stored in `trace_bodies`, read by sampling, checks and judges. Its rule: `view` is derived
//! from the spans and nothing else, so that any order or splitting of the input gives the same trace. The way not taken:
//! judging each span by itself, which loses the question when only the root knows it.

use super::message::{Document, Message};
use super::span::{Span, Status};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The fields of native JSON, of a trace and of a span alike; `dialect::native` reads them, and a rubric's tests are held
/// against them.
pub const NATIVE_FIELDS: &[&str] = &[
    "trace_id",
    "span_id",
    "parent_id",
    "kind",
    "name",
    "started_at",
    "ended_at",
    "status",
    "error",
    "service",
    "service_version",
    "environment",
    "feature",
    "prompt",
    "provider",
    "model",
    "tenant",
    "session",
    "user",
    "input",
    "output",
    "system",
    "context",
    "tools",
    "tool_calls",
    "response_format",
    "finish_reason",
    "usage",
    "cost_usd",
    "tags",
    "spans",
    "label",
];

/// A trace as it is sampled, judged and stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trace {
    /// The trace's id.
    pub trace_id: String,
    /// Trace-level fields: input, output, context, model, usage and so on, lifted from the spans. Its `span_id` is the
    /// root's, its `documents` are all that was retrieved, its `tool_calls` all that was run.
    pub view: Span,
    /// All spans, parents before children, then by time.
    pub spans: Vec<Span>,
    /// The raw form of those spans that are not as they came: put together from parts or from different copies, or cut out of a
    /// circle of parents. With these a late span meets the same pieces as one that came in time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Span>,
    /// The transcript of a session, where this is made of one; never stored.
    #[serde(skip)]
    pub conversation: Option<String>,
}

impl Trace {
    /// Reads a stored trace as far as judging needs it: with its view, without its spans, which hold the same text again.
    ///
    /// # Errors
    /// When it is no stored trace.
    pub fn to_judge(body: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Viewed {
            trace_id: String,
            view: Span,
        }
        let Viewed { trace_id, view } = serde_json::from_slice(body)?;
        Ok(Self { trace_id, view, ..Self::default() })
    }

    /// The spans and parts as they came: what the trace is a function of.
    #[must_use]
    pub fn into_pieces(self) -> Vec<Span> {
        let apart: HashSet<String> = self.pieces.iter().map(|piece| piece.span_id.clone()).collect();
        self.spans.into_iter().filter(|span| !apart.contains(&span.span_id)).chain(self.pieces).collect()
    }

    /// The last thing the user said; `None` when there is no such message.
    #[must_use]
    pub fn question(&self) -> Option<&str> {
        self.view
            .input
            .iter()
            .rev()
            .find(|m| m.role == "user" && !m.content.trim().is_empty())
            .or_else(|| self.view.input.iter().rev().find(|m| m.role.is_empty() && !m.content.trim().is_empty()))
            .map(|m| m.content.as_str())
    }

    /// The text of the answer: the output messages' content, joined; `None` when there is no output at all, which is
    /// another thing than an empty answer.
    #[must_use]
    pub fn answer(&self) -> Option<String> {
        if self.view.output.is_empty() {
            return None;
        }
        // Some senders put tool results beside the answer.
        let told = self.view.output.iter().filter(|m| matches!(m.role.as_str(), "assistant" | ""));
        let texts: Vec<&str> = told.map(|m| m.content.as_str()).filter(|t| !t.is_empty()).collect();
        Some(texts.join("\n"))
    }

    /// The provider's own refusal text, when it sent one.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.view.output.iter().find_map(|m| m.refusal.as_deref())
    }

    /// What was said before the question: earlier user and assistant messages.
    #[must_use]
    pub fn history(&self) -> &[Message] {
        let input = &self.view.input;
        let last = input.iter().rposition(|m| m.role == "user").unwrap_or(0);
        &input[..last]
    }

    /// Documents that carry text.
    pub fn context(&self) -> impl Iterator<Item = &Document> {
        self.view.documents.iter().filter(|d| d.content.as_deref().is_some_and(|c| !c.trim().is_empty()))
    }

    /// System instructions, sent apart or as messages.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.view
            .system
            .as_deref()
            .or_else(|| self.view.input.iter().find(|m| m.role == "system").map(|m| m.content.as_str()))
            .filter(|text| !text.trim().is_empty())
    }

    /// From start to end, in milliseconds; `None` when either is unknown.
    #[must_use]
    pub fn latency_ms(&self) -> Option<i64> {
        Some((self.view.ended_at? - self.view.started_at?).num_milliseconds())
    }

    /// True when the trace ended with an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.view.status == Status::Error
    }
}
