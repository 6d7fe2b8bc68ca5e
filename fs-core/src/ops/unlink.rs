//! Taking names away.

use crate::addr::InodeNo;
use crate::attr::FileKind;
use crate::blocks::Edit;
use crate::dir;
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::format::meta::BlockKind;
use crate::format::rgrp::BlockState;
use crate::glock::service::Mode;
use crate::ops::attrs::check_changeable;
use crate::ops::child::Below;
use crate::ops::lookup::{check_directory, check_target, find};
use crate::stage::Stage;
use crate::volume::{Volume, one_link_less, touch};

/// Removes the name of anything but a directory. The inode is freed when it has no name and no user any more.
///
/// # Errors
/// `NotFound`, `IsDirectory`, `NotPermitted`, `ReadOnly`; errors of reading and of the journal.
pub async fn unlink(volume: &Volume, parent: InodeNo, name: &[u8]) -> Result<(), FsError> {
    remove(volume, parent, name, false).await
}

/// Removes an empty directory.
///
/// # Errors
/// `NotFound`, `NotDirectory`, `NotEmpty`, `NotPermitted`, `ReadOnly`; errors of reading and of the journal.
pub async fn rmdir(volume: &Volume, parent: InodeNo, name: &[u8]) -> Result<(), FsError> {
    match name {
        b"." => Err(FsError::Invalid("a directory cannot be removed as its own entry")),
        b".." => Err(FsError::NotEmpty),
        _ => remove(volume, parent, name, true).await,
    }
}

async fn remove(volume: &Volume, parent: InodeNo, name: &[u8], directory: bool) -> Result<(), FsError> {
    volume.check_writable()?;
    let mut below = Below::default();
    while !attempt(volume, parent, name, directory, &below).await? {
        below.check(volume, parent, name).await?;
    }
    Ok(())
}

/// False: the name has to be checked before this can be done.
async fn attempt(
    volume: &Volume,
    parent: InodeNo,
    name: &[u8],
    directory: bool,
    below: &Below,
) -> Result<bool, FsError> {
    let (_dir_guard, mut dir) = volume.lock_inode(parent, Mode::Exclusive).await?;
    check_directory(&dir)?;
    let link = find(volume, &dir, name).await?;
    match (directory, link.kind == FileKind::Directory) {
        (true, false) => return Err(FsError::NotDirectory),
        (false, true) => return Err(FsError::IsDirectory),
        _ => {}
    }
    let Some((_guard, mut inode)) = below.lock(volume, parent, &link).await? else { return Ok(false) };
    check_target(&link, &inode)?;
    check_changeable(&dir)?;
    check_changeable(&inode)?;
    if directory && !dir::is_empty(&inode)? {
        return Err(FsError::NotEmpty);
    }

    let mut stage = Stage::new(volume, parent);
    dir::remove(&mut stage, &mut dir, name).await?;
    touch(&mut dir, stage.time());
    if directory {
        one_link_less(&mut dir)?;
    }
    dir.write_to(stage.edit(parent.addr(), BlockKind::DINODE).await?);
    let orphan = drop_link(&mut stage, &mut inode).await?;
    stage.commit().await?;
    if orphan {
        volume.refs.unlinked(link.ino);
    }
    volume.settle(&dir).await?;
    Ok(true)
}

/// One name less in the staged transaction; a directory has lost its only one. Returns whether none is left.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn drop_link(stage: &mut Stage<'_>, inode: &mut Dinode) -> Result<bool, FsError> {
    stage.set_owner(inode.ino);
    if inode.kind == FileKind::Directory {
        inode.nlink = 0;
    } else {
        one_link_less(inode)?;
    }
    inode.ctime = stage.time();
    let orphan = inode.nlink == 0;
    if orphan {
        stage.set_inode_state(inode.ino, BlockState::Dinode, BlockState::Unlinked).await?;
    }
    inode.write_to(stage.edit(inode.ino.addr(), BlockKind::DINODE).await?);
    Ok(orphan)
}
