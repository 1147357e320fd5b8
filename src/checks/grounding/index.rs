//! A text by its words: where each stem stands. Made once a trace and shared.
//!
//! Used by `check`. Its rule: a chain for each value of some bits of a stem, made without a look at what is in it, since far fewer stems
//! are asked for than a context has tokens. The way not taken: a chain a stem, for which each token must be compared with others.

#![expect(
    clippy::cast_possible_truncation,
    reason = "inputs are at most 1 MiB, and hashes take the low bits on purpose"
)]

use super::token::{Token, Tokens};

/// No place.
pub const NONE: u32 = u32::MAX;

/// The tokens of all texts that an answer may rest on, by stem.
#[derive(Debug)]
pub struct Index {
    /// In order.
    pub text: Tokens,
    /// First place of each chain.
    heads: Vec<u32>,
    /// For each token the next place of its chain.
    next: Vec<u32>,
}

impl Index {
    /// Of the texts, one after another.
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut text = Tokens::default();
        let mut base = 0;
        for part in texts {
            text.tokens.reserve(part.len() / 5 + 8);
            text.read(part, base);
            base += part.len() as u32;
        }
        let mut heads = vec![NONE; (text.tokens.len() * 2).next_power_of_two().max(16)];
        let mut next = vec![NONE; text.tokens.len()];
        let mask = heads.len() - 1;
        // From the back, so that chains run forward.
        for (at, (token, next)) in text.tokens.iter().zip(&mut next).enumerate().rev() {
            *next = std::mem::replace(&mut heads[slot(token.stem, mask)], at as u32);
        }
        Self { text, heads, next }
    }

    /// The first place of a stem, or `NONE`.
    #[inline]
    pub fn first(&self, stem: u32) -> u32 {
        self.from(self.heads[slot(stem, self.heads.len() - 1)], stem)
    }

    /// The first place of a stem from a place of its chain on.
    #[inline]
    fn from(&self, mut at: u32, stem: u32) -> u32 {
        while at != NONE && self.text.tokens[at as usize].stem != stem {
            at = self.next[at as usize];
        }
        at
    }

    /// A place and those after it with the same stem.
    #[inline]
    pub fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors((first != NONE).then_some(first), move |at| {
            let next = self.next[*at as usize];
            Some(self.from(next, self.at(first).stem)).filter(|next| *next != NONE)
        })
    }

    /// Whether a stem occurs.
    #[inline]
    pub fn has(&self, stem: u32) -> bool {
        self.first(stem) != NONE
    }

    /// The token at a place.
    #[inline]
    pub fn at(&self, place: u32) -> &Token {
        &self.text.tokens[place as usize]
    }
}

/// The chain of a stem, whose lowest bit is always set.
#[inline]
fn slot(stem: u32, mask: usize) -> usize {
    (stem >> 1) as usize & mask
}
