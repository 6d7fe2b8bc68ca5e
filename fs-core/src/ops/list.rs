//! Listing directories.

use crate::addr::InodeNo;
use crate::attr::{Attr, DirEntry};
use crate::dir;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
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
    let dir = loop {
        let (guard, dir) = volume.lock_inode(ino, Mode::Shared).await?;
        check_directory(&dir)?;
        let entries = dir::read(&*volume.cache, &dir, after, BATCH, &volume.cookies).await?;
        // As in a lookup: the references are taken while the directory is locked, and no inode is locked with it.
        let named: Vec<_> =
            entries.iter().map(|entry| (entry, (!is_special(entry)).then(|| volume.refs.hold(entry.ino)))).collect();
        drop(guard);
        let addrs: Vec<_> = entries.iter().map(|entry| entry.ino.addr()).collect();
        volume.cache.prefetch(&addrs, BlockKind::DINODE).await;
        let mut full = entries.is_empty();
        for (entry, held) in named {
            let attr = attr_of(volume, &dir, entry).await?;
            if !emit(entry, &attr) {
                full = true;
                break;
            }
            after = entry.cookie;
            if let Some(held) = held {
                held.keep();
            }
        }
        if full {
            break dir;
        }
    };
    accessed(volume, &dir).await
}

fn is_special(entry: &DirEntry) -> bool {
    entry.name == dir::DOT || entry.name == dir::DOT_DOT
}

async fn attr_of(volume: &Volume, dir: &Dinode, entry: &DirEntry) -> Result<Attr, FsError> {
    if is_special(entry) {
        // Callers take no attributes from these.
        return Ok(Attr { ino: entry.ino, ..volume.attr(dir) });
    }
    let wrong = CorruptKind::DirentTarget.at(entry.ino.addr());
    if entry.ino == dir.ino {
        return Err(wrong);
    }
    let (_guard, dinode) = volume.lock_inode(entry.ino, Mode::Shared).await?;
    if dinode.kind == entry.kind { Ok(volume.attr(&dinode)) } else { Err(wrong) }
}
