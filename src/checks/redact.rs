//! Takes personal data and secrets out of spans, by the configured policy.
//!
//! Called by `pipeline::ingest` before a span is encoded, and by `pipeline::offline` before judges see a trace. Its rule: text that
//! was JSON stays JSON, a value has the same placeholder wherever it stands in its trace, and only ids that join spans are left
//! alone. The way not taken: numbering values in order of appearance; spans of a trace arrive apart and in any order.

mod json;

use super::personal_data::find;
use crate::domain::ids::short_hash;
use crate::domain::label::Draft;
use crate::domain::message::{Document, Message, ToolCall};
use crate::domain::personal::{Action, Category, PLACEHOLDER_DIGITS, RedactionPolicy};
use crate::domain::span::{Gap, Span};
use serde_json::Value;
use std::collections::BTreeMap;

/// How often something was replaced, by category.
pub type Counts = BTreeMap<Category, u64>;

/// Replaces what the policy does not keep.
#[derive(Debug, Clone)]
pub struct Redactor {
    policy: RedactionPolicy,
    key: Vec<u8>,
}

/// A redactor at work on one trace's text.
struct Work<'a> {
    redactor: &'a Redactor,
    trace_id: &'a str,
    counts: Counts,
}

impl Redactor {
    /// A redactor. `key` keeps placeholders from being looked up; all workers need the same one.
    #[must_use]
    pub fn new(policy: RedactionPolicy, key: &[u8]) -> Self {
        Self { policy, key: key.to_vec() }
    }

    /// Redacts a span in place; says what was replaced.
    pub fn span(&self, span: &mut Span) -> Counts {
        if self.policy.keeps_all() {
            return Counts::new();
        }
        let trace_id = span.trace_id.clone();
        let mut work = Work { redactor: self, trace_id: &trace_id, counts: Counts::new() };
        work.span(span);
        work.counts
    }

    /// Redacts a text of a trace; `None` when there is nothing to do.
    #[must_use]
    pub fn text(&self, trace_id: &str, text: &str) -> Option<String> {
        if self.policy.keeps_all() {
            return None;
        }
        Work { redactor: self, trace_id, counts: Counts::new() }.text(text)
    }
}

impl Work<'_> {
    /// Every text of a span; a new field must be put in one of the two places here.
    fn span(&mut self, span: &mut Span) {
        let Span {
            trace_id: _,
            span_id: _,
            parent_id: _,
            kind: _,
            started_at: _,
            ended_at: _,
            status: _,
            dialect: _,
            id_source: _,
            flags: _,
            upstream: _,
            complete: _,
            part: _,
            finish_reason: _,
            usage: _,
            cost_usd: _,
            name,
            error,
            trace_state,
            service,
            service_version,
            environment,
            feature,
            tenant,
            session,
            user,
            prompt,
            tags,
            params,
            provider,
            model,
            system,
            input,
            output,
            documents,
            tools,
            tool_calls,
            response_format,
            gaps,
            labels: people,
        } = span;
        self.own(name);
        let labels = [error, trace_state, service, service_version, environment, feature, tenant, session, user];
        let others = [&mut prompt.name, &mut prompt.version, provider, model, system];
        for text in labels.into_iter().chain(others) {
            self.own_option(text);
        }
        self.tags(tags);
        input.iter_mut().chain(output).for_each(|message| self.message(message));
        for document in documents {
            self.document(document);
        }
        for call in tool_calls.iter_mut() {
            self.call(call);
        }
        for tool in tools {
            self.own(&mut tool.name);
            self.own_option(&mut tool.description);
            self.value(&mut tool.parameters, None);
        }
        if let Some(format) = response_format {
            self.own_option(&mut format.name);
            self.value(&mut format.schema, None);
        }
        for value in params.values_mut() {
            self.value(value, None);
        }
        self.asides(gaps, people);
    }

    /// What is said about a span, not by it.
    fn asides(&mut self, gaps: &mut [Gap], people: &mut [Draft]) {
        for gap in gaps {
            self.own(&mut gap.reason);
        }
        for label in people {
            self.own_option(&mut label.comment);
            self.own_option(&mut label.labeller);
        }
    }

    fn tags(&mut self, tags: &mut BTreeMap<String, String>) {
        let mut found = Vec::new();
        for (key, text) in tags.iter_mut() {
            if let Some(new) = self.valued(key, text) {
                *text = new;
            }
            if let Some(new) = self.text(key) {
                found.push((key.clone(), new));
            }
        }
        for (old, new) in found {
            if let Some(text) = tags.remove(&old) {
                tags.insert(new, text);
            }
        }
    }

    fn message(&mut self, message: &mut Message) {
        let Message { role, content, refusal, tool_calls, tool_call_id, other } = message;
        self.own(role);
        self.own(content);
        self.own_option(refusal);
        self.own_option(tool_call_id);
        for call in tool_calls {
            self.own_option(&mut call.id);
            self.own(&mut call.name);
            self.value(&mut call.arguments, None);
        }
        for part in other.iter_mut() {
            self.value(part, None);
        }
    }

    fn document(&mut self, document: &mut Document) {
        self.own_option(&mut document.id);
        self.own_option(&mut document.content);
        self.value(&mut document.metadata, None);
    }

    fn call(&mut self, call: &mut ToolCall) {
        let ToolCall { name, arguments, result, error } = call;
        self.own(name);
        self.value(arguments, None);
        self.value(result, None);
        self.own_option(error);
    }

    fn own(&mut self, text: &mut String) {
        if let Some(new) = self.text(text) {
            *text = new;
        }
    }

    fn own_option(&mut self, text: &mut Option<String>) {
        if let Some(text) = text {
            self.own(text);
        }
    }

    /// Texts and numbers of a JSON value; `key` is what the value is called, which may say what it is.
    fn value(&mut self, value: &mut Value, key: Option<&str>) {
        match value {
            Value::String(text) => {
                let new = match key {
                    Some(key) => self.valued(key, text),
                    None => self.text(text),
                };
                if let Some(new) = new {
                    *text = new;
                }
            }
            Value::Number(number) => {
                if let Some(new) = self.number(key, &number.to_string()) {
                    *value = Value::String(new);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, key)),
            Value::Object(map) => {
                let mut renamed = Vec::new();
                for (name, item) in map.iter_mut() {
                    self.value(item, Some(name));
                    if let Some(new) = self.text(name) {
                        renamed.push((name.clone(), new));
                    }
                }
                for (old, new) in renamed {
                    if let Some(item) = map.remove(&old) {
                        map.insert(new, item);
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A text by itself.
    fn text(&mut self, text: &str) -> Option<String> {
        if is_media(text) {
            return None;
        }
        // JSON within text: escapes would be torn, so its parts are read one by one.
        if json::is_json(text) {
            return json::rewrite(text, &mut |part| self.json_part(&part));
        }
        self.plain("", text)
    }

    /// A text that is the value of `key`.
    fn valued(&mut self, key: &str, text: &str) -> Option<String> {
        if is_media(text) || json::is_json(text) {
            return self.text(text);
        }
        self.plain(&format!("{key}: "), text).or_else(|| self.plain("", text))
    }

    fn json_part(&mut self, part: &json::Part<'_>) -> Option<String> {
        match part {
            json::Part::Text { key: Some(key), text } => self.valued(key, text),
            json::Part::Text { key: None, text } => self.text(text),
            json::Part::Number { key, text } => self.number(*key, text),
        }
    }

    /// A JSON number: only as a whole, and only one long enough to be somebody's.
    fn number(&mut self, key: Option<&str>, text: &str) -> Option<String> {
        if text.len() < 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.plain(&key.map_or_else(String::new, |key| format!("{}: ", key.replace('_', " "))), text)
    }

    /// Plain text behind `lead`, which is looked at and not changed.
    fn plain(&mut self, lead: &str, text: &str) -> Option<String> {
        let joined = if lead.is_empty() { None } else { Some(format!("{lead}{text}")) };
        let whole = joined.as_deref().unwrap_or(text);
        let mut new = String::new();
        let mut from = lead.len();
        for hit in find(whole).into_iter().filter(|hit| hit.start >= lead.len()) {
            let action = self.redactor.policy.action(hit.category);
            if action == Action::Keep {
                continue;
            }
            *self.counts.entry(hit.category).or_default() += 1;
            new.push_str(&whole[from..hit.start]);
            new.push_str(&self.placeholder(hit.category, action, &whole[hit.start..hit.end]));
            from = hit.end;
        }
        if from == lead.len() {
            return None;
        }
        new.push_str(&whole[from..]);
        Some(new)
    }

    fn placeholder(&self, category: Category, action: Action, value: &str) -> String {
        let label = category.label();
        if action == Action::Drop {
            return format!("[{label}]");
        }
        let normal = normal(category, value);
        let parts = [&self.redactor.key, self.trace_id.as_bytes(), label.as_bytes(), normal.as_bytes()];
        format!("[{label}_{}]", short_hash(&parts, PLACEHOLDER_DIGITS))
    }
}

/// The value without the ways of writing it: one card is one card, with spaces or without.
fn normal(category: Category, value: &str) -> String {
    match category {
        Category::Secret => value.to_owned(),
        Category::Phone => value.chars().filter(char::is_ascii_digit).collect(),
        Category::Card | Category::NationalId | Category::Iban => {
            value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
        }
        Category::Email | Category::Ip | Category::Address => value.to_lowercase(),
    }
}

/// Pictures and sounds in the text's place.
fn is_media(text: &str) -> bool {
    let head = &text[..text.floor_char_boundary(64)];
    head.starts_with("data:") && head.contains(";base64,")
}

#[cfg(test)]
mod tests;
