//! Words, numbers and sentences of a text, in any language.
//!
//! Used by `judge::chunks` and the simulated judge. Its rule: texts without spaces (Chinese, Japanese, Thai) are cut into pairs of characters, all others
//! into words by Unicode's rules, lower-cased and without the commonest endings. Positions are in characters.

use unicode_segmentation::UnicodeSegmentation;

/// A sentence and where it stands, in characters.
#[derive(Debug, PartialEq, Eq)]
pub struct Sentence<'a> {
    /// Its text.
    pub text: &'a str,
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

/// Sentences that hold at least one letter or digit.
pub fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    for part in text.unicode_sentences() {
        let offset = part.as_ptr() as usize - text.as_ptr() as usize;
        let chars_before = text[..offset].chars().count();
        let trimmed = part.trim_end();
        found.push(Sentence { text: trimmed, start: chars_before, end: chars_before + trimmed.chars().count() });
    }
    found
}

/// Content terms: stems of words longer than two letters, pairs of characters where words are not spaced.
pub fn terms(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for word in text.unicode_words() {
        let lower = word.to_lowercase();
        if lower.chars().any(is_unspaced) {
            continue;
        }
        if lower.chars().next().is_some_and(char::is_numeric) {
            continue; // numbers are compared by themselves
        }
        if lower.chars().count() > 2 && !STOP_WORDS.contains(&lower.as_str()) {
            out.push(stem(&lower));
        }
    }
    let unspaced: Vec<char> = text.chars().filter(|c| is_unspaced(*c)).collect();
    out.extend(unspaced.windows(2).map(|pair| pair.iter().collect()));
    out
}

/// Numbers, with thousands separators and trailing zeros removed: `1,200.50` is `1200.5`.
pub fn numbers(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    for c in text.chars().chain(std::iter::once(' ')) {
        if c.is_ascii_digit() || (matches!(c, '.' | ',') && !current.is_empty()) {
            current.push(c);
        } else if !current.is_empty() {
            found.push(normal_number(&current));
            current.clear();
        }
    }
    found
}

fn normal_number(raw: &str) -> String {
    let raw = raw.trim_end_matches(['.', ',']);
    // The last separator is a decimal mark unless exactly three digits follow it.
    let decimal = raw.rfind(['.', ',']).filter(|at| raw.len() - at - 1 != 3);
    let (whole, part) = decimal.map_or((raw, ""), |at| (&raw[..at], &raw[at + 1..]));
    let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
    let whole = whole.trim_start_matches('0');
    let part = part.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

/// Characters of scripts that are written without spaces.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Cuts the endings that inflection adds in the languages with Latin letters; crude, but the same on both sides.
fn stem(word: &str) -> String {
    const ENDINGS: [&str; 14] =
        ["ations", "ation", "ingen", "ments", "ment", "ings", "ing", "ies", "ed", "es", "en", "er", "s", "e"];
    for ending in ENDINGS {
        if let Some(root) = word.strip_suffix(ending)
            && root.chars().count() >= 4
        {
            return root.to_owned();
        }
    }
    word.to_owned()
}

/// Words that carry no content, of the languages with spaces that we meet most.
const STOP_WORDS: &[&str] = &[
    "the", "and", "for", "are", "was", "were", "you", "your", "yours", "our", "with", "that", "this", "these", "those",
    "have", "has", "had", "not", "but", "can", "will", "would", "should", "could", "may", "from", "into", "its",
    "their", "they", "them", "his", "her", "she", "him", "who", "what", "which", "when", "where", "how", "why", "also",
    "any", "all", "yes", "please", "there", "here", "then", "than", "just", "very", "more", "most", "about", "been",
    "being", "does", "did", "der", "die", "das", "und", "ist", "sind", "ein", "eine", "einen", "einem", "sie", "ihr",
    "ihre", "ihren", "wir", "mit", "von", "für", "auf", "nicht", "auch", "wird", "werden", "können", "kann", "den",
    "dem", "des", "bei", "nach", "aus", "les", "des", "une", "est", "sont", "vous", "votre", "vos", "nous", "avec",
    "pour", "dans", "que", "qui", "sur", "pas", "los", "las", "una", "unos", "con", "por", "para", "sus", "está",
    "son", "puede", "del", "como", "het", "een", "van", "voor", "met", "zijn", "niet", "dat", "kunt", "uma", "com",
    "não", "você", "seu", "sua", "che", "del", "della", "per",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(numbers("1,200.50 EUR, 30 days, 007 and 3.5%."), ["1200.5", "30", "7", "3.5"]);
        assert_eq!(numbers("1.200,50"), numbers("1,200.50"));
    }

    #[test]
    fn inflected_words_meet() {
        assert_eq!(terms("returned sofas"), terms("returning sofa"));
        assert_eq!(terms("配送は無料"), ["配送", "送は", "は無", "無料"]);
    }

    #[test]
    fn sentences_know_their_place() {
        let found = sentences("Día uno. Dos!");
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].text, found[1].start, found[1].end), ("Dos!", 9, 13));
    }
}
