//! The facts around messages inside attributes: documents, tools offered and run, usage, parameters, the form demanded.
//!
//! Used by the dialects beside `shapes`. Its rule: usage ends up inclusive (cached tokens are part of the input, reasoning of the
//! output) whatever its sender counts. The way not taken: adding what is not known to be apart.

use super::lenient::{argument, plain, structured};
use super::wire::Attrs;
use crate::domain::message::{Document, ResponseFormat, ToolDefinition, Usage};
use crate::domain::span::Span;
use serde_json::{Map, Value};

/// Parameters that are kept, and the name under which.
const PARAMS: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("topP", "top_p"),
    ("top_k", "top_k"),
    ("topK", "top_k"),
    ("max_tokens", "max_tokens"),
    ("max_completion_tokens", "max_tokens"),
    ("max_output_tokens", "max_tokens"),
    ("maxOutputTokens", "max_tokens"),
    ("maxTokens", "max_tokens"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("n", "n"),
    ("choice.count", "n"),
    ("stream", "stream"),
];

/// Keeps the parameters among the members of a request.
pub(super) fn params<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a Value)>, span: &mut Span) {
    for (key, value) in pairs {
        let Some((_, name)) = PARAMS.iter().find(|(known, _)| *known == key) else { continue };
        if value.is_number() || value.is_boolean() {
            span.params.entry((*name).to_owned()).or_insert_with(|| value.clone());
        }
    }
}

/// Keeps the parameters that are attributes under a prefix.
pub(super) fn params_under(attrs: &Attrs, prefix: &str, span: &mut Span) {
    params(attrs.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value))), span);
}

/// The documents that a value holds: a list of them, alone or under `documents`; empty when it holds something else.
pub(super) fn documents(value: &Value) -> Vec<Document> {
    match structured(value) {
        Some(Value::Array(list)) => {
            let found: Vec<Document> = list.iter().filter_map(document).collect();
            if found.len() == list.len() { found } else { Vec::new() }
        }
        Some(Value::Object(map)) => {
            let keys = ["documents", "source_documents", "outputs", "output", "results", "nodes"];
            let inner = keys.iter().filter_map(|key| map.get(*key)).find(|v| v.is_array());
            inner.map(documents).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Whether a text that nobody called documents is a list of them: texts with an id, a score or metadata.
pub(super) fn look_like_documents(documents: &[Document]) -> bool {
    !documents.is_empty()
        && documents
            .iter()
            .all(|d| d.content.is_some() && (d.id.is_some() || d.score.is_some() || !d.metadata.is_null()))
}

/// A document object of any of the usual shapes.
pub(super) fn document(value: &Value) -> Option<Document> {
    let map = value.as_object()?;
    if let Some(inner) = map.get("kwargs").filter(|_| map.contains_key("lc")) {
        return document(inner);
    }
    if map.contains_key("role") {
        return None;
    }
    let node = map.get("node").and_then(Value::as_object).unwrap_or(map);
    let metadata = node.get("metadata").filter(|m| !m.is_null()).map(argument).unwrap_or_default();
    let text = |keys: &[&str]| {
        let found = keys.iter().find_map(|k| node.get(*k).or_else(|| map.get(*k)));
        found.filter(|v| v.is_string() || v.is_number()).map(plain).filter(|t| !t.is_empty())
    };
    let inside = |keys: &[&str]| keys.iter().find_map(|k| metadata.get(*k)).filter(|v| !v.is_null() && !v.is_object());
    let document = Document {
        id: text(&["id", "id_", "document_id", "doc_id", "node_id", "name"])
            .or_else(|| inside(&["id", "doc_uri", "document_id"]).map(plain)),
        content: text(&["content", "text", "page_content", "pageContent", "document"]),
        score: map.get("score").and_then(number).or_else(|| inside(&["score", "relevance_score"]).and_then(number)),
        metadata,
    };
    (document.id.is_some() || document.content.is_some()).then_some(document)
}

/// A number, also as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|n: &f64| n.is_finite())
}

/// The tools that a value offers: a list of definitions, each of which may be JSON text.
pub(super) fn tools(value: &Value) -> Vec<ToolDefinition> {
    let Some(Value::Array(list)) = structured(value) else { return Vec::new() };
    list.iter().filter_map(tool).collect()
}

/// One definition: flat by convention, nested under `function` where the SDK passes `OpenAI`'s form through.
pub(super) fn tool(value: &Value) -> Option<ToolDefinition> {
    let value = structured(value)?;
    let map = value.as_object()?;
    let map = map.get("function").and_then(Value::as_object).unwrap_or(map);
    let schemas = ["parameters", "inputSchema", "input_schema", "parameters_json_schema", "schema"];
    let schema = schemas.iter().find_map(|key| map.get(*key)).filter(|v| !v.is_null());
    Some(ToolDefinition {
        name: map.get("name")?.as_str()?.to_owned(),
        description: map.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: schema.map(argument).unwrap_or_default(),
    })
}

/// An `OpenAI` `response_format`, or the `text.format` of its Responses API.
pub(super) fn response_format(value: &Value) -> Option<ResponseFormat> {
    let value = structured(value)?;
    super::native::response_format(&value)
}

/// The form that a schema by itself demands.
pub(super) fn of_schema(schema: &Value, name: Option<String>) -> Option<ResponseFormat> {
    let schema = structured(schema)?;
    Some(ResponseFormat { kind: "json_schema".to_owned(), name, schema })
}

/// JSON was demanded and nothing is known of its schema.
pub(super) fn json_without_schema() -> ResponseFormat {
    ResponseFormat { kind: "json_object".to_owned(), ..ResponseFormat::default() }
}

/// Tokens as providers and SDKs count them.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    let value = structured(value)?;
    let map = value.as_object()?;
    let count = |keys: &[&str]| keys.iter().find_map(|key| map.get(*key)).and_then(whole);
    let detail = |outer: &[&str], inner: &[&str]| {
        let details = outer.iter().find_map(|key| map.get(*key)?.as_object())?;
        inner.iter().find_map(|key| details.get(*key)).and_then(whole)
    };
    let input = count(&["input_tokens", "prompt_tokens", "inputTokens", "promptTokens", "input", "prompt"]);
    let output =
        count(&["output_tokens", "completion_tokens", "outputTokens", "completionTokens", "output", "completion"]);
    if input.is_none() && output.is_none() {
        return None;
    }
    let cached = count(&["cache_read_input_tokens", "cached_input_tokens", "cachedInputTokens", "cached_tokens"])
        .or_else(|| {
            let outer = ["prompt_tokens_details", "input_tokens_details", "input_token_details", "inputTokenDetails"];
            detail(&outer, &["cached_tokens", "cache_read", "cacheReadTokens"])
        });
    let reasoning = count(&["reasoning_output_tokens", "reasoning_tokens", "reasoningTokens"]).or_else(|| {
        let outer =
            ["completion_tokens_details", "output_tokens_details", "output_token_details", "outputTokenDetails"];
        detail(&outer, &["reasoning_tokens", "reasoning", "reasoningTokens"])
    });
    let mut usage = Usage {
        input_tokens: input.unwrap_or(0),
        output_tokens: output.unwrap_or(0),
        cached_input_tokens: cached.unwrap_or(0),
        reasoning_tokens: reasoning.unwrap_or(0),
    };
    buckets(map, &mut usage);
    Some(usage)
}

/// `input_cache_read` beside `input` is counted apart from it, unless the total says otherwise.
fn buckets(map: &Map<String, Value>, usage: &mut Usage) {
    let under = |prefix: &str| -> u64 {
        let apart = map.iter().filter(|(key, _)| key.starts_with(prefix) && !key.ends_with("_tokens"));
        apart.filter_map(|(_, value)| whole(value)).fold(0, u64::saturating_add)
    };
    let read = map.get("input_cache_read").and_then(whole).unwrap_or(0);
    let thought = map.get("output_reasoning").and_then(whole).unwrap_or(0);
    usage.cached_input_tokens = usage.cached_input_tokens.max(read);
    usage.reasoning_tokens = usage.reasoning_tokens.max(thought);
    let total = ["total", "total_tokens"].iter().find_map(|key| map.get(*key)).and_then(whole);
    if total == Some(usage.input_tokens.saturating_add(usage.output_tokens)) {
        return;
    }
    usage.input_tokens = usage.input_tokens.saturating_add(under("input_"));
    usage.output_tokens = usage.output_tokens.saturating_add(under("output_"));
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; counts are far below 2^53"
)]
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| number(value).filter(|n| *n >= 0.0).map(|n| n as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_ends_up_inclusive() {
        let counts = |value: Value| {
            let u = usage(&value).expect("usage");
            (u.input_tokens, u.output_tokens, u.cached_input_tokens, u.reasoning_tokens)
        };
        let apart = json!({"input": 173, "output": 5, "total": 322, "input_cache_read": 128, "output_reasoning": 16,
            "input_audio": 0});
        assert_eq!(counts(apart), (301, 21, 128, 16));
        let within = json!({"input": 301, "output": 21, "total": 322, "input_cache_read": 128, "output_reasoning": 16});
        assert_eq!(counts(within), (301, 21, 128, 16));
        let openai = json!({"prompt_tokens": 301, "completion_tokens": 21, "total_tokens": 322,
            "prompt_tokens_details": {"cached_tokens": 128}, "completion_tokens_details": {"reasoning_tokens": 16}});
        assert_eq!(counts(openai), (301, 21, 128, 16));
        assert_eq!(usage(&json!({"total": 3})), None);
        assert_eq!(usage(&json!("{'input_tokens': 3, 'output_tokens': None}")).map(|u| u.input_tokens), Some(3));
    }

    #[test]
    fn documents_of_every_shape_are_read() {
        for value in [
            json!([{"id": "d", "content": "t", "score": 0.5, "metadata": {"s": 1}}]),
            json!({"documents": [{"page_content": "t", "metadata": {"id": "d", "score": 0.5}}]}),
            json!([{"page_content": "t", "metadata": {"doc_uri": "d", "score": 0.5}}]),
            json!([{"lc": 1, "kwargs": {"id": "d", "page_content": "t", "metadata": {"score": 0.5}}}]),
            json!("[{'name': 'd', 'text': 't', 'score': 0.5, 'metadata': {}}]"),
        ] {
            let found = documents(&value);
            assert_eq!(found.len(), 1, "{value}");
            let (id, text) = (found[0].id.as_deref(), found[0].content.as_deref());
            assert_eq!((id, text, found[0].score), (Some("d"), Some("t"), Some(0.5)), "{value}");
        }
        assert!(documents(&json!([{"role": "user", "content": "x"}])).is_empty());
        assert!(documents(&json!("text")).is_empty());
    }
}
