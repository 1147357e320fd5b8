//! Many words looked up in one walk over a text.
//!
//! Called by `prompt_injection`, `personal_data`, `toxicity` and `failure_to_answer`. Its rule: four bytes are held against a table of
//! four kilobytes, and only where it has them are the few words compared that begin so; a text costs about a nanosecond a byte.
//! The way not taken: an automaton over all words, which does not fit the cache.

use super::masks::{alphanumeric, bits, blocks};

/// Bits of the table of beginnings.
const BITS: u32 = 15;

/// Sets the bit that tells small ASCII letters from capitals. Other bytes may fall together; comparing whole words parts them.
const SMALL: u32 = 0x2020_2020;

/// A fixed set of words.
#[derive(Debug)]
pub(super) struct Lexicon {
    /// One bit for each hash of a beginning.
    beginnings: Vec<u64>,
    /// Open addressing.
    slots: Vec<Slot>,
    /// Words of one beginning stand together, longest first.
    words: Vec<Word>,
    /// Whether there are words of three bytes.
    short: bool,
}

/// A beginning and which of `words` have it; empty where the range is.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u32,
    from: u16,
    to: u16,
    /// Bits of how they may go on, by [`onward`].
    onward: u32,
}

#[derive(Debug)]
struct Word {
    number: usize,
    letters: Box<[u8]>,
}

/// A word in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which word.
    pub word: usize,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl Lexicon {
    /// A lexicon of words of three bytes or more that do not begin with a space. ASCII letters are found in either case.
    pub fn new<W: AsRef<[u8]>>(words: &[W]) -> Self {
        let mut all: Vec<(u32, Word)> = (words.iter().enumerate())
            .map(|(number, word)| (beginning(word.as_ref()), Word { number, letters: word.as_ref().into() }))
            .collect();
        // Of equal words the first counts.
        all.sort_by_key(|(key, word)| (*key, std::cmp::Reverse(word.letters.len()), word.number));
        let short = all.iter().any(|(_, word)| word.letters.len() == 3);
        let mut beginnings = vec![0; 1 << (BITS - 6)];
        let groups = all.chunk_by(|a, b| a.0 == b.0).count();
        let mut slots = vec![Slot::default(); (groups * 2).next_power_of_two()];
        let mut from = 0;
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let (key, bit) = (group[0].0, hash(group[0].0));
            beginnings[bit / 64] |= 1 << (bit % 64);
            let mut slot = bit & (slots.len() - 1);
            while slots[slot].from != slots[slot].to {
                slot = (slot + 1) & (slots.len() - 1);
            }
            let to = from + u16::try_from(group.len()).expect("lists are short");
            let onward = group.iter().map(|(_, word)| onward(&word.letters)).fold(0, |all, bits| all | bits);
            slots[slot] = Slot { key, from, to, onward };
            from = to;
        }
        Self { beginnings, slots, words: all.into_iter().map(|(_, word)| word).collect(), short }
    }

    /// Hands over the longest word at each place where words begin, in order; the same stretch may come twice. Words begin where a
    /// word begins in the text, or at any character that is not ASCII.
    #[inline]
    pub fn find(&self, text: &str, mut take: impl FnMut(Place)) {
        let bytes = text.as_bytes();
        let mut inside = 0;
        for block in blocks(bytes) {
            let inner = block.mask(alphanumeric);
            let graphic = block.mask(|b| u8::from(b.wrapping_sub(0x21) < 0x5f));
            let high = if block.bytes.is_ascii() { 0 } else { block.mask(|b| u8::from(b >= 0xc0)) };
            let begins = (high | graphic & !(inner << 1 | inside)) & block.real;
            inside = inner >> 63;
            for bit in bits(begins) {
                if let Some(place) = self.at(bytes, block.at + bit) {
                    take(place);
                }
            }
        }
    }

    /// Hands over the longest word at the first place that has one, inside words too, then the next after its end.
    #[inline]
    pub fn find_anywhere(&self, text: &str, mut take: impl FnMut(Place)) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at + 3 <= bytes.len() {
            match self.at(bytes, at) {
                Some(place) => {
                    take(place);
                    at = place.end;
                }
                None => at += 1,
            }
        }
    }

    #[inline]
    fn at(&self, bytes: &[u8], start: usize) -> Option<Place> {
        let rest = bytes.get(start..)?;
        if let Some(four) = rest.first_chunk::<4>() {
            let key = u32::from_le_bytes(*four) | SMALL;
            if self.may_begin(key)
                && let Some(place) = self.longest(key, rest, start)
            {
                return Some(place);
            }
        }
        if !self.short {
            return None;
        }
        let key = beginning(rest.first_chunk::<3>()?);
        if self.may_begin(key) { self.longest(key, rest, start) } else { None }
    }

    #[inline]
    fn may_begin(&self, key: u32) -> bool {
        let bit = hash(key);
        self.beginnings[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn longest(&self, key: u32, rest: &[u8], start: usize) -> Option<Place> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        loop {
            let found = self.slots[slot];
            if found.from == found.to {
                return None;
            }
            if found.key == key {
                // What nearly every text that begins like a word of ours fails.
                if found.onward & onward(rest) == 0 {
                    return None;
                }
                let word = self.words[usize::from(found.from)..usize::from(found.to)].iter().find(|word| {
                    rest.get(..word.letters.len()).is_some_and(|text| text.eq_ignore_ascii_case(&word.letters))
                })?;
                return Some(Place { word: word.number, start, end: start + word.letters.len() });
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// The first four bytes, or the first three with a zero that no four have.
#[inline]
fn beginning(word: &[u8]) -> u32 {
    match word {
        [a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]) | SMALL,
        [a, b, c] => (u32::from_le_bytes([*a, *b, *c, 0]) | SMALL) & 0x00ff_ffff,
        _ => panic!("words have three bytes or more"),
    }
}

/// The bit of the fifth and sixth byte; all bits where there are none.
#[inline]
fn onward(text: &[u8]) -> u32 {
    match text {
        [_, _, _, _, fifth, sixth, ..] => 1 << ((fifth | 0x20).wrapping_mul(7).wrapping_add(sixth | 0x20) & 31),
        _ => u32::MAX,
    }
}

#[inline]
fn hash(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use aho_corasick::{AhoCorasick, MatchKind};
    use proptest::prelude::*;

    #[test]
    fn the_longest_word_is_found_where_words_begin() {
        let lexicon = Lexicon::new(&["sec", "secret", "秘密", "-----begin"]);
        let text = "Secret insecret x_sec の秘密 -----BEGIN";
        let mut found = Vec::new();
        lexicon.find(text, |p| found.push((p.word, &text[p.start..p.end])));
        assert_eq!(found, [(1, "Secret"), (0, "sec"), (2, "秘密"), (3, "-----BEGIN")]);
        let mut count = 0;
        for text in ["se", "", "sé"] {
            lexicon.find(text, |_| count += 1);
        }
        assert_eq!(count, 0);
    }

    proptest! {
        #[test]
        fn anywhere_is_what_an_automaton_finds(text in "[abAB秘 ]{0,200}", words in prop::collection::vec("[ab秘]{3,6}", 1..12)) {
            let mut automaton = AhoCorasick::builder();
            let automaton = automaton.ascii_case_insensitive(true).match_kind(MatchKind::LeftmostLongest);
            let automaton = automaton.build(&words).expect("few words compile");
            let expected: Vec<(usize, usize, usize)> =
                automaton.find_iter(&text).map(|m| (m.pattern().as_usize(), m.start(), m.end())).collect();
            let mut found = Vec::new();
            Lexicon::new(&words).find_anywhere(&text, |p| found.push((p.word, p.start, p.end)));
            prop_assert_eq!(found, expected);
        }
    }
}
