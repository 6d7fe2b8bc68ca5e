//! Freeing the leaves of a directory that is being deleted, in transactions of bounded size.
//!
//! Slots are zeroed from the lowest on, in the transaction that frees their leaf or an earlier one; of a chain, what
//! follows its first leaf goes first. So after a crash the next one goes on where the last commit was, and nothing can
//! be freed twice.

use std::ops::Range;

use super::leaf::{Chain, Node};
use super::table::{self, Layout, Table};
use crate::addr::BlockAddr;
use crate::blocks::Edit;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::format::dirent::Leaf;
use crate::format::indirect::pointer;
use crate::format::meta::BlockKind;

/// How far [`free_leaves`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is to be freed, from this slot of the hash table on.
    More(u32),
    /// The directory has no leaves any more. What is left is the tree of its hash table, whose blocks are freed like
    /// those of a file.
    Done,
}

/// Frees leaves of `dir`, whose slots before `from` are zero (0 is always right; what [`Progress::More`] said is
/// faster). Frees and changes about `blocks_max` blocks, and at least a few, the dinode not counted.
///
/// # Errors
/// `Corrupt`, and as [`Edit::edit`].
pub async fn free_leaves(
    edit: &mut impl Edit,
    dir: &mut Dinode,
    from: u32,
    blocks_max: usize,
) -> Result<Progress, FsError> {
    if !dir.is_hashed() {
        return Ok(Progress::Done);
    }
    // The least that gets on: a leaf of a chain, the first leaf that has to skip it, and a block of the table.
    let mut budget = blocks_max.max(3);
    let layout = Layout::of(dir, edit.block_size());
    let mut slot = from;
    while slot < table::slots(dir) {
        let end = (slot - slot % layout.per_block).saturating_add(layout.per_block).min(table::slots(dir));
        let Some(used) = first_used(edit, dir, layout, slot..end).await? else {
            slot = end;
            continue;
        };
        if budget < 2 {
            return Ok(Progress::More(used));
        }
        // One for this block of the table; the rest goes to leaves.
        budget -= 1;
        slot = free_range(edit, dir, used..end, &mut budget).await?;
        table::set_slots(edit, dir, used..slot, None).await?;
        if slot < end {
            return Ok(Progress::More(slot));
        }
    }
    Ok(Progress::Done)
}

/// The first slot of `range`, which is in one block of the table, that is not zero.
async fn first_used(edit: &impl Edit, dir: &Dinode, layout: Layout, range: Range<u32>) -> Result<Option<u32>, FsError> {
    let (number, index) = layout.place(range.start);
    let hole = CorruptKind::HashTableHole { slot: range.start }.at(dir.ino.addr());
    let addr = table::block_addr(edit, dir, number).await?.ok_or(hole)?;
    let image = edit.meta(addr, layout.kind).await?;
    Ok(range.zip(index..).find(|(_, index)| pointer(&image, layout.first, *index).is_some()).map(|(slot, _)| slot))
}

/// Frees leaves of `range`, which is in one block of the table; returns the first slot that still needs its leaf. What
/// is before that the caller zeroes.
async fn free_range(
    edit: &mut impl Edit,
    dir: &mut Dinode,
    range: Range<u32>,
    budget: &mut usize,
) -> Result<u32, FsError> {
    let mut table = Table::default();
    let mut slot = range.start;
    while slot < range.end {
        let addr = table.leaf(edit, dir, slot).await?;
        let mut chain = Chain::new(dir, addr);
        let Some(head) = chain.next(edit).await? else { return Ok(slot) };
        let leaf_end = table::range(dir, head.leaf.depth, slot).end;
        let end = leaf_end.min(range.end);
        for same in slot + 1..end {
            if table.leaf(edit, dir, same).await? != addr {
                return Err(CorruptKind::HashTableRange { slot: same }.at(dir.ino.addr()));
            }
        }
        // A range that goes on in the next block of the table keeps its leaf until its last slot goes.
        if end == leaf_end && !free_chain(edit, dir, &head, &mut chain, budget).await? {
            return Ok(slot);
        }
        slot = end;
    }
    Ok(slot)
}

/// Frees the leaves of a chain behind `head`, then `head`; false if the budget ended before that.
async fn free_chain(
    edit: &mut impl Edit,
    dir: &mut Dinode,
    head: &Node,
    chain: &mut Chain,
    budget: &mut usize,
) -> Result<bool, FsError> {
    let mut next = head.leaf.next;
    // The last of the budget is for the head, which is either freed or changed.
    while *budget > 1
        && let Some(node) = chain.next(edit).await?
    {
        free(edit, dir, node.addr).await?;
        *budget -= 1;
        next = node.leaf.next;
    }
    if *budget > 0 && next.is_none() {
        free(edit, dir, head.addr).await?;
        *budget -= 1;
        return Ok(true);
    }
    if next != head.leaf.next {
        *budget = budget.saturating_sub(1);
        let now = edit.now();
        let block = edit.edit(head.addr, BlockKind::LEAF).await?;
        Leaf { next, ..head.leaf }.write_to(block, dir.ino, now);
    }
    Ok(false)
}

async fn free(edit: &mut impl Edit, dir: &mut Dinode, addr: BlockAddr) -> Result<(), FsError> {
    let broken = CorruptKind::DinodeBlocks { blocks: dir.blocks }.at(dir.ino.addr());
    dir.blocks = dir.blocks.checked_sub(1).filter(|left| *left > 0).ok_or(broken)?;
    edit.free_meta(addr).await
}
