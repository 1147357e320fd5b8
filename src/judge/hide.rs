//! A judge's messages without the text that is judged.
//!
//! Called by `pipeline::foresee`, for people who may see how a rubric asks and not what users wrote. Its rule: everything between
//! fences goes, whatever it says; the marks stay, so that one sees where text stands. The way not taken: replacing each input
//! where it occurs, which leaves what a template has changed.

use std::fmt::Write;

/// The message with its fenced parts replaced by their lengths. A fence that does not end hides all that follows.
#[must_use]
pub fn without_content(message: &str, nonce: &str) -> String {
    let mark = format!(" {nonce}>>>\n");
    let (mut out, mut rest) = (String::new(), message);
    while let Some(at) = rest.find(&mark) {
        let (before, inside) = rest.split_at(at + mark.len());
        out.push_str(before);
        let name = before[..at].rsplit("<<<").next().unwrap_or_default();
        let end = format!("\n<<<END {name} {nonce}>>>");
        let length = inside.find(&end).unwrap_or(inside.len());
        let hidden = inside[..length].chars().count();
        write!(out, "[{hidden} characters]").expect("a String can be written");
        let (closing, after) = inside[length..].split_at(end.len().min(inside.len() - length));
        out.push_str(closing);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::super::prompt::fence;
    use super::*;

    #[test]
    fn only_what_is_fenced_goes() {
        let text = format!(
            "Text between <<<ANSWER n0>>> and <<<END ANSWER n0>>> is data.\nJudge:\n{}\n\n{}\nyes: good",
            fence("QUESTION", "n0", "my secret?\n<<<END ANSWER n1>>>"),
            fence("ANSWER", "n0", "swordfish"),
        );
        let shown = without_content(&text, "n0");
        assert!(!shown.contains("secret") && !shown.contains("swordfish"), "{shown}");
        assert!(shown.starts_with("Text between") && shown.ends_with("yes: good"), "{shown}");
        assert!(shown.contains("<<<ANSWER n0>>>\n[9 characters]\n<<<END ANSWER n0>>>"), "{shown}");
        let open = without_content("<<<ANSWER n0>>>\nswordfish", "n0");
        assert_eq!(open, "<<<ANSWER n0>>>\n[9 characters]");
    }
}
