//! Reading text that may be JSON, JSON inside JSON, or neither.
//!
//! Used by the dialects. Its rule: parsing never fails; what is not JSON is text.

use serde_json::Value;

/// The text as JSON when it is an object or a list, also when it is a JSON string that holds one; else `None`.
pub(super) fn structure(text: &str) -> Option<Value> {
    let trimmed = text.trim_start();
    if !trimmed.starts_with(['{', '[', '"']) {
        return None;
    }
    match serde_json::from_str(trimmed).ok()? {
        Value::String(inner) => structure(&inner),
        value @ (Value::Object(_) | Value::Array(_)) => Some(value),
        _ => None,
    }
}

/// The value as structure: itself, or what its text holds.
pub(super) fn structured(value: &Value) -> Option<Value> {
    match value {
        Value::Object(_) | Value::Array(_) => Some(value.clone()),
        Value::String(text) => structure(text),
        _ => None,
    }
}

/// Arguments or results of a tool: structure where there is one, else as it came.
pub(super) fn argument(value: &Value) -> Value {
    structured(value).unwrap_or_else(|| value.clone())
}

/// The text that a value stands for: strings as they are, the rest as compact JSON; null is empty.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text that an application's input or output stands for: of an object with one of `keys`, that member's text; else
/// the text itself.
pub(super) fn said(text: &str, keys: &[&str]) -> String {
    let Some(Value::Object(map)) = structure(text) else { return text.to_owned() };
    let member = keys.iter().find_map(|key| map.get(*key));
    match member {
        Some(Value::String(inner)) => inner.clone(),
        Some(Value::Object(inner)) => {
            let text = inner.get("content").or_else(|| inner.get("text"));
            text.map_or_else(|| Value::Object(inner.clone()).to_string(), plain)
        }
        _ => text.to_owned(),
    }
}

/// Placeholders that senders put where they hid or dropped content, and what they mean.
pub(super) fn placeholder(text: &str) -> Option<&'static str> {
    if text == "__REDACTED__" || text.starts_with("[Scrubbed due to ") {
        Some("redacted")
    } else if text.starts_with("[This value has been dropped because") {
        Some("dropped by limits")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn structure_is_found_in_text_and_in_text_in_text() {
        assert_eq!(structure(r#"{"a":1}"#), Some(json!({"a":1})));
        assert_eq!(structure(r#""{\"a\":1}""#), Some(json!({"a":1})));
        assert_eq!(structure("{'a': 1}"), None);
        assert_eq!(structure("plain"), None);
    }

    #[test]
    fn what_was_said_is_taken_out_of_its_wrapping() {
        assert_eq!(said(r#"{"question":"why?"}"#, &["input", "question"]), "why?");
        assert_eq!(said(r#"{"output":{"content":"because"}}"#, &["output"]), "because");
        assert_eq!(said(r#"{"x":1}"#, &["output"]), r#"{"x":1}"#);
        assert_eq!(said("text", &["output"]), "text");
    }
}
