//! Attributes that every dialect shares: whose trace it is, from where, for which prompt.
//!
//! Called once a span, before its dialect. Its rule: span attributes win over resource attributes, our own `assize.*` names
//! win over everybody's. Each list is in order of precedence and is documented in `docs/ingest.md`.

use super::lenient::{placeholder, structured};
use super::wire::{Attrs, WireSpan};
use crate::domain::span::Span;
use serde_json::Value;

const ENVIRONMENT: &[&str] =
    &["assize.environment", "langfuse.environment", "deployment.environment.name", "deployment.environment"];
const FEATURE: &[&str] = &["assize.feature", "feature", "app.feature", "metadata.feature"];
const TENANT: &[&str] = &["assize.tenant", "tenant.id", "tenant", "metadata.tenant"];
const SESSION: &[&str] =
    &["session.id", "gen_ai.conversation.id", "langfuse.session.id", "metadata.session_id", "metadata.thread_id"];
const USER: &[&str] = &["user.id", "enduser.id", "langfuse.user.id", "llm.user", "metadata.user_id"];
const PROMPT_NAME: &[&str] = &["assize.prompt.name", "gen_ai.prompt.name", "prompt.name", "prompt.id"];
const PROMPT_VERSION: &[&str] =
    &["assize.prompt.version", "gen_ai.prompt.version", "llm.prompt_template.version", "prompt.version"];

/// Tags are for grouping and rules, so each is short and they are few; the rest of the metadata stays behind.
const TAGS_MAX: usize = 32;
const TAG_CHARS_MAX: usize = 200;

pub(super) fn read(wire: &WireSpan, span: &mut Span) {
    let (own, resource) = (&wire.attrs, &*wire.resource);
    let find = |keys: &[&str]| clean(own.first_text(keys)).or_else(|| clean(resource.first_text(keys)));
    span.service = clean(own.text("service.name")).or_else(|| clean(resource.text("service.name")));
    span.service_version = find(&["service.version"]);
    span.environment = find(ENVIRONMENT);
    span.feature = find(FEATURE);
    span.tenant = find(TENANT);
    span.session = find(SESSION);
    span.user = find(USER);
    span.prompt.name = find(PROMPT_NAME);
    span.prompt.version = find(PROMPT_VERSION);
    metadata(own, span);
    for (key, value) in &own.0 {
        if let Some(name) = key.strip_prefix("assize.tag.") {
            tag(span, name, value);
        }
    }
    if let Some(Value::Array(tags)) = own.get("tag.tags") {
        for name in tags.iter().filter_map(Value::as_str) {
            tag(span, name, &Value::Bool(true));
        }
    }
}

/// `metadata`: an object, mostly as text; its scalars are tags, and fill what is still unknown.
fn metadata(own: &Attrs, span: &mut Span) {
    let Some(Value::Object(map)) = own.get("metadata").and_then(structured) else { return };
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    span.tenant = span.tenant.take().or_else(|| text("tenant"));
    span.feature = span.feature.take().or_else(|| text("feature"));
    span.session = span.session.take().or_else(|| text("session_id")).or_else(|| text("thread_id"));
    span.user = span.user.take().or_else(|| text("user_id"));
    for (key, value) in &map {
        tag(span, key, value);
    }
}

/// Keeps a scalar as a tag, within the bounds.
pub(super) fn tag(span: &mut Span, name: &str, value: &Value) {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => return,
    };
    if span.tags.len() < TAGS_MAX && text.len() <= TAG_CHARS_MAX && !name.is_empty() && name.len() <= TAG_CHARS_MAX {
        span.tags.insert(name.to_owned(), text);
    }
}

/// A label that was hidden by its sender is no label.
fn clean(text: Option<String>) -> Option<String> {
    text.filter(|t| placeholder(t).is_none())
}
