//! Giving up the end of a file, bottom up, in transactions of bounded size.
//!
//! The first transaction sets the new size and marks the inode; the last one takes the mark away. A crash between them
//! leaves an inode whose size is right and whose mark tells the next one who changes it to finish the job.

use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::blocks::{Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{Dinode, flags};
use crate::format::indirect;
use crate::format::meta::BlockKind;
use crate::inode::map::{self, Array};
use crate::stage::Stage;
use crate::volume::Volume;

/// Data blocks that one transaction frees at most.
pub(super) const FREE_BLOCKS_MAX: usize = 1024;
/// Blocks in the log that such a transaction may take; blocks freed all over a volume touch many bitmaps.
pub(super) const LOG_BLOCKS_MAX: usize = 96;

/// Frees blocks from the end of the tree down to logical block `from`, as many as one transaction takes. Returns true
/// when nothing is left to free. Changes `dinode.blocks` and pointers; the caller writes the dinode back.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn free_step(stage: &mut Stage<'_>, dinode: &mut Dinode, from: u64) -> Result<bool, FsError> {
    let mut budget = FREE_BLOCKS_MAX;
    loop {
        if budget == 0 || stage.log_blocks() > LOG_BLOCKS_MAX {
            return Ok(false);
        }
        let Some(path) = last_array(stage, dinode, from).await? else { return Ok(true) };
        if !free_array(stage, dinode, path, from, &mut budget).await? {
            return Ok(false);
        }
    }
}

/// An array on the way down, the index taken in it, and the logical block that its first pointer leads to.
pub(super) struct Step {
    pub(super) array: Array,
    pub(super) index: usize,
    pub(super) start: u64,
}

/// The way to the last lowest array that has something at or after `from`: a pointer, or itself being empty.
async fn last_array(stage: &Stage<'_>, dinode: &Dinode, from: u64) -> Result<Option<Vec<Step>>, FsError> {
    if dinode.height == 0 {
        return Ok(None);
    }
    let block_size = stage.block_size();
    let mut path = Vec::new();
    let mut array = map::root(stage, dinode).await?;
    let mut start = 0_u64;
    for levels_below in (0..dinode.height).rev() {
        let span = map::span(block_size, levels_below);
        let last = (0..array.len()).rev().find(|index| array.get(*index).is_some());
        let Some(index) = last else {
            // An empty array: of use to nobody if all of it is beyond `from`, and the root always is.
            let is_root = path.is_empty();
            path.push(Step { array, index: 0, start });
            return Ok((!is_root && start >= from).then_some(path));
        };
        let at = start.saturating_add((index as u64).saturating_mul(span));
        if at.saturating_add(span) <= from {
            return Ok(None);
        }
        let child = array.get(index);
        path.push(Step { array, index, start });
        match child {
            Some(child) if levels_below > 0 => array = map::child(stage, child).await?,
            _ => return Ok(Some(path)),
        }
        start = at;
    }
    Ok(Some(path))
}

/// Frees what the last array of `path` points to, from its end down to `from`; then the array itself, and the ones
/// above it, if they are empty now. Returns false when the budget ended first.
async fn free_array(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    mut path: Vec<Step>,
    from: u64,
    budget: &mut usize,
) -> Result<bool, FsError> {
    let Some(lowest) = path.pop() else { return Ok(true) };
    let complete = usize::from(dinode.height) == path.len() + 1;
    let keep = usize::try_from(from.saturating_sub(lowest.start)).unwrap_or(usize::MAX);
    let mut index = if complete { lowest.index + 1 } else { 0 };
    while index > keep {
        let Some(addr) = lowest.array.get(index - 1) else {
            index -= 1;
            continue;
        };
        if *budget == 0 || stage.log_blocks() > LOG_BLOCKS_MAX {
            break;
        }
        free_content(stage, dinode, addr).await?;
        *budget -= 1;
        index -= 1;
    }
    let finished = index <= keep;
    let emptied = index == 0 || (0..index).all(|index| lowest.array.get(index).is_none());
    if path.is_empty() || !emptied {
        clear_from(stage, &lowest.array, index).await?;
        return Ok(finished);
    }
    remove_array(stage, dinode, lowest.array.addr, path).await?;
    Ok(finished)
}

/// Frees a block of content.
pub(super) async fn free_content(stage: &mut Stage<'_>, dinode: &mut Dinode, addr: BlockAddr) -> Result<(), FsError> {
    if dinode.is_journaled() || dinode.kind != FileKind::Regular {
        stage.free_meta(addr).await?;
    } else {
        stage.free_data(addr).await?;
    }
    fewer_blocks(dinode)
}

/// Frees an array in which nothing is left, and those above it that held nothing else. `path` leads to it from the root.
pub(super) async fn remove_array(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    mut gone: BlockAddr,
    mut path: Vec<Step>,
) -> Result<(), FsError> {
    while let Some(parent) = path.pop() {
        stage.free_meta(gone).await?;
        fewer_blocks(dinode)?;
        let others = (0..parent.array.len()).any(|index| index != parent.index && parent.array.get(index).is_some());
        if others || path.is_empty() {
            let block = stage.edit(parent.array.addr, parent.array.kind()).await?;
            indirect::set_pointer(block, parent.array.first, parent.index, None);
            break;
        }
        gone = parent.array.addr;
    }
    Ok(())
}

async fn clear_from(stage: &mut Stage<'_>, array: &Array, index: usize) -> Result<(), FsError> {
    let (first, len) = (array.first, array.len());
    if (index..len).all(|at| array.get(at).is_none()) {
        return Ok(());
    }
    let block = stage.edit(array.addr, array.kind()).await?;
    for at in index..len {
        indirect::set_pointer(block, first, at, None);
    }
    Ok(())
}

fn fewer_blocks(dinode: &mut Dinode) -> Result<(), FsError> {
    // The dinode itself is counted as well, so one has to remain.
    if dinode.blocks <= 1 {
        return Err(CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(dinode.ino.addr()));
    }
    dinode.blocks -= 1;
    Ok(())
}

/// First logical block that a file of `size` bytes does not need.
fn first_unneeded(volume: &Volume, size: u64) -> u64 {
    size.div_ceil(volume.disk.block_size().bytes_u64())
}

/// Frees what lies behind the end of a file that carries the mark, and takes the mark away. The inode's lock is held.
///
/// # Errors
/// `Corrupt`; device errors.
pub async fn finish(volume: &Volume, ino: InodeNo) -> Result<(), FsError> {
    loop {
        let mut stage = Stage::new(volume, ino);
        let mut dinode = volume.dinode(ino).await?;
        if dinode.flags & flags::TRUNC_IN_PROG == 0 {
            return Ok(());
        }
        let from = first_unneeded(volume, dinode.size);
        let done = free_step(&mut stage, &mut dinode, from).await?;
        if done {
            dinode.flags &= !flags::TRUNC_IN_PROG;
            if dinode.size == 0 {
                dinode.height = 0;
                dinode.goal = ino.addr();
            }
        }
        dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
        stage.commit().await?;
        if done {
            return Ok(());
        }
    }
}

/// Sets `dinode.size` to the smaller `size` in the staged transaction, and marks the inode if blocks have to be freed:
/// then the caller calls [`finish`] after the commit. The caller writes the dinode back.
///
/// # Errors
/// Errors of reading.
pub async fn shrink(stage: &mut Stage<'_>, dinode: &mut Dinode, size: u64) -> Result<(), FsError> {
    super::content::clear_tail(stage, dinode, size).await?;
    dinode.size = size;
    if dinode.height > 0 {
        dinode.flags |= flags::TRUNC_IN_PROG;
    }
    Ok(())
}

/// Sets `dinode.size` to the larger `size` in the staged transaction. The caller writes the dinode back.
///
/// # Errors
/// `NoSpace`; errors of reading.
pub async fn extend(stage: &mut Stage<'_>, dinode: &mut Dinode, size: u64) -> Result<(), FsError> {
    if dinode.is_stuffed() && size > stage.block_size().stuffed_bytes_max() as u64 {
        map::unstuff(stage, dinode).await?;
    } else {
        super::content::clear_tail(stage, dinode, dinode.size).await?;
    }
    dinode.size = size;
    Ok(())
}
