//! What was retrieved, over all spans of a trace.
//!
//! Called by `lift`. Its rule: every document once, with its text from wherever in the trace it is: another span with the same id, a
//! variable of the prompt, or the prompt itself where it marks the text with the id. A text that no id or name points at is not
//! taken for a document. Pure.

use crate::domain::message::Document;
use crate::domain::span::Span;
use std::collections::{HashMap, HashSet};

/// The reason of a gap that text found elsewhere closes.
pub(super) const WITHOUT_TEXT: &str = "the sender transmits ids and scores without text";

/// All documents; text is filled in where another span, or the prompt of one of `calls`, has it.
pub(super) fn documents(spans: &[(usize, &Span)], calls: &[&Span]) -> Vec<Document> {
    let all: Vec<&Document> = spans.iter().flat_map(|(_, s)| &s.documents).collect();
    let texts: HashMap<&str, &str> =
        all.iter().filter_map(|d| Some((d.id.as_deref()?, d.content.as_deref()?))).collect();
    let ids: Vec<&str> = all.iter().filter_map(|d| d.id.as_deref()).collect();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for document in &all {
        let known = document.content.as_deref().or_else(|| texts.get(document.id.as_deref()?).copied());
        let text = known.map(str::to_owned).or_else(|| in_prompts(document.id.as_deref()?, &ids, calls));
        if seen.insert((document.id.clone(), text.clone())) {
            found.push(Document { content: text, ..(*document).clone() });
        }
    }
    // The same text under an id and without one is one document.
    let named: HashSet<String> = found.iter().filter(|d| d.id.is_some()).filter_map(|d| d.content.clone()).collect();
    found.retain(|d| d.id.is_some() || d.content.as_ref().is_none_or(|text| !named.contains(text)));
    found
}

/// The text that a prompt has after `[id]`, up to the next document's mark or an empty line.
fn in_prompts(id: &str, ids: &[&str], calls: &[&Span]) -> Option<String> {
    let mark = format!("[{id}]");
    let prompts = calls.iter().flat_map(|call| call.input.iter().filter(|m| m.role != "assistant"));
    prompts.filter_map(|message| message.content.split_once(&mark)).find_map(|(_, after)| {
        let marks = ids.iter().filter_map(|other| after.find(&format!("[{other}]")));
        let end = marks.chain(after.find("\n\n")).min().unwrap_or(after.len());
        Some(after[..end].trim().to_owned()).filter(|text| !text.is_empty())
    })
}
