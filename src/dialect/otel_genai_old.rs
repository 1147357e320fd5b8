//! The GenAI conventions before 1.37 (`gen_ai.system`), and older ways still in the field.
//!
//! Content is in one event a message (`gen_ai.user.message`, `gen_ai.choice`, …), which come as log records, as span events or as
//! a list in the attribute `events`; or in the span events `gen_ai.content.prompt` and `.completion`; or in the attributes
//! `gen_ai.prompt` and `gen_ai.completion`. Its rule: newer names, where both are sent, have been read before.

use super::lenient::{plain, structured};
use super::wire::{Attrs, WireSpan};
use super::{Dialect, facts, otel_genai, shapes};
use crate::domain::message::{Message, normal_role};
use crate::domain::span::{Span, normal_finish_reason};
use serde_json::{Map, Value};

pub(super) const DIALECT: Dialect = Dialect { name: "otel_genai_old", recognises, read };

fn recognises(wire: &WireSpan) -> bool {
    let has = |key: &str| wire.attrs.get(key).is_some();
    has("gen_ai.system") && !has("gen_ai.provider.name")
}

fn read(wire: &WireSpan, span: &mut Span) {
    otel_genai::read(wire, span);
    let attrs = &wire.attrs;
    facts::params_under(attrs, "gen_ai.openai.request.", span);
    if span.response_format.is_none() {
        span.response_format = match attrs.text("gen_ai.openai.request.response_format").as_deref() {
            // The schema does not travel with these conventions.
            Some(kind @ ("json_object" | "json_schema")) => {
                Some(crate::domain::message::ResponseFormat { kind: kind.to_owned(), ..facts::json_without_schema() })
            }
            _ => None,
        };
    }
}

/// Whether an event of this name is one message.
pub(super) fn is_message(event: &str) -> bool {
    matches!(
        event,
        "gen_ai.system.message"
            | "gen_ai.user.message"
            | "gen_ai.assistant.message"
            | "gen_ai.tool.message"
            | "gen_ai.choice"
    )
}

/// Puts one message event into the span: a choice is output, the others are input.
pub(super) fn put(event: &str, body: &Value, span: &mut Span) {
    let Some(body) = structured(body) else {
        if !body.is_null() {
            span.input.push(Message::text("user", plain(body)));
        }
        return;
    };
    let empty = Map::new();
    let map = body.as_object().unwrap_or(&empty);
    if event == "gen_ai.choice" {
        let mut message = map.get("message").and_then(structured).unwrap_or_else(|| body.clone());
        // The convention has tool calls beside the message, SDKs have them inside.
        if let (Some(inner), Some(calls)) = (message.as_object_mut(), map.get("tool_calls")) {
            inner.entry("tool_calls").or_insert_with(|| calls.clone());
        }
        span.output.extend(shapes::message(&message, "assistant"));
        let reason = map.get("finish_reason").and_then(Value::as_str).and_then(normal_finish_reason);
        span.finish_reason = span.finish_reason.take().or(reason);
        return;
    }
    let role = event.strip_prefix("gen_ai.").and_then(|e| e.strip_suffix(".message")).unwrap_or("user");
    span.input.extend(shapes::message(&body, normal_role(role)));
}

/// Content in the older ways, for what is still empty.
pub(super) fn content(wire: &WireSpan, span: &mut Span) {
    if !span.input.is_empty() && !span.output.is_empty() {
        return;
    }
    let mut old = Span::default();
    for event in wire.events.iter().filter(|e| is_message(&e.name)) {
        put(&event.name, &of_attributes(&event.attrs), &mut old);
    }
    for key in ["events", "all_messages_events"] {
        let Some(Value::Array(list)) = wire.attrs.get(key).and_then(structured) else { continue };
        for item in list {
            if let Some(name) = item.get("event.name").and_then(Value::as_str).filter(|n| is_message(n)) {
                put(name, &item, &mut old);
            }
        }
    }
    if old.input.is_empty() && old.output.is_empty() {
        prompt_and_completion(wire, &mut old);
    }
    if span.input.is_empty() {
        span.input = old.input;
    }
    if span.output.is_empty() {
        span.output = old.output;
    }
    span.finish_reason = span.finish_reason.take().or(old.finish_reason);
}

/// A span event's attributes as a body; `message` and `tool_calls` are JSON text there.
fn of_attributes(attrs: &Attrs) -> Value {
    let pairs = attrs.0.iter().map(|(key, value)| {
        let short = key.strip_prefix("gen_ai.event.").unwrap_or(key);
        let nested = matches!(short, "message" | "tool_calls");
        (short.to_owned(), if nested { structured(value).unwrap_or_else(|| value.clone()) } else { value.clone() })
    });
    Value::Object(pairs.collect())
}

fn prompt_and_completion(wire: &WireSpan, span: &mut Span) {
    let event = |name: &'static str| wire.events.iter().filter(move |e| e.name == name);
    let prompts = event("gen_ai.content.prompt").filter_map(|e| e.attrs.get("gen_ai.prompt"));
    for value in prompts.chain(wire.attrs.get("gen_ai.prompt")) {
        span.input.extend(shapes::spoken(value, "user", shapes::ASKED));
    }
    let completions = event("gen_ai.content.completion").filter_map(|e| e.attrs.get("gen_ai.completion"));
    for value in completions.chain(wire.attrs.get("gen_ai.completion")) {
        span.output.extend(shapes::spoken(value, "assistant", shapes::TOLD));
    }
}
