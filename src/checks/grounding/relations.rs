//! Pairs of words that mean the same or the opposite, by their stems.
//!
//! Asked by [`super::features`] for words of an answer. From WordNet 3.1.

#![expect(
    clippy::cast_possible_truncation,
    reason = "inputs are at most 1 MiB, and hashes take the low bits on purpose"
)]

use super::letters::hashes;
use std::sync::LazyLock;

/// A many-to-many relation of stems: sorted, with a table of where each stem begins.
pub struct Relation {
    /// A bit for each hash that some stem has: most words of an answer end here, in a table that fits the nearest cache.
    known: Vec<u64>,
    slots: Vec<(u32, u32)>,
    others: Vec<u32>,
    mask: usize,
}

/// Bits of `known`; a power of two.
const KNOWN: usize = 1 << 16;

impl Relation {
    fn of(lines: &str) -> Self {
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for line in lines.lines().filter(|l| !l.starts_with('#')) {
            let stems: Vec<u32> = line.split(' ').map(|w| hashes(w).1).collect();
            for a in &stems {
                pairs.extend(stems.iter().filter(|b| *b != a).map(|b| (*a, *b)));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let stems = pairs.chunk_by(|a, b| a.0 == b.0).count();
        let size = (stems * 2).next_power_of_two();
        let mut known = vec![0; KNOWN / 64];
        let mask = size - 1;
        let mut slots = vec![(0, 0); size];
        let mut others = Vec::with_capacity(pairs.len() * 2);
        let mut last = 0;
        for (a, b) in pairs {
            if a != last {
                others.push(0);
                let mut slot = a as usize & mask;
                while slots[slot].0 != 0 {
                    slot = (slot + 1) & mask;
                }
                slots[slot] = (a, others.len() as u32);
                known[bit(a) / 64] |= 1 << (bit(a) % 64);
                last = a;
            }
            others.push(b);
        }
        others.push(0);
        Self { known, slots, others, mask }
    }

    /// The stems related to one.
    #[inline]
    pub fn to(&self, stem: u32) -> &[u32] {
        if self.known[bit(stem) / 64] >> (bit(stem) % 64) & 1 == 0 {
            return &[];
        }
        let mut slot = stem as usize & self.mask;
        loop {
            let (found, at) = self.slots[slot];
            if found == 0 {
                return &[];
            }
            if found == stem {
                let rest = &self.others[at as usize..];
                let end = rest.iter().position(|x| *x == 0).unwrap_or(rest.len());
                return &rest[..end];
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

/// Where a hash is in `known`; its lowest bit is always set.
#[inline]
fn bit(stem: u32) -> usize {
    (stem >> 1) as usize % KNOWN
}

/// Words of opposite sense.
pub static OPPOSITES: LazyLock<Relation> = LazyLock::new(|| Relation::of(include_str!("opposites.txt")));
/// Words of the same sense.
pub static SYNONYMS: LazyLock<Relation> = LazyLock::new(|| Relation::of(include_str!("synonyms.txt")));
