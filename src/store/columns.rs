//! Arrays for `unnest`: many rows in one statement.
//!
//! Used by the files beside it. Its rule: text that goes into a text or jsonb column has its NULs replaced here, since
//! Postgres refuses them and one such answer would fail the whole batch.

use crate::domain::ids::storable;
use serde_json::Value;

/// Text, storable.
pub(super) fn text(value: &str) -> String {
    storable(value).into_owned()
}

/// Text that may be absent, storable.
pub(super) fn optional(value: Option<&String>) -> Option<String> {
    value.map(|v| text(v))
}

/// A value as JSON text without NULs, for a column that is cast to jsonb; without the tree in between that most do not need.
pub(super) fn json_text<T: serde::Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    // An escaped NUL, or the text of one: the tree tells them apart.
    if text.contains("\\u0000") { json(serde_json::from_str(&text).unwrap_or_default()).to_string() } else { text }
}

/// JSON without NULs, in values and in keys.
pub(super) fn json(value: Value) -> Value {
    match value {
        Value::String(s) if s.contains('\0') => Value::String(text(&s)),
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (text(&k), json(v))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_everywhere() {
        let dirty = serde_json::json!({"a\0": ["x\0y", 1], "b": {"c": "\0"}});
        let clean = json(dirty).to_string();
        assert!(!clean.contains("\\u0000"), "{clean}");
        assert!(clean.contains('\u{fffd}'));
        let as_text = json_text(&serde_json::json!({"a\0": "x\0y"}));
        assert!(!as_text.contains("\\u0000") && as_text.contains('\u{fffd}'), "{as_text}");
        assert_eq!(json_text(&serde_json::json!({"a": "\\u0000"})), r#"{"a":"\\u0000"}"#, "six characters are no NUL");
    }
}
