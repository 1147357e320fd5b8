//! Cuts a text into tokens and hashes them, in one pass over its bytes and without an allocation per token.
//!
//! Called by [`super::index`] for contexts and by `check` for answers. Its rule: the last sixteen bytes of a word, lower-cased, are kept in one
//! register, so that lower-casing, stemming and hashing are a few shifts. Scripts without spaces give a token per character
//! that covers it and the next one. The way not taken: `unicode_words` and a `String` a word, which costs ten times as much.

#![expect(
    clippy::cast_possible_truncation,
    reason = "inputs are at most 1 MiB, and hashes take the low bits on purpose"
)]

use super::lexicon::{Lexicon, Word};
use crate::checks::masks::{alphanumeric, masks, run};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word of a script with spaces.
    Word,
    /// A number; its hash is that of its value.
    Number,
    /// One character of a script without spaces, together with the next.
    Unspaced,
}

/// One token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Hash of the lower-cased word without its endings, of a number's value, or of a pair of characters.
    pub stem: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// The sentence it stands in, from 0; a line end ends a sentence too.
    pub sentence: u32,
    /// What it is.
    pub kind: Kind,
    /// What the lexicon says of it.
    pub word: Word,
    /// Whether its first letter is a capital.
    pub capital: bool,
    /// Whether a negation stands up to three words before it in its sentence.
    pub negated: bool,
    /// Whether a comma or another mark stands between it and the token before.
    pub mark: bool,
}

impl Token {
    /// Whether it says something: not a word of grammar alone.
    #[inline]
    pub fn is_content(&self) -> bool {
        !self.word.is(Word::STOP)
    }
}

/// A sentence ends after this many tokens at the latest: tables and JSON have no full stops.
pub const SENTENCE_TOKENS_MAX: u32 = 60;

const OTHER: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const APOSTROPHE: u8 = 3;
const STOP: u8 = 4;
const LINE: u8 = 5;
const HIGH: u8 = 6;
const MARK: u8 = 7;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'\'' => APOSTROPHE,
            b'.' | b'!' | b'?' => STOP,
            b'\n' => LINE,
            b',' | b';' | b':' | b'(' | b')' | b'"' | b'-' | b'|' => MARK,
            0x80..=0xff => HIGH,
            _ => OTHER,
        };
        byte += 1;
    }
    table
}

/// The end of a word in a register: its last sixteen bytes, and a hash of those before.
#[derive(Clone, Copy, Default)]
pub(super) struct Packed {
    low: u128,
    before: u64,
    len: u32,
}

/// The lowest bytes of a register, by how many.
const LOWEST: [u128; 17] = {
    let mut masks = [0; 17];
    let mut bytes = 1;
    while bytes <= 16 {
        masks[bytes] = u128::MAX >> (128 - 8 * bytes);
        bytes += 1;
    }
    masks
};

impl Packed {
    /// The last `len` bytes of these, which are ASCII letters and digits; setting bit 5 makes letters small and leaves digits.
    #[inline]
    fn ascii(chunk: [u8; 16], len: usize) -> Self {
        let low = (u128::from_be_bytes(chunk) | u128::from_be_bytes([0x20; 16])) & LOWEST[len];
        Self { low, before: 0, len: len as u32 }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if self.len >= 16 {
            self.before = mix(self.before ^ (self.low >> 120) as u64);
        }
        self.low = (self.low << 8) | u128::from(byte);
        self.len += 1;
    }

    fn push_char(&mut self, c: char) {
        let mut buffer = [0; 4];
        for lower in c.to_lowercase() {
            for byte in lower.encode_utf8(&mut buffer).bytes() {
                self.push(byte);
            }
        }
    }

    #[inline]
    pub(super) fn hash(self) -> u32 {
        fold(self.low, self.before)
    }

    /// A packed word, as the tokeniser would make it.
    pub(super) fn of(word: &str) -> Self {
        let mut packed = Self::default();
        for c in word.chars().filter(|c| *c != '\'') {
            packed.push_char(c);
        }
        packed
    }

    /// Hash of the word without the endings of inflection: crude, but the same on both sides. Selects instead of branches, which
    /// words in any order would mispredict: what is cut is in the last eight bytes, what stays in the first seven.
    #[inline]
    #[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
    pub(super) fn stem(self) -> u32 {
        let len = self.len.clamp(4, 16);
        let tail = self.low as u64;
        let ending = |tail: u64, bytes: u32, word: u64| tail & (u64::MAX >> (64 - 8 * bytes)) == word;
        // `-ies` is `-y`, and `-s` nothing, but for `-ss`, `-us` and `-is`.
        let ies = (len > 4) & ending(tail, 3, 0x0069_6573);
        let kept = ending(tail, 2, 0x7373) | ending(tail, 2, 0x7573) | ending(tail, 2, 0x6973);
        let cut = u32::from(ending(tail, 1, 0x73) & !ies & !kept) + 2 * u32::from(ies);
        let (tail, len) = ((tail >> (8 * cut)) + (u64::from(ies) << 4), len - cut);
        let ing = (len > 5) & ending(tail, 3, 0x0069_6e67);
        let ed = (len > 4) & ending(tail, 2, 0x6564);
        let ly = (len > 5) & ending(tail, 2, 0x6c79);
        let cut = 3 * u32::from(ing) + 2 * u32::from(ed | ly);
        let (tail, len) = (tail >> (8 * cut), len - cut);
        let cut = u32::from((ing | ed) & is_doubled(tail));
        let (tail, len) = (tail >> (8 * cut), len - cut);
        let cut = u32::from((len > 3) & ending(tail, 1, 0x65));
        let (tail, len) = (tail >> (8 * cut), len - cut);
        let head = ((self.low << (128 - 8 * self.len.clamp(1, 16))) >> 64) as u64;
        let head = head >> (64 - 8 * len.min(STEM_BYTES_MAX));
        // `-y` and `-i` are one.
        let last = (len <= STEM_BYTES_MAX) & ending(tail, 1, 0x79);
        let stem = if last { (head & !0xff) | 0x69 } else { head };
        if (self.len < 4) | (self.len > 16) { self.hash() } else { fold(u128::from(stem), 0) }
    }
}

/// Whether a word ends with a letter twice that English doubles before `-ing` and `-ed`.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
fn is_doubled(tail: u64) -> bool {
    // l, s, z, e and o.
    const SINGLE: u32 = 1 << 12 | 1 << 19 | 1 << 26 | 1 << 5 | 1 << 15;
    let last = tail & 0xff;
    let single = (last >> 5 == 3) & ((SINGLE >> (last & 31)) & 1 == 1);
    (tail >> 8 & 0xff == last) & !single
}

/// Words that agree in this many letters are one: it joins derivations that no short list of endings covers.
const STEM_BYTES_MAX: u32 = 7;

#[inline]
fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 32)
}

#[inline]
fn fold(low: u128, before: u64) -> u32 {
    let product = mix((low >> 64) as u64 ^ before ^ 0x2545_f491_4f6c_dd1d) ^ low as u64;
    (mix(product) >> 16) as u32 | 1
}

/// Hash of a number's value.
pub(super) fn number_hash(value: f64) -> u32 {
    fold(u128::from(value.to_bits()), 77)
}

/// The tokens of a text and the values of its numbers.
#[derive(Default, Debug)]
pub struct Tokens {
    /// In order.
    pub tokens: Vec<Token>,
    /// Value and place in `tokens` of each number, spelled ones too.
    pub numbers: Vec<(f64, u32)>,
    /// One more than the last sentence.
    pub sentences: u32,
}

impl Tokens {
    /// Cuts a text.
    pub fn of(text: &str) -> Self {
        let mut all = Self { tokens: Vec::with_capacity(text.len() / 5 + 8), numbers: Vec::new(), sentences: 0 };
        all.read(text, 0);
        all
    }

    /// Appends a text whose first byte counts as `base`; it starts a sentence of its own.
    pub fn read(&mut self, text: &str, base: u32) {
        let mut scan = Scan {
            bytes: text.as_bytes(),
            inner: masks(text.as_bytes(), alphanumeric),
            text,
            at: 0,
            base,
            sentence: self.sentences,
            in_sentence: 0,
            negation: 0,
            mark: true,
            lexicon: Lexicon::get(),
        };
        while scan.at < scan.bytes.len() {
            match CLASSES[scan.bytes[scan.at] as usize] {
                LETTER => scan.word(self),
                DIGIT => scan.number(self),
                HIGH => scan.high(self),
                STOP => scan.stop(),
                LINE => {
                    scan.at += 1;
                    scan.end_sentence();
                }
                MARK => {
                    scan.at += 1;
                    scan.mark = true;
                }
                _ => scan.at += 1,
            }
        }
        scan.end_sentence();
        self.sentences = scan.sentence;
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// Bits of letters and digits of ASCII.
    inner: Vec<u64>,
    text: &'a str,
    at: usize,
    base: u32,
    sentence: u32,
    in_sentence: u32,
    /// Words that a negation still reaches.
    negation: u8,
    mark: bool,
    lexicon: &'static Lexicon,
}

impl Scan<'_> {
    fn end_sentence(&mut self) {
        if self.in_sentence > 0 {
            self.sentence += 1;
            self.in_sentence = 0;
        }
        self.negation = 0;
        self.mark = true;
    }

    fn stop(&mut self) {
        let before = self.at;
        self.at += 1;
        let spaced =
            self.bytes.get(self.at).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b')' | b'\''));
        // `U.S. ` and `J. Smith` do not end a sentence: a single capital stands before the dot.
        let initial = self.bytes[before] == b'.'
            && before >= 1
            && self.bytes[before - 1].is_ascii_uppercase()
            && (before < 2 || !self.bytes[before - 2].is_ascii_alphanumeric());
        if spaced && !initial {
            self.end_sentence();
        }
    }

    #[inline]
    fn emit(&mut self, all: &mut Tokens, start: usize, (stem, kind): (u32, Kind), word: Word) {
        let capital = self.bytes[start].is_ascii_uppercase();
        let token = Token {
            stem,
            start: self.base + start as u32,
            end: self.base + self.at as u32,
            sentence: self.sentence,
            kind,
            word,
            capital,
            negated: self.negation > 0,
            mark: self.mark,
        };
        self.mark = false;
        self.negation = if word.is(Word::NEGATION) { 4 } else { self.negation.saturating_sub(1) };
        all.tokens.push(token);
        self.in_sentence += 1;
        if self.in_sentence >= SENTENCE_TOKENS_MAX {
            self.end_sentence();
        }
    }

    #[inline]
    fn word(&mut self, all: &mut Tokens) {
        let start = self.at;
        let len = run(&self.inner, start);
        let end = start + len;
        let after = self.bytes.get(end).map_or(OTHER, |b| CLASSES[usize::from(*b)]);
        let packed = match end.checked_sub(16).and_then(|from| self.bytes[from..].first_chunk::<16>()) {
            Some(chunk) if !matches!(after, APOSTROPHE | HIGH) && len <= 16 => {
                self.at = end;
                Packed::ascii(*chunk, len)
            }
            _ => self.any_word(),
        };
        let hash = packed.hash();
        let word = self.lexicon.word(hash);
        if let Some(value) = word.number() {
            all.numbers.push((value, all.tokens.len() as u32));
            self.emit(all, start, (number_hash(value), Kind::Number), word);
            return;
        }
        let stem = packed.stem();
        let stem = if word.is(Word::STOP) { hash } else { stem };
        self.emit(all, start, (stem, Kind::Word), word);
    }

    /// A word with letters outside ASCII, with an apostrophe, or longer than the register.
    fn any_word(&mut self) -> Packed {
        let mut packed = Packed::default();
        while let Some(&byte) = self.bytes.get(self.at) {
            match CLASSES[byte as usize] {
                LETTER | DIGIT => packed.push(byte | 0x20),
                APOSTROPHE if self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_alphabetic) => {}
                HIGH => {
                    let Some(c) = self.text[self.at..].chars().next() else { break };
                    if c != '\u{2019}' {
                        if !c.is_alphanumeric() || is_unspaced(c) {
                            break;
                        }
                        packed.push_char(c);
                    }
                    self.at += c.len_utf8();
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        packed
    }

    /// `1,200.50` is 1200.5; `5th`, `3.5%` and `$2m` begin as their number.
    fn number(&mut self, all: &mut Tokens) {
        let start = self.at;
        let mut value = 0.0_f64;
        let mut scale = 0.0_f64;
        while let Some(&byte) = self.bytes.get(self.at) {
            let digit_next = self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit);
            match byte {
                b'0'..=b'9' => {
                    value = value * 10.0 + f64::from(byte - b'0');
                    scale *= 10.0;
                }
                // The last mark is a decimal one unless exactly three digits follow it.
                b'.' | b',' if digit_next => {
                    let digits = self.bytes[self.at + 1..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
                    if digits == 3 && byte == b',' {
                        // a mark of thousands
                    } else if scale == 0.0 {
                        scale = 1.0;
                    } else {
                        break;
                    }
                }
                _ => break,
            }
            self.at += 1;
        }
        if scale > 1.0 {
            value /= scale;
        }
        let hash = number_hash(value);
        all.numbers.push((value, all.tokens.len() as u32));
        self.emit(all, start, (hash, Kind::Number), Word::default());
        // `5th`: the ending is no word.
        let rest = &self.bytes[self.at..];
        if rest.len() >= 2 && matches!(&rest[..2], b"st" | b"nd" | b"rd" | b"th") {
            self.at += 2;
        }
    }

    fn high(&mut self, all: &mut Tokens) {
        let Some(c) = self.text[self.at..].chars().next() else {
            self.at = self.bytes.len();
            return;
        };
        if matches!(c, '。' | '！' | '？' | '।' | '؟') {
            self.at += c.len_utf8();
            self.end_sentence();
        } else if is_unspaced(c) {
            let start = self.at;
            self.at += c.len_utf8();
            let mut packed = Packed::default();
            packed.push_char(c);
            if let Some(next) = self.text[self.at..].chars().next().filter(|next| is_unspaced(*next)) {
                packed.push_char(next);
            }
            let hash = packed.hash();
            self.emit(all, start, (hash, Kind::Unspaced), Word::default());
        } else if c.is_alphanumeric() {
            self.word(all);
        } else {
            self.at += c.len_utf8();
        }
    }
}

/// Characters of scripts that are written without spaces.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of [`Packed::stem`], one after another.
    fn plainly(word: &str) -> String {
        let mut stem = word.to_owned();
        if !(4..=16).contains(&stem.len()) {
            return stem;
        }
        let cut = |stem: &mut String, ending: &str, least: usize| {
            let ends = stem.len() > least && stem.ends_with(ending);
            stem.truncate(stem.len() - if ends { ending.len() } else { 0 });
            ends
        };
        if cut(&mut stem, "ies", 4) {
            stem.push('y');
        } else if !["ss", "us", "is"].iter().any(|kept| stem.ends_with(kept)) {
            cut(&mut stem, "s", 0);
        }
        if cut(&mut stem, "ing", 5) || cut(&mut stem, "ed", 4) {
            if let [.., a, b] = stem.as_bytes()
                && a == b
                && !b"lszeo".contains(b)
            {
                stem.pop();
            }
        } else {
            cut(&mut stem, "ly", 5);
        }
        cut(&mut stem, "e", 3);
        if cut(&mut stem, "y", 0) {
            stem.push('i');
        }
        stem.truncate(STEM_BYTES_MAX as usize);
        stem
    }

    #[test]
    fn words_of_one_root_meet() {
        for (one, other) in [("families", "family"), ("hopping", "hops"), ("delivered", "delivery"), ("rolled", "roll")]
        {
            assert_eq!(Packed::of(one).stem(), Packed::of(other).stem(), "{one} {other}");
        }
        assert_ne!(Packed::of("glass").stem(), Packed::of("glas").stem());
    }

    proptest::proptest! {
        #[test]
        fn a_stem_is_what_its_rules_leave(word in "[a-z0-9]{0,3}[aeilnstpz]{0,12}(s|ies|ing|ings|ed|ly|lies|y|e|es|us)?") {
            proptest::prop_assert_eq!(Packed::of(&word).stem(), Packed::of(&plainly(&word)).hash());
        }
    }
}
