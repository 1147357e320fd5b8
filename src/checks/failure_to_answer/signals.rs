//! What an answer shows of declining, as numbers: which phrases stand where, how long it is, how much of the question it takes up.
//!
//! Called by `failure_to_answer` and by the command that fits the coefficients. Its rule: one pass over the answer's beginning, no language
//! is detected, a phrase of any language shows the same signal; words inside quotation marks and code are somebody else's.
//! The way not taken: a phrase list that decides by itself, which flags every disclaimer and sees no deflection.

use crate::checks::lexicon::Lexicon;
use std::ops::Range;
use std::sync::LazyLock;

/// What a phrase shows, in the words of `phrases.txt`.
pub const SIGNALS: [&str; 14] = [
    "decline", "apology", "unknown", "source", "moral", "self", "refer", "instead", "ask", "deny", "serve", "wrong",
    "caution", "offer",
];

const DECLINE: usize = 0;
const UNKNOWN: usize = 2;
const MORAL: usize = 4;
const REFER: usize = 6;
const SERVE: usize = 10;
const DENY: usize = 9;
const WRONG: usize = 11;
const OFFER: usize = 13;

/// For each signal: in the first sentence, in the second or third, hits a sentence; then what [`shape`] counts.
pub const FEATURES: usize = SIGNALS.len() * 3 + SHAPES;
const SHAPES: usize = 21;

/// Names of what [`shape`] counts, as they stand in `coefficients.txt`.
const SHAPE_NAMES: [&str; SHAPES] = [
    "length",
    "short",
    "list",
    "ends_asking",
    "decline_place",
    "echo",
    "silent_without_echo",
    "short_decline",
    "short_unknown",
    "short_silent",
    "silent_moral",
    "silent_refer",
    "list_serves",
    "declines_offers",
    "denies_moral",
    "denies_wrong",
    "denies_moral_rate",
    "wrong_serves",
    "speaks_of_itself",
    "asks_why_denies",
    "headless_serve",
];

/// The name of a feature: `decline.first`, `decline.early`, `decline.rate`, then the shapes.
#[must_use]
pub fn name(feature: usize) -> String {
    match SIGNALS.get(feature / 3) {
        Some(signal) => format!("{signal}.{}", ["first", "early", "rate"][feature % 3]),
        None => SHAPE_NAMES[feature - SIGNALS.len() * 3].to_owned(),
    }
}

/// A refusal shows early; of a longer answer this much is read.
const READ_BYTES_MAX: usize = 6_000;

/// The features of one answer, and where the evidence stands.
#[derive(Debug, Clone)]
pub struct Signals {
    /// In the order of [`FEATURES`].
    pub values: [f64; FEATURES],
    /// The first phrase by which it declines, says that it does not know, or sends elsewhere; bytes of the answer.
    pub decline: Option<Range<usize>>,
    /// See `decline`.
    pub unknown: Option<Range<usize>>,
    /// See `decline`.
    pub refer: Option<Range<usize>>,
    /// Share of the sentences that decline.
    pub share: f64,
}

struct Phrases {
    find: Lexicon,
    /// The signal of each pattern; none for those that only shield.
    signal: Vec<Option<usize>>,
}

static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    let mut texts = Vec::new();
    let mut signal = Vec::new();
    let mut current = None;
    for line in include_str!("phrases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix('[') {
            let name = head.split(' ').next().unwrap_or_default();
            current = SIGNALS.iter().position(|s| *s == name);
        } else {
            texts.push(line.to_owned());
            signal.push(current);
            if line.contains('\'') {
                texts.push(line.replace('\'', "\u{2019}"));
                signal.push(current);
            }
        }
    }
    Phrases { find: Lexicon::new(&texts), signal }
});

/// Reads an answer. `question` may be empty.
#[must_use]
pub fn signals(question: &str, answer: &str) -> Signals {
    let text = &answer[..answer.floor_char_boundary(READ_BYTES_MAX)];
    let layout = Layout::of(text);
    let sentences = layout.ends.len().max(1);
    let mut head = [0.0; SIGNALS.len()];
    let mut lead = [0.0; SIGNALS.len()];
    let mut rate = [0.0; SIGNALS.len()];
    let mut first: [Option<Range<usize>>; SIGNALS.len()] = Default::default();
    let (mut sentence, mut last_declining, mut declining) = (0, usize::MAX, 0);
    // Only what begins with a word counts, so most texts need no look inside words, where a phrase takes the place of others.
    let mut any = false;
    PHRASES.find.find(text, |_| any = true);
    PHRASES.find.find_anywhere(if any { text } else { "" }, |hit| {
        let Some(signal) = PHRASES.signal[hit.word] else { return };
        if layout.is_foreign(hit.start) || !starts_word(text, hit.start) {
            return;
        }
        while layout.ends.get(sentence).is_some_and(|end| *end <= hit.start) {
            sentence += 1;
        }
        rate[signal] += 1.0;
        match sentence {
            0 => head[signal] = 1.0,
            1 | 2 => lead[signal] = 1.0,
            _ => {}
        }
        if signal == DECLINE && last_declining != sentence {
            (last_declining, declining) = (sentence, declining + 1);
        }
        first[signal].get_or_insert(hit.start..hit.end);
    });
    let mut values = [0.0; FEATURES];
    for signal in 0..SIGNALS.len() {
        values[signal * 3] = head[signal];
        values[signal * 3 + 1] = lead[signal];
        values[signal * 3 + 2] = (rate[signal] / sentences as f64).min(1.5);
    }
    shape(&mut values, (question, answer), &layout, first[DECLINE].as_ref());
    let [decline, _, unknown, _, _, _, refer, ..] = first;
    Signals { values, decline, unknown, refer, share: f64::from(declining) / sentences as f64 }
}

/// Length, lists, the place of the first declining phrase, and what only counts together.
fn shape(
    values: &mut [f64; FEATURES],
    (question, answer): (&str, &str),
    layout: &Layout,
    decline: Option<&Range<usize>>,
) {
    // A character of Korean, Japanese or Chinese says about as much as two of Latin: bytes even that out.
    let length = answer.len() as f64;
    let short = (-length / 300.0).exp();
    let [head_decline, lead_decline] = [values[DECLINE * 3], values[DECLINE * 3 + 1]];
    let [head_unknown, lead_unknown] = [values[UNKNOWN * 3], values[UNKNOWN * 3 + 1]];
    let silent = f64::from(head_decline + lead_decline + head_unknown + lead_unknown < 0.5);
    let echo = echo(question, answer);
    let seen = |signal: usize| values[signal * 3].max(values[signal * 3 + 1]);
    let shapes = [
        (1.0 + length).ln() / 8.0,
        short,
        f64::from(layout.items.min(4)) / 4.0,
        f64::from(answer.trim_end().ends_with(['?', '？'])),
        decline.map_or(0.0, |at| 1.0 / (1.0 + at.start as f64 / 60.0)),
        echo,
        silent * (1.0 - echo),
        short * head_decline,
        short * head_unknown,
        short * silent,
        values[MORAL * 3 + 2] * silent,
        values[REFER * 3 + 2] * silent,
        f64::from(layout.items >= 2) * (head_decline + values[SERVE * 3 + 2].min(1.0)),
        // Help offered after declining, and the denial of a premise: by itself an answer, with a judgement a refusal.
        seen(OFFER) * (seen(DECLINE) + seen(UNKNOWN)).min(1.0),
        seen(DENY) * seen(MORAL),
        seen(DENY) * seen(WRONG),
        seen(DENY) * values[MORAL * 3 + 2],
        seen(WRONG) * seen(SERVE),
        f64::from(opens_with_itself(answer)),
        // A question for reasons whose premise is denied is answered, unless a judgement comes with it.
        f64::from(question.trim_start().get(..3).is_some_and(|w| w.eq_ignore_ascii_case("why")))
            * seen(DENY)
            * (1.0 - seen(MORAL)),
        values[SERVE * 3] * (1.0 - head_decline) * (1.0 - head_unknown),
    ];
    values[FEATURES - SHAPES..].copy_from_slice(&shapes);
}

/// Whether the assistant begins by speaking of itself.
fn opens_with_itself(answer: &str) -> bool {
    let start = answer.trim_start();
    ["I ", "I'", "I\u{2019}", "As an AI", "My "].iter().any(|w| start.starts_with(w))
}

/// The share of the question's telling words that the answer takes up; 0.5 when there are none.
fn echo(question: &str, answer: &str) -> f64 {
    let tail = question.len().saturating_sub(600);
    let mut asked: Vec<(u64, bool)> =
        stems(&question[question.ceil_char_boundary(tail)..]).map(|s| (s, false)).collect();
    asked.sort_unstable();
    asked.dedup();
    if asked.is_empty() {
        return 0.5;
    }
    // Most words of an answer are not of the question: they end at a bit of their hash.
    let bit = |stem: u64| (stem.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize;
    let mut bits = [0_u64; 16];
    for (stem, _) in &asked {
        bits[bit(*stem) / 64] |= 1 << (bit(*stem) % 64);
    }
    for stem in stems(&answer[..answer.floor_char_boundary(1_500)]) {
        if bits[bit(stem) / 64] >> (bit(stem) % 64) & 1 == 1
            && let Ok(at) = asked.binary_search_by_key(&stem, |(asked, _)| *asked)
        {
            asked[at].1 = true;
        }
    }
    asked.iter().filter(|(_, said)| *said).count() as f64 / asked.len() as f64
}

/// The first letters of longer words: enough to meet again across inflections. Five letters of ASCII are a number as they are, others
/// are hashed (FNV-1a).
fn stems(text: &str) -> impl Iterator<Item = u64> {
    text.split(|c: char| if c.is_ascii() { !c.is_ascii_alphanumeric() } else { !c.is_alphanumeric() }).filter_map(
        |word| {
            if let Some(five) = word.as_bytes().first_chunk::<5>()
                && word.is_ascii()
            {
                return Some(five.iter().fold(0, |stem, byte| stem << 8 | u64::from(byte | 0x20)));
            }
            if word.is_ascii() {
                return None;
            }
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            let mut seen = 0;
            for c in word.chars().take(2) {
                seen += 1;
                for lower in c.to_lowercase() {
                    hash = (hash ^ u64::from(lower)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            (seen == 2).then_some(hash)
        },
    )
}

/// A hit inside a longer Latin word is none.
fn starts_word(text: &str, at: usize) -> bool {
    let starts_latin = text.as_bytes().get(at).is_some_and(u8::is_ascii_alphabetic);
    !(starts_latin && at > 0 && text.as_bytes()[at - 1].is_ascii_alphanumeric())
}

/// Where sentences end, what is quoted or code, and how many items of lists there are.
struct Layout {
    /// One past the end of each sentence, in bytes.
    ends: Vec<usize>,
    /// Quoted spans and code blocks, in bytes, in order.
    foreign: Vec<Range<usize>>,
    items: u32,
}

impl Layout {
    fn of(text: &str) -> Self {
        let mut layout = Self { ends: Vec::new(), foreign: Vec::new(), items: 0 };
        let mut open: Option<(usize, char)> = None;
        let mut line_start = true;
        let mut sentence_start = 0;
        let bytes = text.as_bytes();
        let mut ahead = 0;
        loop {
            // Inside a line most characters say nothing about its layout.
            if !line_start {
                ahead += bytes[ahead..].iter().take_while(|b| IS_PLAIN[usize::from(**b)]).count();
            }
            let at = ahead;
            let mut chars = text[at..].chars();
            let Some(c) = chars.next() else { break };
            let next = chars.next();
            ahead += c.len_utf8();
            if line_start && !c.is_whitespace() {
                let item =
                    matches!(c, '-' | '*' | '•' | '#') || (c.is_ascii_digit() && matches!(next, Some('.' | ')')));
                layout.items += u32::from(item && at > 0);
                line_start = false;
            }
            match (open, closing(c)) {
                // An unclosed quotation mark ends with its line.
                (Some((_, end)), _) if end != '`' && c == '\n' => open = None,
                (Some((start, end)), _) if c == end && at > start => {
                    layout.foreign.push(start..at);
                    open = None;
                }
                (None, Some(end)) => open = Some((at, end)),
                _ => {}
            }
            line_start |= c == '\n';
            let ends = match c {
                '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
                '\n' | '。' | '！' | '？' => true,
                _ => false,
            };
            if ends {
                let end = at + c.len_utf8();
                // A number of a list, an initial, an empty line: no sentence of its own.
                if end - sentence_start > 8 {
                    layout.ends.push(end);
                }
                sentence_start = end;
            }
        }
        if text.len() > sentence_start + 8 {
            layout.ends.push(text.len());
        }
        layout
    }

    fn is_foreign(&self, at: usize) -> bool {
        self.foreign.iter().any(|span| span.contains(&at))
    }
}

/// Bytes that neither end a sentence or line nor open or close a quotation.
const IS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = !matches!(byte, b'.' | b'!' | b'?' | b'\n' | b'"' | b'`');
        byte += 1;
    }
    table
};

fn closing(open: char) -> Option<char> {
    Some(match open {
        '"' => '"',
        '“' | '„' => '”',
        '«' => '»',
        '「' => '」',
        '『' => '』',
        '`' => '`',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_begin_where_words_do() {
        // Else a text without phrases at the beginnings of words could have one that counts.
        for line in include_str!("phrases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']))
        {
            assert!(line.starts_with(|c: char| c.is_ascii_alphabetic() || !c.is_ascii()), "{line}");
        }
    }

    #[test]
    fn what_the_answer_takes_up_is_found_across_inflections_and_scripts() {
        for (question, answer, share) in [
            ("Return sofas größere ok", "returning SOFAS; GRÖSSER", 1.0),
            ("Return sofas", "the beds", 0.0),
            ("is it?", "yes", 0.5),
        ] {
            assert!((echo(question, answer) - share).abs() < 1e-9, "{question}");
        }
    }
}
