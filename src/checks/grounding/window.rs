//! One sentence of an answer laid beside the context: what is known, the passage that has most of it, and word by word where it stands.
//!
//! Called by [`super::support`] for each sentence. Its rule: every loop has a written bound, so that no text costs more than
//! its length times a constant. The way not taken: the longest common subsequence, which is quadratic.

#![expect(
    clippy::cast_possible_truncation,
    reason = "inputs are at most 1 MiB, and hashes take the low bits on purpose"
)]

use super::index::{Index, NONE};
use super::lexicon;
use super::token::{Kind, SENTENCE_TOKENS_MAX, Token};

/// Of a word that stands in many places, this many are looked at.
const PLACES_MAX: usize = 32;

/// Room for the tokens of a sentence.
const ROOM: usize = SENTENCE_TOKENS_MAX as usize;

/// What a sentence of the context has of the answer's sentence.
#[derive(Clone, Copy, Default)]
struct Passage {
    round: u32,
    /// Place in the sentence of the word counted last, so that none counts twice.
    last: u32,
    words: f32,
    rare: f32,
}

/// A sentence of the answer beside the context.
pub struct Window<'a> {
    index: &'a Index,
    passages: Vec<Passage>,
    touched: Vec<u32>,
    round: u32,
    best: u32,
    /// Most rare words and numbers that one sentence of the context has.
    pub best_rare: f32,
    /// Rare words and numbers of the sentence that the context has.
    pub known_rare: f32,
    /// For each token its place in the context, or `NONE`.
    pub aligned: [u32; ROOM],
    /// For each token the first place of its stem in the context, or `NONE`.
    pub first: [u32; ROOM],
    /// The places of all tokens, the first [`PLACES_MAX`] of each: asked for again and again, and chains are slow to walk.
    places: Vec<u32>,
    /// Where those of each token are.
    spans: [(u32, u32); ROOM],
    /// A bit for each token that the context has and that is rare.
    rare: u64,
}

impl<'a> Window<'a> {
    /// Over a context.
    pub fn new(index: &'a Index) -> Self {
        let passages = vec![Passage::default(); index.text.sentences as usize + 2];
        Self {
            index,
            passages,
            touched: Vec::with_capacity(64),
            round: 0,
            best: 0,
            best_rare: 0.0,
            known_rare: 0.0,
            aligned: [NONE; ROOM],
            first: [NONE; ROOM],
            places: Vec::with_capacity(256),
            spans: [(0, 0); ROOM],
            rare: 0,
        }
    }

    /// The places of a token, in order.
    #[inline]
    pub fn places(&self, i: usize) -> &[u32] {
        let (from, to) = self.spans[i];
        &self.places[from as usize..to as usize]
    }

    /// Lays a sentence beside it; `tokens` are at most [`SENTENCE_TOKENS_MAX`].
    pub fn lay(&mut self, tokens: &[Token]) {
        self.round += 1;
        self.touched.clear();
        self.places.clear();
        self.spans = [(0, 0); ROOM];
        self.aligned = [NONE; ROOM];
        self.first = [NONE; ROOM];
        self.known_rare = 0.0;
        self.rare = 0;
        for (i, token) in tokens.iter().enumerate().filter(|(_, t)| t.is_content()) {
            self.first[i] = self.index.first(token.stem);
            if self.first[i] != NONE {
                let rare = is_rare(token);
                self.rare |= u64::from(rare) << i;
                self.count(i, rare);
            }
        }
        self.choose();
        for i in 0..tokens.len() {
            if self.first[i] != NONE && self.aligned[i] == NONE {
                self.align(tokens, i);
            }
        }
    }

    fn count(&mut self, i: usize, rare: bool) {
        if rare {
            self.known_rare += 1.0;
        }
        let from = self.places.len();
        let more = f32::from(u8::from(rare));
        for place in self.index.chain(self.first[i]).take(PLACES_MAX) {
            self.places.push(place);
            let sentence = self.index.at(place).sentence();
            let Some(passage) = self.passages.get_mut(sentence as usize) else { continue };
            if passage.round != self.round {
                *passage = Passage { round: self.round, last: i as u32, words: 1.0, rare: more };
                self.touched.push(sentence);
            } else if passage.last != i as u32 {
                passage.last = i as u32;
                passage.words += 1.0;
                passage.rare += more;
            }
        }
        self.spans[i] = (from as u32, self.places.len() as u32);
    }

    /// Two sentences of the context that follow one another and have most of the words.
    fn choose(&mut self) {
        (self.best, self.best_rare) = (0, 0.0);
        let mut most = -1.0;
        for at in &self.touched {
            let here = self.passages[*at as usize];
            self.best_rare = self.best_rare.max(here.rare);
            for start in [at.saturating_sub(1), *at] {
                let (a, b) = (self.words(start), self.words(start + 1));
                let score = a.max(b) + 0.5 * a.min(b);
                if score > most || (score >= most && start < self.best) {
                    (most, self.best) = (score, start);
                }
            }
        }
    }

    fn words(&self, sentence: u32) -> f32 {
        self.passages.get(sentence as usize).filter(|p| p.round == self.round).map_or(0.0, |p| p.words)
    }

    /// Whether a place in the context is in the chosen passage.
    #[inline]
    pub fn holds(&self, place: u32) -> bool {
        self.index.at(place).sentence().wrapping_sub(self.best) <= 1
    }

    /// Whether a token that the context has is rare.
    #[inline]
    pub fn is_rare(&self, i: usize) -> bool {
        self.rare >> i & 1 == 1
    }

    /// Whether the chosen passage has the stem of a token.
    pub fn has_token(&self, i: usize) -> bool {
        self.places(i).iter().any(|place| self.holds(*place))
    }

    /// Whether the chosen passage has a stem.
    pub fn has(&self, stem: u32) -> bool {
        self.index.chain(self.index.first(stem)).take(PLACES_MAX).any(|place| self.holds(place))
    }

    /// The place with the longest run of equal words around it; among equals one in the chosen passage, then one that goes on from the last.
    fn align(&mut self, tokens: &[Token], i: usize) {
        let context = &self.index.text.tokens;
        let before = (0..i).rev().find_map(|j| (self.aligned[j] != NONE).then_some(self.aligned[j]));
        let mut best = (0, 0, 0, NONE);
        for place in self.places(i).iter().copied() {
            let at = place as usize;
            let left = (1..=i.min(at)).take_while(|k| context[at - k].stem == tokens[i - k].stem).count();
            let room = (tokens.len() - i).min(context.len() - at);
            let right = (1..room).take_while(|k| context[at + k].stem == tokens[i + k].stem).count();
            let onward = before.is_some_and(|b| place > b && place - b < 12);
            let score = (left + right) * 8 + usize::from(self.holds(place)) * 4 + usize::from(onward) * 3;
            if best.3 == NONE || score > best.0 {
                best = (score, left, right, place);
            }
        }
        let (_, left, right, place) = best;
        if place == NONE {
            return;
        }
        for k in i - left..=i + right {
            if k >= i || self.aligned[k] == NONE {
                self.aligned[k] = place + k as u32 - i as u32;
            }
        }
    }
}

/// A number, or a word that is not among the commonest.
pub fn is_rare(token: &Token) -> bool {
    match token.kind() {
        Kind::Number => true,
        Kind::Word => !lexicon::is_common(token.stem),
        Kind::Unspaced => false,
    }
}
