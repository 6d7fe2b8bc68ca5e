//! Why a volume cannot be made. The messages are for users: each says what to do.

use block::device::DeviceError;

use crate::options::{
    JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, JOURNALS_MAX, LABEL_BYTES_MAX, MIB, RGRP_BYTES_MAX, RGRP_BYTES_MIN,
};

/// Why no volume can be laid out as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Blocks cannot be smaller than what the device writes.
    #[error(
        "blocks of {block_bytes} bytes are smaller than the device's sectors of {sector_bytes}; use -b {sector_bytes} or larger"
    )]
    BlockBelowSector {
        /// Block size, in bytes.
        block_bytes: u32,
        /// Logical sector, in bytes.
        sector_bytes: u32,
    },
    /// Nothing fits.
    #[error(
        "{size_bytes} bytes are too small for a volume with this block and journal size; the smallest is {minimum_bytes} bytes ({} MiB)",
        minimum_bytes.div_ceil(MIB)
    )]
    TooSmall {
        /// Size of the device, in bytes.
        size_bytes: u64,
        /// Smallest possible size with the same options and one journal, in bytes.
        minimum_bytes: u64,
    },
    /// So many journals do not fit.
    #[error(
        "{journals} journals of {} MiB need a volume of {needed_bytes} bytes and it has {size_bytes}; at most {fit} fit, ask for fewer (-j) or smaller ones (-J)",
        journal_bytes / MIB
    )]
    JournalsDoNotFit {
        /// Journals asked for.
        journals: u32,
        /// Size of each, in bytes.
        journal_bytes: u64,
        /// Size of the volume that they need, in bytes.
        needed_bytes: u64,
        /// Size of the device, in bytes.
        size_bytes: u64,
        /// How many of them fit.
        fit: u32,
    },
    /// No or too many journals.
    #[error(
        "{journals} journals are not possible; choose 1 to {JOURNALS_MAX} (-j), one for each node that mounts the volume at the same time"
    )]
    JournalCount {
        /// Journals asked for.
        journals: u32,
    },
    /// Journals too small or too large.
    #[error("journals of {journal_bytes} bytes are not possible; choose {} to {} MiB (-J)", JOURNAL_BYTES_MIN / MIB, JOURNAL_BYTES_MAX / MIB)]
    JournalSize {
        /// Size asked for, in bytes.
        journal_bytes: u64,
    },
    /// Resource groups too small or too large.
    #[error("resource groups of {rgrp_bytes} bytes are not possible; choose {} to {} MiB (-r)", RGRP_BYTES_MIN / MIB, RGRP_BYTES_MAX / MIB)]
    RgrpSize {
        /// Size asked for, in bytes.
        rgrp_bytes: u64,
    },
    /// The list of so many resource groups does not fit into one of them.
    #[error("a volume of {size_bytes} bytes has too many resource groups of this size; choose larger ones (-r {})", RGRP_BYTES_MAX / MIB)]
    TooManyRgrps {
        /// Size of the device, in bytes.
        size_bytes: u64,
    },
    /// Label too long.
    #[error("the label has {bytes} bytes; at most {LABEL_BYTES_MAX} fit (-L)")]
    LabelLength {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A label that tools could not print or find again.
    #[error("the label contains {character:?}; use letters, digits and punctuation without / (-L)")]
    LabelCharacter {
        /// What does not belong there.
        character: char,
    },
}

/// Why making a volume failed.
#[derive(Debug, thiserror::Error)]
pub enum MkfsError {
    /// It cannot be laid out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan was made for a larger device.
    #[error(
        "the device has {device_bytes} bytes and the volume shall have {plan_bytes}; make it smaller, or the device larger"
    )]
    DeviceTooSmall {
        /// Size of the device, in bytes.
        device_bytes: u64,
        /// Size of the volume, in bytes.
        plan_bytes: u64,
    },
    /// The device failed. No volume is on it now.
    #[error("{doing} failed; there is no usable volume on the device now, repair it and run mkfs again")]
    Device {
        /// What was being done.
        doing: &'static str,
        /// What the device said.
        #[source]
        source: DeviceError,
    },
}
