//! Contents of the small system files: statfs, inum_range, quota and quota changes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::log::StatfsDelta;
use super::{I64, U32, U64};

/// Content of `statfs`, and of each `statfs_changeN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawStatfs {
    /// Blocks that bitmaps describe.
    pub total: I64,
    /// Free ones among them.
    pub free: I64,
    /// Dinodes.
    pub dinodes: I64,
}

/// Content of `inum_rangeN`; not in use any more.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawInumRange {
    /// First number of the range.
    pub start: U64,
    /// Numbers left in it.
    pub length: U64,
}

/// Record of the file `quota`: users at twice their number, groups at twice their number plus one.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawQuota {
    /// Hard limit, in blocks; zero: none.
    pub limit: U64,
    /// Warning limit, in blocks; zero: none.
    pub warn: U64,
    /// Blocks in use.
    pub value: I64,
    /// Zero.
    pub reserved: [u8; 64],
}

/// Record of `quota_changeN`, behind the metadata header of each of its blocks. In use when `change` is not zero.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawQuotaChange {
    /// Blocks gained or lost.
    pub change: I64,
    /// Bit 0: a user, else a group.
    pub flags: U32,
    /// Whose.
    pub id: U32,
}

/// Quota change files are multiples of this, in bytes.
pub const QUOTA_CHANGE_BYTES: u64 = 1 << 20;
/// Largest quota change file that mkfs makes, in bytes.
pub const QUOTA_CHANGE_BYTES_MAX: u64 = 64 << 20;

impl RawQuotaChange {
    /// Bit of `flags`: a user.
    pub const USER: u32 = 1;
}

const _: () = {
    assert!(size_of::<RawStatfs>() == 24);
    assert!(size_of::<RawInumRange>() == 16);
    assert!(size_of::<RawQuota>() == 88);
    assert!(size_of::<RawQuotaChange>() == 16);
};

impl RawStatfs {
    /// As numbers.
    #[must_use]
    pub fn get(&self) -> StatfsDelta {
        StatfsDelta { total: self.total.get(), free: self.free.get(), dinodes: self.dinodes.get() }
    }

    /// As bytes on disk.
    #[must_use]
    pub fn new(values: StatfsDelta) -> Self {
        Self { total: values.total.into(), free: values.free.into(), dinodes: values.dinodes.into() }
    }
}
