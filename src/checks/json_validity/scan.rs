//! A scanner for RFC 8259 that says what is wrong and where, and what is allowed but will surprise somebody.
//!
//! Called by `json_validity`. Its rule: one pass, no recursion, no tree; whatever comes, it takes time linear in the text. It stops at
//! the first thing that makes the text no JSON, and collects what does not. The way not taken: asking serde_json, which keeps
//! the last of two equal keys in silence and cannot say what else is wrong.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// What can be wrong with a text that should be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    /// No value at all.
    Empty,
    /// It ends before the value does.
    Unfinished,
    /// A character that the grammar does not allow at this place.
    Malformed,
    /// `NaN`, `Infinity` or `-Infinity` in a number's place.
    NotANumber,
    /// Arrays and objects within each other beyond the limit.
    TooDeep,
    /// Something after the value.
    Trailing,
    /// A key that the object already has.
    DuplicateKey,
    /// Half of a surrogate pair as an escape: no character.
    LoneSurrogate,
}

/// A flaw and its place in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub flaw: Flaw,
    pub at: Range<usize>,
}

/// What a scan gives.
#[derive(Debug)]
pub(super) struct Scan {
    /// What makes it no JSON; the scan ended there.
    pub broken: Option<Found>,
    /// Things in valid JSON: the first of each kind, at most.
    pub oddities: Vec<Found>,
    /// One past the value, in bytes; less than the text where the value is followed by something.
    pub end: usize,
}

/// What the scanner lets pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub depth_max: usize,
    pub not_a_number: bool,
    /// Keys are remembered only where somebody wants to know.
    pub duplicate_keys: bool,
}

/// Scans one value and what is around it.
pub(super) fn scan(text: &str, limits: Limits) -> Scan {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0, limits, oddities: Vec::new() };
    scanner.space();
    let broken = scanner.document().err();
    let end = scanner.at;
    Scan { broken, oddities: scanner.oddities, end }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    limits: Limits,
    oddities: Vec<Found>,
}

/// What is open: an array, or an object with its keys.
enum Open<'a> {
    Array,
    /// Where its keys begin in the list of all open keys, and the same keys hashed once there are many.
    Object(usize, HashSet<Cow<'a, str>>),
}

/// Above this many keys of one object, looking back through them would be slower than hashing.
const KEYS_LOOKED_THROUGH: usize = 16;

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn wrong(&self, flaw: Flaw) -> Found {
        let flaw = if self.at >= self.bytes.len() && flaw == Flaw::Malformed { Flaw::Unfinished } else { flaw };
        Found { flaw, at: self.at..(self.at + 1).min(self.bytes.len()).max(self.at) }
    }

    fn odd(&mut self, flaw: Flaw, at: Range<usize>) {
        if self.oddities.iter().all(|found| found.flaw != flaw) {
            self.oddities.push(Found { flaw, at });
        }
    }

    fn document(&mut self) -> Result<(), Found> {
        if self.peek().is_none() {
            return Err(self.wrong(Flaw::Empty));
        }
        let mut open: Vec<Open> = Vec::new();
        let mut keys: Vec<Cow<str>> = Vec::new();
        loop {
            // A value begins here.
            let closed = match self.peek() {
                Some(b'{') => self.enter(&mut open, &mut keys, b'}')?,
                Some(b'[') => self.enter(&mut open, &mut keys, b']')?,
                Some(b'"') => self.string().map(|_| true)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|()| true)?,
                _ => self.word().map(|()| true)?,
            };
            if closed && !self.after_value(&mut open, &mut keys)? {
                break;
            }
        }
        let end = self.at;
        self.space();
        let rest = self.at < self.bytes.len();
        if rest {
            Err(Found { flaw: Flaw::Trailing, at: std::mem::replace(&mut self.at, end)..self.bytes.len() })
        } else {
            Ok(())
        }
    }

    /// Past an opening bracket; true when it closes at once.
    fn enter(&mut self, open: &mut Vec<Open<'a>>, keys: &mut Vec<Cow<'a, str>>, close: u8) -> Result<bool, Found> {
        if open.len() >= self.limits.depth_max {
            return Err(self.wrong(Flaw::TooDeep));
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        if close == b'}' {
            open.push(Open::Object(keys.len(), HashSet::new()));
            self.key(open, keys)?;
        } else {
            open.push(Open::Array);
        }
        Ok(false)
    }

    /// A key and its colon.
    fn key(&mut self, open: &mut [Open<'a>], keys: &mut Vec<Cow<'a, str>>) -> Result<(), Found> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong(Flaw::Malformed));
        }
        let key = self.string()?;
        if self.limits.duplicate_keys
            && let Some(Open::Object(start, hashed)) = open.last_mut()
        {
            let name = unescaped(&self.text[key.start - 1..=key.end]);
            let own = &keys[*start..];
            let known = if own.len() < KEYS_LOOKED_THROUGH {
                own.contains(&name)
            } else {
                if hashed.is_empty() {
                    hashed.extend(own.iter().cloned());
                }
                !hashed.insert(name.clone())
            };
            keys.push(name);
            if known {
                self.odd(Flaw::DuplicateKey, key);
            }
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong(Flaw::Malformed));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Past commas and closing brackets; false when nothing is open any more.
    fn after_value(&mut self, open: &mut Vec<Open<'a>>, keys: &mut Vec<Cow<'a, str>>) -> Result<bool, Found> {
        loop {
            let Some(innermost) = open.last() else { return Ok(false) };
            self.space();
            match (self.peek(), innermost) {
                (Some(b','), innermost) => {
                    self.at += 1;
                    let object = matches!(innermost, Open::Object(..));
                    self.space();
                    if object {
                        self.key(open, keys)?;
                    }
                    return Ok(true);
                }
                (Some(b'}'), Open::Object(start, _)) => {
                    keys.truncate(*start);
                    open.pop();
                    self.at += 1;
                }
                (Some(b']'), Open::Array) => {
                    open.pop();
                    self.at += 1;
                }
                _ => return Err(self.wrong(Flaw::Malformed)),
            }
        }
    }

    /// A string, quotes included; gives what is between them.
    fn string(&mut self) -> Result<Range<usize>, Found> {
        let start = self.at + 1;
        self.at = start;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong(Flaw::Malformed)),
            }
        }
    }

    /// Past what a string may hold as it is, eight bytes at a time; may stop early.
    #[inline]
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const TOPS: u64 = 0x8080_8080_8080_8080;
        // The lowest top bit set is that of the first byte below `limit`; those above it may be wrong.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & TOPS;
        while let Some(eight) = self.bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*eight);
            let quote = below(word ^ (ONES * u64::from(b'"')), 1);
            let escape = below(word ^ (ONES * u64::from(b'\\')), 1);
            let stops = quote | escape | below(word, 0x20);
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Result<(), Found> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let unit = self.unit()?;
                let paired = (0xd800..0xdc00).contains(&unit)
                    && self.bytes[self.at..].starts_with(b"\\u")
                    && hex(&self.bytes[self.at + 2..]).is_some_and(|low| (0xdc00..0xe000).contains(&low));
                if paired {
                    self.at += 6;
                } else if (0xd800..0xe000).contains(&unit) {
                    self.odd(Flaw::LoneSurrogate, start..self.at);
                }
            }
            _ => return Err(self.wrong(Flaw::Malformed)),
        }
        Ok(())
    }

    /// `uXXXX`, with the `u` still ahead.
    fn unit(&mut self) -> Result<u32, Found> {
        self.at += 1;
        let Some(unit) = hex(&self.bytes[self.at..]) else {
            while self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                self.at += 1;
            }
            return Err(self.wrong(Flaw::Malformed));
        };
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Found> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.bytes[self.at..].starts_with(b"Infinity") {
                return self.no_number(start, "-Infinity".len());
            }
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.wrong(Flaw::Malformed)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Found> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.wrong(Flaw::Malformed));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// `true`, `false`, `null`, and the words that only look like numbers.
    fn word(&mut self) -> Result<(), Found> {
        let rest = &self.bytes[self.at..];
        for word in ["true", "false", "null"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(());
            }
            // Cut off in the middle of it: unfinished, not malformed.
            if !rest.is_empty() && word.as_bytes().starts_with(rest) {
                self.at = self.bytes.len();
                return Err(self.wrong(Flaw::Unfinished));
            }
        }
        for word in ["NaN", "Infinity"] {
            if rest.starts_with(word.as_bytes()) {
                return self.no_number(self.at, word.len());
            }
        }
        Err(self.wrong(Flaw::Malformed))
    }

    fn no_number(&mut self, start: usize, length: usize) -> Result<(), Found> {
        self.at = start + length;
        if self.limits.not_a_number {
            return Ok(());
        }
        Err(Found { flaw: Flaw::NotANumber, at: start..self.at })
    }
}

/// A key as it is meant: `\u0061` is `a`. Taken as written where no reader could say what it means.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') {
        serde_json::from_str(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
    } else {
        Cow::Borrowed(inner)
    }
}

/// Four hexadecimal digits.
fn hex(bytes: &[u8]) -> Option<u32> {
    let four = bytes.get(..4).filter(|four| four.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(four).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: Limits = Limits { depth_max: 128, not_a_number: false, duplicate_keys: true };

    fn flaw(text: &str) -> Option<Flaw> {
        let scan = scan(text, STRICT);
        scan.broken.map(|found| found.flaw).or_else(|| scan.oddities.first().map(|found| found.flaw))
    }

    #[test]
    fn each_flaw_is_told_apart() {
        for (text, expected) in [
            ("{\"a\": [1, -0.5e+3, true, null, \"\\u00e9\\n\"]}", None),
            (" 7 ", None),
            ("", Some(Flaw::Empty)),
            ("{\"a\": ", Some(Flaw::Unfinished)),
            ("[\"abc", Some(Flaw::Unfinished)),
            ("[\"\\u00", Some(Flaw::Unfinished)),
            ("[1, tr", Some(Flaw::Unfinished)),
            ("[1.", Some(Flaw::Unfinished)),
            ("[1,]", Some(Flaw::Malformed)),
            ("{\"a\" 1}", Some(Flaw::Malformed)),
            ("[01]", Some(Flaw::Malformed)),
            ("['a']", Some(Flaw::Malformed)),
            ("[\"\t\"]", Some(Flaw::Malformed)),
            ("[1}", Some(Flaw::Malformed)),
            ("[NaN]", Some(Flaw::NotANumber)),
            ("[-Infinity]", Some(Flaw::NotANumber)),
            ("{} x", Some(Flaw::Trailing)),
            ("{\"a\":1,\"b\":{\"a\":1},\"a\":2}", Some(Flaw::DuplicateKey)),
            ("{\"a\":1,\"b\":{\"a\":1}}", None),
            ("{\"a\":1,\"\\u0061\":1}", Some(Flaw::DuplicateKey)),
            ("[\"\\ud83d\\ude00\"]", None),
            ("[\"\\ud83d\"]", Some(Flaw::LoneSurrogate)),
        ] {
            assert_eq!(flaw(text), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_and_many_keys_are_compared() {
        assert_eq!(flaw(&"[".repeat(100_000)), Some(Flaw::TooDeep));
        let pairs: Vec<String> = (0..40_000).map(|n| format!("\"k{n}\":{{\"x\":1}}")).collect();
        assert_eq!(flaw(&format!("{{{}}}", pairs.join(","))), None);
        assert_eq!(flaw(&format!("{{{},\"k7\":0}}", pairs.join(","))), Some(Flaw::DuplicateKey));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|[\\[\\]{}\",:\\\\u0-9a-fE.+ \\n-]){0,120}") {
            let _ = scan(&text, STRICT);
        }

        #[test]
        fn it_agrees_with_serde(text in "[\\[\\]{}\",:\\\\untrflse0-9.+ -]{0,14}") {
            let ours = scan(&text, STRICT);
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(ours.broken.is_none(), theirs, "{:?}", ours.broken);
        }

        #[test]
        fn every_beginning_of_valid_json_is_unfinished_or_valid(items in prop::collection::vec("[a-z\"\\\\é]{0,5}", 0..6), cut in 0usize..200) {
            let text = serde_json::json!({"items": items, "n": [1.5, true, null]}).to_string();
            let text = &text[..text.floor_char_boundary(cut)];
            let flaw = scan(text, STRICT).broken.map(|found| found.flaw);
            prop_assert!(matches!(flaw, None | Some(Flaw::Unfinished | Flaw::Empty)), "{:?}", flaw);
        }
    }
}
