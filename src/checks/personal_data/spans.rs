//! What was found in a text, and a look around it.
//!
//! Called by the finders beside it. Its rule: places are byte offsets into the text as given, always on character
//! boundaries; context is a bounded window, so no text is slow.

use crate::domain::personal::Category;

/// Something found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Its category.
    pub category: Category,
    /// What exactly: `us_ssn`, `aws_access_key`, …
    pub kind: &'static str,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends, in bytes.
    pub end: usize,
}

/// How many bytes before and after a number are looked at for words that say what it is.
const BEFORE: usize = 48;
const AFTER: usize = 16;

/// Whether one of the lower-case words stands near `start..end`, in the same line or before it. A word ends at the place
/// where it is found to end, so `tel` does not find `hotel`.
pub(super) fn near(text: &str, (start, end): (usize, usize), words: &[&str]) -> bool {
    let from = text.floor_char_boundary(start.saturating_sub(BEFORE));
    let to = text.ceil_char_boundary((end + AFTER).min(text.len()));
    has_word(&text[from..start].to_lowercase(), words) || has_word(&text[end..to].to_lowercase(), words)
}

fn has_word(window: &str, words: &[&str]) -> bool {
    words.iter().any(|word| {
        window.match_indices(word).any(|(at, _)| {
            let before = window[..at].chars().next_back();
            let after = window[at + word.len()..].chars().next();
            // Scripts without spaces have no such boundaries.
            let open = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphabetic());
            open(before) && (open(after) || !word.is_ascii())
        })
    })
}

/// The character before a place.
pub(super) fn before(text: &str, at: usize) -> Option<char> {
    text[..at].chars().next_back()
}

/// The character at a place.
pub(super) fn after(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// Drops what overlaps something better: the more harmful category, then the longer.
pub(super) fn settle(mut hits: Vec<Hit>) -> Vec<Hit> {
    if hits.len() < 2 {
        return hits;
    }
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match kept.last_mut() {
            Some(last) if hit.start < last.end => {
                let better = (hit.category, std::cmp::Reverse(hit.end - hit.start))
                    < (last.category, std::cmp::Reverse(last.end - last.start));
                if better {
                    // Nothing that was seen to be personal is uncovered again.
                    *last = Hit { start: last.start.min(hit.start), end: last.end.max(hit.end), ..hit };
                } else {
                    last.end = last.end.max(hit.end);
                }
            }
            _ => kept.push(hit),
        }
    }
    kept
}
