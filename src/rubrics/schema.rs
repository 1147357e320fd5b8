//! The JSON Schema of a rubric file, by which editors complete and check keys.
//!
//! Printed by `assize rubric schema`, committed as `rubrics/schema.json` and compared in a test. Its rule: made of the table that
//! the parser uses. The way not taken: a derive on serde's structs, which know neither help nor bounds.

use super::keys::{FILE, Key, Kind, LIMITS, check_names, variable_names};
use crate::domain::rubric::CheckKind;
use serde_json::{Map, Value, json};

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut made = section(FILE, None);
    made["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    made["title"] = json!("Assize rubric");
    made
}

fn section(keys: &[Key], tag: Option<&str>) -> Value {
    let mut properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_owned(), described(key))).collect();
    let mut required: Vec<&str> = keys.iter().filter(|k| k.default.is_empty()).map(|k| k.name).collect();
    if let Some(word) = tag {
        properties.insert("type".to_owned(), json!({"const": word}));
        required.push("type");
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn described(key: &Key) -> Value {
    let mut made = of(&key.kind);
    made["description"] = json!(key.help);
    made
}

fn of(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Name => json!({"type": "string", "pattern": "^[a-z][A-Za-z0-9_]{0,99}$"}),
        Kind::Flag => json!({"type": "boolean"}),
        // The widest bounds are no bounds.
        Kind::Number(low, _) if *low <= f64::MIN => json!({"type": "number"}),
        Kind::Number(low, high) => json!({"type": "number", "minimum": low, "maximum": high}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Variable => json!({"enum": variable_names()}),
        Kind::List(each) => json!({"type": "array", "items": of(each)}),
        Kind::Map(each) => json!({"type": "object", "additionalProperties": of(each)}),
        Kind::Names(names, each) => {
            let properties: Map<String, Value> = names().into_iter().map(|name| (name.to_owned(), of(each))).collect();
            json!({"type": "object", "properties": properties, "additionalProperties": of(each)})
        }
        Kind::Rate => json!({"type": "string", "pattern": "^[0-9.]+ per (month|week|day)$"}),
        Kind::Section(keys) => section(keys, None),
        Kind::Tagged(variants) => {
            let all: Vec<Value> = variants.iter().map(|(word, keys)| section(keys, Some(word))).collect();
            json!({"oneOf": all})
        }
        Kind::Pair => json!({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
        Kind::OneOf(kinds) => json!({"anyOf": kinds.iter().map(of).collect::<Vec<_>>()}),
        Kind::Check => {
            let each = |kind: &CheckKind| {
                let mut keys = section(LIMITS, None);
                // The check's own options: it alone knows what it takes.
                keys["additionalProperties"] = json!(true);
                (kind.as_str().to_owned(), json!({"anyOf": [{"type": "null"}, keys]}))
            };
            let properties: Map<String, Value> = CheckKind::ALL.iter().map(each).collect();
            let map = json!({"type": "object", "properties": properties, "additionalProperties": false});
            json!({"anyOf": [{"enum": check_names()}, map]})
        }
        Kind::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_schema_is_this_one_and_the_shelf_keeps_to_it() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rubrics");
        let text = std::fs::read_to_string(dir.join("schema.json")).expect("rubrics/schema.json is there");
        let committed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(committed, schema(), "write it anew: assize rubric schema > rubrics/schema.json");
        let validator = jsonschema::validator_for(&committed).expect("a schema");
        for entry in std::fs::read_dir(&dir).expect("the folder").filter_map(Result::ok) {
            if entry.path().extension().is_some_and(|e| e == "yaml") {
                let text = std::fs::read_to_string(entry.path()).expect("a file");
                let value: Value = yaml_serde::from_str(&text).expect("YAML");
                assert!(validator.is_valid(&value), "{}", entry.path().display());
                assert!(
                    text.starts_with("# yaml-language-server: $schema=./schema.json\n"),
                    "{}",
                    entry.path().display()
                );
            }
        }
        for wrong in [
            json!({"name": "x", "pas": 1}),
            json!({"name": "x", "output": {"type": "score", "beter": "lower"}}),
            json!({"name": "x", "checks": ["groundin"]}),
        ] {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    }
}
