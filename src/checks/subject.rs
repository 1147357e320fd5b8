//! What the checks of one trace share: the trace, and what is derived from it once however many checks ask.
//!
//! Built by `checks::run_all` for each trace. Its rule: everything dear is computed at its first use and kept; a check that
//! needs more of the same kind (hashes of the context, sentences) adds a cell here. The way not taken: each check joining,
//! lower-casing and hashing the same text again, which is most of what checks cost.

use super::grounding::index::Index;
use crate::domain::trace::Trace;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::OnceCell;

/// A trace that is being checked.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The trace.
    pub trace: &'a Trace,
    answer: OnceCell<Option<String>>,
    context: OnceCell<Result<Index, &'static str>>,
}

/// A context above this is not indexed.
const CONTEXT_BYTES_MAX: usize = 1 << 20;

impl<'a> Subject<'a> {
    /// Nothing is computed yet.
    #[must_use]
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, answer: OnceCell::new(), context: OnceCell::new() }
    }

    /// The answer's text as [`Trace::answer`] gives it, joined once.
    pub fn answer(&self) -> Option<&str> {
        self.answer.get_or_init(|| self.trace.answer()).as_deref()
    }

    /// What the answer may rest on, documents and results of tools, by its words: cut and hashed once.
    ///
    /// # Errors
    /// Why there is none: nothing to rest on, or too much of it.
    pub fn context(&self) -> Result<&Index, &'static str> {
        self.context.get_or_init(|| index(self.trace)).as_ref().map_err(|why| *why)
    }
}

fn index(trace: &Trace) -> Result<Index, &'static str> {
    let documents = trace.context().filter_map(|d| d.content.as_deref()).map(Cow::Borrowed);
    let results = trace.view.tool_calls.iter().filter(|call| !call.result.is_null()).map(|call| match &call.result {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    });
    let texts: Vec<Cow<str>> = documents.chain(results).collect();
    if texts.is_empty() {
        return Err("there is no context");
    }
    if texts.iter().map(|t| t.len()).sum::<usize>() > CONTEXT_BYTES_MAX {
        return Err("the context is too large to be compared");
    }
    Ok(Index::of(texts.iter().map(AsRef::as_ref)))
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
