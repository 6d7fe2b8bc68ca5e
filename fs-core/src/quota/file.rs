//! The quota file: a sparse array of records, users at twice their number, groups one behind.
//!
//! Records do not fit blocks, so one may begin in one block and end in the next. The file is journaled data: the kernel's
//! driver writes it so, whatever its flags say, and so do we.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Kind, QuotaId, Record};
use crate::addr::{BlockAddr, InodeNo};
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode, flags};
use crate::format::meta::BlockKind;
use crate::format::system_files::RawQuota;
use crate::inode::{content, map};
use crate::stage::Stage;

/// Size of a record, in bytes.
pub(crate) const RECORD_BYTES: u64 = size_of::<RawQuota>() as u64;

/// Number of the record.
const fn index_of(id: QuotaId) -> u64 {
    let odd = match id.kind {
        Kind::User => 0,
        Kind::Group => 1,
    };
    id.id as u64 * 2 + odd
}

/// Whose record has the number; `None` behind the last one.
fn id_of(index: u64) -> Option<QuotaId> {
    let kind = if index.is_multiple_of(2) { Kind::User } else { Kind::Group };
    u32::try_from(index / 2).ok().map(|id| QuotaId { kind, id })
}

impl From<&RawQuota> for Record {
    fn from(raw: &RawQuota) -> Self {
        Self { limit_blocks: raw.limit.get(), warn_blocks: raw.warn.get(), value_blocks: raw.value.get() }
    }
}

/// Reads `to.len()` bytes from `offset` on; zeroes where the file has a hole, or has ended.
async fn read_bytes(blocks: &impl Blocks, dinode: &Dinode, offset: u64, to: &mut [u8]) -> Result<(), FsError> {
    to.fill(0);
    let len = usize::try_from(dinode.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(to.len());
    let Some(to) = to.get_mut(..len) else { return Ok(()) };
    if dinode.is_stuffed() {
        let block = blocks.meta(dinode.ino.addr(), BlockKind::DINODE).await?;
        let start = dinode::HEADER_BYTES.saturating_add(usize::try_from(offset).unwrap_or(usize::MAX));
        if let Some(from) = block.get(start..start.saturating_add(len)) {
            to.copy_from_slice(from);
        }
        return Ok(());
    }
    let block_bytes = blocks.block_size().bytes_u64();
    let mut done = 0;
    while done < to.len() {
        let at = offset.saturating_add(done as u64);
        let within = usize::try_from(at % block_bytes).unwrap_or(0);
        let part = (blocks.block_size().bytes() - within).min(to.len() - done);
        let extent = map::extent_at(blocks, dinode, at / block_bytes, at / block_bytes + 1).await?;
        if let Some(addr) = extent.addr {
            let block = blocks.data(addr).await?;
            if let (Some(to), Some(from)) = (to.get_mut(done..done + part), block.get(within..within + part)) {
                to.copy_from_slice(from);
            }
        }
        done += part;
    }
    Ok(())
}

async fn read_raw(blocks: &impl Blocks, dinode: &Dinode, id: QuotaId) -> Result<RawQuota, FsError> {
    let mut raw = RawQuota::new_zeroed();
    read_bytes(blocks, dinode, index_of(id) * RECORD_BYTES, raw.as_mut_bytes()).await?;
    Ok(raw)
}

/// The record of `id`. The file's lock is held.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub(crate) async fn read(blocks: &impl Blocks, dinode: &Dinode, id: QuotaId) -> Result<Record, FsError> {
    Ok(Record::from(&read_raw(blocks, dinode, id).await?))
}

/// Whose record is the first one of the kind, from `from` on, that is not empty. The file's lock is held. `blocks_max` is
/// more blocks than the file can have.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub(crate) async fn next(
    blocks: &impl Blocks,
    dinode: &Dinode,
    from: QuotaId,
    blocks_max: u64,
) -> Result<Option<QuotaId>, FsError> {
    let mut scan = Scan::new(blocks, dinode, index_of(from), blocks_max);
    while let Some((id, _)) = scan.next().await? {
        if id.kind == from.kind {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Walks over the records that are not empty.
pub(crate) struct Scan<'a, B> {
    blocks: &'a B,
    dinode: &'a Dinode,
    index: u64,
    /// Extents that may still come: data and holes take turns, so more of them means pointers that lead in a circle.
    extents_left: u64,
    /// What the tree says of the current place.
    extent: map::Extent,
    /// The last block that was read.
    block: Option<(BlockAddr, BlockImage)>,
}

impl<'a, B: Blocks> Scan<'a, B> {
    pub(crate) fn new(blocks: &'a B, dinode: &'a Dinode, index: u64, blocks_max: u64) -> Self {
        let extents_left = dinode.blocks.min(blocks_max).saturating_mul(2).saturating_add(2);
        let extent = map::Extent { first: 0, count: 0, addr: None, fresh: false };
        Self { blocks, dinode, index, extents_left, extent, block: None }
    }

    /// The next record that is not empty.
    ///
    /// # Errors
    /// `Corrupt`; errors of reading.
    pub(crate) async fn next(&mut self) -> Result<Option<(QuotaId, Record)>, FsError> {
        loop {
            let Some(id) = id_of(self.index) else { return Ok(None) };
            let offset = self.index * RECORD_BYTES;
            if offset >= self.dinode.size {
                return Ok(None);
            }
            if let Some(index) = self.behind_hole(offset).await? {
                self.index = index;
                continue;
            }
            self.index += 1;
            let record = Record::from(&self.record(id, offset).await?);
            if record != Record::default() {
                return Ok(Some((id, record)));
            }
        }
    }

    /// Where to go on when the record at `offset` lies in a hole as a whole.
    async fn behind_hole(&mut self, offset: u64) -> Result<Option<u64>, FsError> {
        if self.dinode.is_stuffed() {
            return Ok(None);
        }
        let block_bytes = self.blocks.block_size().bytes_u64();
        let end = self.dinode.size.div_ceil(block_bytes);
        self.seek(offset / block_bytes, end).await?;
        if self.extent.addr.is_some() {
            return Ok(None);
        }
        let hole_end = self.extent.first.saturating_add(self.extent.count).saturating_mul(block_bytes);
        // The first record that does not end in the hole.
        let index = hole_end / RECORD_BYTES;
        Ok((index > self.index).then_some(index))
    }

    async fn seek(&mut self, block: u64, end: u64) -> Result<(), FsError> {
        let map::Extent { first, count, .. } = self.extent;
        if (first..first.saturating_add(count)).contains(&block) {
            return Ok(());
        }
        let circle = CorruptKind::DinodeBlocks { blocks: self.dinode.blocks }.at(self.dinode.ino.addr());
        self.extents_left = self.extents_left.checked_sub(1).ok_or(circle)?;
        self.extent = map::extent_at(self.blocks, self.dinode, block, end).await?;
        Ok(())
    }

    /// The record at `offset`; from the block in memory, if it is in there as a whole.
    async fn record(&mut self, id: QuotaId, offset: u64) -> Result<RawQuota, FsError> {
        let block_bytes = self.blocks.block_size().bytes_u64();
        let within = offset % block_bytes;
        let is_whole = within + RECORD_BYTES <= block_bytes && offset + RECORD_BYTES <= self.dinode.size;
        let number = offset / block_bytes;
        let addr = self.extent.addr.and_then(|addr| addr.checked_add(number.checked_sub(self.extent.first)?));
        let Some(addr) = addr.filter(|_| is_whole) else { return read_raw(self.blocks, self.dinode, id).await };
        let image = match &self.block {
            Some((known, image)) if *known == addr => image,
            _ => &self.block.insert((addr, self.blocks.data(addr).await?)).1,
        };
        let start = usize::try_from(within).unwrap_or(usize::MAX);
        let (raw, _) = RawQuota::read_from_prefix(image.get(start..).unwrap_or_default())
            .map_err(|_| CorruptKind::ShortBlock.at(addr))?;
        Ok(raw)
    }
}

/// Writes records into the staged transaction. The lock of the file `ino` is held exclusively.
///
/// # Errors
/// `NoSpace`; errors of reading.
pub(crate) async fn write(stage: &mut Stage<'_>, ino: InodeNo, records: &[(QuotaId, Record)]) -> Result<(), FsError> {
    let mut dinode = stage.volume().dinode(ino).await?;
    dinode.flags |= flags::JDATA;
    for (id, record) in records {
        write_one(stage, &mut dinode, *id, record).await?;
    }
    dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    Ok(())
}

/// The same for one, with the file's dinode in the caller's hands, who writes it back.
///
/// # Errors
/// As [`write`].
pub(crate) async fn write_one(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    id: QuotaId,
    record: &Record,
) -> Result<(), FsError> {
    let mut raw = read_raw(&*stage, dinode, id).await?;
    raw.limit = record.limit_blocks.into();
    raw.warn = record.warn_blocks.into();
    raw.value = record.value_blocks.into();
    content::write(stage, dinode, index_of(id) * RECORD_BYTES, raw.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_take_turns() {
        assert_eq!(index_of(QuotaId::user(1000)), 2000);
        assert_eq!(index_of(QuotaId::group(1000)), 2001);
        assert_eq!(index_of(QuotaId::group(u32::MAX)), (1 << 33) - 1);
        for index in [0, 1, 2000, 2001, (1 << 33) - 1] {
            assert_eq!(id_of(index).map(index_of), Some(index));
        }
        assert_eq!(id_of(1 << 33), None);
    }
}
