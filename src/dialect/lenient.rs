//! Reading text that may be JSON, JSON inside JSON, or neither.
//!
//! Used by the dialects. Its rule: parsing never fails; what is not JSON is text.

use super::python;
use serde_json::Value;

/// JSON inside JSON beyond this depth is a mistake.
const WRAPPED_MAX: usize = 8;

/// The text as structure when it is an object or a list in JSON or as Python prints it, also when it is a JSON string that
/// holds one; else `None`.
pub(super) fn structure(text: &str) -> Option<Value> {
    let mut inner = text.to_owned();
    for _ in 0..WRAPPED_MAX {
        let trimmed = inner.trim_start();
        if !trimmed.starts_with(['{', '[', '"']) {
            return None;
        }
        match json(trimmed) {
            Some(Value::String(text)) => inner = text,
            Some(value @ (Value::Object(_) | Value::Array(_))) => return Some(value),
            Some(_) => return None,
            None => return if trimmed.starts_with('"') { None } else { python::literal(trimmed) },
        }
    }
    None
}

/// The text as JSON; lone surrogates are replaced.
fn json(text: &str) -> Option<Value> {
    let first = serde_json::from_str(text);
    first.or_else(|_| serde_json::from_slice(&super::otlp_json::mend_surrogates(text.as_bytes()))).ok()
}

/// A text that is one JSON string, without its quotes; any other text as it is.
pub(super) fn unquoted(text: &str) -> String {
    let quoted = text.trim_start().starts_with('"').then(|| json(text)).flatten();
    match quoted {
        Some(Value::String(inner)) => inner,
        _ => text.to_owned(),
    }
}

/// What is left of JSON that was cut in the middle: everything before the cut, closed. `None` when the text does not begin
/// as JSON or nothing of it can be used.
pub(super) fn mended(text: &str) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => open.push('}'),
            b'[' if !in_string => open.push(']'),
            b'}' | b']' if !in_string => drop(open.pop()),
            _ => {}
        }
    }
    if open.is_empty() {
        return None;
    }
    let closing: String = open.iter().rev().collect();
    let tries = |kept: &str| {
        let kept = kept.trim_end().trim_end_matches([',', ':']);
        ["", "\"", "\":null", ":null"].iter().find_map(|end| json(&format!("{kept}{end}{closing}")))
    };
    // An escape or a number may have been cut too.
    let ends = text.char_indices().rev().map(|(at, _)| at).take(12);
    std::iter::once(text.len()).chain(ends).find_map(|end| tries(text.get(..end)?))
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
        assert_eq!(structure("{'a': 1}"), Some(json!({"a":1})));
        assert_eq!(structure("plain"), None);
    }

    #[test]
    fn a_cut_is_closed() {
        let whole =
            r#"[{"role":"user","parts":[{"type":"text","content":"a \"quoted\" word and \u00e9 more"}],"n":12}]"#;
        for end in 10..whole.len() - 1 {
            let cut = mended(&whole[..end]).expect("something is left");
            assert!(cut.is_array(), "{cut}");
        }
        assert_eq!(
            mended(r#"[{"role":"user","content":"half a sen"#),
            Some(json!([{"role":"user","content":"half a sen"}]))
        );
        assert_eq!(mended("[ret-1] text"), None);
        assert_eq!(unquoted("\"a\\nb\""), "a\nb");
    }
}
