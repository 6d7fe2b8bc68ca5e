//! Locking an inode together with the directory that names it.
//!
//! On a sound volume an operation may wait for an inode while it has the directory locked that names it, since everybody
//! locks directories from the root down. On a damaged one a name may lead back up, and two operations would wait for
//! each other for ever. So nobody waits before it is known that the name leads down.

use crate::addr::InodeNo;
use crate::attr::FileKind;
use crate::dir::{self, Link};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::glock::GlockGuard;
use crate::glock::service::{Mode, Name};
use crate::ops::lookup::{check_directory, check_target};
use crate::volume::Volume;

/// Directories deeper than this are taken for a circle.
const DEPTH_MAX: usize = 1 << 16;

/// The directories above `ino`, itself first and the root last. The rename lock is held, and of others none.
///
/// # Errors
/// `NotFound` if one of them was removed, `PointerCircle`; errors of reading.
pub async fn ancestors(volume: &Volume, ino: InodeNo) -> Result<Vec<InodeNo>, FsError> {
    let mut found = vec![ino];
    let mut at = ino;
    let mut held = None;
    while at != volume.superblock.root {
        let (_guard, dir) = volume.lock_inode(at, Mode::Shared).await?;
        check_directory(&dir)?;
        if dir.nlink == 0 {
            return Err(FsError::NotFound);
        }
        let Some(parent) = dir::lookup(&*volume.cache, &dir, dir::DOT_DOT).await? else {
            return Err(FsError::NotFound);
        };
        if parent.ino == at || found.len() > DEPTH_MAX {
            return Err(CorruptKind::PointerCircle.at(at.addr()));
        }
        // The parent of a directory that has a name is there; it stays there also when that name goes.
        held = Some(volume.refs.hold(parent.ino));
        at = parent.ino;
        found.push(at);
    }
    drop(held);
    Ok(found)
}

/// Directories and what they name, where that is known to be below them.
#[derive(Debug, Default)]
pub struct Below(Vec<(InodeNo, Link)>);

impl Below {
    /// Locks exclusively what `link` in the locked directory `dir` stands for. `None` when somebody else uses it and it
    /// is not known to be below: then the caller gives all its locks back, calls [`Below::check`], and begins again.
    ///
    /// # Errors
    /// Errors of reading.
    pub async fn lock<'v>(
        &self,
        volume: &'v Volume,
        dir: InodeNo,
        link: &Link,
    ) -> Result<Option<(GlockGuard<'v>, Dinode)>, FsError> {
        let name = Name::inode(link.ino);
        let guard = if self.0.contains(&(dir, *link)) {
            volume.glocks.lock(name, Mode::Exclusive).await?
        } else {
            let Some(guard) = volume.glocks.try_lock(name, Mode::Exclusive).await? else { return Ok(None) };
            guard
        };
        let dinode = volume.dinode(link.ino).await?;
        Ok(Some((guard, dinode)))
    }

    /// Finds out whether `name` leads from `dir` down. The caller has no locks.
    ///
    /// # Errors
    /// `DirentTarget`, `PointerCircle` if not; errors of reading.
    pub async fn check(&mut self, volume: &Volume, dir: InodeNo, name: &[u8]) -> Result<(), FsError> {
        let _rename = volume.glocks.lock(Name::RENAME, Mode::Exclusive).await?;
        let (link, _held) = {
            let (_guard, dinode) = volume.lock_inode(dir, Mode::Shared).await?;
            check_directory(&dinode)?;
            // If it is gone, or goes in a moment, whoever asks will see it.
            let Some(link) = dir::lookup(&*volume.cache, &dinode, name).await? else { return Ok(()) };
            (link, volume.refs.hold(link.ino))
        };
        {
            let (_guard, dinode) = volume.lock_inode(link.ino, Mode::Shared).await?;
            check_target(&link, &dinode)?;
        }
        if link.kind == FileKind::Directory {
            match ancestors(volume, link.ino).await {
                Ok(above) if above.get(1) == Some(&dir) => {}
                Ok(_) => return Err(CorruptKind::DirentTarget.at(link.ino.addr())),
                Err(FsError::NotFound) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.0.push((dir, link));
        Ok(())
    }
}
