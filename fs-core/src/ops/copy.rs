//! Copying between files without a way through the caller (copy_file_range(2)).

use crate::addr::InodeNo;
use crate::attr::Caller;
use crate::blocks::{Blocks, Edit};
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::format::meta::BlockKind;
use crate::glock::GlockGuard;
use crate::glock::service::Mode;
use crate::inode::{content, map, truncate};
use crate::ops::allocate::{self, GoOn};
use crate::ops::attrs::{check_changeable, drop_privileges};
use crate::ops::data::{accessed, check_regular};
use crate::ops::shortage::Shortage;
use crate::stage::Stage;
use crate::volume::{Volume, touch};

/// Bytes that one call copies at most, holes not counted: it then returns early, as any call may, so that whoever waits
/// for one of the two files does not wait for long.
const COPY_BYTES_MAX: u64 = 16 << 20;
/// Steps of one call at most: files may consist of many small holes.
const STEPS_MAX: usize = 4096;

/// A place in a file.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    /// The file.
    pub ino: InodeNo,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// Copies up to `len` bytes; fewer where the source ends, and where it would take long. Returns how many. Holes become
/// holes, as far as blocks of the target can be given up as a whole. Others may use the files between two steps.
///
/// # Errors
/// `Invalid` for overlapping ranges of one file; `NoSpace`, `QuotaExceeded`, `TooLarge`, `NotPermitted`, `ReadOnly`, `IsDirectory`; errors
/// of reading and of the journal. None if something has been copied.
pub async fn copy(
    volume: &Volume,
    source: Spot,
    target: Spot,
    len: u64,
    caller: Caller,
    go_on: GoOn<'_>,
) -> Result<u64, FsError> {
    volume.check_writable()?;
    // One after the other: two locks are only ever waited for when neither is a directory, which may stand above a file
    // that somebody else has locked.
    let source_size = regular_size(volume, source.ino).await?;
    regular_size(volume, target.ino).await?;
    let len = len.min(source_size.saturating_sub(source.offset));
    let (mut done, mut copied) = (0, 0);
    for _ in 0..STEPS_MAX {
        if done == len || copied >= COPY_BYTES_MAX || (done > 0 && !go_on()) {
            break;
        }
        let at = |spot: Spot| {
            let offset = spot.offset.checked_add(done).ok_or(FsError::TooLarge)?;
            Ok::<_, FsError>(Spot { offset, ..spot })
        };
        match step(volume, at(source)?, at(target)?, len - done, caller).await {
            Ok(Step { done: 0, .. }) => break,
            Ok(step) => {
                done += step.done;
                copied += if step.hole { 0 } else { step.done };
            }
            // Whoever asks for the rest gets to hear it.
            Err(FsError::NoSpace | FsError::QuotaExceeded { .. } | FsError::TooLarge | FsError::NotPermitted(_))
                if done > 0 =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let (guard, dinode) = volume.lock_inode(source.ino, Mode::Shared).await?;
    drop(guard);
    accessed(volume, &dinode).await?;
    let (guard, dinode) = volume.lock_inode(target.ino, Mode::Shared).await?;
    drop(guard);
    volume.settle(&dinode).await?;
    Ok(done)
}

async fn regular_size(volume: &Volume, ino: InodeNo) -> Result<u64, FsError> {
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    check_regular(&dinode)?;
    Ok(dinode.size)
}

/// Both files, locked in the order of their numbers, once if they are one.
struct Locked<'v> {
    _guards: Vec<GlockGuard<'v>>,
    source: Dinode,
    target: Dinode,
}

async fn lock(volume: &Volume, source: InodeNo, target: InodeNo) -> Result<Locked<'_>, FsError> {
    if source == target {
        let (guard, dinode) = allocate::lock_to_change(volume, target).await?;
        return Ok(Locked { _guards: vec![guard], source: dinode.clone(), target: dinode });
    }
    let lock_source = async || {
        let (guard, dinode) = volume.lock_inode(source, Mode::Shared).await?;
        check_regular(&dinode)?;
        Ok::<_, FsError>((guard, dinode))
    };
    if source < target {
        let (guard, source) = lock_source().await?;
        let (other, target) = allocate::lock_to_change(volume, target).await?;
        Ok(Locked { _guards: vec![guard, other], source, target })
    } else {
        let (other, target) = allocate::lock_to_change(volume, target).await?;
        let (guard, source) = lock_source().await?;
        Ok(Locked { _guards: vec![guard, other], source, target })
    }
}

/// What one transaction has copied.
struct Step {
    /// Bytes; 0 at the end of the source.
    done: u64,
    /// They are a hole.
    hole: bool,
}

async fn step(volume: &Volume, from: Spot, to: Spot, len: u64, caller: Caller) -> Result<Step, FsError> {
    let Locked { _guards, source, target } = lock(volume, from.ino, to.ino).await?;
    check_changeable(&target)?;
    let len = len.min(source.size.saturating_sub(from.offset));
    if len == 0 {
        return Ok(Step { done: 0, hole: true });
    }
    if from.ino == to.ino && from.offset.abs_diff(to.offset) < len {
        return Err(FsError::Invalid("ranges of one file that overlap"));
    }
    if to.offset.checked_add(len).is_none_or(|end| end > i64::MAX.unsigned_abs()) {
        return Err(FsError::TooLarge);
    }
    let mut blocks = content::WRITE_BLOCKS_MAX;
    let mut shortage = Shortage::new(volume);
    loop {
        let mut dinode = target.clone();
        let mut stage = Stage::new(volume, to.ino).on_behalf_of(caller);
        let done = match transfer(&mut stage, &source, from.offset, &mut dinode, to.offset, len, blocks).await {
            Ok(step) => {
                touch(&mut dinode, stage.time());
                drop_privileges(&mut dinode, caller);
                dinode.write_to(stage.edit(to.ino.addr(), BlockKind::DINODE).await?);
                stage.commit().await.map(|_| step)
            }
            Err(error) => {
                drop(stage);
                Err(error)
            }
        };
        match done {
            Ok(step) => return Ok(step),
            Err(error) => shortage.relieve(error, &mut blocks).await?,
        }
    }
}

/// Copies the beginning of `len` bytes into the staged transaction: data up to the next hole, or a hole up to the next
/// data.
async fn transfer(
    stage: &mut Stage<'_>,
    source: &Dinode,
    from: u64,
    target: &mut Dinode,
    to: u64,
    len: u64,
    blocks_max: u64,
) -> Result<Step, FsError> {
    let volume = stage.volume();
    let block_bytes = stage.block_size().bytes_u64();
    let mut room = len;
    if !source.is_stuffed() {
        let (first, end) = (from / block_bytes, (from + len).div_ceil(block_bytes));
        let extent = map::extent_at(&*volume.cache, source, first, end).await?;
        let bytes_to = |block: u64| block.saturating_mul(block_bytes).saturating_sub(from).min(len);
        if extent.addr.is_none() {
            let hole = bytes_to(extent.first.saturating_add(extent.count));
            let done = leave_out(stage, target, to, hole).await?;
            return Ok(Step { done, hole: true });
        }
        let window = map::extents(&*volume.cache, source, first, (end - first).min(blocks_max)).await?;
        let data = window.iter().take_while(|extent| extent.addr.is_some()).last();
        room = data.map_or(0, |extent| bytes_to(extent.first.saturating_add(extent.count)));
    }
    let data = content::read(volume, source, from, u32::try_from(room).unwrap_or(u32::MAX)).await?;
    content::write(stage, target, to, &data).await?;
    Ok(Step { done: data.len() as u64, hole: false })
}

/// Makes `len` bytes of the target a hole, or zeroes, as many as one transaction takes. Returns how many.
async fn leave_out(stage: &mut Stage<'_>, target: &mut Dinode, to: u64, len: u64) -> Result<u64, FsError> {
    let mut done = len;
    // Before the file is made larger: what gets a place in this transaction cannot be freed by it.
    if let Some(next) = allocate::punch(stage, target, &(to..to + len)).await? {
        done = next.saturating_sub(to).min(len);
    }
    if to + done > target.size {
        truncate::extend(stage, target, to + done).await?;
    }
    Ok(done)
}
