//! A rubric as the text of a file.
//!
//! Called by `cli::rubric show` and by tests. Its rule: what is read from it is the same rubric; keys at their defaults are left
//! out. The way not taken: keeping comments, which the stored source has.

use crate::domain::rubric::{AlertRule, Ask, Better, Combine, Output, Rubric};
use crate::domain::unit::Evaluates;
use serde_json::{Map, Value, json};

/// The text.
#[must_use]
pub fn print(rubric: &Rubric) -> String {
    let mut keys: Vec<(&str, Value)> = vec![("name", json!(rubric.name))];
    let mut put = |key: &'static str, value: Value, is_default: bool| {
        if !is_default {
            keys.push((key, value));
        }
    };
    put("title", json!(rubric.title), rubric.title.is_empty());
    put("evaluates", json!(rubric.evaluates), rubric.evaluates == Evaluates::default());
    put("spans_max", json!(rubric.spans_max), rubric.spans_max.is_none());
    let mut applies = json!(rubric.applies_when.labels);
    if !rubric.applies_when.requires.is_empty() {
        applies["requires"] = json!(rubric.applies_when.requires);
    }
    let spans = &rubric.applies_when.spans;
    for (key, globs) in [("span_kind", &spans.kind), ("span_name", &spans.name)] {
        if !globs.is_empty() {
            applies[key] = json!(globs);
        }
    }
    let nothing = applies.as_object().is_none_or(Map::is_empty);
    put("applies_when", applies, nothing);
    put("sample", json!(rubric.sample), rubric.sample.to_bits() == 1f64.to_bits());
    let checks: Vec<Value> = rubric
        .checks
        .iter()
        .map(|spec| {
            let limits = [("fail_below", spec.fail_below), ("pass_above", spec.pass_above)];
            let mut given: Map<String, Value> =
                limits.into_iter().filter_map(|(key, limit)| Some((key.to_owned(), json!(limit?)))).collect();
            given.extend(spec.options.clone());
            let name = spec.kind.as_str();
            if given.is_empty() { json!(name) } else { json!({name: given}) }
        })
        .collect();
    put("checks", json!(checks), checks.is_empty());
    put("panel", json!(rubric.panel), rubric.panel.is_empty());
    put("combine", json!(rubric.combine), rubric.combine == Combine::default());
    // `stop_at` makes it the default.
    let usual = if rubric.stop_at.is_some() { Ask::InTurn } else { Ask::Together };
    put("ask", json!(rubric.ask), rubric.ask == usual);
    put("stop_at", json!(rubric.stop_at), rubric.stop_at.is_none());
    put("swap_positions", json!(true), !rubric.swap_positions);
    put("batch_hours", json!(rubric.batch_hours), rubric.batch_hours.is_none());
    let plain = Output::Score { range: (0.0, 1.0), better: Better::Higher };
    put("feedback", json!(true), !rubric.feedback);
    put("alert", json!(rubric.alert), rubric.alert == AlertRule::default());
    put("output", json!(rubric.output), rubric.output == plain);
    put("abstain", json!(true), !rubric.abstain);
    put("pass", json!(rubric.pass), rubric.pass.to_bits() == 0.5f64.to_bits());
    put("prompt", json!(rubric.prompt), rubric.prompt.is_none());
    put("examples", json!(rubric.examples), rubric.examples.is_empty());
    let one = |(key, value): (&str, Value)| {
        // One key at a time: a map of serde_json would sort them.
        yaml_serde::to_string(&json!({key: value})).expect("plain data can be written")
    };
    keys.into_iter().map(one).collect()
}
