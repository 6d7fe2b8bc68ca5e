//! What is known of each block that a bitmap describes: four bits for each, and two sums for each few thousand.
//!
//! The low two bits are the block's state in the bitmap, as read. The others say what was found: somebody refers to
//! the block, or it is a dinode that was read and is one.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::addr::BlockAddr;
use crate::format::rgrp::{BlockState, RgrpPlace};

/// Somebody refers to the block.
const CLAIMED: u8 = 4;
/// The block is a dinode.
const SOUND: u8 = 8;

/// Binary logarithm of the blocks that share a [`Sums`].
const BUCKET_SHIFT: u32 = 12;

/// Sums that are zero when the names of the inodes in some blocks are right: the method of a fingerprint. Each dinode
/// adds a number, made of all that its entries have to say, as often as it counts names; each entry takes away the
/// number made of what it says. So a sound volume is known to be sound without a table of its inodes, and only what is
/// wrong is looked at again. (Chance makes a wrong sum zero once in 2⁶⁴.)
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Entries against counts of names, formal numbers and types.
    names: AtomicU64,
    /// `..` of directories against the directories that name them.
    parents: AtomicU64,
}

/// A resource group.
pub(super) struct GroupMap {
    pub(super) place: RgrpPlace,
    /// Its bitmap could be read. If not, nothing can be said about its blocks.
    pub(super) known: bool,
    /// Two blocks in each.
    cells: Vec<AtomicU8>,
    sums: Vec<Sums>,
}

/// What a reference met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// All is well, as far as can be known.
    Fine,
    /// Somebody else refers to the block.
    Twice,
    /// The bitmap has another state.
    State(BlockState),
    /// No bitmap describes it.
    Outside,
}

impl GroupMap {
    pub(super) fn new(place: RgrpPlace) -> Self {
        let blocks = place.data as usize;
        let buckets = (place.data >> BUCKET_SHIFT) as usize + 1;
        Self {
            place,
            known: false,
            cells: (0..blocks.div_ceil(2)).map(|_| AtomicU8::new(0)).collect(),
            sums: (0..buckets).map(|_| Sums::default()).collect(),
        }
    }

    fn bits(&self, index: u32) -> u8 {
        let cell = self.cells.get((index / 2) as usize).map_or(0, |cell| cell.load(Ordering::Relaxed));
        cell >> ((index % 2) * 4) & 15
    }

    fn set(&self, index: u32, bits: u8) -> u8 {
        let shift = (index % 2) * 4;
        let old =
            self.cells.get((index / 2) as usize).map_or(0, |cell| cell.fetch_or(bits << shift, Ordering::Relaxed));
        old >> shift & 15
    }

    /// Takes a byte of the bitmap: the states of four blocks from `index` on.
    pub(super) fn load(&self, index: u32, byte: u8) {
        for step in 0..4 {
            self.set(index + step, byte >> (2 * step) & 3);
        }
    }

    pub(super) fn state(&self, index: u32) -> BlockState {
        BlockState::from_bits(self.bits(index))
    }

    pub(super) fn is_claimed(&self, index: u32) -> bool {
        self.bits(index) & CLAIMED != 0
    }

    pub(super) fn is_sound(&self, index: u32) -> bool {
        self.bits(index) & SOUND != 0
    }

    /// The block at `index` is a dinode.
    pub(super) fn set_sound(&self, index: u32) {
        self.set(index, SOUND);
    }

    /// Number of buckets.
    pub(super) fn buckets(&self) -> usize {
        self.sums.len()
    }

    /// The names of the inodes in a bucket, or their parents, are not what they should be.
    pub(super) fn is_wrong(&self, bucket: usize) -> bool {
        self.sums
            .get(bucket)
            .is_some_and(|sums| sums.names.load(Ordering::Relaxed) != 0 || sums.parents.load(Ordering::Relaxed) != 0)
    }

    /// The blocks of a bucket.
    pub(super) fn bucket_range(&self, bucket: usize) -> std::ops::Range<u32> {
        let start = u32::try_from(bucket << BUCKET_SHIFT).unwrap_or(u32::MAX);
        start.min(self.place.data)..start.saturating_add(1 << BUCKET_SHIFT).min(self.place.data)
    }
}

/// All resource groups, by address.
#[derive(Default)]
pub(super) struct BlockMap {
    pub(super) groups: Vec<GroupMap>,
}

impl BlockMap {
    /// The group whose bitmap describes `addr`: its number, and the block's index in it.
    pub(super) fn find(&self, addr: BlockAddr) -> Option<(usize, u32)> {
        let behind = self.groups.partition_point(|group| group.place.addr <= addr);
        let number = behind.checked_sub(1)?;
        let index = self.groups.get(number)?.place.index_of(addr)?;
        Some((number, index))
    }

    fn group(&self, addr: BlockAddr) -> Option<(&GroupMap, u32)> {
        let (number, index) = self.find(addr)?;
        Some((self.groups.get(number)?, index))
    }

    /// Somebody refers to `addr` as a block in state used.
    pub(super) fn claim(&self, addr: BlockAddr) -> Claim {
        let Some((group, index)) = self.group(addr) else { return Claim::Outside };
        // Also where the state is wrong: whoever follows a reference relies on being the only one.
        if group.set(index, CLAIMED) & CLAIMED != 0 {
            return Claim::Twice;
        }
        match group.state(index) {
            state if group.known && state != BlockState::Used => Claim::State(state),
            _ => Claim::Fine,
        }
    }

    /// Forgets who refers to what, for another look at all references.
    pub(super) fn forget_claims(&self) {
        for cell in self.groups.iter().flat_map(|group| &group.cells) {
            cell.fetch_and(!(CLAIMED | CLAIMED << 4), Ordering::Relaxed);
        }
    }

    /// State and soundness of the block at `addr`, if a bitmap that could be read describes it.
    pub(super) fn look(&self, addr: BlockAddr) -> Option<(BlockState, bool)> {
        let (group, index) = self.group(addr).filter(|(group, _)| group.known)?;
        Some((group.state(index), group.is_sound(index)))
    }

    /// Adds to the sum of names in the bucket of `addr`. False when no bitmap describes `addr`.
    pub(super) fn add_name(&self, addr: BlockAddr, number: u64) -> bool {
        self.sums(addr).map(|sums| sums.names.fetch_add(number, Ordering::Relaxed)).is_some()
    }

    /// Adds to the sum of parents in the bucket of `addr`.
    pub(super) fn add_parent(&self, addr: BlockAddr, number: u64) {
        if let Some(sums) = self.sums(addr) {
            sums.parents.fetch_add(number, Ordering::Relaxed);
        }
    }

    fn sums(&self, addr: BlockAddr) -> Option<&Sums> {
        let (group, index) = self.group(addr)?;
        group.sums.get((index >> BUCKET_SHIFT) as usize)
    }

    /// Number of the bucket of `addr` in its group.
    pub(super) fn bucket(&self, addr: BlockAddr) -> Option<(usize, usize)> {
        let (number, index) = self.find(addr)?;
        Some((number, (index >> BUCKET_SHIFT) as usize))
    }

    /// Blocks that the bitmaps describe.
    pub(super) fn blocks_total(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.place.data)).sum()
    }
}

/// A number that stands for three others.
pub(super) fn mix(a: u64, b: u64, c: u64) -> u64 {
    let step = |state: u64, word: u64| {
        let mut number = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    };
    step(step(step(0, a), b), c)
}
