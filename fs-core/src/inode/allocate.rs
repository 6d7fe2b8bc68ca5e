//! Blocks for a range of a file before anybody writes to it. The format cannot say that a block has no content yet, so
//! each is filled with zeroes, and the transaction that makes it part of the file waits for them.

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks};
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::inode::{content, map};
use crate::stage::Stage;

/// Blocks that one transaction allocates at most.
pub const ALLOCATE_BLOCKS_MAX: u64 = 1024;
/// Arrays of pointers that are looked at, at most, before other users of the inode get a turn.
const ARRAYS_MAX: usize = 1024;

/// Where the first of the blocks from `at` up to `end` is that has no place yet; where the search may go on if that was
/// not found yet.
///
/// # Errors
/// Errors of reading the tree.
pub async fn first_missing(blocks: &impl Blocks, dinode: &Dinode, mut at: u64, end: u64) -> Result<u64, FsError> {
    for _ in 0..ARRAYS_MAX {
        if at >= end {
            break;
        }
        let extent = map::extent_at(blocks, dinode, at, end).await?;
        if extent.addr.is_none() {
            break;
        }
        at = extent.first.saturating_add(extent.count);
    }
    Ok(at)
}

/// Gives a place, filled with zeroes, to each of `count` logical blocks from `first` on that has none. With `overwrite`,
/// those that have one are filled with zeroes as well. At most [`blocks_max`] blocks. Changes `dinode`, which the caller
/// writes back; it has a pointer tree.
///
/// # Errors
/// `NoSpace`, `TooLarge`; errors of reading the tree.
pub async fn allocate(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    first: u64,
    count: u64,
    overwrite: bool,
) -> Result<(), FsError> {
    // One image for all: whoever changes one of the blocks gets a copy.
    let zeroes: BlockImage = std::iter::repeat_n(0, stage.block_size().bytes()).collect();
    for extent in map::map_for_write(stage, dinode, first, count).await? {
        let Some(start) = extent.addr.filter(|_| extent.fresh || overwrite) else { continue };
        stage.volume().rgrps.check_data(start, extent.count)?;
        for addr in (start.0..).take(usize::try_from(extent.count).unwrap_or(usize::MAX)).map(BlockAddr) {
            content::put(stage, dinode, addr, BlockImage::clone(&zeroes), extent.fresh);
        }
    }
    Ok(())
}

/// Blocks that [`allocate`] takes at once.
#[must_use]
pub const fn blocks_max(dinode: &Dinode) -> u64 {
    // Each block of journaled data is in the log.
    if dinode.is_journaled() { content::WRITE_BLOCKS_MAX } else { ALLOCATE_BLOCKS_MAX }
}
