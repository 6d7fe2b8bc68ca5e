//! Freeing an inode that has no names and no users any more.

use crate::addr::InodeNo;
use crate::attr::FileKind;
use crate::blocks::Edit;
use crate::dir;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::flags;
use crate::format::meta::BlockKind;
use crate::format::rgrp::BlockState;
use crate::glock::service::{Mode, Name};
use crate::inode::truncate;
use crate::stage::Stage;
use crate::volume::Volume;
use crate::xattr::free;

/// Blocks that one step of freeing a directory's leaves takes.
const LEAF_BLOCKS_MAX: usize = 64;

/// Frees the inode and all that belongs to it, if its block is in state unlinked; else it is not ours to free. May be
/// interrupted by a crash at any transaction, and be called again.
///
/// # Errors
/// `Corrupt`; device errors.
pub async fn delete(volume: &Volume, ino: InodeNo) -> Result<(), FsError> {
    let _lock = volume.glocks.lock(Name::inode(ino), Mode::Exclusive).await?;
    if volume.rgrps.state_of(ino.addr()).await? != BlockState::Unlinked {
        return Ok(());
    }
    let dinode = volume.dinode(ino).await?;
    if dinode.kind == FileKind::Directory && dinode.is_hashed() {
        free_directory(volume, ino).await?;
    }
    if dinode.eattr.is_some() {
        free::free_all(volume, ino).await?;
    }
    loop {
        let mut stage = Stage::new(volume, ino);
        let mut dinode = volume.dinode(ino).await?;
        let done = truncate::free_step(&mut stage, &mut dinode, 0).await?;
        if done {
            if dinode.blocks != 1 {
                return Err(CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(ino.addr()));
            }
            stage.set_inode_state(ino, BlockState::Unlinked, BlockState::Free).await?;
            stage.commit().await?;
            return Ok(());
        }
        dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
        stage.commit().await?;
    }
}

/// Frees the leaves, and makes the inode look like a file, so that whoever goes on after a crash does not look for
/// leaves any more: what is left are the blocks of the hash table, which are freed as content.
async fn free_directory(volume: &Volume, ino: InodeNo) -> Result<(), FsError> {
    let mut from = 0;
    loop {
        let mut stage = Stage::new(volume, ino);
        let mut dinode = volume.dinode(ino).await?;
        let progress = dir::free_leaves(&mut stage, &mut dinode, from, LEAF_BLOCKS_MAX).await?;
        let done = match progress {
            dir::Progress::Done => {
                dinode.kind = FileKind::Regular;
                dinode.flags &= !flags::EXHASH;
                dinode.depth = 0;
                dinode.entries = 0;
                true
            }
            dir::Progress::More(slot) => {
                from = slot;
                false
            }
        };
        dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
        stage.commit().await?;
        if done {
            return Ok(());
        }
    }
}
