//! New inodes, and new names of old ones.

use crate::addr::{BlockAddr, InodeNo};
use crate::attr::{Attr, Caller, FileKind};
use crate::blocks::Edit;
use crate::dir::{self, Link};
use crate::error::FsError;
use crate::format::dinode::{self, Dinode, flags};
use crate::format::meta::BlockKind;
use crate::glock::GlockGuard;
use crate::glock::service::Mode;
use crate::ops::acls;
use crate::ops::attrs::check_changeable;
use crate::ops::lookup::check_directory;
use crate::stage::Stage;
use crate::volume::{Volume, one_more_link, touch};

/// What a new inode is.
#[derive(Debug, Clone, Copy)]
pub enum New<'a> {
    /// Regular file, device node, pipe or socket.
    Node {
        /// Its type.
        kind: FileKind,
        /// Major and minor number of a device node.
        rdev: (u32, u32),
    },
    /// Directory.
    Directory,
    /// Symbolic link to this.
    Symlink(&'a [u8]),
}

impl New<'_> {
    const fn kind(&self) -> FileKind {
        match self {
            Self::Node { kind, .. } => *kind,
            Self::Directory => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
        }
    }
}

/// Locks a directory in which `name` is to appear, and makes sure that it can.
///
/// # Errors
/// `NotDirectory`, `NotFound` for a directory that was removed, `NotPermitted`, `Exists`.
async fn lock_for_name<'v>(
    volume: &'v Volume,
    parent: InodeNo,
    name: &[u8],
) -> Result<(GlockGuard<'v>, Dinode), FsError> {
    volume.check_writable()?;
    let (guard, dir) = volume.lock_inode(parent, Mode::Exclusive).await?;
    check_directory(&dir)?;
    if dir.nlink == 0 {
        return Err(FsError::NotFound);
    }
    if dir.flags & flags::IMMUTABLE != 0 {
        return Err(FsError::NotPermitted("the directory is immutable"));
    }
    if dir::lookup(&*volume.cache, &dir, name).await?.is_some() {
        return Err(FsError::Exists);
    }
    Ok((guard, dir))
}

/// Makes an inode and gives it a name, in one transaction. It has one reference.
///
/// # Errors
/// `Exists`, `NotFound`, `NotDirectory`, `NameTooLong`, `NoSpace`, `QuotaExceeded`, `ReadOnly`, `NotPermitted`, `TooManyLinks`; errors of
/// reading and of the journal.
pub async fn create(
    volume: &Volume,
    parent: InodeNo,
    name: &[u8],
    permissions: u32,
    caller: Caller,
    new: New<'_>,
) -> Result<Attr, FsError> {
    if let New::Symlink(target) = new {
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        // The kernel relies on a zero behind the text.
        if target.len() >= volume.block_size().stuffed_bytes_max() {
            return Err(FsError::NameTooLong);
        }
    }
    let (_guard, mut dir) = lock_for_name(volume, parent, name).await?;
    let inherited = acls::inherit(volume, &dir, new.kind(), permissions, caller.umask).await?;
    let mut stage = Stage::new(volume, parent).on_behalf_of(caller);
    let (ino, generation) = stage.allocate_inode(goal(volume, &dir, name, new.kind())).await?;
    let mut inode = new_dinode(&stage, &dir, ino, generation, inherited.permissions, caller, new);

    stage.set_owner(ino);
    let block = stage.create(ino.addr(), BlockKind::DINODE);
    match new {
        New::Directory => dir::new_directory(block, ino, generation, parent, dir.formal),
        New::Symlink(target) => {
            if let Some(to) = block.get_mut(dinode::HEADER_BYTES..dinode::HEADER_BYTES + target.len()) {
                to.copy_from_slice(target);
            }
        }
        New::Node { .. } => {}
    }
    acls::give(&mut stage, &mut inode, &inherited).await?;
    inode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);

    stage.set_owner(parent);
    if inode.kind == FileKind::Directory {
        one_more_link(&mut dir)?;
    }
    let link = Link { ino, formal: generation, kind: inode.kind };
    add_name(&mut stage, &mut dir, name, link).await?;
    volume.refs.take(ino);
    stage.commit().await.inspect_err(|_| volume.refs.put(ino, 1))?;
    volume.settle(&dir).await.inspect_err(|_| volume.refs.put(ino, 1))?;
    Ok(volume.attr(&inode))
}

async fn add_name(stage: &mut Stage<'_>, dir: &mut Dinode, name: &[u8], link: Link) -> Result<(), FsError> {
    dir::insert(stage, dir, name, link).await?;
    touch(dir, stage.time());
    dir.write_to(stage.edit(dir.ino.addr(), BlockKind::DINODE).await?);
    Ok(())
}

/// Where to look for a block: near the directory. New directories below the root, and below those that ask for it, are
/// spread over the volume instead.
fn goal(volume: &Volume, dir: &Dinode, name: &[u8], kind: FileKind) -> BlockAddr {
    let spread = dir.ino == volume.superblock.root || dir.flags & flags::TOPDIR != 0;
    if kind == FileKind::Directory && spread {
        let groups = volume.rgrps.count().max(1);
        let number = usize::try_from(crate::format::dirent::hash(name)).unwrap_or(0) % groups;
        return volume.rgrps.place(number).map_or(dir.ino.addr(), |place| place.data0);
    }
    dir.ino.addr()
}

fn new_dinode(
    stage: &Stage<'_>,
    dir: &Dinode,
    ino: InodeNo,
    generation: u64,
    permissions: u32,
    caller: Caller,
    new: New<'_>,
) -> Dinode {
    use crate::blocks::Blocks;
    let kind = new.kind();
    // A directory with setgid hands its group down, and to directories the bit as well.
    let inherits_group = dir.permissions & 0o2000 != 0;
    let is_directory = kind == FileKind::Directory;
    let mut inherited = 0;
    if dir.flags & flags::INHERIT_JDATA != 0 {
        match kind {
            FileKind::Directory => inherited |= flags::INHERIT_JDATA,
            FileKind::Regular => inherited |= flags::JDATA,
            _ => {}
        }
    }
    let (size, rdev) = match new {
        New::Directory => (stage.block_size().stuffed_bytes_max() as u64, (0, 0)),
        New::Symlink(target) => (target.len() as u64, (0, 0)),
        New::Node { kind: FileKind::CharDevice | FileKind::BlockDevice, rdev } => (0, rdev),
        New::Node { .. } => (0, (0, 0)),
    };
    let now = stage.time();
    Dinode {
        ino,
        formal: generation,
        kind,
        permissions: (permissions & 0o7777) | if inherits_group && is_directory { 0o2000 } else { 0 },
        uid: caller.uid,
        gid: if inherits_group { dir.gid } else { caller.gid },
        nlink: if is_directory { 2 } else { 1 },
        size,
        blocks: 1,
        atime: now,
        mtime: now,
        ctime: now,
        rdev,
        goal: ino.addr(),
        generation,
        flags: inherited | if is_directory { flags::JDATA } else { 0 },
        height: 0,
        depth: 0,
        entries: if is_directory { 2 } else { 0 },
        eattr: None,
    }
}

/// Gives an inode one more name. It has one more reference afterwards.
///
/// # Errors
/// As [`create`]; `NotPermitted` for directories, `NotFound` for an inode without names.
pub async fn link(
    volume: &Volume,
    ino: InodeNo,
    parent: InodeNo,
    name: &[u8],
    caller: Caller,
) -> Result<Attr, FsError> {
    if ino == parent {
        return Err(FsError::NotPermitted("directories have one name"));
    }
    // Before the directory is locked: one that is to get a name might be above it.
    if volume.lock_inode(ino, Mode::Shared).await?.1.kind == FileKind::Directory {
        return Err(FsError::NotPermitted("directories have one name"));
    }
    let (_dir_guard, mut dir) = lock_for_name(volume, parent, name).await?;
    let (_guard, mut inode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    if inode.nlink == 0 {
        return Err(FsError::NotFound);
    }
    check_changeable(&inode)?;
    one_more_link(&mut inode)?;

    let mut stage = Stage::new(volume, parent).on_behalf_of(caller);
    let link = Link { ino, formal: inode.formal, kind: inode.kind };
    add_name(&mut stage, &mut dir, name, link).await?;
    stage.set_owner(ino);
    inode.ctime = stage.time();
    inode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    volume.refs.take(ino);
    stage.commit().await.inspect_err(|_| volume.refs.put(ino, 1))?;
    volume.settle(&dir).await.inspect_err(|_| volume.refs.put(ino, 1))?;
    Ok(volume.attr(&inode))
}
