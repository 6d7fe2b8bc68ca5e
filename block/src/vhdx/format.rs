//! The structures of a `.vhdx` file, as Microsoft's published specification (MS-VHDX) gives them. All numbers are
//! little-endian. Nothing here decides anything.

use std::mem::{offset_of, size_of};

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Everything large in the file begins at a multiple of this, in bytes.
pub(crate) const MIB: u64 = 1 << 20;
/// Where the two headers are, in bytes.
pub(crate) const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
/// Where the two region tables are, in bytes.
pub(crate) const REGION_TABLE_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
/// Size of a region table or a metadata table, in bytes.
pub(crate) const TABLE_BYTES: usize = 64 << 10;
/// Most entries in a region table or a metadata table.
pub(crate) const TABLE_ENTRIES_MAX: usize = 2047;
/// Unit of the log, in bytes.
pub(crate) const LOG_SECTOR_BYTES: usize = 4096;
/// Size of the largest disk, in bytes.
pub(crate) const DISK_MAX_BYTES: u64 = 64 << 40;
/// Sectors that one sector bitmap block describes.
pub(crate) const SECTORS_PER_BITMAP: u64 = 1 << 23;
/// Length of an entry in the block table, in bytes.
pub(crate) const BAT_ENTRY_BYTES: u64 = 8;

/// First bytes of the file.
pub(crate) const SIGNATURE: [u8; 8] = *b"vhdxfile";
/// First bytes of a header.
pub(crate) const HEADER_SIGNATURE: [u8; 4] = *b"head";
/// First bytes of a region table.
pub(crate) const REGION_SIGNATURE: [u8; 4] = *b"regi";
/// First bytes of a metadata table.
pub(crate) const METADATA_SIGNATURE: [u8; 8] = *b"metadata";
/// First bytes of a log entry.
pub(crate) const LOG_SIGNATURE: [u8; 4] = *b"loge";
/// First bytes of a descriptor that zeroes a range.
pub(crate) const ZERO_SIGNATURE: [u8; 4] = *b"zero";
/// First bytes of a descriptor that writes a sector.
pub(crate) const DATA_SIGNATURE: [u8; 4] = *b"desc";
/// First bytes of a sector of a log entry's data.
pub(crate) const DATA_SECTOR_SIGNATURE: [u8; 4] = *b"data";

/// An identifier as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub(crate) struct Guid(pub(crate) [u8; 16]);

impl Guid {
    /// No identifier.
    pub(crate) const NIL: Self = Self([0; 16]);
    /// Region: the block table.
    pub(crate) const REGION_BAT: Self = Self::of(0x2DC2_7766_F623_4200_9D64_115E_9BFD_4A08);
    /// Region: metadata.
    pub(crate) const REGION_METADATA: Self = Self::of(0x8B7C_A206_4790_4B9A_B8FE_575F_050F_886E);
    /// Metadata item: file parameters.
    pub(crate) const FILE_PARAMETERS: Self = Self::of(0xCAA1_6737_FA36_4D43_B3B6_33F0_AA44_E76B);
    /// Metadata item: size of the disk.
    pub(crate) const DISK_SIZE: Self = Self::of(0x2FA5_4224_CD1B_4876_B211_5DBE_D83B_F4B8);
    /// Metadata item: identity of the disk.
    pub(crate) const DISK_ID: Self = Self::of(0xBECA_12AB_B2E6_4523_93EF_C309_E000_C746);
    /// Metadata item: logical sector size.
    pub(crate) const LOGICAL_SECTOR: Self = Self::of(0x8141_BF1D_A96F_4709_BA47_F233_A8FA_AB5F);
    /// Metadata item: physical sector size.
    pub(crate) const PHYSICAL_SECTOR: Self = Self::of(0xCDA3_48C7_445D_4471_9CC9_E988_5251_C556);
    /// Metadata item: where the parent of a differencing disk is.
    pub(crate) const PARENT_LOCATOR: Self = Self::of(0xA8D3_5F2D_B30B_454D_ABF7_D3D8_4834_AB0C);

    const fn of(value: u128) -> Self {
        Self(Uuid::from_u128(value).to_bytes_le())
    }

    /// A new identifier.
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().to_bytes_le())
    }

    /// In the form that is printed.
    pub(crate) fn uuid(self) -> Uuid {
        Uuid::from_bytes_le(self.0)
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeader {
    /// `HEADER_SIGNATURE`.
    pub(crate) signature: [u8; 4],
    /// CRC-32C of the header with this field zero.
    pub(crate) checksum: U32,
    /// The header with the greater number is in force.
    pub(crate) sequence: U64,
    /// Changes when the file is written for the first time after it was opened.
    pub(crate) file_write_id: Guid,
    /// Changes when the disk's content is written for the first time after it was opened.
    pub(crate) data_write_id: Guid,
    /// Names the log entries that are to be replayed; nil when there are none.
    pub(crate) log_id: Guid,
    /// Version of the log.
    pub(crate) log_version: U16,
    /// Version of the format.
    pub(crate) version: U16,
    /// Length of the log, in bytes.
    pub(crate) log_len_bytes: U32,
    /// Where the log is, in bytes from the start of the file.
    pub(crate) log_offset_bytes: U64,
    /// Zero.
    pub(crate) reserved: [u8; 4016],
}

/// Start of a region table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRegionTable {
    /// `REGION_SIGNATURE`.
    pub(crate) signature: [u8; 4],
    /// CRC-32C of the table's 64 KiB with this field zero.
    pub(crate) checksum: U32,
    /// How many entries follow.
    pub(crate) entry_count: U32,
    /// Zero.
    pub(crate) reserved: U32,
}

/// An entry of a region table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRegion {
    /// What the region is.
    pub(crate) id: Guid,
    /// Where it is, in bytes from the start of the file.
    pub(crate) offset_bytes: U64,
    /// How long, in bytes.
    pub(crate) len_bytes: U32,
    /// Bit 0: who does not know the region may not open the file.
    pub(crate) required: U32,
}

/// Start of the metadata table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMetadataTable {
    /// `METADATA_SIGNATURE`.
    pub(crate) signature: [u8; 8],
    /// Zero.
    pub(crate) reserved: U16,
    /// How many entries follow.
    pub(crate) entry_count: U16,
    /// Zero.
    pub(crate) reserved2: [u8; 20],
}

/// An entry of the metadata table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMetadata {
    /// What the item is.
    pub(crate) id: Guid,
    /// Where it is, in bytes from the start of the metadata region.
    pub(crate) offset_bytes: U32,
    /// How long, in bytes.
    pub(crate) len_bytes: U32,
    /// `METADATA_DISK` and `METADATA_REQUIRED`; bit 0 marks items of the user.
    pub(crate) flags: U32,
    /// Zero.
    pub(crate) reserved: U32,
}

/// Flag of a metadata item: describes the disk, not the file.
pub(crate) const METADATA_DISK: u32 = 2;
/// Flag of a metadata item: who does not know it may not open the file.
pub(crate) const METADATA_REQUIRED: u32 = 4;

/// Metadata item: file parameters.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawFileParameters {
    /// Size of a payload block, in bytes.
    pub(crate) block_bytes: U32,
    /// Bit 0: blocks stay allocated (a fixed disk). Bit 1: the disk has a parent.
    pub(crate) flags: U32,
}

/// Flag of the file parameters: blocks stay allocated.
pub(crate) const PARAMETER_FIXED: u32 = 1;
/// Flag of the file parameters: the disk has a parent.
pub(crate) const PARAMETER_HAS_PARENT: u32 = 2;

/// Start of a log entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawLogEntry {
    /// `LOG_SIGNATURE`.
    pub(crate) signature: [u8; 4],
    /// CRC-32C of the entry with this field zero.
    pub(crate) checksum: U32,
    /// Length of the entry, in bytes; whole log sectors.
    pub(crate) len_bytes: U32,
    /// Where the oldest entry is that is to be replayed, in bytes from the start of the log.
    pub(crate) tail_bytes: U32,
    /// One more than that of the entry before.
    pub(crate) sequence: U64,
    /// How many descriptors follow.
    pub(crate) descriptor_count: U32,
    /// Zero.
    pub(crate) reserved: U32,
    /// The header's identifier of the log.
    pub(crate) log_id: Guid,
    /// The file had this many bytes, durably, when the entry was written.
    pub(crate) flushed_bytes: U64,
    /// The file has at least this many bytes when the entry is in force.
    pub(crate) file_bytes: U64,
}

/// A descriptor in a log entry. Which kind it is, the signature says; both have the same shape.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDescriptor {
    /// `ZERO_SIGNATURE` or `DATA_SIGNATURE`.
    pub(crate) signature: [u8; 4],
    /// Data: the last 4 bytes of the sector. Zero: nothing.
    pub(crate) trailing: [u8; 4],
    /// Data: the first 8 bytes of the sector. Zero: how many bytes are zeroed.
    pub(crate) leading: [u8; 8],
    /// Where, in bytes from the start of the file.
    pub(crate) offset_bytes: U64,
    /// The entry's.
    pub(crate) sequence: U64,
}

/// A sector of a log entry's data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDataSector {
    /// `DATA_SECTOR_SIGNATURE`.
    pub(crate) signature: [u8; 4],
    /// Upper half of the entry's sequence number.
    pub(crate) sequence_high: U32,
    /// What stands between the leading and the trailing bytes of the descriptor.
    pub(crate) middle: [u8; 4084],
    /// Lower half of the entry's sequence number.
    pub(crate) sequence_low: U32,
}

const _: () = {
    assert!(size_of::<RawHeader>() == 4096);
    assert!(offset_of!(RawHeader, log_offset_bytes) == 72);
    assert!(size_of::<RawRegionTable>() == 16);
    assert!(size_of::<RawRegion>() == 32);
    assert!(size_of::<RawMetadataTable>() == 32);
    assert!(size_of::<RawMetadata>() == 32);
    assert!(size_of::<RawFileParameters>() == 8);
    assert!(size_of::<RawLogEntry>() == 64);
    assert!(size_of::<RawDescriptor>() == 32);
    assert!(size_of::<RawDataSector>() == LOG_SECTOR_BYTES);
    assert!(offset_of!(RawHeader, checksum) == CHECKSUM_AT);
    assert!(offset_of!(RawRegionTable, checksum) == CHECKSUM_AT);
    assert!(offset_of!(RawLogEntry, checksum) == CHECKSUM_AT);
};

/// Where the checksum stands in each structure that has one, in bytes.
const CHECKSUM_AT: usize = 4;

/// CRC-32C of a structure with its checksum taken as zero. What is too short to have one has no right one either.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let (Some(before), Some(after)) = (bytes.get(..CHECKSUM_AT), bytes.get(CHECKSUM_AT + 4..)) else { return 0 };
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(crc, after)
}
