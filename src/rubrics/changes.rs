//! What differs between two versions of a rubric.
//!
//! Called by `cli::rubric diff`. Its rule: it compares what was parsed, so comments and layout are no change; it says of each
//! key whether it can change a verdict. The way not taken: a diff of the files, in which a moved key is a change.

use crate::domain::rubric::Rubric;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

/// A key with another value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The key.
    pub key: String,
    /// In the first; null when it is not there.
    pub from: Value,
    /// In the second.
    pub to: Value,
    /// Whether verdicts can differ by it.
    pub verdicts: bool,
}

impl Change {
    /// In lines for people: what was taken away with `-`, what was added with `+`.
    #[must_use]
    pub fn text(&self) -> String {
        let (Some(from), Some(to)) = (self.from.as_str(), self.to.as_str()) else {
            return format!("-{}\n+{}\n", self.from, self.to);
        };
        if !from.contains('\n') && !to.contains('\n') {
            return format!("-{from}\n+{to}\n");
        }
        TextDiff::from_lines(from, to).unified_diff().context_radius(2).missing_newline_hint(false).to_string()
    }
}

/// The keys that differ.
#[must_use]
pub fn changes(from: &Rubric, to: &Rubric) -> Vec<Change> {
    let (a, b) = (flat(from), flat(to));
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |map: &serde_json::Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
    let all = keys.into_iter().map(|key| (key, value(&a, key), value(&b, key)));
    all.filter(|(_, from, to)| from != to)
        .map(|(key, from, to)| {
            let verdicts = !matches!(key.as_str(), "title" | "sample" | "spans_max");
            Change { key: key.clone(), from, to, verdicts }
        })
        .collect()
}

/// A rubric's keys; of `applies_when` each by itself.
fn flat(rubric: &Rubric) -> serde_json::Map<String, Value> {
    let Ok(Value::Object(mut map)) = serde_json::to_value(rubric) else { return serde_json::Map::new() };
    for key in ["version", "source"] {
        map.remove(key);
    }
    if let Some(Value::Object(applies)) = map.remove("applies_when") {
        for (key, value) in applies {
            match value {
                Value::Object(labels) if key == "labels" => {
                    map.extend(labels.into_iter().map(|(label, globs)| (format!("applies_when.{label}"), globs)));
                }
                Value::Object(spans) if key == "spans" => {
                    map.extend(spans.into_iter().map(|(label, globs)| (format!("applies_when.span_{label}"), globs)));
                }
                value => drop(map.insert(format!("applies_when.{key}"), value)),
            }
        }
    }
    map
}
