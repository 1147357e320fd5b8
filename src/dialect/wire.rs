//! An OTLP span with its resource and scope, the same whether it came as protobuf or JSON.
//!
//! Made by `otlp_proto` and `otlp_json`, read by the dialects. Its rule: attribute values are JSON values, so that a dialect
//! never cares which encoding was used.

use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Attributes by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Attrs(pub HashMap<String, Value>);

impl Attrs {
    /// The value, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    /// The value as text: strings as they are, scalars printed; `None` for empty strings, lists and objects.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(s) => Some(s.clone()).filter(|s| !s.is_empty()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// The first of several keys that has text.
    pub fn first_text(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// A count: an integer, or text that is one.
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Number(n) => n.as_u64().or_else(|| n.as_f64().filter(|f| *f >= 0.0).map(to_u64)),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are far below 2^53")]
fn to_u64(number: f64) -> u64 {
    number as u64
}

/// Something that happened during a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WireEvent {
    pub name: String,
    pub attrs: Attrs,
}

/// A span as OTLP has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WireSpan {
    pub resource: Arc<Attrs>,
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: Option<String>,
    pub trace_state: Option<String>,
    pub flags: u32,
    pub name: String,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub attrs: Attrs,
    pub events: Vec<WireEvent>,
    pub status_code: i64,
    pub status_message: Option<String>,
    pub dropped_attributes: u64,
}

/// A log record with the ids of the span that it was written in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WireLog {
    pub resource: Arc<Attrs>,
    pub trace_id: String,
    pub span_id: String,
    pub time: Option<DateTime<Utc>>,
    pub event_name: String,
    pub attrs: Attrs,
    pub body: Value,
}

impl WireLog {
    /// What kind of event it is: by its own field, or as older SDKs have it, by an attribute.
    pub fn name(&self) -> Option<String> {
        Some(self.event_name.clone()).filter(|n| !n.is_empty()).or_else(|| self.attrs.text("event.name"))
    }
}

/// Unix nanoseconds to a time; zero means that the sender did not set it.
pub(super) fn time(nanos: u64) -> Option<DateTime<Utc>> {
    let signed = i64::try_from(nanos).ok().filter(|n| *n > 0)?;
    Some(DateTime::from_timestamp_nanos(signed))
}

/// Why an id cannot be used, if it cannot. `bytes` is 16 for traces and 8 for spans.
pub(super) fn id_problem(what: &str, hex_id: &str, bytes: usize) -> Option<String> {
    if hex_id.len() != bytes * 2 || !hex_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(format!("{what} must be {bytes} bytes, got {}", hex_id.len() / 2));
    }
    hex_id.bytes().all(|b| b == b'0').then(|| format!("{what} is all zeros"))
}
