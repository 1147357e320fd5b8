//! What the checks of one trace share: the trace, and what is derived from it once however many checks ask.
//!
//! Built by `checks::run_all` for each trace. Its rule: everything dear is computed at its first use and kept; a check that
//! needs more of the same kind (hashes of the context, sentences) adds a cell here. The way not taken: each check joining,
//! lower-casing and hashing the same text again, which is most of what checks cost.

use crate::domain::trace::Trace;
use serde_json::{Value, json};
use std::cell::OnceCell;

/// A trace that is being checked.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The trace.
    pub trace: &'a Trace,
    answer: OnceCell<Option<String>>,
}

impl<'a> Subject<'a> {
    /// Nothing is computed yet.
    #[must_use]
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, answer: OnceCell::new() }
    }

    /// The answer's text as [`Trace::answer`] gives it, joined once.
    pub fn answer(&self) -> Option<&str> {
        self.answer.get_or_init(|| self.trace.answer()).as_deref()
    }
}

/// A piece of evidence: what was found, in which text (`answer`, `question`, `context[2]`), from which character to which.
///
/// `bytes` are positions in `text`; what is given out counts characters (Unicode scalar values), as every language does.
#[must_use]
pub fn evidence(what: &str, place: &str, text: &str, bytes: std::ops::Range<usize>) -> Value {
    json!({ "what": what, "in": place, "at": char_span(text, bytes) })
}

/// A range of bytes of `text` as a range of characters; bounds inside a character or beyond the end are moved down.
#[must_use]
pub fn char_span(text: &str, bytes: std::ops::Range<usize>) -> [usize; 2] {
    let start = text.floor_char_boundary(bytes.start);
    let end = text.floor_char_boundary(bytes.end).max(start);
    let before = text[..start].chars().count();
    [before, before + text[start..end].chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_characters_and_never_out_of_range() {
        assert_eq!(char_span("größe 5", 4..7), [3, 5]);
        assert_eq!(char_span("é", 1..99), [0, 1]);
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake must not panic")]
        let reversed = 3..1;
        assert_eq!(char_span("abcd", reversed), [3, 3]);
    }
}
