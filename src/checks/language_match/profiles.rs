//! Seventy languages as their commonest letters, pairs and triples of letters (`profiles.bin`, made by
//! `scripts/language_profiles.py` from lingua's counts, Apache-2.0).
//!
//! Called by the check. Its rule: a bounded number of letters is read, from the beginning; a language's score is the sum of what
//! its n-grams are likelier than a floor. The way not taken: a model of a hundred megabytes, for the last percent.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Letters read of a text at most: beyond these the languages are told apart anyhow.
const LETTERS_MAX: usize = 240;

/// Steps of the file in a nat.
const STEPS_PER_NAT: f64 = 20.0;

struct Profiles {
    languages: Vec<&'static str>,
    /// N-gram to its entries: first and number of them.
    grams: HashMap<u64, (u32, u8)>,
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
    let mut profiles = Profiles { languages, grams: HashMap::with_capacity(number), entries: Vec::new() };
    for _ in 0..number {
        let ([length, entries], tail) = rest.split_first_chunk::<2>()?;
        let (gram, tail) = tail.split_at_checked(usize::from(*length))?;
        let (list, tail) = tail.split_at_checked(usize::from(*entries) * 2)?;
        let first = u32::try_from(profiles.entries.len()).ok()?;
        let gram = str::from_utf8(gram).ok()?.chars().fold(0, |key, c| key << 21 | u64::from(c));
        profiles.grams.insert(gram, (first, *entries));
        profiles.entries.extend(list.chunks(2).map(|pair| (pair[0], pair[1])));
        rest = tail;
    }
    rest.is_empty().then_some(profiles)
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
    let mut scores = vec![0; PROFILES.languages.len()];
    let mut add = |key: u64| {
        if let Some((first, count)) = PROFILES.grams.get(&key) {
            for (language, steps) in &PROFILES.entries[*first as usize..*first as usize + usize::from(*count)] {
                scores[usize::from(*language)] += u32::from(*steps);
            }
        }
    };
    let (mut key, mut run, mut letters) = (0u64, 0, 0);
    for c in text.chars().flat_map(char::to_lowercase) {
        if !c.is_alphabetic() {
            run = 0;
            continue;
        }
        key = (key << 21 | u64::from(c)) & (MASK << 42 | MASK << 21 | MASK);
        run += 1;
        add(key & MASK);
        if run >= 2 {
            add(key & (MASK << 21 | MASK));
        }
        if run >= 3 {
            add(key);
        }
        letters += 1;
        if letters >= LETTERS_MAX {
            break;
        }
    }
    scores
}
