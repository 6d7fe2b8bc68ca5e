//! Rules of the superblock and of what stands around it: lunfs's marker, the gap for the cluster area.

use block::device::{BlockDevice, IoBuf};

use super::report::Tally;
use super::rule::Rule;
use crate::addr::BlockAddr;
use crate::format::block_size::BlockSize;
use crate::format::marker::{self, RawMarker};
use crate::format::superblock::Superblock;
use crate::mount;

/// Reads the superblock; `None`, with a finding, when it is not usable.
pub(super) async fn read(device: &dyn BlockDevice, tally: &Tally<'_>) -> Option<Superblock> {
    match mount::read_superblock(device).await {
        Ok(superblock) => {
            lock_protocol(&superblock, tally);
            Some(superblock)
        }
        Err(crate::error::FsError::Corrupt { addr, kind }) => {
            tally.at(addr, kind);
            None
        }
        Err(_) => {
            tally.at(Superblock::addr(BlockSize::MAX), Rule::Unreadable);
            None
        }
    }
}

/// `fsck.gfs2` changes the first letters of the protocol while it repairs.
fn lock_protocol(superblock: &Superblock, tally: &Tally<'_>) {
    if superblock.lock_proto.starts_with("fsck_") {
        tally.at(Superblock::addr(superblock.block_size), Rule::RepairInterrupted);
    }
}

/// Reads the marker; `None` when there is no valid one.
pub(super) async fn marker(device: &dyn BlockDevice, superblock: &Superblock, tally: &Tally<'_>) -> Option<RawMarker> {
    let addr = BlockAddr(marker::OFFSET_BYTES >> superblock.block_size.shift());
    let Ok(bytes) = device.read(marker::OFFSET_BYTES, IoBuf::zeroed(marker::SIZE_BYTES)).await else {
        tally.at(addr, Rule::Unreadable);
        return None;
    };
    let marker = RawMarker::parse(&bytes, superblock.uuid);
    if marker.is_none() && bytes.starts_with(&marker::MAGIC) {
        tally.at(addr, Rule::MarkerInvalid);
    }
    marker
}

/// The gap that the marker announces ends where resource groups may start.
pub(super) fn gap(marker: &RawMarker, first_group: BlockAddr, size: BlockSize, tally: &Tally<'_>) {
    let (start, len) = (marker.area_offset_bytes.get(), marker.area_len_bytes.get());
    let end = start.saturating_add(len);
    if len != 0 && end > first_group.0.saturating_mul(size.bytes_u64()) {
        tally.at(BlockAddr(marker::OFFSET_BYTES >> size.shift()), Rule::ClusterAreaOverlap { end });
    }
}
