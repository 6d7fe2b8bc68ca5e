//! The blocks of a resource group that may be handed out now: free in the bitmap, not promised to a transaction under
//! way, and not freed by one that could still be undone by a crash.

use crate::format::block_size::BlockSize;
use crate::format::rgrp::{BlockState, RgrpPlace};

/// A set of block indices.
#[derive(Debug, Clone)]
pub struct Avail {
    words: Vec<u64>,
    bits: u32,
    count: u32,
}

impl Avail {
    /// No block of a group of `bits` blocks.
    #[must_use]
    pub fn none(bits: u32) -> Self {
        Self { words: vec![0; (bits as usize).div_ceil(64)], bits, count: 0 }
    }

    /// How many blocks are in the set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    fn word_of(index: u32) -> (usize, u64) {
        ((index / 64) as usize, 1 << (index % 64))
    }

    /// Adds a block; nothing happens if it is there or out of range.
    pub fn insert(&mut self, index: u32) {
        let (word, bit) = Self::word_of(index);
        if index < self.bits
            && let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.count += 1;
        }
    }

    /// Takes a block out; nothing happens if it is not there.
    pub fn remove(&mut self, index: u32) {
        let (word, bit) = Self::word_of(index);
        if let Some(word) = self.words.get_mut(word)
            && *word & bit != 0
        {
            *word &= !bit;
            self.count -= 1;
        }
    }

    /// The block is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let (word, bit) = Self::word_of(index);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The first block of the set at or after `from`.
    #[must_use]
    pub fn next(&self, from: u32) -> Option<u32> {
        let (mut at, _) = Self::word_of(from);
        let mut word = self.words.get(at)? & (u64::MAX << (from % 64));
        loop {
            if word != 0 {
                return u32::try_from(at).ok()?.checked_mul(64)?.checked_add(word.trailing_zeros());
            }
            at += 1;
            word = *self.words.get(at)?;
        }
    }

    /// How many blocks from `from` on are in the set without a gap, at most `max`.
    #[must_use]
    pub fn run(&self, from: u32, max: u32) -> u32 {
        let mut len = 0;
        while len < max {
            let index = from + len;
            let (at, _) = Self::word_of(index);
            let Some(word) = self.words.get(at) else { break };
            let ones = (word >> (index % 64)).trailing_ones();
            len += ones;
            if ones < 64 - index % 64 {
                break;
            }
        }
        len.min(max)
    }
}

/// Reads a group's bitmap: what is free, and the dinodes that wait to be freed. `blocks` are the group's header and
/// bitmap blocks.
#[must_use]
pub fn scan(place: &RgrpPlace, blocks: &[&[u8]], block_size: BlockSize) -> (Avail, Vec<u32>) {
    let (mut avail, mut unlinked) = (Avail::none(place.data), Vec::new());
    let mut index = 0;
    while index < place.data {
        let position = place.bit_position(index, block_size);
        let bits = blocks
            .get(position.header_block as usize)
            .and_then(|block| block.get(position.byte))
            .copied()
            // What cannot be read is in use.
            .unwrap_or(0x55);
        // Four blocks at once; the common cases are all free and all used.
        if bits != 0x55 {
            for (within, shift) in (0..4).zip([0, 2, 4, 6]) {
                match BlockState::from_bits(bits >> shift) {
                    BlockState::Free => avail.insert(index + within),
                    BlockState::Unlinked => unlinked.push(index + within),
                    BlockState::Used | BlockState::Dinode => {}
                }
            }
        }
        index += 4;
    }
    (avail, unlinked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn behaves_like_a_set(ops in proptest::collection::vec((0_u32..300, proptest::bool::ANY), 0..400), from in 0_u32..310, max in 0_u32..200) {
            let (mut avail, mut model) = (Avail::none(300), BTreeSet::new());
            for (index, add) in ops {
                if add { avail.insert(index); model.insert(index); } else { avail.remove(index); model.remove(&index); }
            }
            proptest::prop_assert_eq!(avail.count() as usize, model.len());
            proptest::prop_assert_eq!(avail.next(from), model.range(from..).next().copied());
            let run = (from..from + max).take_while(|index| model.contains(index)).count();
            proptest::prop_assert_eq!(avail.run(from, max) as usize, run);
        }
    }
}
