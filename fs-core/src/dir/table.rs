//! The hash table: slots in the dinode, or in the last blocks of a pointer tree, which have headers.

use std::ops::Range;

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::dinode::{self, Dinode};
use crate::format::indirect::{FIRST_IN_DINODE, FIRST_IN_INDIRECT, pointer, set_pointer};
use crate::format::meta::{self, BlockKind};
use crate::inode::map::more_blocks;

/// The slot of a hash.
pub(super) fn slot_of(hash: u32, dir: &Dinode) -> u32 {
    hash.checked_shr(32 - u32::from(dir.depth)).unwrap_or(0)
}

/// Number of slots.
pub(super) fn slots(dir: &Dinode) -> u32 {
    1 << dir.depth.min(dinode::DIR_DEPTH_MAX)
}

/// The slots that a leaf of `depth` fills, of which `slot` is one. The leaf is not deeper than the table.
pub(super) fn range(dir: &Dinode, depth: u16, slot: u32) -> Range<u32> {
    let len = 1 << dir.depth.saturating_sub(depth);
    let start = slot & !(len - 1);
    start..start + len
}

/// How slots stand in the blocks of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Byte of a block at which its slots start.
    pub(super) first: usize,
    /// Slots in each block.
    pub(super) per_block: u32,
    /// What the blocks are.
    pub(super) kind: BlockKind,
}

impl Layout {
    pub(super) fn of(dir: &Dinode, size: BlockSize) -> Self {
        if dir.is_stuffed() {
            return Self {
                first: FIRST_IN_DINODE,
                per_block: pointers(size.dinode_pointers()),
                kind: BlockKind::DINODE,
            };
        }
        Self {
            first: meta::HEADER_BYTES,
            per_block: pointers(size.payload_bytes() / 8),
            kind: BlockKind::JOURNALED_DATA,
        }
    }

    /// The block of a slot, and the slot's index in it.
    pub(super) fn place(&self, slot: u32) -> (u32, usize) {
        // An index is below `per_block`, which fits every `usize`.
        (slot / self.per_block, usize::try_from(slot % self.per_block).unwrap_or(0))
    }
}

/// At most 510 pointers are in a block.
fn pointers(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Reads slots; remembers the block read last, for whoever goes from slot to slot. Made anew after each change.
#[derive(Debug, Default)]
pub(super) struct Table {
    block: Option<(u32, BlockImage)>,
}

impl Table {
    /// The leaf that `slot` points to.
    pub(super) async fn leaf(&mut self, blocks: &impl Blocks, dir: &Dinode, slot: u32) -> Result<BlockAddr, FsError> {
        let hole = CorruptKind::HashTableHole { slot }.at(dir.ino.addr());
        self.slot(blocks, dir, slot).await?.ok_or(hole)
    }

    /// What `slot` points to; `None` once its leaf is freed.
    async fn slot(&mut self, blocks: &impl Blocks, dir: &Dinode, slot: u32) -> Result<Option<BlockAddr>, FsError> {
        let layout = Layout::of(dir, blocks.block_size());
        let (number, index) = layout.place(slot);
        if let Some((at, image)) = &self.block
            && *at == number
        {
            return Ok(pointer(image, layout.first, index));
        }
        let Some(addr) = block_addr(blocks, dir, number).await? else { return Ok(None) };
        let image = blocks.meta(addr, layout.kind).await?;
        let found = pointer(&image, layout.first, index);
        self.block = Some((number, image));
        Ok(found)
    }
}

/// Digits of a table block's number in the pointer tree, from the root on.
fn path(dir: &Dinode, size: BlockSize, number: u32) -> impl Iterator<Item = usize> + use<> {
    let (height, base) = (u32::from(dir.height), pointers(size.indirect_pointers()));
    (0..height).rev().map(move |level| {
        let digit = u64::from(number) / u64::from(base).saturating_pow(level);
        // The root's digit is not cut: past the end of the dinode there is no pointer.
        let digit = if level + 1 == height { digit } else { digit % u64::from(base) };
        usize::try_from(digit).unwrap_or(usize::MAX)
    })
}

/// Where block `number` of the table stands; `None` for a hole.
pub(super) async fn block_addr(blocks: &impl Blocks, dir: &Dinode, number: u32) -> Result<Option<BlockAddr>, FsError> {
    let (mut addr, mut kind, mut first) = (dir.ino.addr(), BlockKind::DINODE, FIRST_IN_DINODE);
    for digit in path(dir, blocks.block_size(), number) {
        let image = blocks.meta(addr, kind).await?;
        let Some(next) = pointer(&image, first, digit) else { return Ok(None) };
        (addr, kind, first) = (next, BlockKind::INDIRECT, FIRST_IN_INDIRECT);
    }
    Ok(Some(addr))
}

/// As [`block_addr`]; fills holes with new blocks. The tree is high enough.
async fn block_addr_or_new(edit: &mut impl Edit, dir: &mut Dinode, number: u32) -> Result<BlockAddr, FsError> {
    let (mut addr, mut kind, mut first) = (dir.ino.addr(), BlockKind::DINODE, FIRST_IN_DINODE);
    let height = usize::from(dir.height);
    for (level, digit) in path(dir, edit.block_size(), number).enumerate() {
        let below = if level + 1 == height { BlockKind::JOURNALED_DATA } else { BlockKind::INDIRECT };
        let image = edit.meta(addr, kind).await?;
        let next = if let Some(next) = pointer(&image, first, digit) {
            next
        } else {
            let next = allocate(edit, dir).await?;
            edit.create(next, below);
            set_pointer(edit.edit(addr, kind).await?, first, digit, Some(next));
            next
        };
        (addr, kind, first) = (next, below, FIRST_IN_INDIRECT);
    }
    Ok(addr)
}

/// Allocates a block for the directory and counts it.
pub(super) async fn allocate(edit: &mut impl Edit, dir: &mut Dinode) -> Result<BlockAddr, FsError> {
    let addr = edit.allocate(dir.ino, dir.goal).await?;
    more_blocks(dir, 1)?;
    dir.goal = addr;
    Ok(addr)
}

/// Lets all slots of `range` point to `to`.
pub(super) async fn set_slots(
    edit: &mut impl Edit,
    dir: &Dinode,
    range: Range<u32>,
    to: Option<BlockAddr>,
) -> Result<(), FsError> {
    let layout = Layout::of(dir, edit.block_size());
    let mut slot = range.start;
    while slot < range.end {
        let (number, index) = layout.place(slot);
        let count = (layout.per_block - slot % layout.per_block).min(range.end - slot);
        let hole = CorruptKind::HashTableHole { slot }.at(dir.ino.addr());
        let addr = block_addr(edit, dir, number).await?.ok_or(hole)?;
        let block = edit.edit(addr, layout.kind).await?;
        for index in (index..).zip(0..count).map(|(index, _)| index) {
            set_pointer(block, layout.first, index, to);
        }
        slot += count;
    }
    Ok(())
}

/// Doubles the table: each slot becomes two. The first table is half a block, so twice that is never in the dinode.
/// Every block of the table is rewritten.
pub(super) async fn double(edit: &mut impl Edit, dir: &mut Dinode) -> Result<(), FsError> {
    let size = edit.block_size();
    // At most 2¹⁶ slots: the deepest table is never doubled.
    let mut old = Vec::new();
    let mut table = Table::default();
    for slot in 0..slots(dir) {
        old.push(table.leaf(edit, dir, slot).await?);
    }
    let depth = dir.depth + 1;
    if depth > dinode::DIR_DEPTH_MAX {
        return Err(CorruptKind::DirectoryDepth { depth }.at(dir.ino.addr()));
    }
    let leaves_dinode = dir.is_stuffed();
    if leaves_dinode {
        let block = edit.edit(dir.ino.addr(), BlockKind::DINODE).await?;
        super::area::part_mut(block, FIRST_IN_DINODE).fill(0);
        dir.height = 1;
    }
    dir.depth = depth;
    dir.size = 8 << depth;
    let layout = Layout::of(dir, size);
    let blocks = slots(dir).div_ceil(layout.per_block);
    while capacity_blocks(dir.height, size) < u64::from(blocks) {
        raise(edit, dir).await?;
    }
    let mut twice = old.iter().flat_map(|leaf| [*leaf, *leaf]);
    for number in 0..blocks {
        let addr = block_addr_or_new(edit, dir, number).await?;
        let block = edit.edit(addr, layout.kind).await?;
        for (index, leaf) in (0..layout.per_block).zip(twice.by_ref()) {
            set_pointer(block, layout.first, layout.place(index).1, Some(leaf));
        }
    }
    Ok(())
}

/// Blocks that a tree of `height`, at least 1, can hold.
fn capacity_blocks(height: u16, size: BlockSize) -> u64 {
    let below = u64::from(pointers(size.indirect_pointers())).saturating_pow(u32::from(height.saturating_sub(1)));
    below.saturating_mul(u64::from(pointers(size.dinode_pointers())))
}

/// Adds a level to the tree: a new indirect block takes the dinode's pointers.
async fn raise(edit: &mut impl Edit, dir: &mut Dinode) -> Result<(), FsError> {
    let height = dir.height + 1;
    if height > edit.block_size().height_max() {
        return Err(CorruptKind::DinodeHeight { height }.at(dir.ino.addr()));
    }
    let root = edit.meta(dir.ino.addr(), BlockKind::DINODE).await?;
    let addr = allocate(edit, dir).await?;
    let old = super::area::part(&root, FIRST_IN_DINODE);
    if let Some(to) = edit.create(addr, BlockKind::INDIRECT).get_mut(FIRST_IN_INDIRECT..FIRST_IN_INDIRECT + old.len()) {
        to.copy_from_slice(old);
    }
    let block = edit.edit(dir.ino.addr(), BlockKind::DINODE).await?;
    super::area::part_mut(block, FIRST_IN_DINODE).fill(0);
    set_pointer(block, FIRST_IN_DINODE, 0, Some(addr));
    dir.height = height;
    Ok(())
}
