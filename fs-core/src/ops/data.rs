//! Content of files.

use crate::addr::InodeNo;
use crate::attr::{Caller, FileKind, SeekTarget, WriteFlags};
use crate::blocks::Edit;
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::BlockKind;
use crate::fs::{AtimePolicy, ReadData};
use crate::glock::service::Mode;
use crate::inode::{content, truncate};
use crate::ops::attrs::{check_changeable, drop_privileges};
use crate::ops::shortage::Shortage;
use crate::stage::Stage;
use crate::volume::{Volume, touch};

/// A day, in seconds: how old a time of last access may be under relatime.
const RELATIME_MAX_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn check_regular(dinode: &Dinode) -> Result<(), FsError> {
    match dinode.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(FsError::IsDirectory),
        _ => Err(FsError::Invalid("not a regular file")),
    }
}

/// # Errors
/// `IsDirectory`, `Invalid`; errors of reading.
pub async fn read(volume: &Volume, ino: InodeNo, offset: u64, len: u32) -> Result<ReadData, FsError> {
    let (guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    check_regular(&dinode)?;
    let data = content::read(volume, &dinode, offset, len).await?;
    drop(guard);
    accessed(volume, &dinode).await?;
    Ok(data)
}

/// The inode was read, when `dinode` was its state: sets the time of last access if the mount's policy asks for it. No
/// lock of it is held.
///
/// # Errors
/// Errors of the journal.
pub async fn accessed(volume: &Volume, dinode: &Dinode) -> Result<(), FsError> {
    if volume.is_read_only() || dinode.flags & (flags::NOATIME | flags::IMMUTABLE) != 0 {
        return Ok(());
    }
    let now = volume.env.now();
    let due = match volume.options.atime {
        AtimePolicy::Noatime => false,
        AtimePolicy::Strictatime => dinode.atime < now,
        AtimePolicy::Relatime => {
            dinode.atime <= dinode.mtime
                || dinode.atime <= dinode.ctime
                || now.sec.saturating_sub(dinode.atime.sec) >= RELATIME_MAX_SECONDS
        }
    };
    if !due {
        return Ok(());
    }
    // Nor is it worth waiting for, if the volume is frozen.
    let Some(_passage) = volume.gate.try_pass() else { return Ok(()) };
    if volume.is_read_only() {
        return Ok(());
    }
    let (_guard, mut dinode) = volume.lock_inode(dinode.ino, Mode::Exclusive).await?;
    let mut stage = Stage::new(volume, dinode.ino);
    dinode.atime = stage.time();
    dinode.write_to(stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?);
    match stage.commit().await {
        // A time of last access is not worth an error to somebody who reads.
        Ok(_) | Err(FsError::NoSpace) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns how many bytes were written: fewer than given only where space, or a quota, ran out on the way.
///
/// # Errors
/// `NoSpace` or `QuotaExceeded` when not a byte could be written, `TooLarge`, `NotPermitted`, `ReadOnly`; errors of reading and of the
/// journal.
pub async fn write(
    volume: &Volume,
    ino: InodeNo,
    offset: u64,
    data: &[u8],
    how: WriteFlags,
    caller: Caller,
) -> Result<u32, FsError> {
    volume.check_writable()?;
    let (guard, dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    check_regular(&dinode)?;
    // Also who has had it open since before (as on ext4); but a cache that is written back comes too late to be refused.
    if dinode.flags & flags::IMMUTABLE != 0 && !how.from_cache {
        check_changeable(&dinode)?;
    }
    if dinode.flags & flags::TRUNC_IN_PROG != 0 {
        truncate::finish(volume, ino).await?;
    }
    let start = if how.append { dinode.size } else { offset };
    // Who could open it only to append may have mapped it, or have given the flag of the descriptor back.
    if dinode.flags & flags::APPENDONLY != 0 && start < dinode.size {
        return Err(FsError::NotPermitted("the file is append-only"));
    }
    if start > i64::MAX.unsigned_abs() {
        return Err(FsError::TooLarge);
    }
    let mut done = 0;
    while done < data.len() {
        let at = start + done as u64;
        match write_piece(volume, ino, at, data.get(done..).unwrap_or_default(), how, caller).await {
            Ok(len) => done += len,
            Err(FsError::NoSpace | FsError::TooLarge | FsError::QuotaExceeded { .. }) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    drop(guard);
    if how.sync || dinode.flags & flags::SYNC != 0 {
        volume.journal.sync_inode(ino).await?;
    }
    u32::try_from(done).map_err(|_| FsError::TooLarge)
}

/// Writes as much of `data` as one transaction takes; where space is short, as little as one block.
async fn write_piece(
    volume: &Volume,
    ino: InodeNo,
    offset: u64,
    data: &[u8],
    how: WriteFlags,
    caller: Caller,
) -> Result<usize, FsError> {
    let block_bytes = volume.block_size().bytes_u64();
    let touched = offset.saturating_add(data.len() as u64).div_ceil(block_bytes) - offset / block_bytes;
    let mut blocks = touched.min(content::WRITE_BLOCKS_MAX);
    let mut shortage = Shortage::new(volume);
    loop {
        // Up to the end of a block.
        let end = (offset / block_bytes).saturating_add(blocks).saturating_mul(block_bytes);
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(data.len());
        match try_write(volume, ino, offset, data.get(..len).unwrap_or_default(), how, caller).await {
            Ok(()) => return Ok(len),
            Err(error) => shortage.relieve(error, &mut blocks).await?,
        }
    }
}

async fn try_write(
    volume: &Volume,
    ino: InodeNo,
    offset: u64,
    data: &[u8],
    how: WriteFlags,
    caller: Caller,
) -> Result<(), FsError> {
    let mut dinode = volume.dinode(ino).await?;
    // What comes from a cache is nobody's: whoever it was could have been refused.
    let mut stage = Stage::new(volume, ino);
    if !how.from_cache {
        stage = stage.on_behalf_of(caller);
    }
    content::write(&mut stage, &mut dinode, offset, data).await?;
    touch(&mut dinode, stage.time());
    if !how.from_cache {
        drop_privileges(&mut dinode, caller);
    }
    dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    stage.commit().await?;
    Ok(())
}

/// # Errors
/// `NoSuchRange`; errors of reading.
pub async fn seek(volume: &Volume, ino: InodeNo, offset: u64, target: SeekTarget) -> Result<u64, FsError> {
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    check_regular(&dinode)?;
    let hole = target == SeekTarget::Hole;
    content::seek(volume, &dinode, offset, hole).await?.ok_or(FsError::NoSuchRange)
}
