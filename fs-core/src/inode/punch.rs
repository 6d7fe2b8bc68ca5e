//! Giving up a range in the middle of a file, in transactions of bounded size.
//!
//! Each transaction leaves a sound file with a larger hole, so there is no mark to be left and nothing to be finished
//! after a crash. Arrays of pointers that become empty go as well.

use crate::blocks::{Blocks, Edit};
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::format::indirect;
use crate::inode::map::{self, Array};
use crate::inode::truncate::{FREE_BLOCKS_MAX, LOG_BLOCKS_MAX, Step, free_content, remove_array};
use crate::stage::Stage;

/// Arrays of pointers that one transaction looks at, at most: what is empty already costs time only.
const ARRAYS_MAX: usize = 4096;

/// Frees logical blocks from `from` up to `end`, as many as one transaction takes. Returns where to go on; `None` when
/// nothing is left in the range. Changes `dinode.blocks` and pointers; the caller writes the dinode back.
///
/// Ends on any disk: an array inside the range is freed when it is left, and nothing can be freed twice.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn punch_step(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    from: u64,
    end: u64,
) -> Result<Option<u64>, FsError> {
    let end = end.min(map::capacity_blocks(stage.block_size(), dinode.height));
    let (mut at, mut budget) = (from, FREE_BLOCKS_MAX);
    for _ in 0..ARRAYS_MAX {
        if at >= end {
            return Ok(None);
        }
        if budget == 0 || stage.log_blocks() > LOG_BLOCKS_MAX {
            break;
        }
        at = punch_array(stage, dinode, at, end, &mut budget).await?;
    }
    Ok((at < end).then_some(at))
}

/// Frees what the lowest array for logical block `at` points to, from there on. Returns where to go on: behind the
/// array, or behind the hole that is there instead.
async fn punch_array(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    at: u64,
    end: u64,
    budget: &mut usize,
) -> Result<u64, FsError> {
    let block_size = stage.block_size();
    let mut path: Vec<Step> = Vec::new();
    let mut array = map::root(&*stage, dinode).await?;
    for levels_below in (1..dinode.height).rev() {
        let index = map::digit(block_size, dinode.height, levels_below, at);
        let Some(child) = array.get(index) else {
            let span = map::span(block_size, levels_below);
            let hole = (index..array.len()).take_while(|index| array.get(*index).is_none()).count() as u64;
            let behind = (at / span).saturating_add(hole).saturating_mul(span);
            if !path.is_empty() && is_empty_but(&array, 0..0) {
                remove_array(stage, dinode, array.addr, path).await?;
            }
            return Ok(behind.max(at.saturating_add(1)));
        };
        path.push(Step { array, index, start: 0 });
        array = map::child(&*stage, child).await?;
    }
    let from = map::digit(block_size, dinode.height, 0, at);
    let wanted = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    let to = array.len().min(from.saturating_add(wanted));
    let mut index = from;
    while index < to && *budget > 0 && stage.log_blocks() <= LOG_BLOCKS_MAX {
        if let Some(addr) = array.get(index) {
            free_content(stage, dinode, addr).await?;
            *budget -= 1;
        }
        index += 1;
    }
    if !path.is_empty() && is_empty_but(&array, from..index) {
        remove_array(stage, dinode, array.addr, path).await?;
    } else if (from..index).any(|index| array.get(index).is_some()) {
        let block = stage.edit(array.addr, array.kind()).await?;
        for cleared in from..index {
            indirect::set_pointer(block, array.first, cleared, None);
        }
    }
    Ok(at.saturating_add(index.saturating_sub(from) as u64))
}

/// Nothing is left in `array` once the pointers of `gone` are.
fn is_empty_but(array: &Array, gone: std::ops::Range<usize>) -> bool {
    (0..array.len()).all(|index| gone.contains(&index) || array.get(index).is_none())
}
