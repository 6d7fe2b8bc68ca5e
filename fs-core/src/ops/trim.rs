//! Telling the device which blocks are free (FITRIM).

use std::ops::Range;

use crate::attr::Capabilities;
use crate::error::FsError;
use crate::format::rgrp::RgrpPlace;
use crate::ops::allocate::GoOn;
use crate::stage::Stage;
use crate::volume::Volume;

/// Blocks that are out of reach at once, about: few enough that who allocates meanwhile finds others.
const APART_BLOCKS: u32 = 16_384;

/// Discards free ranges of at least `min_bytes` within `range`, both in bytes of the device. Returns how many bytes those
/// were. A resource group in which nothing was freed since it was last trimmed is left out.
///
/// # Errors
/// `NotPermitted` without the capability, `Unsupported` where the device does not discard, `Invalid` for a range behind its
/// end, `DiscardFailed`, `ReadOnly`, `Interrupted`; errors of reading and of the journal.
pub async fn trim(
    volume: &Volume,
    range: Range<u64>,
    min_bytes: u64,
    capabilities: Capabilities,
    go_on: GoOn<'_>,
) -> Result<u64, FsError> {
    if !capabilities.system {
        return Err(FsError::NotPermitted("only who has the capability CAP_SYS_ADMIN trims"));
    }
    volume.check_writable()?;
    let geometry = volume.disk.device().geometry();
    if !geometry.discards {
        return Err(FsError::Unsupported("discarding on this device"));
    }
    if range.start >= geometry.size_bytes {
        return Err(FsError::Invalid("a range behind the end of the device"));
    }
    let block_bytes = volume.block_size().bytes_u64();
    let blocks = range.start.div_ceil(block_bytes)..range.end / block_bytes;
    let Ok(min) = u32::try_from(min_bytes.div_ceil(block_bytes).max(1)) else { return Ok(0) };
    {
        let _passage = volume.gate.pass().await;
        volume.check_writable()?;
        // What was freed and is not durable yet can be undone by a crash, and is left out.
        volume.reclaim().await?;
    }
    let mut trimmed = 0;
    for number in 0..volume.rgrps.count() {
        let Some(place) = volume.rgrps.place(number) else { break };
        let part = place.data0.0.max(blocks.start)..place.end().0.min(blocks.end);
        if part.is_empty() {
            continue;
        }
        // Group by group: who freezes the volume waits for one, not for all.
        let _passage = volume.gate.pass().await;
        volume.check_writable()?;
        let Some(_guard) = volume.rgrps.begin_trim(number).await? else { continue };
        let result = group(volume, number, place, &part, min, go_on).await;
        let marked = match result {
            Ok(count) if count > 0 && min == 1 && part == (place.data0.0..place.end().0) => mark(volume, number).await,
            _ => Ok(()),
        };
        volume.rgrps.end_trim(number);
        trimmed += result?;
        marked?;
    }
    Ok(trimmed * block_bytes)
}

/// One group, piece by piece. Returns how many blocks were discarded.
async fn group(
    volume: &Volume,
    number: usize,
    place: &RgrpPlace,
    part: &Range<u64>,
    min: u32,
    go_on: GoOn<'_>,
) -> Result<u64, FsError> {
    let index = |block: u64| u32::try_from(block.saturating_sub(place.data0.0)).unwrap_or(place.data).min(place.data);
    let (mut at, end, mut count) = (index(part.start), index(part.end), 0);
    while at < end {
        if !go_on() {
            return Err(FsError::Interrupted);
        }
        // Who finds no space waits for this before it believes that there is none.
        let _apart = volume.trimming.set_apart().await;
        let apart = volume.rgrps.set_apart(number, at, end, min, APART_BLOCKS);
        let mut discarded = Ok(());
        for (first, len) in &apart.runs {
            discarded = volume.disk.discard(place.block_at(*first), u64::from(*len)).await;
            if discarded.is_err() {
                break;
            }
            count += u64::from(*len);
        }
        volume.rgrps.put_back(number, &apart);
        discarded?;
        at = apart.next;
    }
    Ok(count)
}

async fn mark(volume: &Volume, number: usize) -> Result<(), FsError> {
    let mut stage = Stage::new(volume, volume.superblock.root);
    stage.mark_trimmed(number);
    match stage.commit().await {
        Ok(_) | Err(FsError::NoSpace) => Ok(()),
        Err(error) => Err(error),
    }
}
