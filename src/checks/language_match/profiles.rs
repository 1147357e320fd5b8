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
const ROWS_MAX: u32 = u16::MAX as u32 / u8::MAX as u32;

/// Slots of the table of n-grams; a power of two, and more than twice as many as there are.
const SLOTS: usize = 1 << 17;

/// What an n-gram says.
#[derive(Clone, Copy)]
enum Gram {
    /// Not in the file.
    Unknown,
    /// A row of steps, one a language.
    Row(u32),
    /// A few entries: first and number of them.
    Few(u32, u8),
}

struct Profiles {
    languages: Vec<&'static str>,
    /// N-grams and what they say; open addressing, a key of zero is empty.
    grams: Vec<(u64, Gram)>,
    /// The same of n-grams of small ASCII letters, by their places in the alphabet with a space before it: base 27.
    plain: Vec<Gram>,
    /// Language and steps.
    entries: Vec<(u8, u8)>,
    rows: Vec<[u8; ROOM]>,
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
    let (grams, plain) = (vec![(0, Gram::Unknown); SLOTS], vec![Gram::Unknown; 27 * 27 * 27]);
    let mut profiles = Profiles { languages, grams, plain, entries: Vec::new(), rows: Vec::new() };
    for _ in 0..number {
        let ([length, entries], tail) = rest.split_first_chunk::<2>()?;
        let (gram, tail) = tail.split_at_checked(usize::from(*length))?;
        let (list, tail) = tail.split_at_checked(usize::from(*entries) * 2)?;
        profiles.add(str::from_utf8(gram).ok()?, list)?;
        rest = tail;
    }
    rest.is_empty().then_some(profiles)
}

impl Profiles {
    fn add(&mut self, text: &str, list: &[u8]) -> Option<()> {
        let pairs = list.chunks(2).map(|pair| (pair[0], pair[1]));
        let gram = if pairs.len() >= ROW_FROM {
            let mut row = [0; ROOM];
            pairs.for_each(|(language, steps)| row[usize::from(language)] = steps);
            self.rows.push(row);
            Gram::Row(u32::try_from(self.rows.len()).ok()? - 1)
        } else {
            let first = u32::try_from(self.entries.len()).ok()?;
            self.entries.extend(pairs);
            Gram::Few(first, u8::try_from(self.entries.len() - first as usize).ok()?)
        };
        if text.bytes().all(|b| b.is_ascii_lowercase()) {
            let place = text.bytes().fold(0, |place, b| place * 27 + usize::from(b - b'a') + 1);
            *self.plain.get_mut(place)? = gram;
        }
        let key = text.chars().fold(0, |key, c| key << 21 | u64::from(c));
        let mut slot = slot(key);
        while self.grams[slot].0 != 0 {
            slot = (slot + 1) % SLOTS;
        }
        self.grams[slot] = (key, gram);
        Some(())
    }

    #[inline]
    fn gram(&self, key: u64) -> Gram {
        let mut slot = slot(key);
        loop {
            match self.grams[slot] {
                (0, _) => return Gram::Unknown,
                (found, gram) if found == key => return gram,
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

fn scores(text: &str) -> Vec<u32> {
    const MASK: u64 = (1 << 21) - 1;
    let known = &*PROFILES;
    let mut sums = Sums { known, total: [0; ROOM], part: [0; ROOM], rows: 0 };
    let (mut key, mut run, mut letters) = (0u64, 0, 0);
    // The last three letters in base 27, where all are plain; how often each of these stands alone, which a row is added for once.
    let (mut place, mut plain, mut singles) = (0usize, 0, [0_u16; 27]);
    for c in text.chars().flat_map(char::to_lowercase) {
        if !c.is_alphabetic() {
            (run, place, plain) = (0, 0, 0);
            continue;
        }
        key = (key << 21 | u64::from(c)) & (MASK << 42 | MASK << 21 | MASK);
        run += 1;
        if c.is_ascii() {
            let letter = (c as usize - 'a' as usize) + 1;
            place = place % (27 * 27) * 27 + letter;
            plain += 1;
            singles[letter] += 1;
        } else {
            (place, plain) = (0, 0);
        }
        for n in 1 + usize::from(plain > 0)..=3.min(run) {
            let gram = if n <= plain {
                known.plain[place % [1, 27, 27 * 27, 27 * 27 * 27][n]]
            } else {
                known.gram(key & [0, MASK, MASK << 21 | MASK, MASK << 42 | MASK << 21 | MASK][n])
            };
            sums.add(gram);
        }
        letters += 1;
        if letters >= LETTERS_MAX {
            break;
        }
    }
    for (letter, times) in singles.into_iter().enumerate().filter(|(_, times)| *times > 0) {
        sums.add_times(known.plain[letter], times);
    }
    sums.settle();
    sums.total[..known.languages.len()].to_vec()
}

/// Steps of each language; rows are added up in 16 bits, many languages at once.
struct Sums {
    known: &'static Profiles,
    total: [u32; ROOM],
    part: [u16; ROOM],
    rows: u32,
}

impl Sums {
    #[inline]
    fn add(&mut self, gram: Gram) {
        match gram {
            Gram::Unknown => {}
            Gram::Few(first, count) => {
                for (language, steps) in &self.known.entries[first as usize..first as usize + usize::from(count)] {
                    self.total[usize::from(*language)] += u32::from(*steps);
                }
            }
            Gram::Row(row) => {
                for (sum, steps) in self.part.iter_mut().zip(&self.known.rows[row as usize]) {
                    *sum += u16::from(*steps);
                }
                self.rows += 1;
                if self.rows >= ROWS_MAX {
                    self.settle();
                }
            }
        }
    }

    /// Adds an n-gram so many times.
    fn add_times(&mut self, gram: Gram, times: u16) {
        if let Gram::Row(row) = gram {
            for (total, steps) in self.total.iter_mut().zip(&self.known.rows[row as usize]) {
                *total += u32::from(*steps) * u32::from(times);
            }
        } else {
            (0..times).for_each(|_| self.add(gram));
        }
    }

    fn settle(&mut self) {
        for (total, part) in self.total.iter_mut().zip(&mut self.part) {
            *total += u32::from(std::mem::take(part));
        }
        self.rows = 0;
    }
}
