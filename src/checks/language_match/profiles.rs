//! Seventy languages as their commonest letters, pairs and triples of letters (`profiles.bin`, made by
//! `scripts/language_profiles.py` from lingua's counts, Apache-2.0).
//!
//! Called by the check. Its rule: a bounded number of letters is read, from the beginning; a language's score is the sum of what
//! its n-grams are likelier than a floor. The way not taken: a model of a hundred megabytes, for the last percent.

use std::sync::LazyLock;

/// Letters read of a text at most: beyond these the languages are told apart anyhow.
const LETTERS_MAX: usize = 240;

/// Steps of the file in a nat.
const STEPS_PER_NAT: f64 = 20.0;

/// Room for languages, a multiple of what is added at once.
const ROOM: usize = 80;

/// From this many languages on, an n-gram has a row with all of them.
const ROW_FROM: usize = 8;

/// Rows whose sum is sure to fit 16 bits.
const ROWS_MAX: usize = u16::MAX as usize / u8::MAX as usize;

/// Slots of the table of n-grams; a power of two, and more than twice as many as there are.
const SLOTS: usize = 1 << 17;

/// An n-gram that is not in the file.
const UNKNOWN: u16 = 0;

struct Profiles {
    languages: Vec<&'static str>,
    /// N-grams and their codes; open addressing, a key of zero is empty.
    grams: Vec<(u64, u16)>,
    /// The codes of n-grams of small ASCII letters, by their places in the alphabet with a space before it: base 27.
    plain: Vec<u16>,
    /// What a code says, if it is small: steps, one a language. The first row, of [`UNKNOWN`], is empty.
    rows: Vec<[u8; ROOM]>,
    /// What the other codes say, behind those of rows: first and number of entries.
    few: Vec<(u32, u8)>,
    /// Language and steps.
    entries: Vec<(u8, u8)>,
}

static PROFILES: LazyLock<Profiles> = LazyLock::new(|| read(include_bytes!("profiles.bin")).expect("the file is ours"));

fn read(bytes: &'static [u8]) -> Option<Profiles> {
    let (count, rest) = bytes.split_first()?;
    let (names, rest) = rest.split_at_checked(usize::from(*count) * 2)?;
    let languages = names.chunks(2).map(|name| str::from_utf8(name).ok()).collect::<Option<Vec<_>>>()?;
    let (number, mut rest) = rest.split_first_chunk::<4>()?;
    let number = u32::from_le_bytes(*number) as usize;
    if languages.len() > ROOM || number * 2 > SLOTS {
        return None;
    }
    let mut all = Vec::with_capacity(number);
    for _ in 0..number {
        let ([length, entries], tail) = rest.split_first_chunk::<2>()?;
        let (gram, tail) = tail.split_at_checked(usize::from(*length))?;
        let (list, tail) = tail.split_at_checked(usize::from(*entries) * 2)?;
        all.push((str::from_utf8(gram).ok()?, list));
        rest = tail;
    }
    // Rows first: a code tells by its size which it is.
    all.sort_by_key(|(_, list)| list.len() / 2 < ROW_FROM);
    let (grams, plain) = (vec![(0, UNKNOWN); SLOTS], vec![UNKNOWN; 27 * 27 * 27]);
    let (rows, few) = (vec![[0; ROOM]], Vec::new());
    let mut profiles = Profiles { languages, grams, plain, rows, few, entries: Vec::new() };
    all.into_iter().try_for_each(|(gram, list)| profiles.add(gram, list))?;
    rest.is_empty().then_some(profiles)
}

impl Profiles {
    fn add(&mut self, text: &str, list: &[u8]) -> Option<()> {
        let pairs = list.chunks(2).map(|pair| (pair[0], pair[1]));
        if pairs.len() >= ROW_FROM {
            let mut row = [0; ROOM];
            pairs.for_each(|(language, steps)| row[usize::from(language)] = steps);
            self.rows.push(row);
        } else {
            let first = u32::try_from(self.entries.len()).ok()?;
            self.entries.extend(pairs);
            self.few.push((first, u8::try_from(self.entries.len() - first as usize).ok()?));
        }
        let code = u16::try_from(self.rows.len() + self.few.len() - 1).ok()?;
        if text.bytes().all(|b| b.is_ascii_lowercase()) {
            let place = text.bytes().fold(0, |place, b| place * 27 + usize::from(b - b'a') + 1);
            *self.plain.get_mut(place)? = code;
        }
        let key = text.chars().fold(0, |key, c| key << 21 | u64::from(c));
        let mut slot = slot(key);
        while self.grams[slot].0 != 0 {
            slot = (slot + 1) % SLOTS;
        }
        self.grams[slot] = (key, code);
        Some(())
    }

    #[inline]
    fn gram(&self, key: u64) -> u16 {
        let mut slot = slot(key);
        loop {
            match self.grams[slot] {
                (0, _) => return UNKNOWN,
                (found, code) if found == key => return code,
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as many bits as slots are counted with")]
fn slot(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

/// What comparing two texts gave.
pub(super) struct Compared {
    /// How much likelier two languages are than one, in nats; 0 or more.
    pub margin: f64,
    /// The likeliest language of each.
    pub languages: (&'static str, &'static str),
}

/// Compares the languages of two texts.
pub(super) fn compare(one: &str, other: &str) -> Compared {
    let (a, b) = (scores(one), scores(other));
    let best = |scores: &[u32]| scores.iter().copied().max().unwrap_or_default();
    let both = a.iter().zip(&b).map(|(a, b)| a + b).max().unwrap_or_default();
    let margin = f64::from(best(&a) + best(&b) - both) / STEPS_PER_NAT;
    Compared { margin, languages: (likeliest(&a), likeliest(&b)) }
}

/// The likeliest language of a text.
pub(super) fn best(text: &str) -> &'static str {
    likeliest(&scores(text))
}

fn likeliest(scores: &[u32]) -> &'static str {
    let best = scores.iter().enumerate().max_by_key(|(n, score)| (**score, std::cmp::Reverse(*n)));
    best.filter(|(_, score)| **score > 0).map_or("unknown", |(n, _)| PROFILES.languages[n])
}

/// Steps of each language.
fn scores(text: &str) -> [u32; ROOM] {
    let known = &*PROFILES;
    let codes = Vec::with_capacity(3 * LETTERS_MAX);
    let mut letters = Letters { known, key: 0, run: 0, place: 0, plain: 0, singles: [0; 27], codes, seen: 0 };
    for c in text.chars() {
        if c.is_ascii() {
            letters.read(c.to_ascii_lowercase());
        } else {
            c.to_lowercase().for_each(|c| letters.read(c));
        }
        if letters.seen >= LETTERS_MAX {
            break;
        }
    }
    letters.sum()
}

/// The letters of a text and the n-grams they make.
struct Letters {
    known: &'static Profiles,
    /// The last three letters.
    key: u64,
    /// Letters since the last break between words.
    run: usize,
    /// The last three letters in base 27, where all are plain.
    place: usize,
    /// How many of them are.
    plain: usize,
    /// How often each plain letter stands alone, which a row is added for once.
    singles: [u16; 27],
    /// The other n-grams.
    codes: Vec<u16>,
    seen: usize,
}

impl Letters {
    #[inline]
    fn read(&mut self, c: char) {
        const MASK: u64 = (1 << 21) - 1;
        if self.seen >= LETTERS_MAX {
            return;
        }
        if !c.is_alphabetic() {
            (self.run, self.place, self.plain) = (0, 0, 0);
            return;
        }
        self.key = (self.key << 21 | u64::from(c)) & (MASK << 42 | MASK << 21 | MASK);
        self.run += 1;
        self.seen += 1;
        if c.is_ascii() {
            let letter = (c as usize - 'a' as usize) + 1;
            self.place = self.place % (27 * 27) * 27 + letter;
            self.plain += 1;
            self.singles[letter] += 1;
        } else {
            (self.place, self.plain) = (0, 0);
        }
        if self.plain == self.run {
            // Nearly always.
            if self.run >= 2 {
                self.codes.push(self.known.plain[self.place % (27 * 27)]);
            }
            if self.run >= 3 {
                self.codes.push(self.known.plain[self.place]);
            }
            return;
        }
        for n in 1 + usize::from(self.plain > 0)..=3.min(self.run) {
            self.codes.push(if n <= self.plain {
                self.known.plain[self.place % [1, 27, 27 * 27, 27 * 27 * 27][n]]
            } else {
                self.known.gram(self.key & [0, MASK, MASK << 21 | MASK, MASK << 42 | MASK << 21 | MASK][n])
            });
        }
    }

    fn sum(mut self) -> [u32; ROOM] {
        let known = self.known;
        let mut total = [0_u32; ROOM];
        let is_row = |code: u16| usize::from(code) < known.rows.len();
        for (letter, times) in self.singles.into_iter().enumerate().filter(|(_, times)| *times > 0) {
            let code = known.plain[letter];
            if is_row(code) {
                for (total, steps) in total.iter_mut().zip(&known.rows[usize::from(code)]) {
                    *total += u32::from(*steps) * u32::from(times);
                }
            } else {
                self.codes.extend(std::iter::repeat_n(code, usize::from(times)));
            }
        }
        // Rows are many and long: they are added up by themselves, in 16 bits.
        for codes in self.codes.chunks(ROWS_MAX) {
            let mut part = [0_u16; ROOM];
            for code in codes {
                let row = known.rows.get(usize::from(*code)).unwrap_or(&known.rows[0]);
                for (sum, steps) in part.iter_mut().zip(row) {
                    *sum += u16::from(*steps);
                }
            }
            for (total, part) in total.iter_mut().zip(part) {
                *total += u32::from(part);
            }
        }
        for code in self.codes.iter().filter(|code| !is_row(**code)) {
            let (first, count) = known.few[usize::from(*code) - known.rows.len()];
            for (language, steps) in &known.entries[first as usize..first as usize + usize::from(count)] {
                total[usize::from(*language)] += u32::from(*steps);
            }
        }
        total
    }
}
