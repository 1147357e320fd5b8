//! Spans that look like a model's work in a dialect that nobody here knows.
//!
//! The last to be asked. Its rule: input and output under the commonest names are read, everything else is kept as tags and
//! named in a gap, so that `explain` says what was not understood; plain HTTP and database spans are left alone.

use super::langfuse::shown;
use super::wire::WireSpan;
use super::{Dialect, context, shapes};
use crate::domain::span::{Span, SpanKind};

pub(super) const DIALECT: Dialect = Dialect { name: "unknown", recognises, read };

/// Attributes named in the gap at most.
const NAMED_MAX: usize = 12;

const INPUT: &[&str] =
    &["input", "input.value", "prompt", "llm.prompt", "gcp.vertex.agent.llm_request", "genkit:input"];
const OUTPUT: &[&str] =
    &["output", "output.value", "completion", "llm.completion", "gcp.vertex.agent.llm_response", "genkit:output"];

fn hints(key: &str) -> bool {
    const STARTS: [&str; 9] =
        ["llm.", "ai.", "genkit:", "gcp.vertex.agent.", "lk.", "llmobs.", "langchain.", "langsmith.", "crewai."];
    STARTS.iter().any(|start| key.starts_with(start)) || INPUT.contains(&key) || OUTPUT.contains(&key)
}

fn recognises(wire: &WireSpan) -> bool {
    wire.attrs.0.keys().any(|key| hints(key))
}

fn read(wire: &WireSpan, span: &mut Span) {
    let first = |keys: &[&'static str]| keys.iter().find_map(|key| Some((*key, wire.attrs.get(key)?)));
    let (input, output) = (first(INPUT), first(OUTPUT));
    let read: Vec<&str> = [input, output].into_iter().flatten().map(|(key, _)| key).collect();
    if input.is_some() && output.is_some() {
        span.kind = SpanKind::Chain;
    }
    if let Some(value) = shown(input.map(|(_, v)| v), "input", span) {
        span.input = shapes::spoken(&value, "user", shapes::ASKED);
    }
    if let Some(value) = shown(output.map(|(_, v)| v), "output", span) {
        span.output = shapes::spoken(&value, "assistant", shapes::TOLD);
    }
    let mut left: Vec<&String> = wire.attrs.0.keys().filter(|key| !read.contains(&key.as_str())).collect();
    left.sort_unstable();
    for key in &left {
        if let Some(value) = wire.attrs.get(key) {
            context::tag(span, key, value);
        }
    }
    let strange: Vec<&str> = left.iter().map(|key| key.as_str()).filter(|key| hints(key)).take(NAMED_MAX).collect();
    if !strange.is_empty() {
        span.gap("attributes", format!("not understood: {}", strange.join(", ")));
    }
}
