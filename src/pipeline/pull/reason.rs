//! Reasons that may be stored and logged: errors of the decoders without what they quote of a message.
//!
//! Called by `pipeline::pull`. Its rule: a door tells a sender what it sent; here nobody knows who will read it, so what stands in quotes
//! goes, and between backticks only what looks like the name of a field stays. The way not taken: a fixed word for every
//! mistake, with which nobody can find it.

use crate::checks::redact::Redactor;

/// Longest reason, in characters; it is also the header of a dead letter.
const CHARS_MAX: usize = 500;

/// The longest name of a field.
const NAME_MAX: usize = 40;

/// A text without values, in one line.
pub(super) fn without_values(redactor: &Redactor, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '`']) {
        out.push_str(&rest[..at]);
        let mark = if rest[at..].starts_with('"') { '"' } else { '`' };
        let inner = &rest[at + 1..];
        let end = end_of(inner, mark);
        let quoted = &inner[..end.unwrap_or(inner.len())];
        let stays = mark == '`' && end.is_some() && is_name(quoted);
        out.push(mark);
        out.push_str(if stays { quoted } else { "…" });
        out.push(mark);
        rest = end.map_or("", |end| &inner[end + 1..]);
    }
    out.push_str(rest);
    let out: String = out.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect();
    redactor.text("", &out).unwrap_or(out)
}

/// Where the quotation ends; in double quotes a backslash hides the next character.
fn end_of(text: &str, mark: char) -> Option<usize> {
    let mut hidden = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if hidden => hidden = false,
            '\\' if mark == '"' => hidden = true,
            c if c == mark => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || "_.[]".contains(c);
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::personal::{Action, RedactionPolicy};

    #[test]
    fn values_go_and_names_stay() {
        let redactor = Redactor::new(RedactionPolicy::new(|_| Action::Mask), b"key");
        for (text, wanted) in [
            ("line 2: `trace_id` is missing", "line 2: `trace_id` is missing"),
            ("`spans[3]`: `kind` \"my \\\"secret\\\" word\" is not known", "`spans[3]`: `kind` \"…\" is not known"),
            (
                "the body has `my card is 4111` where `resourceSpans` is wanted",
                "the body has `…` where `resourceSpans` is wanted",
            ),
            ("cut \"in the middle", "cut \"…\""),
            ("cut `in", "cut `…`"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(without_values(&redactor, text), wanted);
        }
        assert!(without_values(&redactor, &"x".repeat(5_000)).len() <= CHARS_MAX);
    }
}
