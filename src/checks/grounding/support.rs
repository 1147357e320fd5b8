//! What the context has of one sentence of an answer, as numbers.
//!
//! Called by `score` for each sentence; [`super::features`] makes one vector of all. Its rule: each number is a count or a share with a
//! meaning that its comment gives, so that a weight can be read. The way not taken: word vectors, which were tried and told no more.

use super::index::{Index, NONE};
use super::lexicon::Word;
use super::relations::{OPPOSITES, SYNONYMS};
use super::token::{Kind, SENTENCE_TOKENS_MAX, Token, Tokens};
use super::window::{Window, is_rare};
use std::cmp::Ordering;
use std::ops::Range;

/// Of a context, this many numbers are compared by their rounded value.
const NUMBERS_MAX: usize = 256;

/// Words related to one that are looked up.
const RELATED_MAX: usize = 24;

/// Of the answer, this many content words are looked through for repetitions; they tell in short answers only.
const REPEATED_MAX: usize = 32;

/// A synonym is worth this much of the word itself.
const SYNONYM_SUPPORT: f64 = 0.8;

/// A sentence of an answer beside the context. Shares are of its content words and 1 where there is nothing to share.
#[derive(Clone, Debug, Default)]
pub struct Sentence {
    /// Where it stands in the answer, in bytes.
    pub bytes: Range<usize>,
    /// Content words, numbers included.
    pub words: f64,
    /// Whether it asks.
    pub question: bool,
    /// Share that the context has, a synonym counting 0.8.
    pub soft: f64,
    /// Share of all tokens that are laid beside a place in the context.
    pub covered: f64,
    /// Share of neighbours that are neighbours in the context too.
    pub runs: f64,
    /// Share of neighbours of which some places in the context are close.
    pub near: f64,
    /// Most rare words and numbers that one sentence of the context has, as a share of those known: names of one row, facts of one event.
    pub rare_together: f64,
    /// Share of neighbours among its known names, rare words and numbers that some sentence of the context has both of.
    pub rare_pairs: f64,
    /// Share of known among the words that the question has not.
    pub telling: f64,
    /// Share of its numbers that neither context nor question has.
    pub number_miss: f64,
    /// How far apart its words stand in the context, as a logarithm.
    pub spread: f64,
    /// Unknown words with a synonym in the context.
    pub synonyms: f64,
    /// Whether it has a word of negation.
    pub negates: bool,
    /// Words behind a negation of which the place in the context is not behind one.
    pub negated_alone: f64,
    /// Unknown numbers beside a word that has another number beside it in the context.
    pub number_clashes: f64,
    /// Rare words and numbers that neither context nor question has, nor a synonym of it.
    pub rare_unknown: f64,
    /// Content words that make it less sure (`seems`, `reportedly`) and that the passage has not.
    pub hedges: f64,
    /// Where it goes on elsewhere in the context, in the middle of a phrase: the context's next word has content, and no mark stands before it.
    pub splices: f64,
    /// Negations and hedges of the context that it leaves out between two places of one sentence.
    pub doubts_skipped: f64,
    /// Content words that stood before in the answer, of its first 32.
    pub repeats: f64,
    /// Words for the speaker or the one spoken to that the passage has not.
    pub persons: f64,
    /// Places of numbers that neither context nor question has.
    pub unknown_numbers: Vec<Range<usize>>,
    /// Places of words that the passage has not, but their opposite.
    pub opposites: Vec<Range<usize>>,
    /// Places of capitalised words that neither context nor question has.
    pub unknown_names: Vec<Range<usize>>,
}

/// The words of a question, sorted.
pub struct Asked(Vec<u32>);

impl Asked {
    /// Of a question's text.
    pub fn of(question: &str) -> Self {
        let mut stems: Vec<u32> = Tokens::of(question).tokens.iter().map(|t| t.stem).collect();
        stems.sort_unstable();
        stems.dedup();
        Self(stems)
    }

    fn has(&self, stem: u32) -> bool {
        self.0.binary_search(&stem).is_ok()
    }
}

/// Reads an answer sentence by sentence.
pub struct Reader<'a> {
    index: &'a Index,
    asked: &'a Asked,
    window: Window<'a>,
}

impl<'a> Reader<'a> {
    /// Over a context and a question.
    pub fn new(index: &'a Index, asked: &'a Asked) -> Self {
        Self { index, asked, window: Window::new(index) }
    }

    /// All sentences that have a content word, but for those that only affirm or greet, unless there is nothing else: "Yes." is
    /// borne out by what follows it, and stands in no context.
    pub fn sentences(&mut self, text: &str, answer: &Tokens) -> Vec<Sentence> {
        let mut numbers = answer.numbers.iter().peekable();
        let mut out = Vec::with_capacity(answer.sentences as usize);
        let mut start = 0;
        let mut said: Vec<u32> = Vec::with_capacity(REPEATED_MAX);
        for tokens in answer.tokens.chunk_by(|a, b| a.sentence() == b.sentence()) {
            let mut values = [0.0; SENTENCE_TOKENS_MAX as usize];
            while let Some((value, at)) = numbers.next_if(|n| (n.1 as usize) < start + tokens.len()) {
                values[*at as usize - start] = *value;
            }
            start += tokens.len();
            if tokens.iter().any(Token::is_content) {
                self.window.lay(tokens);
                let mut sentence = self.sentence(text, tokens, &values);
                sentence.repeats = repeats(&mut said, tokens);
                out.push((sentence, only_affirms(text, tokens)));
            }
        }
        let claims = out.iter().any(|(_, affirms)| !affirms);
        out.into_iter().filter(|(_, affirms)| !(claims && *affirms)).map(|(sentence, _)| sentence).collect()
    }

    fn sentence(&self, text: &str, tokens: &[Token], values: &[f64]) -> Sentence {
        let end = tokens.last().map_or(0, |t| t.end as usize);
        let marks = text.as_bytes()[end..].iter().take_while(|b| matches!(b, b'.' | b'!' | b'?')).count();
        let mut s = Sentence { bytes: tokens[0].start as usize..end + marks, ..Sentence::default() };
        s.question = text.as_bytes()[end..].iter().take(3).any(|b| *b == b'?') || text[end..].starts_with('？');
        self.words(&mut s, tokens, values);
        self.pairs(&mut s, tokens);
        self.runs(&mut s, tokens);
        s
    }

    fn words(&self, s: &mut Sentence, tokens: &[Token], values: &[f64]) {
        let (mut soft, mut telling, mut told, mut numbers) = (0.0, 0.0, 0.0, 0.0);
        for (i, token) in tokens.iter().enumerate() {
            s.negates |= token.is(Word::NEGATION);
            if token.is(Word::PERSON) && !self.window.has(token.stem) {
                s.persons += 1.0;
            }
            if !token.is_content() {
                continue;
            }
            s.words += 1.0;
            let has = self.window.first[i] != NONE;
            let asked = self.asked.has(token.stem);
            soft += flag(has);
            telling += flag(!asked);
            told += flag(has && !asked);
            let held = has && self.window.has_token(i);
            match token.kind() {
                Kind::Number => {
                    numbers += 1.0;
                    if !has && !asked && !self.rounds(values[i]) {
                        s.unknown_numbers.push(token.start as usize..token.end as usize);
                        s.rare_unknown += 1.0;
                        s.number_clashes += flag(self.clashes(tokens, i));
                    }
                }
                Kind::Word if !held => soft += self.unheld(s, token, (has, asked), i > 0),
                _ => {}
            }
            s.hedges += flag(!held && token.is(Word::HEDGE));
            let place = self.window.aligned[i];
            s.negated_alone += flag(token.is_negated() && place != NONE && !self.index.at(place).is_negated());
        }
        s.soft = share(soft, s.words);
        s.telling = share(told, telling);
        s.number_miss = if numbers > 0.0 { s.unknown_numbers.len() as f64 / numbers } else { 0.0 };
        s.rare_together = share(f64::from(self.window.best_rare), f64::from(self.window.known_rare));
    }

    /// A word that the passage has not: a name, a synonym or an opposite. Returns its support beyond what was counted.
    fn unheld(&self, s: &mut Sentence, token: &Token, (has, asked): (bool, bool), inside: bool) -> f64 {
        if OPPOSITES.to(token.stem).iter().take(RELATED_MAX).any(|other| self.window.has(*other)) {
            s.opposites.push(token.start as usize..token.end as usize);
        }
        if has {
            return 0.0;
        }
        let name = token.is_capital() && inside;
        if name && !asked {
            s.unknown_names.push(token.start as usize..token.end as usize);
        }
        if SYNONYMS.to(token.stem).iter().take(RELATED_MAX).any(|other| self.index.has(*other)) {
            s.synonyms += flag(!asked && !name);
            return SYNONYM_SUPPORT;
        }
        s.rare_unknown += flag(!asked && is_rare(token));
        0.0
    }

    /// Whether the content word before or behind a number stands beside a number in the context.
    fn clashes(&self, tokens: &[Token], i: usize) -> bool {
        const LOOK: usize = 8;
        let context = &self.index.text.tokens;
        let beside_number = |place: u32| {
            let place = place as usize;
            let around = place.saturating_sub(2)..(place + 3).min(context.len());
            context[around].iter().any(|t| t.kind() == Kind::Number)
        };
        let before = (0..i).rev().find(|j| tokens[*j].is_content());
        let behind = (i + 1..tokens.len()).find(|j| tokens[*j].is_content());
        let neighbours = [before, behind].into_iter().flatten();
        neighbours.flat_map(|j| self.window.places(j).iter().take(LOOK)).any(|place| beside_number(*place))
    }

    /// Whether a number of the context is this one, rounded or in another unit of thousands.
    fn rounds(&self, value: f64) -> bool {
        // A year is no rounded year.
        if value.fract() == 0.0 && (1000.0..2200.0).contains(&value) {
            return false;
        }
        self.index.text.numbers.iter().take(NUMBERS_MAX).any(|(other, _)| {
            [1.0, 1e2, 1e3, 1e6, 1e9].iter().any(|k| close(value * k, *other) || close(value, other * k))
        })
    }

    fn pairs(&self, s: &mut Sentence, tokens: &[Token]) {
        let aligned = &self.window.aligned;
        let (mut pairs, mut near) = (0.0, 0.0);
        let (mut rare_pairs, mut together) = (0.0, 0.0);
        let (mut previous, mut previous_rare) = (None, None);
        for (i, token) in tokens.iter().enumerate().filter(|(_, t)| t.is_content()) {
            if let Some(j) = previous.replace(i) {
                let (p, q): (u32, u32) = (aligned[j], aligned[i]);
                if p != NONE && q != NONE {
                    pairs += 1.0;
                    near += flag(q.abs_diff(p) <= 6 || self.ever_near(j, i));
                }
            }
            if self.window.first[i] != NONE
                && (token.is_capital() || self.window.is_rare(i))
                && let Some(j) = previous_rare.replace(i)
            {
                rare_pairs += 1.0;
                together += flag(self.ever_in_one_sentence(j, i));
            }
        }
        s.near = share(near, pairs);
        s.rare_pairs = share(together, rare_pairs);
    }

    fn ever_in_one_sentence(&self, i: usize, j: usize) -> bool {
        let sentence = |place: &u32| self.index.at(*place).sentence();
        meet(self.looked_at(i), self.looked_at(j), |a, b| sentence(a).cmp(&sentence(b)))
    }

    fn ever_near(&self, i: usize, j: usize) -> bool {
        meet(self.looked_at(i), self.looked_at(j), |a, b| if a.abs_diff(*b) <= 6 { Ordering::Equal } else { a.cmp(b) })
    }

    /// The first places of a token in the context.
    fn looked_at(&self, i: usize) -> &[u32] {
        const LOOK: usize = 8;
        let places = self.window.places(i);
        &places[..places.len().min(LOOK)]
    }

    fn runs(&self, s: &mut Sentence, tokens: &[Token]) {
        let aligned = &self.window.aligned[..tokens.len()];
        let (mut covered, mut runs) = (0.0, 0.0);
        let (mut low, mut high) = (NONE, 0);
        let mut last: Option<(usize, u32)> = None;
        for (i, place) in aligned.iter().copied().enumerate().filter(|(_, place)| *place != NONE) {
            covered += 1.0;
            (low, high) = (low.min(place), high.max(place));
            if let Some((j, before)) = last.replace((i, place)) {
                let goes_on = i == j + 1 && place == before + 1;
                runs += flag(goes_on);
                if !goes_on {
                    s.splices += flag(i == j + 1 && tokens[j].is_content() && self.mid_phrase(before));
                    s.doubts_skipped += self.doubts_between(before, place, i - j);
                }
            }
        }
        let all = tokens.len() as f64;
        s.covered = covered / all;
        s.runs = share(runs, all - 1.0);
        s.spread = if covered > 0.0 { (f64::from(high - low) + 1.0).ln() - f64::ln_1p(covered) } else { 0.0 };
    }

    /// Whether the phrase goes on behind a place of the context.
    fn mid_phrase(&self, place: u32) -> bool {
        let next = self.index.text.tokens.get(place as usize + 1);
        next.is_some_and(|t| t.is_content() && !t.has_mark() && t.sentence() == self.index.at(place).sentence())
    }

    /// Negations and hedges of the context between two places of one sentence, where more words were left out than put in.
    fn doubts_between(&self, from: u32, to: u32, step: usize) -> f64 {
        const LOOK: usize = 30;
        let (from, to) = (from as usize, to as usize);
        let tokens = &self.index.text.tokens;
        if to <= from + 1 + step || tokens[from].sentence() != tokens[to].sentence() {
            return 0.0;
        }
        let skipped = &tokens[from + 1..to.min(from + LOOK)];
        skipped.iter().filter(|t| t.is(Word::NEGATION) || t.is(Word::HEDGE)).count() as f64
    }
}

/// Whether any of these places is equal to one of those; both are in order.
fn meet(mut left: &[u32], mut right: &[u32], compare: impl Fn(&u32, &u32) -> Ordering) -> bool {
    while let ([a, behind_a @ ..], [b, behind_b @ ..]) = (left, right) {
        match compare(a, b) {
            Ordering::Less => left = behind_a,
            Ordering::Greater => right = behind_b,
            Ordering::Equal => return true,
        }
    }
    false
}

/// How many content words of a sentence were said before; `said` keeps them.
fn repeats(said: &mut Vec<u32>, tokens: &[Token]) -> f64 {
    let mut count = 0.0;
    for token in tokens.iter().filter(|t| t.is_content()) {
        if said.contains(&token.stem) {
            count += 1.0;
        } else if said.len() < REPEATED_MAX {
            said.push(token.stem);
        }
    }
    count
}

/// Words that say yes, no, hello or sorry, and nothing that a context could hold.
const AFFIRMING: [&str; 34] = [
    "yes",
    "no",
    "yeah",
    "yep",
    "nope",
    "sure",
    "certainly",
    "absolutely",
    "definitely",
    "indeed",
    "exactly",
    "correct",
    "right",
    "true",
    "okay",
    "ok",
    "great",
    "hello",
    "hi",
    "thanks",
    "thank",
    "sorry",
    "unfortunately",
    "please",
    "welcome",
    "course",
    "ja",
    "nein",
    "oui",
    "non",
    "sí",
    "si",
    "sim",
    "não",
];

/// Whether every content word of a sentence is such a word.
fn only_affirms(text: &str, tokens: &[Token]) -> bool {
    let word = |t: &Token| text.get(t.start as usize..t.end as usize).map(str::to_lowercase).unwrap_or_default();
    tokens.len() <= 4 && tokens.iter().filter(|t| t.is_content()).all(|t| AFFIRMING.contains(&word(t).as_str()))
}

fn flag(x: bool) -> f64 {
    f64::from(u8::from(x))
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 1.0 }
}

/// Equal but for rounding.
fn close(a: f64, b: f64) -> bool {
    a.abs() >= 1.0 && (a - b).abs() < 0.006 * b.abs()
}
