//! A word's hash, and the hash of its stem: what is left without the endings of inflection.
//!
//! Called by [`super::token`] for each word of a text and by the lists of words. Its rule: a word is its first and its last eight bytes, a
//! register each, so that lower-casing, cutting and hashing are a few shifts without a branch on its length. The way not taken: a `String`
//! a word and a list of endings, which costs ten times as much.

#![expect(clippy::cast_possible_truncation, reason = "hashes take the low bits on purpose")]

use std::hint::select_unpredictable;

/// The end of a word in a register: its last sixteen bytes, and a hash of those before.
#[derive(Clone, Copy, Default)]
pub(super) struct Packed {
    low: u128,
    before: u64,
    len: u32,
}

impl Packed {
    /// A byte more.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        if self.len >= 16 {
            self.before = mix(self.before ^ (self.low >> 120) as u64);
        }
        self.low = (self.low << 8) | u128::from(byte);
        self.len += 1;
    }

    /// A letter more, lower-cased.
    pub fn push_char(&mut self, c: char) {
        let mut buffer = [0; 4];
        for lower in c.to_lowercase() {
            for byte in lower.encode_utf8(&mut buffer).bytes() {
                self.push(byte);
            }
        }
    }

    /// A packed word, as the tokeniser would make it.
    fn of(word: &str) -> Self {
        let mut packed = Self::default();
        for c in word.chars().filter(|c| *c != '\'') {
            packed.push_char(c);
        }
        packed
    }

    /// All of it.
    pub fn letters(self) -> Letters {
        let head = (self.low << (128 - 8 * self.len.clamp(1, 16)) >> 64) as u64;
        let long = if self.len > 16 { fold(self.low, self.before) } else { 0 };
        Letters { head, tail: self.low as u64, len: self.len, long }
    }
}

/// Hash of a word, and of the word without the endings of inflection, as the tokeniser would make them.
pub(super) fn hashes(word: &str) -> (u32, u32) {
    let letters = Packed::of(word).letters();
    (letters.hash(), letters.stem(letters.hash()))
}

/// A small word by its beginning and its end, which overlap unless it has sixteen bytes.
#[derive(Clone, Copy)]
pub(super) struct Letters {
    /// The first eight bytes, the first one uppermost; anything behind a shorter word.
    head: u64,
    /// The last eight bytes, the last one lowest; anything before a shorter word.
    tail: u64,
    len: u32,
    /// The hash, where it has more than sixteen.
    long: u32,
}

/// Which bits of the first bytes of a word stand before its last eight, when they are shifted down, by its length.
const BEFORE: [u64; 17] = {
    let mut masks = [u64::MAX; 17];
    let mut bytes = 0;
    while bytes <= 8 {
        masks[bytes] = 0;
        bytes += 1;
    }
    masks
};

/// The lowest bytes, by how many; eight is the most.
const LOWEST: [u64; 17] = {
    let mut masks = [u64::MAX; 17];
    let mut bytes = 0;
    while bytes < 8 {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        bytes += 1;
    }
    masks
};

impl Letters {
    /// Of `len` ASCII letters and digits, sixteen at most; setting bit 5 makes letters small and leaves digits.
    #[inline]
    pub fn ascii(head: [u8; 8], tail: [u8; 8], len: usize) -> Self {
        const SMALL: u64 = u64::from_be_bytes([0x20; 8]);
        Self {
            head: u64::from_be_bytes(head) | SMALL,
            tail: u64::from_be_bytes(tail) | SMALL,
            len: len as u32,
            long: 0,
        }
    }

    /// Hash of the word.
    #[inline]
    pub fn hash(&self) -> u32 {
        if self.len > 16 {
            return self.long;
        }
        let len = self.len as usize;
        let before = (self.head >> ((128 - 8 * self.len) & 63)) & BEFORE[len];
        spread(mix(before ^ SEED), self.tail & LOWEST[len])
    }

    /// Hash of the word without the endings of inflection: crude, but the same on both sides. `whole` is the word's own.
    #[inline]
    pub fn stem(&self, whole: u32) -> u32 {
        let last = self.tail as u8;
        // Two thirds of words have none of these endings, or just an `-e`, and need no more than their first letters.
        let len = self.len.min(17);
        if ENDS[usize::from(last)] >> len & 1 == 1 || (self.tail as u16 == 0x7965 && (4..=16).contains(&len)) {
            return cut(self.head, self.tail, self.len);
        }
        let len = len - u32::from(last == b'e');
        let stem = spread(SHORT, self.head >> STEM_SHIFTS[len as usize]);
        select_unpredictable(self.len.wrapping_sub(4) > 12, whole, stem)
    }
}

/// By the last letter, a bit for each length of words that may have an ending to be cut.
const ENDS: [u32; 256] = {
    let mut lengths = [0; 256];
    let mut endings: &[u8] = b"sgdy";
    while let [last, rest @ ..] = endings {
        lengths[*last as usize] = 0x1_fff0;
        endings = rest;
    }
    lengths
};

/// How far the first eight bytes are shifted so that those of the stem are left, by its length.
const STEM_SHIFTS: [u32; 18] = {
    let mut shifts = [64 - 8 * STEM_BYTES_MAX; 18];
    let mut len = 0;
    while len < STEM_BYTES_MAX {
        shifts[len as usize] = if len == 0 { 0 } else { 64 - 8 * len };
        len += 1;
    }
    shifts
};

/// The stem of a word that may have any ending. Selects instead of branches, which words in any order would mispredict: what is cut is in
/// the last eight bytes, what stays in the first seven.
#[inline(never)]
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
fn cut(head: u64, tail: u64, len: u32) -> u32 {
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
    // `-y` and `-i` are one; they differ in one bit.
    let last = u64::from((len <= STEM_BYTES_MAX) & ending(tail, 1, 0x79));
    spread(SHORT, (head >> STEM_SHIFTS[len as usize]) & !(last << 4))
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
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 32)
}

/// What hashes begin with.
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// What of a word of eight bytes or fewer stands before them.
const SHORT: u64 = mix(SEED);

/// Hash of the last eight bytes, and of what stands before them. The lowest bit is set, so that no hash is zero.
#[inline]
fn spread(before: u64, low: u64) -> u32 {
    (mix(before ^ low) >> 16) as u32 | 1
}

#[inline]
fn fold(low: u128, before: u64) -> u32 {
    spread(mix((low >> 64) as u64 ^ before ^ SEED), low as u64)
}

/// Hash of a number's value.
pub(super) fn number_hash(value: f64) -> u32 {
    fold(u128::from(value.to_bits()), 77)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of [`Letters::stem`], one after another.
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
            assert_eq!(hashes(one).1, hashes(other).1, "{one} {other}");
        }
        assert_ne!(hashes("glass").1, hashes("glas").1);
    }

    proptest::proptest! {
        #[test]
        fn a_stem_is_what_its_rules_leave(word in "[a-z0-9]{0,3}[aeilnstpz]{0,12}(s|ies|ing|ings|ed|ly|lies|y|e|es|us)?") {
            proptest::prop_assert_eq!(hashes(&word).1, hashes(&plainly(&word)).0);
        }
    }
}
