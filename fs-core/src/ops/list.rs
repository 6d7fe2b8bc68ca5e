//! Listing directories.

use crate::addr::InodeNo;
use crate::attr::{Attr, DirEntry};
use crate::dir;
use crate::error::{CorruptKind, FsError};
use crate::format::meta::BlockKind;
use crate::glock::service::Mode;
use crate::ops::data::accessed;
use crate::ops::lookup::check_directory;
use crate::volume::Volume;

/// Entries that are looked up at once.
const BATCH: usize = 256;

/// # Errors
/// `NotDirectory`; errors of reading.
pub async fn readdir(
    volume: &Volume,
    ino: InodeNo,
    mut after: u64,
    emit: &mut (dyn FnMut(&DirEntry) -> bool + Send),
) -> Result<(), FsError> {
    let (guard, dir) = volume.lock_inode(ino, Mode::Shared).await?;
    check_directory(&dir)?;
    'batches: loop {
        let entries = dir::read(&*volume.cache, &dir, after, BATCH, &volume.cookies).await?;
        for entry in &entries {
            if !emit(entry) {
                break 'batches;
            }
            after = entry.cookie;
        }
        if entries.is_empty() {
            break;
        }
    }
    drop(guard);
    accessed(volume, &dir).await
}

/// # Errors
/// `NotDirectory`; errors of reading.
pub async fn readdirplus(
    volume: &Volume,
    ino: InodeNo,
    mut after: u64,
    emit: &mut (dyn FnMut(&DirEntry, &Attr) -> bool + Send),
) -> Result<(), FsError> {
    let (guard, dir) = volume.lock_inode(ino, Mode::Shared).await?;
    check_directory(&dir)?;
    'batches: loop {
        let entries = dir::read(&*volume.cache, &dir, after, BATCH, &volume.cookies).await?;
        let addrs: Vec<_> = entries.iter().map(|entry| entry.ino.addr()).collect();
        volume.cache.prefetch(&addrs, BlockKind::DINODE).await;
        for entry in &entries {
            let special = entry.name == dir::DOT || entry.name == dir::DOT_DOT;
            let attr = if special {
                // Callers take no attributes from these, and locking the parent now would be out of order.
                Attr { ino: entry.ino, ..volume.attr(&dir) }
            } else {
                let wrong = CorruptKind::DirentTarget.at(entry.ino.addr());
                if entry.ino == ino {
                    return Err(wrong);
                }
                let (_guard, dinode) = volume.lock_inode(entry.ino, Mode::Shared).await?;
                if dinode.kind != entry.kind {
                    return Err(wrong);
                }
                volume.attr(&dinode)
            };
            if !special {
                volume.refs.take(entry.ino);
            }
            if !emit(entry, &attr) {
                if !special {
                    volume.refs.put(entry.ino, 1);
                }
                break 'batches;
            }
            after = entry.cookie;
        }
        if entries.is_empty() {
            break;
        }
    }
    drop(guard);
    accessed(volume, &dir).await
}
