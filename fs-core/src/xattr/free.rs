//! Freeing all attributes of an inode that is going away, in transactions of bounded size.

use crate::addr::{BlockAddr, InodeNo};
use crate::blocks::{Blocks, Edit};
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::indirect::{self, FIRST_IN_INDIRECT};
use crate::format::meta::BlockKind;
use crate::format::xattr;
use crate::stage::Stage;
use crate::volume::Volume;
use crate::xattr::change::free_block;

/// Blocks in the log that one transaction may take before it ends; one more record, of at most 255 blocks in as many
/// resource groups, comes on top.
const LOG_BLOCKS_MAX: usize = 96;
/// Blocks that one transaction may free before it ends.
const FREE_BLOCKS_MAX: usize = 1024;

fn is_full(stage: &Stage<'_>) -> bool {
    stage.log_blocks() > LOG_BLOCKS_MAX || stage.freed_len() > FREE_BLOCKS_MAX
}

/// Frees all blocks of the inode's attributes. May be interrupted by a crash at any transaction, and be called again.
/// The inode's lock is held exclusively, and nobody uses the inode.
///
/// # Errors
/// `Corrupt`; device errors.
pub async fn free_all(volume: &Volume, ino: InodeNo) -> Result<(), FsError> {
    loop {
        let mut stage = Stage::new(volume, ino);
        let mut dinode = volume.dinode(ino).await?;
        if dinode.eattr.is_none() {
            return Ok(());
        }
        step(&mut stage, &mut dinode).await?;
        dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
        stage.commit().await?;
    }
}

/// Frees as much as one transaction takes.
async fn step(stage: &mut Stage<'_>, dinode: &mut Dinode) -> Result<(), FsError> {
    while let Some(eattr) = dinode.eattr {
        if is_full(stage) {
            return Ok(());
        }
        if dinode.flags & flags::EA_INDIRECT == 0 {
            if !free_records(stage, dinode, eattr).await? {
                return Ok(());
            }
            dinode.eattr = None;
            continue;
        }
        let list = stage.meta(eattr, BlockKind::INDIRECT).await?;
        let count = indirect::count(&list, FIRST_IN_INDIRECT);
        let pointer = |index| Some((index, indirect::pointer(&list, FIRST_IN_INDIRECT, index)?));
        match (0..count).rev().find_map(pointer) {
            Some((index, block)) => {
                if !free_records(stage, dinode, block).await? {
                    return Ok(());
                }
                indirect::set_pointer(stage.edit(eattr, BlockKind::INDIRECT).await?, FIRST_IN_INDIRECT, index, None);
            }
            None => {
                free_block(stage, dinode, eattr).await?;
                dinode.eattr = None;
                dinode.flags &= !flags::EA_INDIRECT;
            }
        }
    }
    Ok(())
}

/// Frees a block of records with the blocks of their values. Returns false when the transaction is full before.
async fn free_records(stage: &mut Stage<'_>, dinode: &mut Dinode, addr: BlockAddr) -> Result<bool, FsError> {
    let image = stage.meta(addr, BlockKind::XATTR).await?;
    let records = xattr::records_to_free(addr, &image, stage.volume().superblock.fs_format)?;
    for record in records {
        let blocks = record.blocks(&image);
        if blocks.is_empty() {
            continue;
        }
        if is_full(stage) {
            return Ok(false);
        }
        for block in blocks {
            free_block(stage, dinode, block).await?;
        }
        // Whoever goes on after a crash does not free them a second time.
        xattr::write_free(stage.edit(addr, BlockKind::XATTR).await?, record.offset, record.len);
    }
    free_block(stage, dinode, addr).await?;
    Ok(true)
}
