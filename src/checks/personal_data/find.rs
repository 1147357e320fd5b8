//! One walk over a text that finds everything personal in it.
//!
//! Called by the check and by `checks::redact`. Its rule: the walk stops only at digits, `@` and colons, each look around them
//! is bounded, so time grows with the length of the text and not with what is in it. The way not taken: a regular expression for
//! each kind, which reads the text twenty times.

use super::spans::{Hit, settle};
use super::{address, network, numbers, secrets, tokens};

/// Everything personal in a text, in order, without overlaps.
#[must_use]
pub fn find(text: &str) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let mut hits = Vec::new();
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|b| stops(*b)) {
        at += step;
        at = match bytes[at] {
            b'@' => {
                hits.extend(network::email(text, at));
                at + 1
            }
            b':' if bytes.get(at + 1).is_some_and(|b| b.is_ascii_hexdigit() || *b == b':') => {
                let (hit, next) = network::ipv6(text, at);
                hits.extend(hit);
                next
            }
            b':' => {
                if bytes[at..].starts_with(b"://") {
                    hits.extend(secrets::in_url(text, at + 3));
                }
                at + 1
            }
            _ => number(text, at, &mut hits),
        };
    }
    secrets::find(text, &mut hits);
    settle(hits)
}

fn stops(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'@' || byte == b':'
}

/// A digit: alone, or part of a word with letters.
fn number(text: &str, at: usize, hits: &mut Vec<Hit>) -> usize {
    /// No number we know is longer.
    const WORD_MAX: usize = 40;
    let bytes = text.as_bytes();
    let letters = bytes[..at].iter().rev().take(WORD_MAX).take_while(|b| b.is_ascii_alphanumeric()).count();
    let start = at - letters;
    let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
    let digits = bytes[at..end].iter().take_while(|b| b.is_ascii_digit()).count();
    let extension =
        at + digits < end && bytes[at + digits] == b'x' && bytes[at + digits + 1..end].iter().all(u8::is_ascii_digit);
    if letters == 0 && (at + digits == end || extension) {
        if let Some(hit) = tokens::spaced_nino(text, at) {
            hits.push(hit);
            return hit.end;
        }
        let place = address::at(text, at, at + digits).filter(|_| digits <= 5);
        let next = numbers::at(text, at, hits);
        // A house number may begin a run of numbers; the run is looked at all the same.
        hits.extend(place);
        return next;
    }
    if end - start > WORD_MAX {
        return end;
    }
    tokens::at(text, start, end, hits)
}
