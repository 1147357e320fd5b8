//! A text by its words: where each stem stands. Made once a trace and shared.
//!
//! Used by `check`. Its rule: one open-addressing table of stems, and a chain through the tokens of each; no allocation per token.

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
    slots: Vec<(u32, u32)>,
    next: Vec<u32>,
    mask: usize,
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
        let size = (text.tokens.len() * 2).next_power_of_two().max(16);
        let mask = size - 1;
        let mut slots = vec![(0_u32, NONE); size];
        let mut next = vec![NONE; text.tokens.len()];
        // From the back, so that chains run forward.
        for (at, token) in text.tokens.iter().enumerate().rev() {
            let mut slot = token.stem as usize & mask;
            loop {
                let entry = &mut slots[slot];
                if entry.1 == NONE || entry.0 == token.stem {
                    next[at] = entry.1;
                    *entry = (token.stem, at as u32);
                    break;
                }
                slot = (slot + 1) & mask;
            }
        }
        Self { text, slots, next, mask }
    }

    /// The first place of a stem, or `NONE`.
    #[inline]
    pub fn first(&self, stem: u32) -> u32 {
        let mut slot = stem as usize & self.mask;
        loop {
            let (found, at) = self.slots[slot];
            if at == NONE || found == stem {
                return at;
            }
            slot = (slot + 1) & self.mask;
        }
    }

    /// A place and those after it with the same stem.
    #[inline]
    pub fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors((first != NONE).then_some(first), |at| {
            Some(self.next[*at as usize]).filter(|next| *next != NONE)
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
