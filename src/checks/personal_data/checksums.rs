//! Check digits of cards, accounts and national numbers.
//!
//! Called by `numbers` and `tokens`. Its rule: input is digits as values 0 to 9 (or ASCII where letters take part), of any length;
//! a wrong length is `false`. The way not taken: a crate for each scheme; they are a few lines each and never change.

/// Luhn's sum (ISO/IEC 7812-1): cards, Canadian SIN, Swedish personnummer.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit);
            if place % 2 == 0 { value } else { value * 2 / 10 + value * 2 % 10 }
        })
        .sum();
    digits.len() > 1 && sum.is_multiple_of(10) && digits.iter().any(|d| *d != digits[0])
}

/// ISO 7064 mod 97-10 over an IBAN without spaces: the first four characters go to the end, letters count 10 to 35.
pub(super) fn iban(ascii: &[u8]) -> bool {
    if ascii.len() < 15 {
        return false;
    }
    let mut rest = 0u32;
    for byte in ascii[4..].iter().chain(&ascii[..4]) {
        let value = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'A'..=b'Z' => u32::from(byte - b'A') + 10,
            b'a'..=b'z' => u32::from(byte - b'a') + 10,
            _ => return false,
        };
        rest = if value < 10 { rest * 10 + value } else { rest * 100 + value } % 97;
    }
    rest == 1
}

/// Verhoeff's scheme over the dihedral group of the pentagon (Aadhaar).
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const SHIFT: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let multiply = |a: u8, b: u8| -> u8 {
        match (a < 5, b < 5) {
            (true, true) => (a + b) % 5,
            (true, false) => (a + b - 5) % 5 + 5,
            (false, true) => (a - 5 + 5 - b) % 5 + 5,
            (false, false) => (a + 5 - b) % 5,
        }
    };
    let sum = digits.iter().rev().enumerate().fold(0, |sum, (place, digit)| {
        let moved = (0..place % 8).fold(*digit, |d, _| SHIFT[usize::from(d)]);
        multiply(sum, moved)
    });
    !digits.is_empty() && sum == 0
}

/// Sum of digits times weights; `None` when the lengths differ.
fn weighted(digits: &[u8], weights: &[u32]) -> Option<u32> {
    (digits.len() == weights.len()).then(|| digits.iter().zip(weights).map(|(d, w)| u32::from(*d) * w).sum())
}

/// The Dutch eleven-proof (BSN): weights 9 to 2, and minus one for the last digit.
pub(super) fn bsn(digits: &[u8]) -> bool {
    let Some((last, first)) = digits.split_last() else { return false };
    weighted(first, &[9, 8, 7, 6, 5, 4, 3, 2]).is_some_and(|sum| sum > 0 && sum % 11 == u32::from(*last))
}

/// The two check digits of a Brazilian CPF.
pub(super) fn cpf(digits: &[u8]) -> bool {
    let check = |upto: usize| {
        let sum: u32 = digits[..upto].iter().zip((2..=11).rev().skip(10 - upto)).map(|(d, w)| u32::from(*d) * w).sum();
        u32::from(digits[upto]) == sum * 10 % 11 % 10
    };
    digits.len() == 11 && digits.iter().any(|d| *d != digits[0]) && check(9) && check(10)
}

/// ISO 7064 mod 11,10 (German tax number for persons).
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((last, first)) = digits.split_last() else { return false };
    let product = first.iter().fold(10u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits.len() == 11 && digits[0] != 0 && (11 - product) % 10 == u32::from(*last)
}

/// The key of a French NIR: 97 minus the first 13 digits modulo 97; sex and month must be possible.
pub(super) fn nir(digits: &[u8]) -> bool {
    if digits.len() != 15 || !matches!(digits[0], 1 | 2) {
        return false;
    }
    let month = digits[3] * 10 + digits[4];
    let number = |part: &[u8]| part.iter().fold(0u64, |n, d| n * 10 + u64::from(*d));
    matches!(month, 1..=12 | 20..=42 | 50..=99) && 97 - number(&digits[..13]) % 97 == number(&digits[13..])
}

/// The Polish PESEL.
pub(super) fn pesel(digits: &[u8]) -> bool {
    weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_some_and(|sum| sum > 0 && sum % 10 == 0)
}

/// The EAN-13 digit of a Swiss AHV number, which begins with the country's code.
pub(super) fn ahv(digits: &[u8]) -> bool {
    digits.starts_with(&[7, 5, 6])
        && weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_some_and(|sum| sum % 10 == 0)
}

/// The Korean resident number: month, day and check digit.
pub(super) fn rrn(digits: &[u8]) -> bool {
    let Some((last, first)) = digits.split_last() else { return false };
    let dated = digits.len() == 13 && is_day(&digits[2..6]);
    dated
        && weighted(first, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5])
            .is_some_and(|sum| (11 - sum % 11) % 10 == u32::from(*last))
}

/// The Chinese resident number, 17 digits and a check of 0 to 10, where 10 is written X (ISO 7064 mod 11-2).
pub(super) fn resident(digits: &[u8], check: u8) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    digits.len() == 17
        && matches!((digits[6], digits[7]), (1, 9) | (2, 0))
        && is_day(&digits[10..14])
        && weighted(digits, &WEIGHTS).is_some_and(|sum| (12 - sum % 11) % 11 == u32::from(check))
}

/// Whether four digits are a month and a day.
pub(super) fn is_day(digits: &[u8]) -> bool {
    let (month, day) = (digits[0] * 10 + digits[1], digits[2] * 10 + digits[3]);
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// The letter of a Spanish DNI (or NIE, its first letter turned into a digit).
pub(super) fn dni(number: u32, letter: u8) -> bool {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize] == letter.to_ascii_uppercase()
}

/// The last letter of an Italian codice fiscale of 16 ASCII characters.
pub(super) fn codice_fiscale(ascii: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    if ascii.len() != 16 {
        return false;
    }
    let value = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte.to_ascii_uppercase() - b'A' };
    let sum: u32 = ascii[..15]
        .iter()
        .enumerate()
        // Places are counted from one, so the first is odd.
        .map(|(at, b)| if at % 2 == 0 { ODD[usize::from(value(*b))] } else { u32::from(value(*b)) })
        .sum();
    u32::from(value(ascii[15])) == sum % 26
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect()
    }

    #[test]
    fn published_examples_hold_and_a_wrong_digit_does_not() {
        type Check = fn(&[u8]) -> bool;
        let cases: [(Check, &str); 10] = [
            (luhn, "4111 1111 1111 1111"),
            (luhn, "046 454 286"),
            (verhoeff, "2363"),
            (bsn, "111222333"),
            (cpf, "111.444.777-35"),
            (mod_11_10, "86095742719"),
            (nir, "2 55 08 14 168 025 38"),
            (pesel, "44051401359"),
            (ahv, "756.9217.0769.85"),
            (rrn, "900101-1234568"),
        ];
        for (check, text) in cases {
            let mut number = digits(text);
            assert!(check(&number), "{text}");
            let last = number.len() - 1;
            number[last] = (number[last] + 1) % 10;
            assert!(!check(&number), "{text} with another last digit");
            assert!(!check(&[]), "nothing");
        }
    }

    #[test]
    fn checks_with_letters() {
        assert!(iban(b"GB82WEST12345698765432") && iban(b"de89370400440532013000"));
        assert!(!iban(b"GB82WEST12345698765433") && !iban(b"GB82"));
        assert!(dni(12_345_678, b'Z') && !dni(12_345_678, b'A'));
        assert!(codice_fiscale(b"RSSMRA85T10A562S") && !codice_fiscale(b"RSSMRA85T10A562T"));
        assert!(resident(&digits("11010519491231002"), 10));
    }
}
