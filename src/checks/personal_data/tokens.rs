//! Words of letters and digits: bank accounts and national numbers with letters.
//!
//! Called by `find` at a word that has both. Its rule: check digits decide; where a scheme has none, its form and a word beside it
//! must agree.

use super::checksums::{codice_fiscale, dni, iban, resident};
use super::spans::{Hit, near};
use crate::domain::personal::Category;

/// Length of an IBAN, by country (SWIFT's registry).
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Looks at the word `start..end`, which has letters and digits; gives where to go on.
pub(super) fn at(text: &str, start: usize, end: usize, hits: &mut Vec<Hit>) -> usize {
    if let Some(hit) = account(text, start) {
        hits.push(hit);
        return hit.end;
    }
    let word = &text.as_bytes()[start..end];
    let national = |kind| Hit { category: Category::NationalId, kind, start, end };
    if let Some(kind) = national_id(text, word, start, end) {
        hits.push(national(kind));
    } else if word.len() >= 5 && near(text, (start, end), &["passport", "reisepass", "passeport", "pasaporte"]) {
        hits.push(national("passport"));
    }
    end
}

fn national_id(text: &str, word: &[u8], start: usize, end: usize) -> Option<&'static str> {
    let number = |part: &[u8]| part.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    match word {
        [digits @ .., letter] if digits.len() == 8 && all_digits(digits) && dni(number(digits), *letter) => {
            Some("es_dni")
        }
        [first @ (b'X'..=b'Z'), digits @ .., letter]
            if digits.len() == 7
                && all_digits(digits)
                && dni(u32::from(first - b'X') * 10_000_000 + number(digits), *letter) =>
        {
            Some("es_nie")
        }
        [digits @ .., b'X' | b'x']
            if digits.len() == 17
                && all_digits(digits)
                && resident(&digits.iter().map(|b| b - b'0').collect::<Vec<_>>(), 10) =>
        {
            Some("cn_resident")
        }
        _ if is_codice(word) => Some("it_codice_fiscale"),
        _ if is_nino(word) && near_or_capital(text, word, start, end) => Some("uk_nino"),
        _ => None,
    }
}

fn near_or_capital(text: &str, word: &[u8], start: usize, end: usize) -> bool {
    word[0].is_ascii_uppercase() || near(text, (start, end), &["nino", "national insurance"])
}

fn is_codice(word: &[u8]) -> bool {
    let month = |b: u8| b"ABCDEHLMPRST".contains(&b.to_ascii_uppercase());
    word.len() == 16
        && word[..6].iter().all(u8::is_ascii_alphabetic)
        && month(word[8])
        && word[11].is_ascii_alphabetic()
        && codice_fiscale(word)
}

fn is_nino(word: &[u8]) -> bool {
    let upper: Vec<u8> = word.iter().map(u8::to_ascii_uppercase).collect();
    let [a, b, digits @ .., last] = upper.as_slice() else { return false };
    digits.len() == 6
        && digits.iter().all(u8::is_ascii_digit)
        && a.is_ascii_alphabetic()
        && b.is_ascii_alphabetic()
        && !b"DFIQUV".contains(a)
        && !b"DFIQUVO".contains(b)
        && !matches!([*a, *b], [b'B' | b'N', b'K'] | [b'G', b'B'] | [b'T', b'N'] | [b'N', b'T'] | [b'Z', b'Z'])
        && (b'A'..=b'D').contains(last)
}

/// `AB 12 34 56 C`, whose first digits begin at `at`.
pub(super) fn spaced_nino(text: &str, at: usize) -> Option<Hit> {
    let start = at.checked_sub(3)?;
    let bytes = text.as_bytes().get(start..start + 13)?;
    let spaced = [2, 5, 8, 11].iter().all(|place| bytes[*place] == b' ');
    let word: Vec<u8> = bytes.iter().copied().filter(|b| *b != b' ').collect();
    let alone = start == 0 || !text.as_bytes()[start - 1].is_ascii_alphanumeric();
    let good = spaced && alone && word[0].is_ascii_uppercase() && is_nino(&word);
    good.then_some(Hit { category: Category::NationalId, kind: "uk_nino", start, end: start + 13 })
}

/// The IBAN that begins at `start`, written together or in groups of four.
fn account(text: &str, start: usize) -> Option<Hit> {
    let bytes = &text.as_bytes()[start..];
    let country = [bytes.first()?.to_ascii_uppercase(), bytes.get(1)?.to_ascii_uppercase()];
    let (_, length) = IBAN_LENGTHS.iter().find(|(code, _)| **code == country)?;
    let mut packed = Vec::with_capacity(34);
    let mut end = 0;
    for (at, byte) in bytes.iter().enumerate().take(length + length / 4 + 1) {
        match byte {
            b if b.is_ascii_alphanumeric() => {
                packed.push(*b);
                end = at + 1;
            }
            b' ' | b'-' if packed.len() % 4 == 0 && bytes[at - 1].is_ascii_alphanumeric() => {}
            _ => break,
        }
        if packed.len() == *length {
            break;
        }
    }
    let whole = !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
    let good = packed.len() == *length && whole && iban(&packed);
    good.then_some(Hit { category: Category::Iban, kind: "iban", start, end: start + end })
}
