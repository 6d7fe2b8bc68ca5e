//! The pointer tree of an inode: from offsets to blocks.
//!
//! The digits of a logical block number in base "pointers per indirect block" are the indices on the way down; the
//! top digit indexes the dinode's own array.

use crate::addr::BlockAddr;
use crate::attr::FileKind;
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::dinode::{self, Dinode};
use crate::format::indirect::{self, FIRST_IN_DINODE, FIRST_IN_INDIRECT};
use crate::format::meta::BlockKind;
use crate::stage::Stage;

/// Neighbouring logical blocks that are neighbours on the device as well, or a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First logical block.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where they are; `None` for a hole.
    pub addr: Option<BlockAddr>,
    /// They were allocated just now: what stands there on the disk means nothing.
    pub fresh: bool,
}

/// Logical blocks below one pointer of an array `levels_below` levels above the data.
pub(super) fn span(block_size: BlockSize, levels_below: u16) -> u64 {
    (block_size.indirect_pointers() as u64).saturating_pow(u32::from(levels_below))
}

/// The index of `block` in the array that has `levels_below` levels of arrays below it, the dinode's being on top.
pub(super) fn digit(block_size: BlockSize, height: u16, levels_below: u16, block: u64) -> usize {
    let quotient = block / span(block_size, levels_below);
    let top = levels_below + 1 == height;
    let digit = if top { quotient } else { quotient % block_size.indirect_pointers() as u64 };
    usize::try_from(digit).unwrap_or(usize::MAX)
}

/// Logical blocks that a tree of `height` can address.
#[must_use]
pub fn capacity_blocks(block_size: BlockSize, height: u16) -> u64 {
    if height == 0 { 0 } else { (block_size.dinode_pointers() as u64).saturating_mul(span(block_size, height - 1)) }
}

/// An array of pointers, and where it starts in its block.
pub(super) struct Array {
    pub(super) addr: BlockAddr,
    pub(super) image: BlockImage,
    pub(super) first: usize,
}

impl Array {
    pub(super) fn kind(&self) -> BlockKind {
        if self.first == FIRST_IN_DINODE { BlockKind::DINODE } else { BlockKind::INDIRECT }
    }

    pub(super) fn len(&self) -> usize {
        indirect::count(&self.image, self.first)
    }

    pub(super) fn get(&self, index: usize) -> Option<BlockAddr> {
        indirect::pointer(&self.image, self.first, index)
    }
}

pub(super) async fn root(blocks: &impl Blocks, dinode: &Dinode) -> Result<Array, FsError> {
    let addr = dinode.ino.addr();
    Ok(Array { addr, image: blocks.meta(addr, BlockKind::DINODE).await?, first: FIRST_IN_DINODE })
}

pub(super) async fn child(blocks: &impl Blocks, addr: BlockAddr) -> Result<Array, FsError> {
    Ok(Array { addr, image: blocks.meta(addr, BlockKind::INDIRECT).await?, first: FIRST_IN_INDIRECT })
}

/// The extents of `count` logical blocks from `first` on, in order and without gaps.
///
/// # Errors
/// Errors of reading the tree.
pub async fn extents(blocks: &impl Blocks, dinode: &Dinode, first: u64, count: u64) -> Result<Vec<Extent>, FsError> {
    let mut found = Vec::new();
    let end = first.saturating_add(count);
    let mut block = first;
    while block < end {
        block = next_extents(blocks, dinode, block, end, &mut found).await?;
    }
    Ok(found)
}

/// The first extent from `block` on, and before `end`, as far as one array of pointers shows it. Never empty.
///
/// # Errors
/// Errors of reading the tree.
pub async fn extent_at(blocks: &impl Blocks, dinode: &Dinode, block: u64, end: u64) -> Result<Extent, FsError> {
    let mut found = Vec::new();
    next_extents(blocks, dinode, block, end.max(block + 1), &mut found).await?;
    Ok(found.first().copied().unwrap_or(Extent { first: block, count: 1, addr: None, fresh: false }))
}

fn push(found: &mut Vec<Extent>, extent: Extent) {
    if extent.count == 0 {
        return;
    }
    if let Some(last) = found.last_mut() {
        let continues = match (last.addr, extent.addr) {
            (None, None) => true,
            (Some(last_addr), Some(addr)) => last_addr.0.checked_add(last.count) == Some(addr.0),
            _ => false,
        };
        if continues && last.fresh == extent.fresh && last.first + last.count == extent.first {
            last.count += extent.count;
            return;
        }
    }
    found.push(extent);
}

/// Walks down to the array for `block` and takes from it what lies before `end`. Returns where to go on.
async fn next_extents(
    blocks: &impl Blocks,
    dinode: &Dinode,
    block: u64,
    end: u64,
    found: &mut Vec<Extent>,
) -> Result<u64, FsError> {
    let block_size = blocks.block_size();
    let hole = |from: u64, to: u64| Extent { first: from, count: to - from, addr: None, fresh: false };
    if block >= capacity_blocks(block_size, dinode.height) {
        push(found, hole(block, end));
        return Ok(end);
    }
    let mut array = root(blocks, dinode).await?;
    for levels_below in (1..dinode.height).rev() {
        let index = digit(block_size, dinode.height, levels_below, block);
        match array.get(index) {
            Some(addr) => array = child(blocks, addr).await?,
            None => {
                // Look along the array: a large hole is one extent.
                let span = span(block_size, levels_below);
                let empty = (index..array.len()).take_while(|at| array.get(*at).is_none()).count() as u64;
                let stop = (block / span).saturating_add(empty).saturating_mul(span).min(end);
                push(found, hole(block, stop));
                return Ok(stop);
            }
        }
    }
    let from = digit(block_size, dinode.height, 0, block);
    let mut at = block;
    for index in from..array.len() {
        if at >= end {
            break;
        }
        push(found, Extent { first: at, count: 1, addr: array.get(index), fresh: false });
        at += 1;
    }
    // An array that ends early cannot happen below the capacity; never stand still all the same.
    Ok(at.max(block + 1))
}

/// How many of the logical blocks from `first` up to `end` have no place yet. Stops when that is more than `enough`.
///
/// # Errors
/// `DinodeBlocks` for a tree that takes more than `steps_max` steps, each to the end of a lowest array or of a hole: it
/// has an array twice; errors of reading the tree.
pub async fn missing_blocks(
    blocks: &impl Blocks,
    dinode: &Dinode,
    first: u64,
    end: u64,
    enough: u64,
    steps_max: u64,
) -> Result<u64, FsError> {
    let (mut block, mut missing, mut steps) = (first, 0_u64, 0_u64);
    while block < end && missing <= enough {
        steps += 1;
        if steps > steps_max {
            return Err(CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(dinode.ino.addr()));
        }
        let mut found = Vec::new();
        block = next_extents(blocks, dinode, block, end, &mut found).await?;
        missing += found.iter().filter(|extent| extent.addr.is_none()).map(|extent| extent.count).sum::<u64>();
    }
    Ok(missing)
}

/// Counts `count` more blocks of an inode.
///
/// # Errors
/// `DinodeBlocks` when the disk says so many already that there is no such number.
pub fn more_blocks(dinode: &mut Dinode, count: u64) -> Result<(), FsError> {
    let overflow = CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(dinode.ino.addr());
    dinode.blocks = dinode.blocks.checked_add(count).ok_or(overflow)?;
    Ok(())
}

/// Moves content out of the dinode into a block of its own, so that the inode has a pointer tree.
///
/// # Errors
/// `NoSpace`; errors of reading.
pub async fn unstuff(stage: &mut Stage<'_>, dinode: &mut Dinode) -> Result<(), FsError> {
    let block_size = stage.block_size();
    let size = usize::try_from(dinode.size).unwrap_or(usize::MAX).min(block_size.stuffed_bytes_max());
    if size > 0 {
        let (addr, _) = stage.allocate_data(dinode.ino, dinode.goal, 1).await?;
        let old = stage.meta(dinode.ino.addr(), BlockKind::DINODE).await?;
        let content = old.get(dinode::HEADER_BYTES..dinode::HEADER_BYTES + size).unwrap_or_default();
        let image: BlockImage = content.iter().copied().chain(std::iter::repeat(0)).take(block_size.bytes()).collect();
        if dinode.is_journaled() {
            stage.create_jdata(addr, image);
        } else {
            stage.put_data(addr, image, true);
        }
        let block = stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?;
        clear_array(block);
        indirect::set_pointer(block, FIRST_IN_DINODE, 0, Some(addr));
        more_blocks(dinode, 1)?;
        dinode.goal = addr;
    } else {
        clear_array(stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?);
    }
    dinode.height = 1;
    Ok(())
}

fn clear_array(dinode_block: &mut [u8]) {
    if let Some(array) = dinode_block.get_mut(FIRST_IN_DINODE..) {
        array.fill(0);
    }
}

/// Adds levels at the top until the tree reaches logical block `last`.
async fn grow(stage: &mut Stage<'_>, dinode: &mut Dinode, last: u64) -> Result<(), FsError> {
    let block_size = stage.block_size();
    while last >= capacity_blocks(block_size, dinode.height) {
        if dinode.height >= block_size.height_max() {
            return Err(FsError::TooLarge);
        }
        let top = root(&*stage, dinode).await?;
        if (0..top.len()).any(|index| top.get(index).is_some()) {
            let addr = stage.allocate(dinode.ino, dinode.goal).await?;
            let block = stage.create(addr, BlockKind::INDIRECT);
            for index in 0..top.len() {
                indirect::set_pointer(block, FIRST_IN_INDIRECT, index, top.get(index));
            }
            let block = stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?;
            clear_array(block);
            indirect::set_pointer(block, FIRST_IN_DINODE, 0, Some(addr));
            more_blocks(dinode, 1)?;
            dinode.goal = addr;
        }
        dinode.height += 1;
    }
    Ok(())
}

/// Makes sure that all of `count` logical blocks from `first` on exist, and says where they are. The dinode has a tree
/// already.
///
/// # Errors
/// `NoSpace`, `TooLarge`; errors of reading the tree.
pub async fn map_for_write(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    first: u64,
    count: u64,
) -> Result<Vec<Extent>, FsError> {
    debug_assert!(dinode.height > 0 && dinode.kind == FileKind::Regular);
    let end = first.saturating_add(count);
    grow(stage, dinode, end.saturating_sub(1)).await?;
    let block_size = stage.block_size();
    let mut found = Vec::new();
    let mut block = first;
    while block < end {
        let array = descend_for_write(stage, dinode, block).await?;
        let from = digit(block_size, dinode.height, 0, block);
        let room = (array.len().saturating_sub(from) as u64).min(end - block);
        let to = from + usize::try_from(room).unwrap_or(0);
        let mut index = from;
        while index < to {
            let at = block + (index - from) as u64;
            if let Some(addr) = array.get(index) {
                push(&mut found, Extent { first: at, count: 1, addr: Some(addr), fresh: false });
                index += 1;
                continue;
            }
            let empty = (index..to).take_while(|index| array.get(*index).is_none()).count();
            let want = u32::try_from(empty).unwrap_or(u32::MAX);
            let goal = found.last().and_then(Extent::end_addr).unwrap_or(dinode.goal);
            let (addr, len) = stage.allocate_data(dinode.ino, goal, want).await?;
            let target = stage.edit(array.addr, array.kind()).await?;
            for step in 0..len {
                let pointer = BlockAddr(addr.0 + u64::from(step));
                indirect::set_pointer(target, array.first, index + step as usize, Some(pointer));
            }
            push(&mut found, Extent { first: at, count: u64::from(len), addr: Some(addr), fresh: true });
            more_blocks(dinode, u64::from(len))?;
            dinode.goal = BlockAddr(addr.0 + u64::from(len) - 1);
            index += len as usize;
        }
        block += room.max(1);
    }
    Ok(found)
}

impl Extent {
    /// The block behind the extent: the best place for what follows.
    #[must_use]
    pub fn end_addr(&self) -> Option<BlockAddr> {
        self.addr.map(|addr| BlockAddr(addr.0.saturating_add(self.count)))
    }
}

/// The lowest array for `block`; what is missing on the way down is made.
async fn descend_for_write(stage: &mut Stage<'_>, dinode: &mut Dinode, block: u64) -> Result<Array, FsError> {
    let block_size = stage.block_size();
    let mut array = root(&*stage, dinode).await?;
    for levels_below in (1..dinode.height).rev() {
        let index = digit(block_size, dinode.height, levels_below, block);
        let addr = match array.get(index) {
            Some(addr) => addr,
            None => {
                let addr = stage.allocate(dinode.ino, dinode.goal).await?;
                stage.create(addr, BlockKind::INDIRECT);
                let parent = stage.edit(array.addr, array.kind()).await?;
                indirect::set_pointer(parent, array.first, index, Some(addr));
                more_blocks(dinode, 1)?;
                dinode.goal = addr;
                addr
            }
        };
        array = child(&*stage, addr).await?;
    }
    Ok(array)
}
