//! lunfs's marker: while it stands, the block checksums of a volume are believed.
//!
//! It stands in the 64 KiB before the superblock, which `fsck.gfs2 -y` and `tunegfs2` zero: a volume that they changed
//! has lost its marker, and with it the claim that its checksums are true.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{U32, U64};

/// Where the marker stands, in bytes. It has a sector of 4 KiB for itself.
pub const OFFSET_BYTES: u64 = 61440;
/// Space that belongs to the marker, in bytes.
pub const SIZE_BYTES: usize = 4096;
/// Starts a marker.
pub const MAGIC: [u8; 8] = *b"lunfsvol";
/// Version of the marker that this crate writes.
pub const VERSION: u32 = 1;

/// The marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawMarker {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// Zero.
    pub flags: U32,
    /// The superblock's UUID: a marker that was copied from elsewhere does not count.
    pub uuid: [u8; 16],
    /// Start of the gap that is kept for the cluster area, in bytes; zero: the volume has none.
    pub area_offset_bytes: U64,
    /// Length of that gap, in bytes.
    pub area_len_bytes: U64,
    /// CRC-32C of the fields above.
    pub crc32c: U32,
    /// Zero.
    pub pad: U32,
}

const _: () = assert!(size_of::<RawMarker>() == 56);

/// Bytes that the crc covers.
const CRC_BYTES: usize = 48;

impl RawMarker {
    /// A marker for the volume with `uuid`, whose gap for the cluster area is `area` (offset and length in bytes).
    #[must_use]
    pub fn new(uuid: [u8; 16], area: Option<(u64, u64)>) -> Self {
        let (offset, len) = area.unwrap_or((0, 0));
        let mut marker = Self {
            magic: MAGIC,
            version: VERSION.into(),
            flags: 0.into(),
            uuid,
            area_offset_bytes: offset.into(),
            area_len_bytes: len.into(),
            crc32c: 0.into(),
            pad: 0.into(),
        };
        marker.crc32c = marker.checksum().into();
        marker
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c(self.as_bytes().get(..CRC_BYTES).unwrap_or_default())
    }

    /// The marker in `bytes`, if it is valid for the volume with `uuid`.
    #[must_use]
    pub fn parse(bytes: &[u8], uuid: [u8; 16]) -> Option<Self> {
        let (raw, _) = Self::read_from_prefix(bytes).ok()?;
        let sound = raw.magic == MAGIC
            && raw.version.get() == VERSION
            && raw.uuid == uuid
            && raw.crc32c.get() == raw.checksum();
        sound.then_some(raw)
    }
}
