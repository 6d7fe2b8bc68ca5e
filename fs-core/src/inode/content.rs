//! Reading and writing the content of regular files.

use std::sync::Arc;

use block::device::IoBuf;

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode};
use crate::format::meta::BlockKind;
use crate::fs::ReadData;
use crate::inode::map::{self, Extent};
use crate::stage::Stage;
use crate::volume::Volume;

/// Blocks that one transaction writes at most.
pub const WRITE_BLOCKS_MAX: u64 = 256;

/// Up to `len` bytes from `offset` on; fewer at the end of the file. The inode's lock is held.
///
/// # Errors
/// Errors of reading.
pub async fn read(volume: &Volume, dinode: &Dinode, offset: u64, len: u32) -> Result<ReadData, FsError> {
    let len = u64::from(len).min(dinode.size.saturating_sub(offset));
    let Ok(len_bytes) = usize::try_from(len) else { return Err(FsError::Invalid("length of a read")) };
    if len == 0 {
        return Ok(ReadData::new(IoBuf::zeroed(0), 0, 0));
    }
    if dinode.is_stuffed() {
        let block = volume.cache.meta(dinode.ino.addr(), BlockKind::DINODE).await?;
        let start = dinode::HEADER_BYTES + usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = block.get(start..start + len_bytes).unwrap_or_default();
        return Ok(ReadData::new(IoBuf::copied_from(bytes), 0, len_bytes));
    }
    let block_bytes = volume.disk.block_size().bytes_u64();
    let (first, last) = (offset / block_bytes, (offset + len - 1) / block_bytes);
    let extents = map::extents(&*volume.cache, dinode, first, last - first + 1).await?;
    let start = usize::try_from(offset % block_bytes).unwrap_or(0);
    let buf = match extents.as_slice() {
        [single] => read_extent(volume, single).await?,
        several => {
            let mut whole = IoBuf::with_capacity(
                usize::try_from((last - first + 1) * block_bytes).unwrap_or(usize::MAX).min(2 << 20),
            );
            let parts = several.iter().map(|extent| read_extent(volume, extent));
            for part in futures_util::future::try_join_all(parts).await? {
                whole.extend_from_slice(&part);
            }
            whole
        }
    };
    Ok(ReadData::new(buf, start, len_bytes))
}

/// The content of one extent: zeroes for a hole, else what memory or the disk has.
async fn read_extent(volume: &Volume, extent: &Extent) -> Result<IoBuf, FsError> {
    let block_bytes = volume.disk.block_size().bytes();
    let count = usize::try_from(extent.count).unwrap_or(usize::MAX);
    let Some(addr) = extent.addr else { return Ok(IoBuf::zeroed(count * block_bytes)) };
    volume.rgrps.check_data(addr, extent.count)?;
    // Images in memory are taken before the disk is read: what is newer than the disk stays in memory until it is
    // written, so it cannot slip away between the two.
    let mut cached: Vec<(usize, BlockImage)> = Vec::new();
    for index in 0..count {
        if let Some(image) = volume.cache.get(BlockAddr(addr.0 + index as u64)) {
            cached.push((index, image));
        }
    }
    let mut buf =
        if cached.len() == count { IoBuf::zeroed(count * block_bytes) } else { volume.disk.read(addr, count).await? };
    for (index, image) in cached {
        if let Some(to) = buf.get_mut(index * block_bytes..(index + 1) * block_bytes) {
            to.copy_from_slice(&image);
        }
    }
    Ok(buf)
}

/// Writes `data` at `offset` into the staged transaction; at most [`WRITE_BLOCKS_MAX`] blocks. Changes `dinode` (size,
/// blocks, tree), which the caller writes back. The inode's lock is held exclusively.
///
/// # Errors
/// `NoSpace`, `TooLarge`; errors of reading.
pub async fn write(stage: &mut Stage<'_>, dinode: &mut Dinode, offset: u64, data: &[u8]) -> Result<(), FsError> {
    let end = offset.checked_add(data.len() as u64).filter(|end| *end <= i64::MAX.unsigned_abs());
    let end = end.ok_or(FsError::TooLarge)?;
    if dinode.is_stuffed() && end <= stage.block_size().stuffed_bytes_max() as u64 {
        write_stuffed(stage, dinode, offset, data).await?;
    } else {
        if dinode.is_stuffed() {
            map::unstuff(stage, dinode).await?;
        }
        if offset > dinode.size {
            clear_tail(stage, dinode, dinode.size).await?;
        }
        write_blocks(stage, dinode, offset, data).await?;
    }
    dinode.size = dinode.size.max(end);
    Ok(())
}

async fn write_stuffed(stage: &mut Stage<'_>, dinode: &Dinode, offset: u64, data: &[u8]) -> Result<(), FsError> {
    let block = stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?;
    let payload = block.get_mut(dinode::HEADER_BYTES..).unwrap_or_default();
    let old_end = usize::try_from(dinode.size).unwrap_or(usize::MAX).min(payload.len());
    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(payload.len());
    // What stood behind the end is nobody's.
    if let Some(gap) = payload.get_mut(old_end..) {
        gap.fill(0);
    }
    if let Some(to) = payload.get_mut(at..at + data.len()) {
        to.copy_from_slice(data);
    }
    Ok(())
}

async fn write_blocks(stage: &mut Stage<'_>, dinode: &mut Dinode, offset: u64, data: &[u8]) -> Result<(), FsError> {
    if data.is_empty() {
        return Ok(());
    }
    let block_bytes = stage.block_size().bytes_u64();
    let end = offset + data.len() as u64;
    let (first, last) = (offset / block_bytes, (end - 1) / block_bytes);
    let old_size = dinode.size;
    let extents = map::map_for_write(stage, dinode, first, last - first + 1).await?;
    for extent in extents {
        let Some(start) = extent.addr else { continue };
        stage.volume().rgrps.check_data(start, extent.count)?;
        for step in 0..extent.count {
            let (block, addr) = (extent.first + step, BlockAddr(start.0 + step));
            let block_start = block * block_bytes;
            let from = offset.max(block_start);
            let to = end.min(block_start + block_bytes);
            let part = part_of(data, from - offset, to - from);
            let whole = part.len() as u64 == block_bytes;
            let image: BlockImage = if whole {
                Arc::from(part)
            } else {
                let mut image = if extent.fresh {
                    std::iter::repeat_n(0, stage.block_size().bytes()).collect()
                } else {
                    stage.data(addr).await?
                };
                let bytes = Arc::make_mut(&mut image);
                let valid = usize::try_from(old_size.saturating_sub(block_start)).unwrap_or(usize::MAX);
                if let Some(behind) = bytes.get_mut(valid..) {
                    behind.fill(0);
                }
                let at = usize::try_from(from - block_start).unwrap_or(usize::MAX);
                if let Some(target) = bytes.get_mut(at..at + part.len()) {
                    target.copy_from_slice(part);
                }
                image
            };
            let longer = to > old_size && !mistake!(LongerFileNotOrdered);
            put(stage, dinode, addr, image, extent.fresh || longer);
        }
    }
    Ok(())
}

/// New content of a block of the file: through the log or straight to its place, as the inode's flag says. `ordered`: see
/// [`Stage::put_data`].
pub(super) fn put(stage: &mut Stage<'_>, dinode: &Dinode, addr: BlockAddr, image: BlockImage, ordered: bool) {
    if dinode.is_journaled() {
        stage.create_jdata(addr, image);
    } else {
        stage.put_data(addr, image, ordered);
    }
}

fn part_of(data: &[u8], from: u64, len: u64) -> &[u8] {
    let (Ok(from), Ok(len)) = (usize::try_from(from), usize::try_from(len)) else { return &[] };
    data.get(from..from + len).unwrap_or_default()
}

/// Fills the block that holds byte `size` with zeroes from there on, if that byte is not the first of a block: what
/// stands behind the end of a file must not appear when the file grows.
///
/// # Errors
/// Errors of reading.
pub async fn clear_tail(stage: &mut Stage<'_>, dinode: &Dinode, size: u64) -> Result<(), FsError> {
    let block_bytes = stage.block_size().bytes_u64();
    if !dinode.is_stuffed() && size.is_multiple_of(block_bytes) {
        return Ok(());
    }
    let end = (size / block_bytes).saturating_add(1).saturating_mul(block_bytes);
    zero_in_block(stage, dinode, size, end, true).await
}

/// Fills bytes `from..to`, which are in one block, with zeroes, where they have a place. `ordered`: see
/// [`Stage::put_data`].
///
/// # Errors
/// Errors of reading.
pub async fn zero_in_block(
    stage: &mut Stage<'_>,
    dinode: &Dinode,
    from: u64,
    to: u64,
    ordered: bool,
) -> Result<(), FsError> {
    let within =
        |byte: u64, start: u64, len: usize| usize::try_from(byte.saturating_sub(start)).unwrap_or(len).min(len);
    if dinode.is_stuffed() {
        let block = stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?;
        let content = block.get_mut(dinode::HEADER_BYTES..).unwrap_or_default();
        let len = content.len();
        if let Some(range) = content.get_mut(within(from, 0, len)..within(to, 0, len)) {
            range.fill(0);
        }
        return Ok(());
    }
    let block_bytes = stage.block_size().bytes_u64();
    let block = from / block_bytes;
    let extents = map::extents(&*stage, dinode, block, 1).await?;
    let Some(addr) = extents.first().and_then(|extent| extent.addr) else { return Ok(()) };
    stage.volume().rgrps.check_data(addr, 1)?;
    let mut image = stage.data(addr).await?;
    let range = within(from, block * block_bytes, image.len())..within(to, block * block_bytes, image.len());
    if image.get(range.clone()).unwrap_or_default().iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if let Some(bytes) = Arc::make_mut(&mut image).get_mut(range) {
        bytes.fill(0);
    }
    put(stage, dinode, addr, image, ordered);
    Ok(())
}

/// Whole content of a system file, at most `limit` bytes.
///
/// # Errors
/// Errors of reading; `Invalid` for a larger file.
pub async fn read_whole(blocks: &impl Blocks, dinode: &Dinode, limit: u64) -> Result<Vec<u8>, FsError> {
    if dinode.size > limit {
        return Err(FsError::Invalid("system file that is too large"));
    }
    let size = usize::try_from(dinode.size).unwrap_or(usize::MAX);
    if dinode.is_stuffed() {
        let block = blocks.meta(dinode.ino.addr(), BlockKind::DINODE).await?;
        return Ok(block.get(dinode::HEADER_BYTES..dinode::HEADER_BYTES + size).unwrap_or_default().to_vec());
    }
    let block_bytes = blocks.block_size().bytes_u64();
    let mut content = Vec::with_capacity(size);
    for extent in map::extents(blocks, dinode, 0, dinode.size.div_ceil(block_bytes)).await? {
        for step in 0..extent.count {
            match extent.addr {
                Some(addr) => content.extend_from_slice(&blocks.data(BlockAddr(addr.0 + step)).await?),
                None => content.resize(content.len() + blocks.block_size().bytes(), 0),
            }
        }
    }
    content.truncate(size);
    Ok(content)
}

/// The first offset at or after `offset` where data, or a hole, starts; `None` past the end.
///
/// # Errors
/// Errors of reading.
pub async fn seek(volume: &Volume, dinode: &Dinode, offset: u64, hole: bool) -> Result<Option<u64>, FsError> {
    if offset >= dinode.size {
        return Ok(None);
    }
    if dinode.is_stuffed() {
        return Ok(Some(if hole { dinode.size } else { offset }));
    }
    let block_bytes = volume.disk.block_size().bytes_u64();
    let end = dinode.size.div_ceil(block_bytes);
    let mut at = offset / block_bytes;
    // Data and holes take turns, so a tree that shows more of them than this has pointers that lead to one array twice.
    let mut left = dinode.blocks.saturating_mul(2).saturating_add(2);
    while at < end {
        left = left.checked_sub(1).ok_or(CorruptKind::DinodeBlocks { blocks: dinode.blocks }.at(dinode.ino.addr()))?;
        let extent = map::extent_at(&*volume.cache, dinode, at, end).await?;
        if extent.addr.is_none() == hole {
            return Ok(Some(offset.max(extent.first * block_bytes)));
        }
        at = extent.first + extent.count;
    }
    Ok(hole.then_some(dinode.size))
}
