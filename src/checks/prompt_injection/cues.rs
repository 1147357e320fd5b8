//! Finds the cues of `cues.txt` in a folded text, in one pass.
//!
//! Called by `features`. Its rule: a cue begins and ends where a word does, except in scripts without spaces.

use crate::checks::lexicon::Lexicon;
use std::sync::LazyLock;

/// Kinds of cues, in the order of `cues.txt`.
pub(super) const KINDS: [&str; 18] = [
    "override",
    "orders",
    "persona",
    "unbound",
    "maker",
    "tell",
    "secret",
    "prompt",
    "force",
    "shift",
    "coerce",
    "authority",
    "fiction",
    "encoding",
    "reply",
    "task",
    "ask",
    "delimiter",
];

/// A cue in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cue {
    /// Index into [`KINDS`].
    pub kind: usize,
    /// Where it begins in the folded text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

struct Phrase {
    kind: usize,
    stem: bool,
    bounded: bool,
}

struct Cues {
    lexicon: Lexicon,
    phrases: Vec<Phrase>,
}

static CUES: LazyLock<Cues> = LazyLock::new(|| {
    let mut words = Vec::new();
    let mut phrases = Vec::new();
    let mut kind = 0;
    for line in include_str!("cues.txt").lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).filter(|n| KINDS.contains(n)) {
            kind = KINDS.iter().position(|k| *k == name).unwrap_or_default();
            continue;
        }
        for raw in line.split('|') {
            let word = raw.strip_suffix('~').unwrap_or(raw);
            words.push(word.replace('¦', "|"));
            let bounded = word.chars().all(|c| c < '\u{0900}');
            phrases.push(Phrase { kind, stem: raw.len() > word.len(), bounded });
        }
    }
    Cues { lexicon: Lexicon::new(&words), phrases }
});

/// All cues of a folded text, in order, without overlaps.
pub(super) fn find(text: &str) -> Vec<Cue> {
    let known = &*CUES;
    let bytes = text.as_bytes();
    let inner = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
    let mut cues: Vec<Cue> = Vec::new();
    known.lexicon.find(text, |place| {
        let phrase = &known.phrases[place.word];
        let (start, end) = (place.start, place.end);
        if cues.last().is_some_and(|last| start < last.end) {
            return;
        }
        let begins = !phrase.bounded || start == 0 || !inner(start - 1) || !inner(start);
        let ends = !phrase.bounded || phrase.stem || !inner(end) || !inner(end - 1);
        if begins && ends {
            cues.push(Cue { kind: phrase.kind, start, end });
        }
    });
    cues
}
