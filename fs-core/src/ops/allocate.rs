//! Places on the disk for ranges of files, and holes (fallocate(2)).

use std::ops::Range;

use crate::addr::InodeNo;
use crate::attr::{Allocation, Caller};
use crate::blocks::{Blocks, Edit};
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::BlockKind;
use crate::glock::GlockGuard;
use crate::glock::service::Mode;
use crate::inode::{allocate, content, map, punch, truncate};
use crate::ops::attrs::{check_changeable, drop_privileges};
use crate::ops::data::check_regular;
use crate::ops::shortage::Shortage;
use crate::stage::Stage;
use crate::volume::{Volume, touch};

/// Whether an operation that takes long shall go on. False: whoever asked has been interrupted.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// Does `how` with `range`, in bytes, step by step; others may use the file between two steps. After an error a part of it
/// is done: content and size are what they were, or what they were to become.
///
/// # Errors
/// `NoSpace`, at once if the volume has not enough room in all; `QuotaExceeded`, `TooLarge`, `NotPermitted`, `ReadOnly`, `IsDirectory`,
/// `Invalid`; `Interrupted`; errors of reading and of the journal.
pub async fn fallocate(
    volume: &Volume,
    ino: InodeNo,
    range: Range<u64>,
    how: Allocation,
    caller: Caller,
    go_on: GoOn<'_>,
) -> Result<(), FsError> {
    volume.check_writable()?;
    if range.is_empty() {
        return Err(FsError::Invalid("an empty range"));
    }
    if range.end > i64::MAX.unsigned_abs() {
        return Err(FsError::TooLarge);
    }
    check_room(volume, ino, &range, how).await?;
    let mut at = Some(range.start);
    while let Some(start) = at {
        if !go_on() {
            return Err(FsError::Interrupted);
        }
        at = step(volume, ino, start..range.end, how, caller).await?;
    }
    let (guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    drop(guard);
    volume.settle(&dinode).await
}

/// Nobody shall wait until a volume is full to be told that it cannot take so much.
async fn check_room(volume: &Volume, ino: InodeNo, range: &Range<u64>, how: Allocation) -> Result<(), FsError> {
    if how == Allocation::Punch {
        return Ok(());
    }
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    check(&dinode, how)?;
    let block_bytes = volume.block_size().bytes_u64();
    let free = u64::try_from(volume.counts().free).unwrap_or(0);
    // Steps through the tree of a sound file: one for each lowest array, and one for each hole between arrays.
    let steps_max = dinode.blocks.min(volume.rgrps.blocks_total()).saturating_mul(2).saturating_add(2);
    let (first, end) = (range.start / block_bytes, range.end.div_ceil(block_bytes));
    if fits_dinode(volume, &dinode, range) {
        return Ok(());
    }
    let missing = map::missing_blocks(&*volume.cache, &dinode, first, end, free, steps_max).await?;
    if missing > free { Err(FsError::NoSpace) } else { Ok(()) }
}

fn check(dinode: &Dinode, how: Allocation) -> Result<(), FsError> {
    check_regular(dinode)?;
    // What is allocated changes nothing that was written.
    if !matches!(how, Allocation::Allocate { .. }) || dinode.flags & flags::IMMUTABLE != 0 {
        check_changeable(dinode)?;
    }
    Ok(())
}

fn fits_dinode(volume: &Volume, dinode: &Dinode, range: &Range<u64>) -> bool {
    dinode.is_stuffed() && range.end <= volume.block_size().stuffed_bytes_max() as u64
}

/// Locks a regular file that is to be changed, and finishes what a crash has left undone.
///
/// # Errors
/// `Corrupt`; device errors.
pub(super) async fn lock_to_change(volume: &Volume, ino: InodeNo) -> Result<(GlockGuard<'_>, Dinode), FsError> {
    let (guard, mut dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    check_regular(&dinode)?;
    if dinode.flags & flags::TRUNC_IN_PROG != 0 {
        truncate::finish(volume, ino).await?;
        dinode = volume.dinode(ino).await?;
    }
    Ok((guard, dinode))
}

/// One transaction's worth. Returns where to go on; `None` when all is done.
async fn step(
    volume: &Volume,
    ino: InodeNo,
    range: Range<u64>,
    how: Allocation,
    caller: Caller,
) -> Result<Option<u64>, FsError> {
    // Each by itself: who freezes the volume waits for one, not for all.
    let _passage = volume.gate.pass().await;
    volume.check_writable()?;
    let (_guard, dinode) = lock_to_change(volume, ino).await?;
    check(&dinode, how)?;
    let mut blocks = allocate::blocks_max(&dinode);
    let mut shortage = Shortage::new(volume);
    loop {
        let mut dinode = dinode.clone();
        let mut stage = Stage::new(volume, ino).on_behalf_of(caller);
        let changed = match how {
            Allocation::Allocate { keep_size } => fill(&mut stage, &mut dinode, &range, blocks, false, keep_size).await,
            Allocation::Zero { keep_size } => fill(&mut stage, &mut dinode, &range, blocks, true, keep_size).await,
            Allocation::Punch => punch(&mut stage, &mut dinode, &range).await,
        };
        let done = match changed {
            Ok(next) => {
                touch(&mut dinode, stage.time());
                drop_privileges(&mut dinode, caller);
                dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
                stage.commit().await.map(|_| next)
            }
            Err(error) => {
                drop(stage);
                Err(error)
            }
        };
        match done {
            Ok(next) => return Ok(next),
            Err(error) => shortage.relieve(error, &mut blocks).await?,
        }
    }
}

/// Gives places to the beginning of `range`, `blocks_max` blocks at most. With `zero`, its content becomes zeroes.
async fn fill(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    range: &Range<u64>,
    blocks_max: u64,
    zero: bool,
    keep_size: bool,
) -> Result<Option<u64>, FsError> {
    if fits_dinode(stage.volume(), dinode, range) {
        if zero {
            content::zero_in_block(stage, dinode, range.start, range.end, false).await?;
        }
        extend(stage, dinode, range.end, keep_size).await?;
        return Ok(None);
    }
    if dinode.is_stuffed() {
        map::unstuff(stage, dinode).await?;
    }
    let block_bytes = stage.block_size().bytes_u64();
    let (mut first, end) = (range.start / block_bytes, range.end.div_ceil(block_bytes));
    if zero {
        zero_edges(stage, dinode, range, 0).await?;
    } else {
        first = allocate::first_missing(&*stage, dinode, first, end).await?;
    }
    let stop = end.min(first.saturating_add(blocks_max));
    if zero {
        let whole = range.start.div_ceil(block_bytes)..range.end / block_bytes;
        // Those in part have been seen to; they only need a place.
        for (from, to, overwrite) in [
            (first, stop.min(whole.start), false),
            (first.max(whole.start), stop.min(whole.end), true),
            (first.max(whole.end).max(whole.start), stop, false),
        ] {
            if from < to {
                allocate::allocate(stage, dinode, from, to - from, overwrite).await?;
            }
        }
    } else if first < stop {
        allocate::allocate(stage, dinode, first, stop - first, false).await?;
    }
    if stop < end {
        return Ok(Some(stop * block_bytes));
    }
    extend(stage, dinode, range.end, keep_size).await?;
    Ok(None)
}

async fn extend(stage: &mut Stage<'_>, dinode: &mut Dinode, size: u64, keep_size: bool) -> Result<(), FsError> {
    if keep_size || size <= dinode.size { Ok(()) } else { truncate::extend(stage, dinode, size).await }
}

/// Fills with zeroes what `range` has of blocks that it has in part: at its start, and at its end, unless the block there is
/// in front of logical block `end`.
async fn zero_edges(stage: &mut Stage<'_>, dinode: &Dinode, range: &Range<u64>, end: u64) -> Result<(), FsError> {
    let block_bytes = stage.block_size().bytes_u64();
    let head_end = range.start.div_ceil(block_bytes).saturating_mul(block_bytes).min(range.end);
    if range.start < head_end {
        content::zero_in_block(stage, dinode, range.start, head_end, false).await?;
    }
    let tail_start = range.end - range.end % block_bytes;
    if head_end <= tail_start && tail_start < range.end && tail_start / block_bytes >= end {
        content::zero_in_block(stage, dinode, tail_start, range.end, false).await?;
    }
    Ok(())
}

/// Makes the beginning of `range` a hole.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub(super) async fn punch(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    range: &Range<u64>,
) -> Result<Option<u64>, FsError> {
    let block_bytes = stage.block_size().bytes_u64();
    if dinode.is_stuffed() {
        content::zero_in_block(stage, dinode, range.start, range.end.min(dinode.size), false).await?;
        return Ok(None);
    }
    let first = range.start.div_ceil(block_bytes);
    let mut end = range.end / block_bytes;
    if range.end >= dinode.size {
        // What is left of the last block is nobody's.
        end = end.max(dinode.size.div_ceil(block_bytes));
    }
    // In order, so that nothing has changed behind the place that is returned.
    let head_end = first.saturating_mul(block_bytes).min(range.end);
    zero_edges(stage, dinode, &(range.start..head_end), end).await?;
    let next = punch::punch_step(stage, dinode, first, end).await?;
    if next.is_none() {
        zero_edges(stage, dinode, &(head_end..range.end), end).await?;
    }
    Ok(next.map(|block| block.saturating_mul(block_bytes)))
}
