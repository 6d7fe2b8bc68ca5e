//! Setting and removing attributes, staged.
//!
//! A transaction takes at most: the dinode, the indirect block, two blocks of records (of the old and of the new place),
//! the blocks of the new value, and for each block that is allocated or freed the header and one bitmap block of its
//! resource group; the new value's are all in one group. With blocks of 4096 bytes and the largest values these are
//! 4 + 17 blocks and the bitmaps of at most 36 blocks; with blocks of 512 bytes, where a value can have 58 blocks,
//! 4 + 58 and the bitmaps of 118. The smallest journal has 2048 and 16384.

use crate::addr::BlockAddr;
use crate::blocks::{Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{Dinode, flags};
use crate::format::indirect::{self, FIRST_IN_INDIRECT};
use crate::format::meta::{self, BlockKind};
use crate::format::rgrp::BlockState;
use crate::format::xattr::{self, NewRecord, Record, Shape};
use crate::inode::map::more_blocks;
use crate::stage::Stage;
use crate::xattr::{Name, area, find, record_blocks};

/// The fs format of the volume.
fn format(stage: &Stage<'_>) -> u32 {
    stage.volume().superblock.fs_format
}

/// Frees a block of the inode's attributes.
pub(super) async fn free_block(stage: &mut Stage<'_>, dinode: &mut Dinode, addr: BlockAddr) -> Result<(), FsError> {
    // The dinode itself is counted as well, so one has to remain.
    let left = dinode.blocks.checked_sub(1).filter(|left| *left > 0);
    let left = left.ok_or(CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(dinode.ino.addr()))?;
    stage.free_meta(addr).await?;
    dinode.blocks = left;
    Ok(())
}

/// Gives the attribute this value, whether there is one of that name or not. Changes `dinode`, which the caller writes
/// back. A value that takes no more blocks than the one before it is written over it, and needs no space.
///
/// # Errors
/// `OutOfRange` for a record that no block can hold, `NoSpace`; `Corrupt`, errors of reading.
pub async fn set(stage: &mut Stage<'_>, dinode: &mut Dinode, name: Name<'_>, value: &[u8]) -> Result<(), FsError> {
    let shape = Shape::of(stage.block_size(), name.text.len(), value.len());
    let shape = shape.ok_or(FsError::OutOfRange("name and value do not fit into a block of this volume"))?;
    let (old_record, old_blocks) = take_out(stage, dinode, name).await?.unzip();
    let blocks = blocks_for_value(stage, dinode, shape.blocks, old_blocks.unwrap_or_default()).await?;
    let payload = stage.block_size().payload_bytes();
    for (addr, part) in blocks.iter().zip(value.chunks(payload)) {
        let block = stage.create(*addr, BlockKind::XATTR_DATA);
        if let Some(to) = block.get_mut(meta::HEADER_BYTES..meta::HEADER_BYTES + part.len()) {
            to.copy_from_slice(part);
        }
    }
    let new = NewRecord { namespace: name.namespace, name: name.text, value, blocks: &blocks };
    put_in(stage, dinode, &new, shape.record_bytes).await?;
    match old_record {
        Some(block) => drop_if_empty(stage, dinode, block).await,
        None => Ok(()),
    }
}

/// Blocks for a value: those of the old one if they are enough, else new ones. Frees what is not needed any more.
async fn blocks_for_value(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    count: usize,
    mut old: Vec<BlockAddr>,
) -> Result<Vec<BlockAddr>, FsError> {
    let blocks = if count <= old.len() {
        let kept: Vec<BlockAddr> = old.drain(..count).collect();
        check_own(stage, dinode, &kept).await?;
        kept
    } else {
        let new = stage.allocate_together(dinode.ino, dinode.goal, count).await?;
        more_blocks(dinode, new.len() as u64)?;
        new
    };
    for addr in old {
        free_block(stage, dinode, addr).await?;
    }
    Ok(blocks)
}

/// The disk is not trusted: what is written over has to be the value of an attribute, and in use.
async fn check_own(stage: &Stage<'_>, dinode: &Dinode, blocks: &[BlockAddr]) -> Result<(), FsError> {
    for addr in blocks {
        stage.meta(*addr, BlockKind::XATTR_DATA).await?;
        let from = stage.volume().rgrps.state_of(*addr).await?;
        if from != BlockState::Used {
            let kind = CorruptKind::BitmapTransition { block: *addr, from, to: BlockState::Used };
            return Err(kind.at(dinode.ino.addr()));
        }
    }
    Ok(())
}

/// Removes the attribute. Changes `dinode`, which the caller writes back. Returns false if there is none of that name.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn remove(stage: &mut Stage<'_>, dinode: &mut Dinode, name: Name<'_>) -> Result<bool, FsError> {
    let Some((record, blocks)) = take_out(stage, dinode, name).await? else { return Ok(false) };
    for addr in blocks {
        free_block(stage, dinode, addr).await?;
    }
    drop_if_empty(stage, dinode, record).await?;
    Ok(true)
}

/// Takes the record of an attribute away. Returns the block that it stood in, and those of the value.
async fn take_out(
    stage: &mut Stage<'_>,
    dinode: &Dinode,
    name: Name<'_>,
) -> Result<Option<(BlockAddr, Vec<BlockAddr>)>, FsError> {
    let format = format(stage);
    let Some(found) = find(&*stage, dinode, format, name).await? else { return Ok(None) };
    let blocks = found.blocks();
    area::remove(&found.records, found.index, stage.edit(found.block, BlockKind::XATTR).await?);
    Ok(Some((found.block, blocks)))
}

/// Writes a record into the first block that has room for it; makes one where there is none.
async fn put_in(stage: &mut Stage<'_>, dinode: &mut Dinode, new: &NewRecord<'_>, bytes: usize) -> Result<(), FsError> {
    for addr in record_blocks(&*stage, dinode).await? {
        let records = usable_records(stage, dinode, addr).await?;
        if let Some(index) = area::find_room(&records, bytes) {
            area::insert(&records, index, stage.edit(addr, BlockKind::XATTR).await?, new);
            return Ok(());
        }
    }
    let addr = add_block(stage, dinode).await?;
    let block = stage.edit(addr, BlockKind::XATTR).await?;
    let len = block.len().saturating_sub(meta::HEADER_BYTES);
    xattr::write_record(block, meta::HEADER_BYTES, len, new);
    Ok(())
}

/// The records of a block. Free ones that still have blocks lose them: the kernel's driver frees the old value only
/// after it has replaced it, and a crash came between.
async fn usable_records(stage: &mut Stage<'_>, dinode: &mut Dinode, addr: BlockAddr) -> Result<Vec<Record>, FsError> {
    let format = format(stage);
    let image = stage.meta(addr, BlockKind::XATTR).await?;
    let records = xattr::records(addr, &image, format)?;
    let mut changed = false;
    for record in records.iter().filter(|record| record.namespace.is_none()) {
        let blocks = record.blocks(&image);
        for block in &blocks {
            free_block(stage, dinode, *block).await?;
        }
        if !blocks.is_empty() {
            xattr::write_free(stage.edit(addr, BlockKind::XATTR).await?, record.offset, record.len);
            changed = true;
        }
    }
    if !changed {
        return Ok(records);
    }
    let image = stage.meta(addr, BlockKind::XATTR).await?;
    xattr::records(addr, &image, format)
}

/// Gives the inode one more block of records.
async fn add_block(stage: &mut Stage<'_>, dinode: &mut Dinode) -> Result<BlockAddr, FsError> {
    let goal = dinode.eattr.unwrap_or(BlockAddr(dinode.ino.get().saturating_add(1)));
    let is_listed = dinode.flags & flags::EA_INDIRECT != 0;
    if let (Some(first), false) = (dinode.eattr, is_listed) {
        let list = stage.allocate(dinode.ino, goal).await?;
        indirect::set_pointer(stage.create(list, BlockKind::INDIRECT), FIRST_IN_INDIRECT, 0, Some(first));
        dinode.eattr = Some(list);
        dinode.flags |= flags::EA_INDIRECT;
        more_blocks(dinode, 1)?;
    }
    let slot = match dinode.eattr {
        Some(list) => {
            let block = stage.meta(list, BlockKind::INDIRECT).await?;
            let mut slots = 0..indirect::count(&block, FIRST_IN_INDIRECT);
            let free = slots.find(|index| indirect::pointer(&block, FIRST_IN_INDIRECT, *index).is_none());
            Some((list, free.ok_or(FsError::NoSpace)?))
        }
        None => None,
    };
    let addr = stage.allocate(dinode.ino, goal).await?;
    area::clear(stage.create(addr, BlockKind::XATTR));
    more_blocks(dinode, 1)?;
    match slot {
        Some((list, index)) => {
            let block = stage.edit(list, BlockKind::INDIRECT).await?;
            indirect::set_pointer(block, FIRST_IN_INDIRECT, index, Some(addr));
        }
        None => dinode.eattr = Some(addr),
    }
    Ok(addr)
}

/// Frees a block of records if nothing is in it any more.
async fn drop_if_empty(stage: &mut Stage<'_>, dinode: &mut Dinode, addr: BlockAddr) -> Result<(), FsError> {
    let image = stage.meta(addr, BlockKind::XATTR).await?;
    if !area::is_empty(&xattr::records(addr, &image, format(stage))?, &image) {
        return Ok(());
    }
    if dinode.flags & flags::EA_INDIRECT != 0 {
        let Some(list) = dinode.eattr else { return Ok(()) };
        if take_off_list(stage, list, addr).await? {
            return free_block(stage, dinode, addr).await;
        }
        free_block(stage, dinode, list).await?;
        dinode.flags &= !flags::EA_INDIRECT;
    }
    dinode.eattr = None;
    free_block(stage, dinode, addr).await
}

/// Takes a block off the list, which has no gaps: the last one takes its place. Returns false if nothing else is on it.
async fn take_off_list(stage: &mut Stage<'_>, list: BlockAddr, addr: BlockAddr) -> Result<bool, FsError> {
    let image = stage.meta(list, BlockKind::INDIRECT).await?;
    let count = indirect::count(&image, FIRST_IN_INDIRECT);
    let listed: Vec<BlockAddr> =
        (0..count).map_while(|index| indirect::pointer(&image, FIRST_IN_INDIRECT, index)).collect();
    let Some(index) = listed.iter().position(|listed| *listed == addr) else { return Ok(true) };
    let last = listed.len().saturating_sub(1);
    if last == 0 {
        return Ok(false);
    }
    let block = stage.edit(list, BlockKind::INDIRECT).await?;
    indirect::set_pointer(block, FIRST_IN_INDIRECT, index, listed.last().copied());
    indirect::set_pointer(block, FIRST_IN_INDIRECT, last, None);
    Ok(true)
}
