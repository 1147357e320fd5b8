//! Attributes that every dialect shares: whose trace it is, from where, for which prompt.
//!
//! Called once a span, before its dialect. Its rule: span attributes win over resource attributes, our own `assize.*` names
//! win over everybody's. Each list is in order of precedence and is documented in `docs/ingest.md`.

use super::lenient::{placeholder, structured, unquoted};
use super::wire::{Attrs, WireEvent, WireSpan};
use crate::domain::span::Span;
use serde_json::{Map, Value};

const ENVIRONMENT: &[&str] =
    &["assize.environment", "langfuse.environment", "deployment.environment.name", "deployment.environment"];
const FEATURE: &[&str] = &["assize.feature", "feature", "app.feature", "metadata.feature"];
const TENANT: &[&str] = &["assize.tenant", "tenant.id", "tenant", "metadata.tenant"];
const SESSION: &[&str] =
    &["session.id", "gen_ai.conversation.id", "langfuse.session.id", "metadata.session_id", "metadata.thread_id"];
const USER: &[&str] = &[
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "llm.user",
    "llm.openai.user",
    "metadata.user_id",
    "metadata.user_api_key_end_user_id",
    "mlflow.trace.user",
    "user_id",
];
const PROMPT_NAME: &[&str] = &[
    "assize.prompt.name",
    "gen_ai.prompt.name",
    "langfuse.observation.prompt.name",
    "traceloop.prompt.key",
    "prompt.name",
    "prompt.id",
];
const PROMPT_VERSION: &[&str] = &[
    "assize.prompt.version",
    "gen_ai.prompt.version",
    "llm.prompt_template.version",
    "langfuse.observation.prompt.version",
    "traceloop.prompt.version",
    "prompt.version",
];

/// Where frameworks put what the application calls metadata, one attribute a key.
const METADATA: &[&str] = &[
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
    "ai.settings.context.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "mlflow.traceTag.",
];

/// Keys of metadata that frameworks add for themselves.
const THEIRS: &[&str] =
    &["ls_", "lc_", "langgraph_", "checkpoint_", "is_langchain", "response_format", "user_api_key", "color"];

/// Attributes whose names are tags: a list, or a text with commas.
const NAMES: &[&str] = &["tag.tags", "langfuse.trace.tags", "langfuse.tags"];

/// Tags are for grouping and rules, so each is short and they are few; the rest of the metadata stays behind.
const TAGS_MAX: usize = 32;
const TAG_CHARS_MAX: usize = 200;

pub(super) fn read(wire: &WireSpan, span: &mut Span) {
    let (own, resource) = (&wire.attrs, &*wire.resource);
    let find = |keys: &[&str]| clean(own.first_text(keys)).or_else(|| clean(resource.first_text(keys)));
    let release = find(&["langfuse.release"]);
    span.service = clean(own.text("service.name")).or_else(|| clean(resource.text("service.name")));
    span.service_version = find(&["service.version"]).or(release);
    span.environment = find(ENVIRONMENT);
    span.feature = find(FEATURE);
    span.tenant = find(TENANT);
    span.session = find(SESSION);
    span.user = find(USER);
    span.prompt.name = find(PROMPT_NAME);
    span.prompt.version = find(PROMPT_VERSION);
    for (field, key) in [("session", "session_id"), ("user", "user_id"), ("session", "session.id"), ("user", "user.id")]
    {
        if let Some(why) = own.text(key).as_deref().and_then(placeholder) {
            span.gap(field, why);
        }
    }
    // Our own tags come first, since their number is bounded.
    for (key, value) in sorted(own) {
        if let Some(name) = key.strip_prefix("assize.tag.") {
            tag(span, name, value);
        }
    }
    for key in NAMES {
        names(own.get(key), span);
    }
    for key in ["metadata", "langfuse.trace.metadata", "langfuse.observation.metadata", "langfuse.metadata"]
        .into_iter()
        .chain(["metadata.requester_metadata"])
    {
        if let Some(Value::Object(map)) = own.get(key).and_then(structured) {
            metadata(map.iter().map(|(k, v)| (k.as_str(), v)), span);
        }
    }
    for prefix in METADATA {
        metadata(sorted(own).into_iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?, v))), span);
    }
    for key in ["feature_flags", "flags"] {
        flags(own.get(key), span);
    }
    for event in &wire.events {
        feature_flag(event, span);
        evaluation(event, span);
    }
}

fn sorted(attrs: &Attrs) -> Vec<(&str, &Value)> {
    let mut pairs: Vec<(&str, &Value)> = attrs.0.iter().map(|(k, v)| (k.as_str(), v)).collect();
    pairs.sort_unstable_by_key(|(key, _)| *key);
    pairs
}

/// Metadata of the application: its scalars are tags, and fill what is still unknown.
fn metadata<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>, span: &mut Span) {
    for (key, value) in pairs.filter(|(key, _)| !THEIRS.iter().any(|start| key.starts_with(start))) {
        let text = value.as_str().map(unquoted);
        let plain = text.clone().map_or_else(|| value.clone(), Value::String);
        match key {
            "tags" => names(Some(value), span),
            "flags" | "feature_flags" => flags(Some(value), span),
            _ => tag(span, key, &plain),
        }
        let known = match key {
            "tenant" | "tenant_id" => &mut span.tenant,
            "feature" => &mut span.feature,
            "session_id" | "sessionId" | "thread_id" | "threadId" => &mut span.session,
            "user_id" | "userId" => &mut span.user,
            "env" | "environment" => &mut span.environment,
            _ => continue,
        };
        if known.is_none() {
            *known = clean(text).filter(|t| !t.is_empty());
        }
    }
}

/// Names without a value: each is a tag that is true.
pub(super) fn names(value: Option<&Value>, span: &mut Span) {
    let list: Vec<String> = match value.map(|v| structured(v).unwrap_or_else(|| v.clone())) {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => return,
    };
    // LangChain adds the step of its graph.
    for name in list.iter().filter(|n| !n.contains(':')) {
        tag(span, name, &Value::Bool(true));
    }
}

/// Feature flags by name, as an object.
fn flags(value: Option<&Value>, span: &mut Span) {
    let Some(Value::Object(map)) = value.and_then(structured) else { return };
    let map: Map<String, Value> = map;
    for (name, value) in &map {
        tag(span, &format!("feature_flag.{name}"), value);
    }
}

/// A flag that was asked for during the span, by the names of either convention.
fn feature_flag(event: &WireEvent, span: &mut Span) {
    if !matches!(event.name.as_str(), "feature_flag" | "feature_flag.evaluation") {
        return;
    }
    let Some(key) = event.attrs.text("feature_flag.key") else { return };
    let value =
        event.attrs.first_text(&["feature_flag.result.variant", "feature_flag.variant", "feature_flag.result.value"]);
    if let Some(value) = value {
        tag(span, &format!("feature_flag.{key}"), &Value::String(value));
    }
}

/// What somebody else's evaluation found: kept apart from the application's own content.
fn evaluation(event: &WireEvent, span: &mut Span) {
    if event.name != "gen_ai.evaluation.result" {
        return;
    }
    let Some(name) = event.attrs.text("gen_ai.evaluation.name") else { return };
    let found = event.attrs.first_text(&["gen_ai.evaluation.score.label", "gen_ai.evaluation.score.value"]);
    if let Some(found) = found {
        tag(span, &format!("evaluation.{name}"), &Value::String(found));
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
