//! Words with a part in the grammar of support: words without content, negations, quantifiers, numbers, opposites.
//!
//! Asked by [`super::token`] for each word. Its rule: a word is known by its hash, in one probe without a branch.

#![expect(clippy::cast_possible_truncation, reason = "parts of a word are taken on purpose")]

use super::letters::hashes;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What the lexicon says of a word: some bits and a small number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(u16);

impl Word {
    /// No content of its own.
    pub const STOP: u16 = 1;
    /// Turns the sense of what follows.
    pub const NEGATION: u16 = 2;
    /// `may`, `possibly`.
    pub const HEDGE: u16 = 4;
    /// The speaker or the one spoken to.
    pub const PERSON: u16 = 8;
    /// How many or how often: `all`, `never`, `most`.
    pub const QUANTIFIER: u16 = 16;
    /// `more`, `highest`.
    pub const COMPARATIVE: u16 = 32;
    /// A month or a day of the week.
    pub const CALENDAR: u16 = 64;
    /// A relation in time or cause: `before`, `because`.
    pub const RELATION: u16 = 128;

    /// The bits above, and the number behind them.
    #[inline]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Whether it has this bit.
    #[inline]
    pub fn is(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Whether it is a spelled number.
    #[inline]
    pub fn is_number(self) -> bool {
        self.0 > u16::from(u8::MAX)
    }

    /// The value of a spelled number.
    #[inline]
    pub fn number(self) -> Option<f64> {
        const SCALES: [f64; 8] = [15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 90.0];
        match self.0 >> 8 {
            0 => None,
            n if n <= 13 => Some(f64::from(n - 1)),
            n => SCALES.get(usize::from(n) - 14).copied(),
        }
    }
}

const LISTS: &[(u16, &str)] = &[
    (
        Word::STOP,
        "a an the and or of to in on at by for from with as is are was were be been being am it its this that these those there here \
        has have had having do does did done will would shall should can could he she they them his her him their theirs hers who whom whose which what when where \
        how why but if then than so such into onto out up down over about s t d ll ve re m also just very too own same other another some any each both while during \
        which because since until upon per via et al etc however therefore thus hence although though still yet even well one ones get gets got \
        der die das und ist sind ein eine einen einem einer sie ihr ihre ihren wir mit von für auf auch wird werden den dem des bei nach aus zu im am als an es \
        les des une est sont vous votre vos nous avec pour dans que qui sur le la un du en au aux ce cette il elle \
        los las el una unos con por para sus su está son del como lo y o al se het een van voor met zijn dat uma com os da do das dos em seu sua che della il di e per",
    ),
    (
        Word::STOP | Word::NEGATION,
        "not no never none neither nor nt dont doesnt didnt isnt arent wasnt werent wont wouldnt cant cannot couldnt shouldnt hasnt havent hadnt without \
        nicht kein keine nie ohne ne pas jamais sin nunca niet geen não sem non mai senza",
    ),
    (
        Word::NEGATION,
        "fail fails failed unable lack lacks lacked lacking refuse refuses refused deny denies denied hardly rarely barely nobody nothing nowhere",
    ),
    (
        Word::QUANTIFIER,
        "all every everyone everything always only entire entirely whole completely most mostly many several few fewer half majority minority exactly nearly almost \
        alone solely any first last multiple numerous various both",
    ),
    (
        Word::COMPARATIVE,
        "more less most least higher highest lower lowest better best worse worst greater greatest larger largest smaller smallest bigger biggest longer longest \
        shorter shortest earlier earliest later latest older oldest younger youngest faster fastest slower increase increased decrease decreased rise rose fall fell above below average total",
    ),
    (Word::STOP | Word::HEDGE, "may might perhaps possibly probably likely"),
    (
        Word::HEDGE,
        "unlikely potentially reportedly allegedly apparently seem seems seemed suggests suggest suggested could",
    ),
    (Word::STOP | Word::PERSON, "i me my mine myself im ive id we us our ours you your yours youre"),
    (
        Word::CALENDAR,
        "january february march april june july august september october november december monday tuesday wednesday thursday friday saturday sunday",
    ),
    (Word::RELATION, "before after because due despite"),
];

const NUMBERS: &[(u16, &str)] = &[
    (3, "two"),
    (3, "twice"),
    (4, "three"),
    (5, "four"),
    (6, "five"),
    (7, "six"),
    (8, "seven"),
    (9, "eight"),
    (10, "nine"),
    (11, "ten"),
    (12, "eleven"),
    (13, "twelve"),
    (14, "fifteen"),
    (15, "twenty"),
    (16, "thirty"),
    (17, "forty"),
    (18, "fifty"),
    (19, "sixty"),
    (20, "eighty"),
    (21, "ninety"),
];

/// Slots of the words: a power of two, and more than twice as many as there are.
const SLOTS: usize = 1 << 10;

/// The words above, each in one of the two slots that its hash names (cuckoo hashing; Pagh and Rodler, 2001): a look-up is two loads that
/// do not wait for one another, and no branch, since words of grammar stand among others in any order. A slot is the
/// hash above 32 bits of what is known.
pub struct Lexicon([u64; SLOTS]);

static LEXICON: LazyLock<Box<Lexicon>> = LazyLock::new(|| {
    let mut words: BTreeMap<u32, u16> = BTreeMap::new();
    for (bits, list) in LISTS {
        list.split_whitespace().for_each(|word| *words.entry(hashes(word).0).or_default() |= bits);
    }
    for (value, word) in NUMBERS {
        *words.entry(hashes(word).0).or_default() |= value << 8;
    }
    let mut lexicon = Box::new(Lexicon([0; SLOTS]));
    for (hash, bits) in words {
        lexicon.put(hash, bits);
    }
    lexicon
});

/// The two slots of a hash; its lowest bit is always set.
#[inline]
fn places(hash: u32) -> [usize; 2] {
    [hash >> 1, hash >> 11].map(|bits| bits as usize % SLOTS)
}

impl Lexicon {
    /// Made at its first use.
    pub fn get() -> &'static Self {
        &LEXICON
    }

    /// Puts a word into one of its slots; whatever is there moves to its other one.
    fn put(&mut self, hash: u32, bits: u16) {
        let (mut entry, mut place) = (u64::from(hash) << 32 | u64::from(bits), places(hash)[0]);
        for _ in 0..SLOTS {
            entry = std::mem::replace(&mut self.0[place], entry);
            if entry == 0 {
                return;
            }
            let [one, other] = places((entry >> 32) as u32);
            place = if place == one { other } else { one };
        }
        panic!("a fixed list of words has no place in a table that is twice as long");
    }

    /// What is known of the word with this hash.
    #[inline]
    pub fn word(&self, hash: u32) -> Word {
        // Small in the slot that is its own, and in no other.
        let [one, other] = places(hash).map(|place| self.0[place] ^ u64::from(hash) << 32);
        let known = one.min(other);
        // All bits where nothing stands above the lower sixteen: arithmetic, since compilers make a branch of a comparison.
        let keep = ((known >> 16).cast_signed() - 1) >> 63;
        Word((known & keep.cast_unsigned()) as u16)
    }
}

/// Stems of the words that English uses most.
static COMMON: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let words = include_str!("common_words.txt");
    let stems: Vec<u32> =
        words.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).map(|w| hashes(w).1).collect();
    let mut slots = vec![0; COMMON_SLOTS];
    for stem in stems {
        let mut slot = stem as usize % COMMON_SLOTS;
        while slots[slot] != 0 && slots[slot] != stem {
            slot = (slot + 1) % COMMON_SLOTS;
        }
        slots[slot] = stem;
    }
    slots
});

const COMMON_SLOTS: usize = 1 << 14;

/// Whether a stem is of one of the commonest words; what is not is mostly a name or a technical term.
#[inline]
pub(super) fn is_common(stem: u32) -> bool {
    let mut slot = stem as usize % COMMON_SLOTS;
    loop {
        match COMMON[slot] {
            found if found == stem => return true,
            0 => return false,
            _ => slot = (slot + 1) % COMMON_SLOTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_known_by_all_its_lists() {
        let know = |word: &str| Lexicon::get().word(hashes(word).0);
        for (bits, words) in LISTS {
            for word in words.split_whitespace() {
                assert_eq!(know(word).0 & bits, *bits, "{word}");
            }
        }
        for (value, word) in NUMBERS {
            assert_eq!(know(word).number().is_some(), *value > 0, "{word}");
        }
        assert_eq!((know("sofa"), Lexicon::get().word(1)), (Word::default(), Word::default()));
    }
}
