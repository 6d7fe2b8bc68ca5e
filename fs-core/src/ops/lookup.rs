//! Finding a name, reading a link.

use crate::addr::InodeNo;
use crate::attr::{Attr, FileKind};
use crate::blocks::Blocks;
use crate::dir::{self, Link};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode};
use crate::format::meta::BlockKind;
use crate::glock::service::Mode;
use crate::volume::Volume;

/// # Errors
/// `NotDirectory`.
pub fn check_directory(dinode: &Dinode) -> Result<(), FsError> {
    if dinode.kind == FileKind::Directory { Ok(()) } else { Err(FsError::NotDirectory) }
}

/// The entry and the inode that it names agree.
///
/// # Errors
/// `DirentTarget`.
pub fn check_target(link: &Link, dinode: &Dinode) -> Result<(), FsError> {
    if link.formal == dinode.formal && link.kind == dinode.kind {
        Ok(())
    } else {
        Err(CorruptKind::DirentTarget.at(dinode.ino.addr()))
    }
}

/// What `name` stands for in `dir`. A directory that names itself is refused: whoever locks the two, locks one twice.
///
/// # Errors
/// `NotFound`, `NameTooLong`, `DirentTarget`; errors of reading.
pub async fn find(volume: &Volume, dir: &Dinode, name: &[u8]) -> Result<Link, FsError> {
    let link = dir::lookup(&*volume.cache, dir, name).await?.ok_or(FsError::NotFound)?;
    if link.ino == dir.ino && name != dir::DOT && name != dir::DOT_DOT {
        return Err(CorruptKind::DirentTarget.at(dir.ino.addr()));
    }
    Ok(link)
}

/// The inode that `name` stands for in `parent`, with one more reference to it.
///
/// # Errors
/// `NotFound`, `NotDirectory`, `NameTooLong`; errors of reading.
pub async fn lookup(volume: &Volume, parent: InodeNo, name: &[u8]) -> Result<Attr, FsError> {
    let (guard, dir) = volume.lock_inode(parent, Mode::Shared).await?;
    check_directory(&dir)?;
    if name == dir::DOT {
        volume.refs.take(parent);
        return Ok(volume.attr(&dir));
    }
    let link = find(volume, &dir, name).await?;
    // The reference is taken while the directory is locked: the inode cannot be freed from here on, so the two locks
    // are never held together.
    volume.refs.take(link.ino);
    drop(guard);
    let found = async {
        let (_guard, dinode) = volume.lock_inode(link.ino, Mode::Shared).await?;
        check_target(&link, &dinode)?;
        Ok(volume.attr(&dinode))
    };
    found.await.inspect_err(|_| volume.refs.put(link.ino, 1))
}

/// The target of a symbolic link.
///
/// # Errors
/// `Invalid` for anything else; errors of reading.
pub async fn readlink(volume: &Volume, ino: InodeNo) -> Result<Vec<u8>, FsError> {
    let (_guard, link) = volume.lock_inode(ino, Mode::Shared).await?;
    if link.kind != FileKind::Symlink {
        return Err(FsError::Invalid("not a symbolic link"));
    }
    let block = volume.cache.meta(ino.addr(), BlockKind::DINODE).await?;
    let len = usize::try_from(link.size).unwrap_or(usize::MAX);
    let text = block.get(dinode::HEADER_BYTES..).and_then(|payload| payload.get(..len));
    text.map(<[u8]>::to_vec).ok_or(CorruptKind::StuffedSize { size: link.size }.at(ino.addr()))
}
