//! The node's change file: where its slots are.

use crate::addr::{BlockAddr, InodeNo};
use crate::format::block_size::BlockSize;
use crate::format::meta;
use crate::format::system_files::RawQuotaChange;

/// Size of a slot, in bytes.
pub(super) const SLOT_BYTES: usize = size_of::<RawQuotaChange>();

/// The change file of a node: fixed in size, all of its blocks there.
pub(super) struct ChangeFile {
    pub(super) ino: InodeNo,
    blocks: Vec<BlockAddr>,
    slots_per_block: u32,
}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: BlockAddr,
    /// In the block, in bytes.
    pub(super) offset: usize,
}

/// Slots in one block.
pub(super) fn slots_per_block(block_size: BlockSize) -> u32 {
    u32::try_from((block_size.bytes() - meta::HEADER_BYTES) / SLOT_BYTES).unwrap_or(0)
}

/// Where slot `index` of a block starts, in bytes.
pub(super) const fn offset_in_block(index: usize) -> usize {
    meta::HEADER_BYTES + index * SLOT_BYTES
}

impl ChangeFile {
    pub(super) fn new(ino: InodeNo, blocks: Vec<BlockAddr>, block_size: BlockSize) -> Self {
        Self { ino, blocks, slots_per_block: slots_per_block(block_size).max(1) }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).saturating_mul(self.slots_per_block)
    }

    /// Where a slot is; `None` behind the end.
    pub(super) fn place(&self, slot: u32) -> Option<Place> {
        let block = usize::try_from(slot / self.slots_per_block).ok()?;
        let index = usize::try_from(slot % self.slots_per_block).ok()?;
        Some(Place { block: *self.blocks.get(block)?, offset: offset_in_block(index) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fill_one_block_after_the_other() {
        let ino = InodeNo::FIRST;
        let file = ChangeFile::new(ino, vec![BlockAddr(70), BlockAddr(90)], BlockSize::MAX);
        assert_eq!(file.slots(), 2 * 254);
        assert_eq!(file.place(0), Some(Place { block: BlockAddr(70), offset: 24 }));
        assert_eq!(file.place(253), Some(Place { block: BlockAddr(70), offset: 24 + 253 * 16 }));
        assert_eq!(file.place(254), Some(Place { block: BlockAddr(90), offset: 24 }));
        assert_eq!(file.place(508), None);
    }
}
