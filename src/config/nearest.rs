//! Turns serde's "unknown field" messages into ones that name the nearest known key.
//!
//! Called by the loaders of configuration and rubrics. Its rule: the message keeps the place that the parser gave. The way
//! not taken: a table of known keys kept by hand, which goes stale.

/// Adds "did you mean" to a message of the form "unknown field `x`, expected one of `a`, `b`".
#[must_use]
pub fn explain(message: &str) -> String {
    // figment writes "unknown field: found `x`, expected `one of `a`, `b``", serde "unknown field `x`, expected one of …".
    let message = &message
        .replace("unknown field: found `", "unknown field `")
        .replace("expected `one of `", "expected one of `");
    let Some(at) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return message.to_owned();
    };
    let message = &message.replace("``", "`");
    let names: Vec<&str> = message[at..].split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((wrong, known)) => match nearest(wrong, known.iter().copied()) {
            Some(best) => format!("{} (did you mean `{best}`?)", message.trim_end()),
            None => message.to_owned(),
        },
        None => message.to_owned(),
    }
}

/// The known name most like `wrong`, if any is like it at all.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest() {
        let text = explain("unknown field `prmpt`, expected one of `panel`, `prompt`, `pass` at line 3");
        assert!(text.ends_with("(did you mean `prompt`?)"), "{text}");
        assert_eq!(explain("invalid type"), "invalid type");
        let figment = "unknown field: found `listn`, expected `one of `listen`, `drain_ms`` for key \"SERVER.LISTN\"";
        assert!(explain(figment).ends_with("(did you mean `listen`?)"), "{}", explain(figment));
        assert_eq!(explain("unknown field `zzz`, expected `a`"), "unknown field `zzz`, expected `a`");
    }
}
