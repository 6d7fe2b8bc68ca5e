//! Arithmetic of a volume's layout that more than one program needs: where the cluster area is, and how much a span of
//! blocks holds as a resource group.

use crate::format::block_size::BlockSize;
use crate::format::rgrp::{self, BLOCKS_PER_BYTE};
use crate::format::superblock;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Smallest volume that has a cluster area, in bytes.
pub const AREA_VOLUME_BYTES_MIN: u64 = 128 * MIB;
/// Smallest volume that has the large cluster area, in bytes.
pub const LARGE_AREA_VOLUME_BYTES_MIN: u64 = 1024 * MIB;
/// Where resource groups may start on a volume without a cluster area, in bytes: one sector of 4 KiB is left to the
/// superblock, so that writing one never means reading the other.
pub const FIRST_RGRP_BYTES_WITHOUT_AREA: u64 = superblock::OFFSET_BYTES + 4 * KIB;

/// Size of one claim sector, in bytes.
pub const CLAIM_BYTES: u64 = 4 * KIB;
/// Size of one slot, in bytes: a beat sector, and two copies of a record.
pub const SLOT_BYTES: u64 = 20 * KIB;
/// Size of one flight recorder ring, in bytes.
pub const RING_BYTES: u64 = 16 * KIB;

/// The gap between the superblock and the first resource group, in which nodes that share the disk meet. Offsets are
/// bytes from the start of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterArea {
    /// First copy of the header; the area starts with it.
    pub header_a: u64,
    /// Claim sectors.
    pub claims: u64,
    /// How many.
    pub claim_count: u32,
    /// Slots.
    pub slots: u64,
    /// How many.
    pub slot_count: u32,
    /// Flight recorder rings.
    pub rings: u64,
    /// How many.
    pub ring_count: u32,
    /// Second copy of the header.
    pub header_b: u64,
    /// End of the area: the first resource group may start here.
    pub end: u64,
}

impl ClusterArea {
    /// The area of volumes of 1 GiB and more.
    pub const LARGE: Self = Self {
        header_a: 128 * KIB,
        claims: 132 * KIB,
        claim_count: 63,
        slots: 384 * KIB,
        slot_count: 128,
        rings: 2944 * KIB,
        ring_count: 64,
        header_b: 3968 * KIB,
        end: 4096 * KIB,
    };
    /// The area of smaller volumes, down to 128 MiB.
    pub const SMALL: Self = Self {
        header_a: 128 * KIB,
        claims: 132 * KIB,
        claim_count: 15,
        slots: 192 * KIB,
        slot_count: 24,
        rings: 672 * KIB,
        ring_count: 16,
        header_b: 928 * KIB,
        end: 1024 * KIB,
    };

    /// The area that a new volume of `size_bytes` gets; `None` when it is too small to be shared.
    #[must_use]
    pub const fn of_volume(size_bytes: u64) -> Option<Self> {
        if size_bytes >= LARGE_AREA_VOLUME_BYTES_MIN {
            Some(Self::LARGE)
        } else if size_bytes >= AREA_VOLUME_BYTES_MIN {
            Some(Self::SMALL)
        } else {
            None
        }
    }

    /// Offset and length of the whole area, in bytes.
    #[must_use]
    pub const fn range(&self) -> (u64, u64) {
        (self.header_a, self.end - self.header_a)
    }
}

const fn is_sound(area: &ClusterArea) -> bool {
    area.header_a > superblock::OFFSET_BYTES
        && area.claims >= area.header_a + 4 * KIB
        && area.slots >= area.claims + CLAIM_BYTES * area.claim_count as u64
        && area.rings >= area.slots + SLOT_BYTES * area.slot_count as u64
        && area.header_b >= area.rings + RING_BYTES * area.ring_count as u64
        && area.end >= area.header_b + 4 * KIB
}

const _: () = assert!(is_sound(&ClusterArea::LARGE) && is_sound(&ClusterArea::SMALL));

/// What a span of blocks holds when it is made a resource group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RgrpShape {
    /// Header and bitmap blocks.
    pub length: u32,
    /// Blocks that the bitmap describes; a multiple of four.
    pub data: u32,
}

impl RgrpShape {
    /// As many blocks as a span of `span` blocks can describe with as few bitmap blocks as possible; `None` when it is
    /// too short for one, or longer than a resource group may be.
    #[must_use]
    pub fn in_span(span: u64, block_size: BlockSize) -> Option<Self> {
        let span = u32::try_from(span).ok()?;
        (1..=rgrp::LENGTH_MAX).find_map(|length| {
            let data = span.checked_sub(length)? & !(BLOCKS_PER_BYTE - 1);
            let needed = rgrp::length_for(data, block_size);
            (data > 0 && needed <= length).then_some(Self { length: needed, data })
        })
    }

    /// Blocks that a resource group needs to describe at least `data` blocks; `None` when that is more than one may
    /// have.
    #[must_use]
    pub fn span_for(data: u64, block_size: BlockSize) -> Option<u64> {
        let data = u32::try_from(data.next_multiple_of(u64::from(BLOCKS_PER_BYTE))).ok()?;
        let length = rgrp::length_for(data, block_size);
        (length <= rgrp::LENGTH_MAX).then(|| u64::from(length) + u64::from(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_holds_what_it_was_computed_for_and_no_block_less_would() {
        for bytes in [512, 1024, 2048, 4096] {
            let block_size = BlockSize::new(bytes).unwrap();
            for data in [4, 8, 1536, 1540, 15_872, 15_876, 65_532, 262_144, 4_000_000] {
                let span = RgrpShape::span_for(data, block_size).unwrap();
                let shape = RgrpShape::in_span(span, block_size).unwrap();
                assert_eq!(u64::from(shape.data), data, "{bytes} {data}");
                assert!(
                    RgrpShape::in_span(span - 1, block_size).is_none_or(|shape| u64::from(shape.data) < data),
                    "{bytes} {data}"
                );
            }
            assert!(RgrpShape::in_span(4, block_size).is_none());
            assert!(RgrpShape::in_span((2 << 30) / u64::from(bytes), block_size).is_some());
        }
    }
}
