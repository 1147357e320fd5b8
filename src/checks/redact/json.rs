//! Rewrites strings and numbers of a JSON text and leaves every other byte as it is.
//!
//! Called by `redact`. Its rule: what comes out is JSON when what went in was; the order of keys, double keys, spaces and the digits
//! of numbers stay. The way not taken: parsing to a `Value` and writing it again, which changes all of those.

/// A string or number of the JSON text.
pub(super) enum Part<'a> {
    /// A string, decoded, and what it is called.
    Text {
        /// The key that it stands behind, where it has one.
        key: Option<&'a str>,
        /// The text.
        text: &'a str,
    },
    /// A number, as written.
    Number {
        /// The key that it stands behind, where it has one.
        key: Option<&'a str>,
        /// Its characters.
        text: &'a str,
    },
}

/// Whether a text is a JSON object or list.
pub(super) fn is_json(text: &str) -> bool {
    let body = text.trim_start();
    body.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The new text of what [`is_json`] says is JSON; `None` where nothing was changed. Of a number, the replacement becomes a string.
pub(super) fn rewrite(text: &str, change: &mut dyn FnMut(Part<'_>) -> Option<String>) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut new, mut from, mut at) = (String::new(), 0, 0);
    // The last string, until it is seen whether a colon follows; then the key of the value behind it.
    let (mut last, mut key): (Option<String>, Option<String>) = (None, None);
    while at < bytes.len() {
        let start = at;
        let replaced = match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                // The text as a whole was seen to be JSON, so this is a string.
                let decoded: String = serde_json::from_str(&text[start..at]).unwrap_or_default();
                let named = if follows_colon(bytes, at) { None } else { key.as_deref() };
                let replaced = change(Part::Text { key: named, text: &decoded });
                last = Some(decoded);
                replaced
            }
            b'-' | b'0'..=b'9' => {
                at += bytes[at..].iter().take_while(|b| b"+-.eE".contains(b) || b.is_ascii_digit()).count();
                change(Part::Number { key: key.as_deref(), text: &text[start..at] })
            }
            b':' => {
                key = last.take();
                at += 1;
                None
            }
            b'{' | b'}' => {
                key = None;
                at += 1;
                None
            }
            _ => {
                at += 1;
                None
            }
        };
        if let Some(value) = replaced {
            new.push_str(&text[from..start]);
            new.push_str(&serde_json::Value::String(value).to_string());
            from = at;
        }
    }
    if from == 0 {
        return None;
    }
    new.push_str(&text[from..]);
    Some(new)
}

/// Where the string that begins at `at` ends, its quote included.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// Whether the string that ended at `at` is a key.
fn follows_colon(bytes: &[u8], at: usize) -> bool {
    bytes[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
}
