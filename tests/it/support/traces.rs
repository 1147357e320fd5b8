//! Native traces for tests.

use serde_json::{Value, json};

/// A trace with question, answer and context.
pub fn trace(id: &str, answer: &str) -> Value {
    json!({
        "trace_id": id,
        "service": "shop", "environment": "test", "feature": "returns", "model": "gpt-4o-mini",
        "prompt": {"name": "support", "version": "v1"},
        "input": "How long do I have to return a sofa?",
        "output": answer,
        "context": [{"id": "ret-002", "content": "Sofas can be returned within 30 days of delivery.", "score": 0.9}],
    })
}

/// Many plain traces with ids `prefix-0`, `prefix-1`, …
pub fn many(prefix: &str, count: usize) -> Vec<Value> {
    (0..count).map(|n| trace(&format!("{prefix}-{n}"), "Sofas can be returned within 30 days of delivery.")).collect()
}

/// A trace with W3C ids, which Datadog can join.
pub fn joinable(n: usize) -> Value {
    let mut trace = trace(&format!("{n:032x}"), "Sofas can be returned within 30 days of delivery.");
    trace["span_id"] = json!(format!("{n:016x}"));
    trace
}
