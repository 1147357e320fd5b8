//! A table test: bodies as real instrumentations sent them, decoded and assembled, against what the program said and was told.
//!
//! Its rule: every fact that `expected.json` lists must be in the trace, or stand in [`GAPS`] with the reason why its dialect does
//! not carry it; a gap that is none any more fails as well. The bodies are in `tests/fixtures/captures`.

use super::assemble;
use crate::dialect::{Encoding, datadog, decode, logs};
use crate::domain::message::{ResponseFormat, ToolRequest};
use crate::domain::span::{Span, SpanKind};
use crate::domain::trace::Trace;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Directory and the scenarios in it.
const CAPTURES: &[(&str, &str)] = &[
    ("datadog-llmobs", "qa rag json tool refusal err500 stream"),
    ("langfuse-v3-openai", "rag tool err500"),
    ("langfuse-v5-langchain", "rag tool stream"),
    ("langfuse-v5-openai", "qa rag json tool refusal err500 stream"),
    ("litellm-proxy", "json err500 tool1 tool2 stream"),
    ("mlflow-openai", "rag json tool err500"),
    ("openinference-langchain", "rag json tool stream"),
    ("openinference-llama-index", "rag stream tool"),
    ("openinference-openai", "qa rag json tool refusal err500 stream"),
    ("openinference-openai-split", "rag tool"),
    ("otel-genai-langchain", "rag json tool stream"),
    ("otel-genai-openai-event", "qa rag json tool refusal err500 stream turns"),
    ("otel-genai-openai-span", "qa rag json tool refusal err500 stream turns"),
    ("otel-genai-truncated", "rag json_bad tool"),
    ("otel-openai-v2-experimental", "qa tool stream"),
    ("otel-openai-v2-old-events", "qa rag json tool refusal err500 stream"),
    ("pydantic-ai-logfire", "rag json err500 tool stream"),
    ("traceloop-langchain", "rag tool stream"),
    ("traceloop-openai", "qa rag json tool refusal err500 stream"),
    ("traceloop-openai-old", "qa rag json tool refusal err500 stream"),
    ("vercel-ai-v5", "qa rag json tool refusal err500 stream"),
    ("vercel-ai-v7", "qa rag json tool refusal err500 stream"),
];

/// What a dialect, as captured, does not carry: directory, scenario (`*` for all), fields, reason.
const GAPS: &[(&str, &str, &str, &str)] = &[
    ("datadog-llmobs", "*", "tags", "the program gave flags and labels as tags, these two names it did not"),
    ("datadog-llmobs", "rag", "document metadata", "documents have text, name, id and score only"),
    ("langfuse-v3-openai", "rag", "finish reason", "not sent, except for streams"),
    ("langfuse-v3-openai", "tool", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-openai", "qa", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-openai", "rag", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-openai", "json", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-openai", "tool", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-openai", "refusal", "finish reason", "not sent, except for streams"),
    ("langfuse-v5-langchain", "*", "finish reason, flags", "the handler sends neither"),
    ("langfuse-v5-langchain", "stream", "input tokens, output tokens", "LangChain asks for no usage of a stream"),
    ("litellm-proxy", "*", "flags, release, service", "a gateway knows its own service, not its caller's"),
    (
        "mlflow-openai",
        "*",
        "flags, session, tags, user",
        "they stay in MLflow's trace metadata, which OTLP does not carry",
    ),
    ("openinference-langchain", "*", "flags, tags", "LangChain's tags do not become attributes"),
    ("openinference-langchain", "stream", "input tokens, output tokens", "LangChain asks for no usage of a stream"),
    ("openinference-llama-index", "*", "params", "the model's own settings are sent instead of the request's"),
    ("openinference-llama-index", "rag", "system", "the program has none there"),
    (
        "openinference-llama-index",
        "stream",
        "input tokens, output tokens, system",
        "no usage of a stream; the program has no system text there",
    ),
    (
        "openinference-llama-index",
        "tool",
        "tool description, tool parameters",
        "LlamaIndex writes its own from the function's signature",
    ),
    ("otel-genai-langchain", "*", "flags, tags, user", "no attributes for them in the conventions"),
    ("otel-genai-langchain", "rag", "document metadata", "ids and scores only; texts are found in the prompt"),
    ("otel-genai-langchain", "json", "form, schema", "neither is sent"),
    ("otel-genai-langchain", "stream", "input tokens, output tokens", "LangChain asks for no usage of a stream"),
    ("otel-genai-openai-event", "*", "tags", "no attribute for them in the conventions"),
    (
        "otel-genai-openai-event",
        "rag",
        "document ids, document metadata, document scores, document texts",
        "events carry content of calls only, not of retrievals",
    ),
    ("otel-genai-openai-event", "json", "schema", "the conventions do not transport it"),
    ("otel-genai-openai-span", "*", "tags", "no attribute for them in the conventions"),
    ("otel-genai-openai-span", "json", "schema", "the conventions do not transport it"),
    ("otel-genai-truncated", "*", "tags", "no attribute for them in the conventions"),
    (
        "otel-genai-truncated",
        "rag",
        "document ids, document metadata, document scores, document texts",
        "cut: what is left of the list is kept",
    ),
    ("otel-genai-truncated", "json_bad", "schema", "the conventions do not transport it"),
    ("otel-openai-v2-experimental", "*", "tags", "no attribute for them in the conventions"),
    (
        "otel-openai-v2-experimental",
        "tool",
        "tool description, tool name, tool parameters",
        "this version sends no definitions",
    ),
    ("otel-openai-v2-old-events", "*", "tags", "no attribute for them in the conventions"),
    (
        "otel-openai-v2-old-events",
        "rag",
        "document ids, document metadata, document scores, document texts",
        "the search is a plain database span",
    ),
    ("otel-openai-v2-old-events", "json", "schema", "only `json_schema` is said, not which"),
    (
        "otel-openai-v2-old-events",
        "tool",
        "tool description, tool name, tool parameters",
        "these conventions have no definitions",
    ),
    ("pydantic-ai-logfire", "*", "tags", "the program gives none"),
    (
        "pydantic-ai-logfire",
        "rag",
        "document ids, document metadata, document scores, document texts, session",
        "the search is no span; a run without an id gets a random one",
    ),
    ("pydantic-ai-logfire", "json", "session", "a run without an id gets a random one; logfire scrubs the other"),
    ("pydantic-ai-logfire", "tool", "session, tool parameters", "as above; pydantic-ai writes the schema itself"),
    ("pydantic-ai-logfire", "stream", "flags, session", "the program gives no flags there; session as above"),
    ("traceloop-langchain", "*", "flags", "only scalars of the metadata become association properties"),
    ("traceloop-langchain", "stream", "input tokens, output tokens", "LangChain asks for no usage of a stream"),
    ("traceloop-openai", "*", "flags", "the program gives none"),
    ("traceloop-openai-old", "*", "flags", "the program gives none"),
    ("traceloop-openai-old", "json", "form, schema", "neither is sent"),
    ("traceloop-openai-old", "stream", "input tokens, output tokens", "this version counts no tokens of streams"),
    (
        "vercel-ai-v5",
        "rag",
        "document ids, document metadata, document scores, document texts",
        "the search is a plain database span",
    ),
    ("vercel-ai-v7", "*", "flags, tags", "only user, session and tenant were let through by the program"),
    (
        "vercel-ai-v7",
        "rag",
        "document ids, document metadata, document scores, document texts",
        "the search is a plain database span",
    ),
];

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures")
}

pub(super) fn spans_of(directory: &str) -> Vec<Span> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder().join(directory))
        .expect("the fixture is there")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let mut spans = Vec::new();
    for path in paths {
        let body = std::fs::read(&path).expect("the fixture is there");
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let decoded = if name.starts_with("llmobs") {
            datadog::decode_json(&body).expect("a capture decodes")
        } else if name.starts_with("logs") {
            let logs = logs::decode_logs(&body, Encoding::Protobuf).expect("a capture decodes");
            assert_eq!(logs.dropped, 0, "{name}");
            spans.extend(logs.parts);
            continue;
        } else {
            decode(&body, Encoding::Protobuf).expect("a capture decodes")
        };
        assert!(decoded.rejected.is_empty(), "{directory}/{name}: {:?}", decoded.rejected);
        spans.extend(decoded.spans);
    }
    spans
}

pub(super) fn traces(spans: Vec<Span>) -> Vec<Trace> {
    let mut by_id: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans {
        by_id.entry(span.trace_id.clone()).or_default().push(span);
    }
    by_id.into_iter().map(|(id, spans)| assemble(&id, spans)).collect()
}

fn says(trace: &Trace, text: &str) -> bool {
    trace.spans.iter().any(|s| s.input.iter().any(|m| m.content.contains(text)))
}

/// The facts that are not in the trace.
fn missing(trace: &Trace, all: &Value, scenario: &str) -> BTreeSet<&'static str> {
    let key = scenario.trim_end_matches(|c: char| c.is_ascii_digit() && scenario.starts_with("tool"));
    let facts = &all["scenarios"][key];
    let mut out = BTreeSet::new();
    let mut must = |field: &'static str, holds: bool| {
        if !holds {
            out.insert(field);
        }
    };
    let view = &trace.view;
    let is = |mine: &Option<String>, theirs: &Value| mine.as_deref() == theirs.as_str();
    must("service", is(&view.service, &all["service"]));
    must("environment", is(&view.environment, &all["env"]));
    must("tenant", is(&view.tenant, &all["tenant"]));
    must("release", is(&view.service_version, &all["release"]));
    must("user", is(&view.user, &all["user"]));
    must("session", is(&view.session, &all["session"]));
    must("model", is(&view.model, &all["model"]));
    must("system", trace.system() == all["system"].as_str());
    must("params", all["request"].as_object().expect("an object").iter().all(|(k, v)| view.params.get(k) == Some(v)));
    must("tags", ["web", "returns"].iter().all(|tag| view.tags.get(*tag).map(String::as_str) == Some("true")));
    must("flags", ["rag_v2", "prompt_variant"].iter().all(|flag| flag_holds(view, flag, &all["flags"][*flag])));
    must("question", trace.question().is_some_and(|q| q.contains(facts["user"].as_str().expect("text"))));
    if key.starts_with("err") {
        must("failed", trace.failed());
        let text = facts["error_message"].as_str().expect("text");
        must("error", trace.spans.iter().any(|s| s.error.as_deref().is_some_and(|e| e.contains(text))));
        return out;
    }
    let count = |field: &str, n: usize| match scenario {
        "tool" => {
            facts["usage_first_call"][n].as_u64().unwrap_or(0) + facts["usage_second_call"][n].as_u64().unwrap_or(0)
        }
        "tool1" => facts["usage_first_call"][n].as_u64().unwrap_or(0),
        "tool2" => facts["usage_second_call"][n].as_u64().unwrap_or(0),
        _ => facts[field].as_u64().unwrap_or(0),
    };
    let used = view.usage.unwrap_or_default();
    must("input tokens", used.input_tokens == count("input_tokens", 0));
    must("output tokens", used.output_tokens == count("output_tokens", 1));
    let reason = if scenario == "tool1" { "tool_calls" } else { "stop" };
    must("finish reason", view.finish_reason.as_deref() == Some(reason));
    if scenario != "tool1" {
        must("answer", trace.answer().is_some_and(|a| same_text(&a, facts["answer"].as_str().unwrap_or_default())));
    }
    if facts.get("documents").is_some() {
        documents(view, &facts["documents"], &mut must);
    }
    if let Some(schema) = facts.get("json_schema") {
        must("form", view.response_format.as_ref().is_some_and(ResponseFormat::wants_json));
        must("schema", view.response_format.as_ref().is_some_and(|f| f.schema == *schema));
    }
    if facts.get("tools").is_some() {
        tools(trace, facts, scenario, &mut must);
    }
    out
}

fn flag_holds(view: &Span, name: &str, value: &Value) -> bool {
    let want = value.as_str().map_or_else(|| value.to_string(), str::to_owned).to_lowercase();
    view.tags.iter().any(|(key, tag)| key.ends_with(name) && tag.to_lowercase() == want)
}

fn same_text(mine: &str, theirs: &str) -> bool {
    match (serde_json::from_str::<Value>(mine), serde_json::from_str::<Value>(theirs)) {
        (Ok(a), Ok(b)) => a == b,
        _ => mine.trim() == theirs.trim(),
    }
}

fn documents(view: &Span, facts: &Value, must: &mut dyn FnMut(&'static str, bool)) {
    let want = facts.as_array().expect("a list");
    let at = |field: &str| -> Vec<Value> { want.iter().map(|d| d[field].clone()).collect() };
    let mine = &view.documents;
    must("document ids", mine.iter().map(|d| json!(d.id)).collect::<Vec<_>>() == at("id"));
    must("document texts", mine.iter().map(|d| json!(d.content)).collect::<Vec<_>>() == at("content"));
    must("document scores", mine.iter().map(|d| json!(d.score)).collect::<Vec<_>>() == at("score"));
    let source = |d: &Value| d.get("source").cloned().unwrap_or_default();
    must(
        "document metadata",
        mine.len() == want.len() && mine.iter().zip(want).all(|(d, w)| source(&d.metadata) == w["metadata"]["source"]),
    );
}

fn tools(trace: &Trace, facts: &Value, scenario: &str, must: &mut dyn FnMut(&'static str, bool)) {
    let offered = &facts["tools"][0];
    let call = &facts["tool_calls"][0];
    let mine = trace.view.tools.first();
    must("tool name", mine.is_some_and(|t| t.name == offered["name"]));
    must("tool description", mine.is_some_and(|t| t.description.as_deref() == offered["description"].as_str()));
    must("tool parameters", mine.is_some_and(|t| t.parameters == offered["parameters"]));
    let requests: Vec<&ToolRequest> = trace
        .spans
        .iter()
        .filter(|s| s.kind == SpanKind::Llm)
        .flat_map(|s| s.input.iter().chain(&s.output))
        .flat_map(|m| &m.tool_calls)
        .collect();
    must("tool call asked for", requests.iter().any(|r| r.name == call["name"] && r.arguments == call["arguments"]));
    must("tool call id", requests.iter().any(|r| r.id.as_deref() == call["id"].as_str()));
    if scenario == "tool" {
        let ran = &trace.view.tool_calls;
        must("tools run", ran.len() == 1 && ran[0].name == call["name"]);
        must("tool arguments", ran.first().is_some_and(|t| t.arguments == call["arguments"]));
        must("tool result", ran.first().is_some_and(|t| t.result == call["result"]));
    }
}

/// The trace of a scenario. The two calls through the proxy are two traces with the same question.
fn find<'a>(all: &'a [Trace], expected: &Value, scenario: &str) -> Option<&'a Trace> {
    let key = if scenario.starts_with("tool") { "tool" } else { scenario };
    let question = expected["scenarios"][key]["user"].as_str()?;
    let mut found = all.iter().filter(|t| says(t, question));
    match scenario {
        "tool1" => found.find(|t| t.view.finish_reason.as_deref() == Some("tool_calls")),
        "tool2" => found.find(|t| t.view.finish_reason.as_deref() != Some("tool_calls")),
        _ => found.next(),
    }
}

#[test]
fn every_capture_gives_what_it_carries() {
    let text = std::fs::read_to_string(folder().join("expected.json")).expect("the fixture is there");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let mut known: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut problems = Vec::new();
    for (directory, scenarios) in CAPTURES {
        let all = traces(spans_of(directory));
        let scenarios: Vec<&str> = scenarios.split(' ').filter(|s| *s != "turns").collect();
        for scenario in &scenarios {
            let Some(trace) = find(&all, &expected, scenario) else {
                problems.push(format!("{directory} {scenario}: no trace"));
                continue;
            };
            for field in missing(trace, &expected, scenario) {
                let gap = GAPS.iter().find(|(d, s, fields, _)| {
                    d == directory && (s == scenario || *s == "*") && fields.split(", ").any(|f| f == field)
                });
                match gap {
                    Some((d, s, ..)) => {
                        known.insert(((*d).to_owned(), (*s).to_owned(), field.to_owned()));
                    }
                    None => problems.push(format!("{directory} {scenario}: {field}")),
                }
            }
        }
    }
    for (directory, scenario, fields, _) in GAPS {
        for field in fields.split(", ") {
            if !known.contains(&((*directory).to_owned(), (*scenario).to_owned(), field.to_owned())) {
                problems.push(format!("{directory} {scenario}: {field} is no gap any more; take it out of GAPS"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn earlier_turns_and_content_in_events_are_kept() {
    for directory in ["otel-genai-openai-span", "otel-genai-openai-event"] {
        let all = traces(spans_of(directory));
        let last = all.iter().find(|t| t.question().is_some_and(|q| q.starts_with("Yes please, and email me")));
        let last = last.expect("the third turn");
        let earlier = last.history().iter().filter(|m| m.role != "system").count();
        assert_eq!(earlier, 4, "{directory}: {:?}", last.view.input);
        assert!(
            last.view.gaps.iter().all(|g| !g.reason.starts_with("not captured")),
            "{directory}: {:?}",
            last.view.gaps
        );
    }
}

#[test]
fn dropped_attributes_are_told_and_what_is_left_is_read() {
    let all = traces(spans_of("openinference-long-conversation"));
    let view = &all[0].view;
    assert!(view.gaps.iter().any(|g| g.field == "attributes" && g.reason.contains("37 dropped")), "{:?}", view.gaps);
    assert!(view.input.len() > 40 && !view.output.is_empty());
    assert!(view.usage.is_some_and(|u| u.input_tokens > 0));
}

#[test]
fn logs_before_spans_and_spans_before_logs_give_the_same_traces() {
    for directory in ["otel-genai-openai-event", "otel-openai-v2-old-events", "otel-openai-v2-experimental"] {
        let forward = spans_of(directory);
        let backward: Vec<Span> = forward.iter().rev().chain(&forward).cloned().collect();
        assert_eq!(traces(forward), traces(backward), "{directory}");
    }
}

#[test]
fn noise_around_a_call_is_in_the_tree_and_nothing_more() {
    let all = traces(spans_of("litellm-proxy"));
    let health = all.iter().find(|t| t.spans.iter().any(|s| s.name.contains("health"))).expect("the health check");
    assert!(health.spans.iter().all(|s| s.kind == SpanKind::Other));
    let costs = all.iter().filter(|t| t.view.cost_usd.is_some_and(|c| c > 0.0)).count();
    assert_eq!(costs, 4, "the proxy's span tells the cost, its child the content");
}
