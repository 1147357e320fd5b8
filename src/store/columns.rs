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
    }
}
