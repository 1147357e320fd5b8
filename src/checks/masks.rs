//! Classes of bytes as bit masks, 64 bytes at a time.
//!
//! Called by checks that walk over long texts. Its rule: plain loops over arrays of bytes, which the compiler turns into vector
//! instructions; a walk then goes from set bit to set bit and does not branch at every byte. The way not taken: intrinsics,
//! which need `unsafe`.

/// Bytes of one block.
pub(super) const BLOCK: usize = 64;

/// A piece of a text and where it stands; the last one is filled up with spaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Byte offset of the first.
    pub at: usize,
    /// The bytes.
    pub bytes: [u8; BLOCK],
    /// Bits of those that are of the text.
    pub real: u64,
}

/// The blocks of a text.
#[inline]
pub(super) fn blocks(text: &[u8]) -> impl Iterator<Item = Block> + '_ {
    text.chunks(BLOCK).enumerate().map(|(n, chunk)| match chunk.first_chunk() {
        Some(whole) => Block { at: n * BLOCK, bytes: *whole, real: u64::MAX },
        None => {
            let mut bytes = [b' '; BLOCK];
            bytes[..chunk.len()].copy_from_slice(chunk);
            Block { at: n * BLOCK, bytes, real: (1 << chunk.len()) - 1 }
        }
    })
}

impl Block {
    /// A bit for each byte of a class; `class` gives 1 for those in it and else 0, without branches.
    #[inline]
    pub fn mask(&self, class: impl Fn(u8) -> u8) -> u64 {
        let mut flags = [0_u8; BLOCK];
        for (flag, byte) in flags.iter_mut().zip(self.bytes) {
            *flag = class(byte);
        }
        let mut mask = 0;
        for (n, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
            // The product moves the lowest bit of each byte into the uppermost byte.
            mask |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * n);
        }
        mask
    }
}

/// The bits of a class for a whole text, eight bytes of it in each of these, and some of none behind them.
pub(super) fn masks(text: &[u8], class: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut all = Vec::with_capacity((text.len() / BLOCK + 2) * 8);
    for block in blocks(text) {
        all.extend_from_slice(&(block.mask(&class) & block.real).to_le_bytes());
    }
    all.extend_from_slice(&[0; 8]);
    all
}

/// How many bits are set in a row from a place on; from 57 on it may be more.
#[inline]
pub(super) fn run(masks: &[u8], at: usize) -> usize {
    let ahead = masks.get(at / 8..).and_then(|rest| rest.first_chunk()).map_or(0, |eight| u64::from_le_bytes(*eight));
    // What is shifted in counts as unset.
    (!(ahead >> (at % 8))).trailing_zeros() as usize
}

/// 1 for letters and digits of ASCII.
#[inline]
pub(super) fn alphanumeric(byte: u8) -> u8 {
    u8::from((byte | 0x20).wrapping_sub(b'a') < 26) | u8::from(byte.wrapping_sub(b'0') < 10)
}

/// The numbers of set bits, lowest first.
#[inline]
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as usize;
        let some = mask != 0;
        mask &= mask.wrapping_sub(1);
        some.then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_the_bytes() {
        let text: Vec<u8> = (0..=255).chain(*b"tail \xe9").collect();
        let mut found = Vec::new();
        for block in blocks(&text) {
            found.extend(bits(block.mask(alphanumeric) & block.real).map(|bit| block.at + bit));
        }
        let expected: Vec<usize> = (0..text.len()).filter(|at| text[*at].is_ascii_alphanumeric()).collect();
        assert_eq!(found, expected);
        assert_eq!(blocks(b"").count(), 0);
    }

    #[test]
    fn a_run_ends_where_the_class_does() {
        for length in [0, 1, 17, 63, 64, 65, 200] {
            let text = [&b"-".repeat(40)[..], &b"a".repeat(length), b".b"].concat();
            let inner = masks(&text, alphanumeric);
            for at in 40..40 + length {
                assert_eq!(run(&inner, at).min(57), (40 + length - at).min(57), "{length} {at}");
            }
            assert_eq!((run(&inner, 0), run(&inner, text.len() - 1), run(&inner, text.len())), (0, 1, 0));
        }
    }
}
