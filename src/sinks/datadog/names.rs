//! Names and tags in the form that Datadog keeps.
//!
//! Its rule: whatever comes in, what goes out cannot break a line or a list: `|`, `,`, `#`, newlines become `_`. Tag values may
//! come from a trace, and cadence sanitises nothing.

/// Longest tag that Datadog keeps, in characters.
const TAG_CHARS_MAX: usize = 200;

/// A tag `key:value`: lower case, letters, digits and `_ - : . /`, no colon or underscore at the end.
pub(in crate::sinks) fn tag(key: &str, value: &str) -> String {
    format!("{key}:{}", tag_value(key, value))
}

/// The value of a tag; an empty one becomes `none`.
pub(super) fn tag_value(key: &str, value: &str) -> String {
    let clean: String = value
        .to_lowercase()
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/') { c } else { '_' })
        .take(TAG_CHARS_MAX - key.len() - 1)
        .collect();
    let clean = clean.trim_end_matches([':', '_']);
    if clean.is_empty() { "none".to_owned() } else { clean.to_owned() }
}

/// An application name: lower case, `[a-z0-9_\-:./]`, no underscores in a row or at the end, at most 193 characters.
pub(super) fn ml_app(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_lowercase().chars().take(193) {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '/') { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    let out = out.trim_matches('_');
    if out.is_empty() { "unknown".to_owned() } else { out.to_owned() }
}

/// A label: letters, digits and `_`, beginning with a letter, at most 100 characters. Rubric names are so already.
pub(super) fn label(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(100).collect();
    if clean.starts_with(|c: char| c.is_ascii_alphabetic()) { clean } else { format!("r_{clean}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_cannot_break_the_line() {
        assert_eq!(tag("feature", "a|b,c\nd#e"), "feature:a_b_c_d_e");
        assert_eq!(tag("model", "GPT-4o Mini:"), "model:gpt-4o_mini");
        assert_eq!(tag("x", "||"), "x:none");
        assert!(tag("k", &"é".repeat(500)).chars().count() <= TAG_CHARS_MAX);
    }

    #[test]
    fn app_names_and_labels_have_datadogs_form() {
        assert_eq!(ml_app("Furnish  Hub__"), "furnish_hub");
        assert_eq!(label("tone.v2"), "tone_v2");
        assert_eq!(label("2tone"), "r_2tone");
    }

    proptest::proptest! {
        #[test]
        fn no_value_makes_a_second_line_or_tag(value in ".{0,300}") {
            let made = tag("k", &value);
            proptest::prop_assert!(!made.contains(['|', ',', '\n', '#', '\r']));
            proptest::prop_assert!(made.chars().count() <= TAG_CHARS_MAX);
        }
    }
}
