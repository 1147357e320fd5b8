//! Undoes encodings in which orders are hidden: base64, hexadecimal, binary, rot13, letters parted by spaces, digits for letters.
//!
//! Called by `features`. Its rule: only what looks encoded is decoded, at most a few pieces of bounded length, and the result counts
//! when it has cues of its own; that it is readable text says that somebody encoded words.

use crate::checks::masks::{BLOCK, bits, blocks};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use regex::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

/// Pieces decoded of one text at most.
const PIECES_MAX: usize = 8;
/// Bytes of one piece that are decoded at most.
const PIECE_MAX: usize = 4096;

static BASE64: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/]{24,}").expect("fixed"));
static HEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)(?:(?:0x|\\x)?[0-9a-fA-F]{2}[ ,:]?){12,}").expect("fixed"));
static BINARY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:[01]{8}\s?){6,}").expect("fixed"));
static SPACED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:(?-u:\b)[\p{L}\p{N}][ ._*-]){6,}[\p{L}\p{N}](?-u:\b)").expect("fixed"));

/// The pieces that were encoded, decoded and joined by lines; empty when there are none.
pub(super) fn hidden(text: &str) -> String {
    let mut found = String::new();
    let text = head(text);
    let looks = Looks::of(text);
    let mut add = |bytes: Vec<u8>| {
        if let Some(words) = readable(bytes) {
            // Writing to a String cannot fail.
            let _ = writeln!(found, "{words}");
        }
    };
    for piece in BASE64.find_iter(text).take(if looks.long { PIECES_MAX } else { 0 }) {
        let whole = &piece.as_str()[..piece.len().min(PIECE_MAX) / 4 * 4];
        if let Ok(bytes) = STANDARD_NO_PAD.decode(whole) {
            add(bytes);
        }
    }
    for piece in BINARY.find_iter(text).take(if looks.binary { PIECES_MAX } else { 0 }) {
        add(piece.as_str().split_whitespace().filter_map(|b| u8::from_str_radix(b, 2).ok()).collect());
    }
    for piece in HEX.find_iter(text).take(if looks.hex { PIECES_MAX } else { 0 }) {
        let digits: String = piece.as_str().replace("0x", "").replace("\\x", "");
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
        add(hex::decode(&digits[..digits.len() / 2 * 2]).unwrap_or_default());
    }
    for piece in SPACED.find_iter(text).take(if looks.spaced { PIECES_MAX } else { 0 }) {
        let letters: String = piece.as_str().chars().filter(|c| c.is_alphanumeric()).collect();
        let _ = writeln!(found, "{letters}");
    }
    found
}

fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(16 << 10)]
}

/// Which encodings a text may have in it: one cheap look, since the patterns are dear and nearly no text has any.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent signs, read by name")]
struct Looks {
    long: bool,
    binary: bool,
    hex: bool,
    spaced: bool,
}

impl Looks {
    fn of(text: &str) -> Self {
        let mut seen = Seen::default();
        let bytes = text.as_bytes();
        // One past the last mark between words; which bytes of this block and the one before are of no hexadecimal number; its place.
        let (mut from, mut others, mut at) = (0, 0_u128, 0);
        // The marks of this block and the one before; one stands before the text.
        let mut marks = u128::MAX;
        for block in blocks(bytes) {
            let between =
                block.mask(|b| u8::from(matches!(b, b' ' | b'\n' | b'\t' | b'-' | b'.' | b'_' | b'*' | b',' | b':')));
            let other = block.mask(|b| u8::from(!(b.is_ascii_hexdigit() || b == b'x')));
            (others, at) = (u128::from(other) << BLOCK | others >> BLOCK, block.at);
            marks = u128::from(between) << BLOCK | marks >> BLOCK;
            let ends = between & block.real;
            if telling(marks, others) & ends == 0 {
                if (ends & !((marks << 1 >> BLOCK) as u64)) != 0 {
                    (seen.letters, seen.pairs) = (0, 0);
                }
                from = if ends == 0 { from } else { at + BLOCK - ends.leading_zeros() as usize };
                continue;
            }
            for bit in bits(ends) {
                let end = at + bit;
                if end > from {
                    seen.word(&bytes[from..end], others << (BLOCK - bit));
                }
                from = end + 1;
            }
        }
        if from < bytes.len() {
            seen.word(&bytes[from..], others << (at + BLOCK - bytes.len()));
        }
        seen.looks.hex |= seen.looks.long;
        seen.looks
    }
}

/// The ends of the last block's words that [`Seen::word`] could take for a piece of something encoded: single letters, digits of one or
/// two bytes, eight and more digits, and long words. All others only end what is in a row, and nearly every block has none.
#[inline]
fn telling(marks: u128, others: u128) -> u64 {
    // A bit says that this many bytes up to it are all set.
    let double = |mask: u128, by: u32| mask & mask << by;
    let (inner, digits) = (!marks, !others);
    let (two, four) = (double(inner, 1), double(double(inner, 1), 2));
    let sixteen = double(double(four, 4), 8);
    let long = sixteen & double(four, 4) << 16;
    let (two_digits, four_digits) = (double(digits, 1), double(double(digits, 1), 2));
    let single = inner & marks << 1;
    let pair = two & two_digits & marks << 2 | four & four_digits & marks << 4;
    let many = double(four_digits, 4);
    ((single | pair | many | long) << 1 >> BLOCK) as u64
}

/// What the words so far look like.
#[derive(Default)]
struct Seen {
    looks: Looks,
    /// Single letters in a row.
    letters: u32,
    /// Pieces in a row that could be a byte in hexadecimal digits.
    pairs: u32,
}

impl Seen {
    /// Without branches that depend on the text: words come in every length. `others` has a bit for each byte up to the word's last,
    /// which is the uppermost, where it is of no hexadecimal number.
    #[inline]
    fn word(&mut self, word: &[u8], others: u128) {
        let length = word.len();
        let of_digits = others.leading_zeros() as usize >= length;
        self.letters = (self.letters + 1) * u32::from(length == 1);
        self.pairs = (self.pairs + 1) * u32::from(of_digits) * u32::from(matches!(length, 2 | 4));
        self.looks.spaced |= self.letters >= 6;
        self.looks.hex |= self.pairs >= 8;
        self.looks.long |= length >= 24;
        if matches!(word[0], b'0' | b'1') {
            self.looks.binary |= length >= 8 && word.iter().all(|b| matches!(b, b'0' | b'1'));
        }
    }
}

/// The bytes as text, when they are words: printable, with spaces or long enough.
fn readable(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let letters = text.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
    let plain = text.chars().all(|c| !c.is_control() || c.is_whitespace());
    (plain && text.len() >= 6 && letters * 10 >= text.chars().count() * 8).then_some(text)
}

/// The text with letters turned by thirteen.
pub(super) fn rot13(text: &str) -> String {
    let turn = |c: char, first: u8| char::from((c as u8 - first + 13) % 26 + first);
    text.chars().map(|c| if c.is_ascii_lowercase() { turn(c, b'a') } else { c }).collect()
}

/// The text with digits and signs inside words read as the letters that they stand for; `None` when there are none.
pub(super) fn leet(text: &str) -> Option<String> {
    if !text.bytes().any(|b| b"013457@$!".contains(&b)) {
        return None;
    }
    let mut changed = 0;
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            let letters = word.bytes().filter(u8::is_ascii_lowercase).count();
            let signs = word.bytes().filter(|b| b"013457@$!".contains(b)).count();
            if letters < 2 || signs == 0 || signs > letters + 1 {
                return word.to_owned();
            }
            changed += 1;
            let read = |c| match c {
                '0' => 'o',
                '1' | '!' => 'i',
                '3' => 'e',
                '4' | '@' => 'a',
                '5' | '$' => 's',
                '7' => 't',
                other => other,
            };
            word.chars().map(read).collect()
        })
        .collect();
    (changed >= 2).then(|| words.join(" "))
}
