//! Cuts a text into tokens and hashes them, in one pass over its bytes and without an allocation per token.
//!
//! Called by [`super::index`] for contexts and by `check` for answers. Its rule: words of ASCII with a space between
//! them, which most texts mostly are, are one loop that keeps all it needs in registers. Scripts without spaces give a token per
//! character that covers it and the next one. The way not taken: `unicode_words` and a `String` a word, which costs ten times as much.

#![expect(
    clippy::cast_possible_truncation,
    reason = "inputs are at most 1 MiB, and hashes take the low bits on purpose"
)]

use super::letters::{Letters, Packed, number_hash};
use super::lexicon::{Lexicon, Word};
use crate::checks::masks::{alphanumeric, masks, run};
use std::hint::select_unpredictable;

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

/// One token: sixteen bytes, since a context has thousands.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Hash of the lower-cased word without its endings, of a number's value, or of a pair of characters.
    pub stem: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// From the lowest bit: what the lexicon says of it, the bits below, and the sentence.
    about: u32,
}

/// What [`Token::about`] has of a [`Word`].
const WORD: u32 = Word::STOP as u32 | Word::NEGATION as u32 | Word::HEDGE as u32 | Word::PERSON as u32;
const CAPITAL: u32 = WORD + 1;
const NEGATED: u32 = CAPITAL << 1;
const MARKED: u32 = CAPITAL << 2;
const NUMBER: u32 = CAPITAL << 3;
const UNSPACED: u32 = CAPITAL << 4;
/// Where the sentence begins in it: 23 bits, more than a megabyte has sentences.
const SENTENCE: u32 = (CAPITAL << 5).trailing_zeros();

impl Token {
    /// Whether it says something: not a word of grammar alone.
    #[inline]
    pub fn is_content(&self) -> bool {
        !self.is(Word::STOP)
    }

    /// Whether the lexicon has it as [`Word::STOP`], [`Word::NEGATION`], [`Word::HEDGE`] or [`Word::PERSON`].
    #[inline]
    pub fn is(&self, bit: u16) -> bool {
        self.about & WORD & u32::from(bit) != 0
    }

    /// What it is.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.about & (NUMBER | UNSPACED) {
            NUMBER => Kind::Number,
            UNSPACED => Kind::Unspaced,
            _ => Kind::Word,
        }
    }

    /// The sentence it stands in, from 0; a line end ends a sentence too.
    #[inline]
    pub fn sentence(&self) -> u32 {
        self.about >> SENTENCE
    }

    /// Whether its first letter is a capital.
    #[inline]
    pub fn is_capital(&self) -> bool {
        self.about & CAPITAL != 0
    }

    /// Whether a negation stands up to three words before it in its sentence.
    #[inline]
    pub fn is_negated(&self) -> bool {
        self.about & NEGATED != 0
    }

    /// Whether a comma or another mark stands between it and the token before.
    #[inline]
    pub fn has_mark(&self) -> bool {
        self.about & MARKED != 0
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
        while let Some(byte) = scan.bytes.get(scan.at) {
            match CLASSES[*byte as usize] {
                LETTER => {
                    if !scan.plain_words(self) {
                        scan.word(self);
                    }
                }
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
    inner: Vec<u8>,
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

    /// `kind`: [`NUMBER`], [`UNSPACED`] or nothing.
    fn emit(&mut self, all: &mut Tokens, start: usize, (stem, kind): (u32, u32), word: Word) {
        let about = kind
            | (u32::from(word.bits()) & WORD)
            | (u32::from(self.bytes[start].is_ascii_uppercase()) * CAPITAL)
            | (u32::from(self.negation > 0) * NEGATED)
            | (u32::from(self.mark) * MARKED)
            | (self.sentence << SENTENCE);
        all.tokens.push(Token { stem, start: self.base + start as u32, end: self.base + self.at as u32, about });
        self.mark = false;
        self.negation = if word.is(Word::NEGATION) { 4 } else { self.negation.saturating_sub(1) };
        self.in_sentence += 1;
        if self.in_sentence >= SENTENCE_TOKENS_MAX {
            self.end_sentence();
        }
    }

    /// Words of ASCII with a space between them, which most texts mostly are: one loop that keeps all it needs in registers. Gives
    /// whether there was one; whatever it stops at is for the others.
    fn plain_words(&mut self, all: &mut Tokens) -> bool {
        let (bytes, lexicon, inner) = (self.bytes, self.lexicon, self.inner.as_slice());
        let (mut at, mut negation, mut left) = (self.at, self.negation, SENTENCE_TOKENS_MAX - self.in_sentence);
        let mut about = (self.sentence << SENTENCE) | (u32::from(self.mark) * MARKED);
        while let Some(near) = at.checked_sub(8).and_then(|from| bytes.get(from..)?.first_chunk::<32>()) {
            let len = run(inner, at);
            let (Some(head), Some(tail)) =
                (near[8..].first_chunk(), near.get(len..).and_then(|rest| rest.first_chunk()))
            else {
                break;
            };
            if len > 16 || !near[8].is_ascii_alphabetic() {
                break;
            }
            let after = near[8 + len];
            let letters = Letters::ascii(*head, *tail, len);
            let hash = letters.hash();
            let word = lexicon.word(hash);
            if (after != b' ' && matches!(CLASSES[usize::from(after)], APOSTROPHE | HIGH)) || word.is_number() {
                break;
            }
            let stem = letters.stem(hash);
            all.tokens.push(Token {
                stem: select_unpredictable(word.is(Word::STOP), hash, stem),
                start: self.base + at as u32,
                end: self.base + (at + len) as u32,
                about: about
                    | (u32::from(word.bits()) & WORD)
                    | (u32::from(near[8] < b'a') * CAPITAL)
                    | (u32::from(negation > 0) * NEGATED),
            });
            about &= !MARKED;
            negation = select_unpredictable(word.is(Word::NEGATION), 4, negation.saturating_sub(1));
            (at, left) = (at + len, left - 1);
            if left == 0 {
                break;
            }
            if after == b' ' {
                at += 1;
                continue;
            }
            match CLASSES[usize::from(after)] {
                MARK if near[9 + len] == b' ' => about |= MARKED,
                // Behind two letters or more it is no initial, so it ends the sentence.
                STOP if near[9 + len] == b' ' && len > 1 => {
                    about = (about | MARKED) + (1 << SENTENCE);
                    (negation, left) = (0, SENTENCE_TOKENS_MAX);
                }
                _ => break,
            }
            at += 2;
        }
        let some = at != self.at;
        self.sentence = about >> SENTENCE;
        (self.at, self.negation, self.mark) = (at, negation, about & MARKED != 0);
        self.in_sentence = SENTENCE_TOKENS_MAX - left;
        if left == 0 {
            self.end_sentence();
        }
        some
    }

    /// Any word.
    fn word(&mut self, all: &mut Tokens) {
        let start = self.at;
        let letters = self.any_word().letters();
        let hash = letters.hash();
        let word = self.lexicon.word(hash);
        if let Some(value) = word.number() {
            all.numbers.push((value, all.tokens.len() as u32));
            self.emit(all, start, (number_hash(value), NUMBER), word);
            return;
        }
        let stem = letters.stem(hash);
        let stem = if word.is(Word::STOP) { hash } else { stem };
        self.emit(all, start, (stem, 0), word);
    }

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
        self.emit(all, start, (hash, NUMBER), Word::default());
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
            let hash = packed.letters().hash();
            self.emit(all, start, (hash, UNSPACED), Word::default());
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
