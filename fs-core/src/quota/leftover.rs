//! What stands in change files when a volume is mounted: of this node after a crash, of others since they died.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::changes::{SLOT_BYTES, offset_in_block, slots_per_block};
use super::{Kind, QuotaId, file, fold};
use crate::addr::{BlockAddr, InodeNo};
use crate::blocks::{Blocks, Edit};
use crate::cache::Cache;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::format::meta::{self, BlockKind};
use crate::format::system_files::{QUOTA_CHANGE_BYTES, QUOTA_CHANGE_BYTES_MAX, RawQuotaChange};
use crate::inode::map;
use crate::stage::Stage;
use crate::volume::Volume;

/// Blocks that are read at once.
const READ_BLOCKS: usize = 256;

/// A slot in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// Number of the slot in its block.
    pub(crate) index: usize,
    pub(crate) id: QuotaId,
    pub(crate) change: i64,
}

/// The slots in use of a block of a change file.
pub(crate) fn records(block: &[u8]) -> impl Iterator<Item = Leftover> {
    let slots = block.get(meta::HEADER_BYTES..).unwrap_or_default().chunks_exact(SLOT_BYTES);
    slots.enumerate().filter_map(|(index, slot)| {
        let raw = RawQuotaChange::ref_from_bytes(slot).ok()?;
        let kind = if raw.flags.get() & RawQuotaChange::USER != 0 { Kind::User } else { Kind::Group };
        let (id, change) = (QuotaId { kind, id: raw.id.get() }, raw.change.get());
        (change != 0).then_some(Leftover { index, id, change })
    })
}

/// The blocks of a change file, in order.
///
/// # Errors
/// `SystemFileShape` for one of impossible size, or with a hole; errors of reading.
pub(crate) async fn blocks(cache: &Cache, dinode: &Dinode) -> Result<Vec<BlockAddr>, FsError> {
    let wrong = || CorruptKind::SystemFileShape { name: "quota_change" }.at(dinode.ino.addr());
    let size = dinode.size;
    if size == 0 || !size.is_multiple_of(QUOTA_CHANGE_BYTES) || size > QUOTA_CHANGE_BYTES_MAX {
        return Err(wrong());
    }
    let extents = map::extents(cache, dinode, 0, size >> cache.block_size().shift()).await?;
    let mut blocks = Vec::new();
    for extent in extents {
        let addr = extent.addr.ok_or_else(wrong)?;
        blocks.extend((0..extent.count).map(|step| BlockAddr(addr.0.saturating_add(step))));
    }
    Ok(blocks)
}

/// Gathers what stands in the change files, this node's first, and brings it into the quota file. Nobody uses the volume
/// yet.
///
/// # Errors
/// `Corrupt`; device errors.
pub(crate) async fn settle(volume: &Volume, files: &[InodeNo]) -> Result<(), FsError> {
    for (number, ino) in files.iter().enumerate() {
        let dinode = volume.dinode(*ino).await?;
        let blocks = blocks(&volume.cache, &dinode).await?;
        for (at, chunk) in (0..).step_by(READ_BLOCKS).zip(blocks.chunks(READ_BLOCKS)) {
            volume.cache.prefetch(chunk, BlockKind::QUOTA_CHANGE).await;
            for (at, addr) in (at..).zip(chunk) {
                volume.rgrps.check_data(*addr, 1)?;
                let image = volume.cache.meta(*addr, BlockKind::QUOTA_CHANGE).await?;
                let found: Vec<Leftover> = records(&image).collect();
                let strange = adopt(volume, number == 0, at, found).await?;
                if !strange.is_empty() && !take_over(volume, *ino, *addr, &strange).await? {
                    tracing::warn!("no room for what other nodes know of quotas; the next mount tries again");
                    return Ok(());
                }
            }
        }
    }
    if volume.options.read_only { Ok(()) } else { fold::fold(volume).await }
}

/// Makes slots of this node's file its own, `block` being their block's number in the file. Where nothing is written, all
/// slots are counted so. Returns those that have to be taken over.
async fn adopt(volume: &Volume, own: bool, block: u32, found: Vec<Leftover>) -> Result<Vec<Leftover>, FsError> {
    let mut strange = Vec::new();
    let per_block = slots_per_block(volume.block_size());
    for left in found {
        let (read_only, knows) = (volume.options.read_only, volume.quotas.accounts.lock().knows(left.id));
        if !read_only && (!own || knows) {
            strange.push(left);
            continue;
        }
        let dinode = volume.dinode(volume.quotas.file()?).await?;
        let record = file::read(&*volume.cache, &dinode, left.id).await?;
        let index = u32::try_from(left.index).unwrap_or(u32::MAX);
        let slot = (!read_only).then(|| block.saturating_mul(per_block).saturating_add(index));
        volume.quotas.accounts.lock().found(left.id, record, left.change, slot);
    }
    Ok(strange)
}

/// Moves slots into the node's own file, in one transaction. False if there is no room.
async fn take_over(volume: &Volume, file: InodeNo, addr: BlockAddr, found: &[Leftover]) -> Result<bool, FsError> {
    let mut stage = Stage::new(volume, file);
    // It has been taken already.
    stage.ignore_limits();
    let block = stage.edit(addr, BlockKind::QUOTA_CHANGE).await?;
    for left in found {
        let start = offset_in_block(left.index);
        if let Some(slot) = block.get_mut(start..start + SLOT_BYTES) {
            slot.copy_from_slice(RawQuotaChange::new_zeroed().as_bytes());
        }
    }
    found.iter().for_each(|left| stage.add_quota(left.id, left.change));
    match stage.commit().await {
        Ok(_) => Ok(true),
        Err(FsError::NoSpace) => Ok(false),
        Err(error) => Err(error),
    }
}
