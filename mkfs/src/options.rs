//! What a user may ask for, and the limits.

use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;
use uuid::Uuid;

/// A mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;
/// Journals of a new volume, where they fit.
pub const JOURNALS_DEFAULT: u32 = 8;
/// Most journals of a volume: as many nodes as a cluster area has slots for.
pub const JOURNALS_MAX: u32 = 128;
/// Smallest journal that `fsck.gfs2` and the kernel accept, in bytes.
pub const JOURNAL_BYTES_MIN: u64 = 8 * MIB;
/// Largest journal, in bytes.
pub const JOURNAL_BYTES_MAX: u64 = 1024 * MIB;
/// Smallest resource group that may be asked for, in bytes.
pub const RGRP_BYTES_MIN: u64 = 32 * MIB;
/// Largest resource group, in bytes.
pub const RGRP_BYTES_MAX: u64 = 2048 * MIB;
/// Longest label, in bytes: the field of the superblock ends with a zero.
pub const LABEL_BYTES_MAX: usize = fs_core::format::superblock::NAME_BYTES - 1;
/// Journals that were not asked for take at most this part of a volume.
pub(crate) const JOURNALS_SHARE: u64 = 4;

/// What a new volume shall be like. `None` means: what suits its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Block size.
    pub block_size: BlockSize,
    /// Journals, one for each node that mounts the volume.
    pub journals: Option<u32>,
    /// Size of each journal, in bytes.
    pub journal_bytes: Option<u64>,
    /// Size of a resource group, in bytes.
    pub rgrp_bytes: Option<u64>,
    /// Label; may be empty.
    pub label: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { block_size: BlockSize::MAX, journals: None, journal_bytes: None, rgrp_bytes: None, label: String::new() }
    }
}

/// What makes one volume different from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the volume.
    pub uuid: Uuid,
    /// When it was made.
    pub created: Timestamp,
    /// Where the random numbers come from.
    pub seed: u64,
}

impl Identity {
    /// An identity that nobody else has, unless `uuid` was given.
    #[must_use]
    pub fn new(uuid: Option<Uuid>, created: Timestamp) -> Self {
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        Self { uuid: uuid.unwrap_or_else(Uuid::new_v4), created, seed }
    }

    /// A random number for each `purpose`.
    pub(crate) const fn random(&self, purpose: u32) -> u64 {
        // Two steps of splitmix64.
        let mut number = self.seed.wrapping_add((purpose as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
}

/// Size of each journal of a volume that gives `volume_bytes_per_journal` to each, in bytes.
#[must_use]
pub fn journal_bytes_default(volume_bytes_per_journal: u64) -> u64 {
    let table = [(512, 8), (2 << 10, 16), (8 << 10, 32), (16 << 10, 64), (1 << 20, 128), (10 << 20, 512)];
    let mib = table.iter().find(|(below_mib, _)| volume_bytes_per_journal < below_mib * MIB);
    mib.map_or(JOURNAL_BYTES_MAX, |(_, mib)| mib * MIB)
}

/// Size of the resource groups of a volume, in bytes: so that each journal's node finds some of its own on a small
/// volume, and that a large one does not have more of them than can be looked through.
#[must_use]
pub fn rgrp_bytes_default(volume_bytes: u64, journals: u32) -> u64 {
    const TIB: u64 = 1 << 40;
    const GROUPS_PER_JOURNAL: u64 = 4;
    const SMALL_VOLUME_MIB_MAX: u64 = 256;
    let mib = if volume_bytes < 4 * TIB {
        let share = volume_bytes / (GROUPS_PER_JOURNAL * u64::from(journals.max(1)) * MIB);
        (1 << share.max(1).ilog2()).min(SMALL_VOLUME_MIB_MAX)
    } else if volume_bytes < 16 * TIB {
        512
    } else if volume_bytes < 32 * TIB {
        1024
    } else {
        2048
    };
    (mib * MIB).clamp(RGRP_BYTES_MIN, RGRP_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_size_of_the_volume() {
        const GIB: u64 = 1 << 30;
        // Volume, journals: journal and resource group in MiB.
        for (volume, journals, journal_mib, rgrp_mib) in [
            (GIB / 8, 3, 8, 32),
            (GIB, 8, 8, 32),
            (100 * GIB, 8, 64, 256),
            (1024 * GIB, 8, 128, 256),
            (10 * 1024 * GIB, 8, 512, 512),
            (64 * 1024 * GIB, 8, 512, 2048),
            (64 * 1024 * GIB, 4, 1024, 2048),
        ] {
            assert_eq!(journal_bytes_default(volume / u64::from(journals)) / MIB, journal_mib, "{volume}");
            assert_eq!(rgrp_bytes_default(volume, journals) / MIB, rgrp_mib, "{volume}");
        }
    }
}
