//! What the context has of one sentence of an answer, as numbers.
//!
//! Called by `score` for each sentence; [`super::features`] makes one vector of all. Its rule: each number is a count or a share with a
//! meaning that its comment gives, so that a weight can be read. The way not taken: word vectors, which were tried and told no more.

use super::index::{Index, NONE};
use super::lexicon::Word;
use super::relations::{OPPOSITES, SYNONYMS};
use super::token::{Kind, SENTENCE_TOKENS_MAX, Token, Tokens};
use super::window::Window;
use std::ops::Range;

/// Of a context, this many numbers are compared by their rounded value.
const NUMBERS_MAX: usize = 256;

/// Words related to one that are looked up.
const RELATED_MAX: usize = 24;

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
    /// The least cohesive three neighbours: 1 = close together in the context, 0 = in other sentences of it.
    pub cohesion: f64,
    /// Share of neighbours of which some places in the context are close.
    pub near: f64,
    /// The same of rare words and numbers: names of one row, facts of one event.
    pub rare_together: f64,
    /// Share of known among the words that the question has not.
    pub telling: f64,
    /// Share of its numbers that neither context nor question has.
    pub number_miss: f64,
    /// How far apart its words stand in the context, as a logarithm.
    pub spread: f64,
    /// Unknown words with a synonym in the context.
    pub synonyms: f64,
    /// Whether it negates, and the passage does not.
    pub negates: f64,
    /// Words of number or frequency that the passage has not.
    pub quantifiers: f64,
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
        for tokens in answer.tokens.chunk_by(|a, b| a.sentence == b.sentence) {
            let mut values = [0.0; SENTENCE_TOKENS_MAX as usize];
            while let Some((value, at)) = numbers.next_if(|n| (n.1 as usize) < start + tokens.len()) {
                values[*at as usize - start] = *value;
            }
            start += tokens.len();
            if tokens.iter().any(Token::is_content) {
                self.window.lay(tokens);
                out.push((self.sentence(text, tokens, &values), only_affirms(text, tokens)));
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
        let mut negates = false;
        for (i, token) in tokens.iter().enumerate() {
            negates |= token.word.is(Word::NEGATION);
            if token.word.is(Word::PERSON) && !self.window.has(token.stem) {
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
            let held = has && self.window.has(token.stem);
            match token.kind {
                Kind::Number => {
                    numbers += 1.0;
                    if !has && !asked && !self.rounds(values[i]) {
                        s.unknown_numbers.push(token.start as usize..token.end as usize);
                    }
                }
                Kind::Word if !held => soft += self.unheld(s, token, (has, asked), i > 0),
                _ => {}
            }
            if !held && token.word.is(Word::QUANTIFIER) {
                s.quantifiers += 1.0;
            }
        }
        s.soft = share(soft, s.words);
        s.telling = share(told, telling);
        s.number_miss = if numbers > 0.0 { s.unknown_numbers.len() as f64 / numbers } else { 0.0 };
        s.rare_together = share(f64::from(self.window.best_rare), f64::from(self.window.known_rare));
        s.negates = flag(negates && !self.window.negates());
    }

    /// A word that the passage has not: a name, a synonym or an opposite. Returns its support beyond what was counted.
    fn unheld(&self, s: &mut Sentence, token: &Token, (has, asked): (bool, bool), inside: bool) -> f64 {
        if OPPOSITES.to(token.stem).iter().take(RELATED_MAX).any(|other| self.window.has(*other)) {
            s.opposites.push(token.start as usize..token.end as usize);
        }
        if has {
            return 0.0;
        }
        let name = token.capital && inside;
        if name && !asked {
            s.unknown_names.push(token.start as usize..token.end as usize);
        }
        if SYNONYMS.to(token.stem).iter().take(RELATED_MAX).any(|other| self.index.has(*other)) {
            s.synonyms += flag(!asked && !name);
            return SYNONYM_SUPPORT;
        }
        0.0
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
        let (mut last_three, mut cohesion, mut all, mut count) = ([1.0; 2], 1.0_f64, 0.0, 0_u32);
        let mut previous: Option<usize> = None;
        for i in (0..tokens.len()).filter(|i| tokens[*i].is_content()) {
            let Some(j) = previous.replace(i) else { continue };
            let (p, q) = (aligned[j], aligned[i]);
            let value = if p == NONE || q == NONE {
                0.3
            } else {
                pairs += 1.0;
                near += flag(q.abs_diff(p) <= 6 || self.ever_near(j, i));
                self.tie(p, q)
            };
            count += 1;
            all += value;
            if count >= 3 {
                cohesion = cohesion.min((last_three[0] + last_three[1] + value) / 3.0);
            }
            last_three = [last_three[1], value];
        }
        s.near = share(near, pairs);
        s.cohesion = if count < 3 { share(all, f64::from(count)) } else { cohesion };
    }

    /// How closely two places of the context belong together.
    fn tie(&self, p: u32, q: u32) -> f64 {
        if q > p && q - p <= 3 {
            1.0
        } else if q.abs_diff(p) <= 8 {
            0.7
        } else if self.index.at(p).sentence == self.index.at(q).sentence {
            0.4
        } else {
            0.0
        }
    }

    fn ever_near(&self, i: usize, j: usize) -> bool {
        const LOOK: usize = 8;
        let places = |k: usize| self.index.chain(self.window.first[k]).take(LOOK);
        places(i).any(|a| places(j).any(|b| a.abs_diff(b) <= 6))
    }

    fn runs(&self, s: &mut Sentence, tokens: &[Token]) {
        let aligned = &self.window.aligned[..tokens.len()];
        let (mut covered, mut runs) = (0.0, 0.0);
        let (mut low, mut high) = (NONE, 0);
        let mut before = NONE;
        for place in aligned.iter().copied() {
            if place != NONE {
                covered += 1.0;
                (low, high) = (low.min(place), high.max(place));
                runs += flag(before != NONE && place == before + 1);
            }
            before = place;
        }
        let all = tokens.len() as f64;
        s.covered = covered / all;
        s.runs = share(runs, all - 1.0);
        s.spread = if covered > 0.0 { (f64::from(high - low) + 1.0).ln() - f64::ln_1p(covered) } else { 0.0 };
    }
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
