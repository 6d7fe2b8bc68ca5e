//! Resource groups: the rindex entry that places one, its header, and its bitmap of two bits a block.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::block_size::BlockSize;
use super::meta::{self, BlockKind, RawMetaHeader};
use super::{U32, U64};
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};

/// Size of [`RawRgrpHeader`], in bytes: the bitmap starts there.
pub const HEADER_BYTES: usize = size_of::<RawRgrpHeader>();
/// Size of [`RawRindexEntry`], in bytes.
pub const RINDEX_ENTRY_BYTES: usize = size_of::<RawRindexEntry>();
/// Blocks that one byte of bitmap describes.
pub const BLOCKS_PER_BYTE: u32 = 4;
/// Most header and bitmap blocks a resource group may have.
pub const LENGTH_MAX: u32 = 2149;
/// The allocator must leave the group alone.
pub const FLAG_NOALLOC: u32 = 8;
/// Nothing was freed since the group was last trimmed.
pub const FLAG_TRIMMED: u32 = 0x10;

/// Places one resource group; the file `rindex` is an array of these, sorted by address.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawRindexEntry {
    /// Header block.
    pub addr: U64,
    /// Header and bitmap blocks.
    pub length: U32,
    /// Zero.
    pub pad: U32,
    /// First block that the bitmap describes.
    pub data0: U64,
    /// How many blocks it describes.
    pub data: U32,
    /// Bytes of bitmap.
    pub bitbytes: U32,
    /// Zero.
    pub reserved: [u8; 64],
}

/// Header of a resource group.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawRgrpHeader {
    /// Type 2.
    pub meta: RawMetaHeader,
    /// `FLAG_…`; the high four bits are reserved.
    pub flags: U32,
    /// Blocks in state free.
    pub free: U32,
    /// Blocks in states dinode and unlinked.
    pub dinodes: U32,
    /// Distance to the next group's header, zero in the last one. A hint.
    pub skip: U32,
    /// Generation number that the next inode of this group gets.
    pub igeneration: U64,
    /// Copy of the rindex entry; zero on old volumes.
    pub data0: U64,
    /// Copy of the rindex entry; zero on old volumes.
    pub data: U32,
    /// Copy of the rindex entry; zero on old volumes.
    pub bitbytes: U32,
    /// CRC-32 of this header with the field itself zero; zero: not set.
    pub crc: U32,
    /// Zero.
    pub reserved: [u8; 60],
}

const _: () = {
    assert!(size_of::<RawRindexEntry>() == 96);
    assert!(core::mem::offset_of!(RawRindexEntry, data0) == 16);
    assert!(size_of::<RawRgrpHeader>() == 128);
    assert!(core::mem::offset_of!(RawRgrpHeader, igeneration) == 40);
    assert!(core::mem::offset_of!(RawRgrpHeader, crc) == 64);
};

/// State of a block in the bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockState {
    /// Nobody's.
    Free = 0,
    /// Data, indirect block, leaf, hash table, extended attributes.
    Used = 1,
    /// Dinode without names that waits to be freed.
    Unlinked = 2,
    /// Dinode.
    Dinode = 3,
}

impl BlockState {
    /// The low two bits of `bits`.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Free,
            1 => Self::Used,
            2 => Self::Unlinked,
            _ => Self::Dinode,
        }
    }

    /// A block may go from this state to `next`; any other step is a broken volume or a bug.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Free, Self::Used | Self::Dinode)
                | (Self::Dinode, Self::Unlinked | Self::Free)
                | (Self::Used | Self::Unlinked, Self::Free)
        )
    }
}

/// Where a resource group stands. Every relation between the fields has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RgrpPlace {
    /// Header block.
    pub addr: BlockAddr,
    /// Header and bitmap blocks.
    pub length: u32,
    /// First block that the bitmap describes.
    pub data0: BlockAddr,
    /// How many blocks it describes; a multiple of four.
    pub data: u32,
}

impl RgrpPlace {
    /// Checks an rindex entry. `entry_block` is where it was read, for the error.
    ///
    /// # Errors
    /// `RindexGeometry`.
    pub fn parse(entry_block: BlockAddr, raw: &RawRindexEntry, block_size: BlockSize) -> Result<Self, FsError> {
        let corrupt = || CorruptKind::RindexGeometry { rgrp: raw.addr.get() }.at(entry_block);
        let (addr, length, data0, data) = (raw.addr.get(), raw.length.get(), raw.data0.get(), raw.data.get());
        let sound = addr > superblock_block(block_size)
            && data != 0
            && data.is_multiple_of(BLOCKS_PER_BYTE)
            && raw.bitbytes.get() == data / BLOCKS_PER_BYTE
            && length <= LENGTH_MAX
            && length == length_for(data, block_size)
            && addr.checked_add(u64::from(length)) == Some(data0)
            && data0.checked_add(u64::from(data)).is_some_and(|end| end < 1 << 56);
        if !sound {
            return Err(corrupt());
        }
        Ok(Self { addr: BlockAddr(addr), length, data0: BlockAddr(data0), data })
    }

    /// The entry of this group in `rindex`.
    #[must_use]
    pub fn to_raw(&self) -> RawRindexEntry {
        RawRindexEntry {
            addr: self.addr.0.into(),
            length: self.length.into(),
            pad: 0.into(),
            data0: self.data0.0.into(),
            data: self.data.into(),
            bitbytes: (self.data / BLOCKS_PER_BYTE).into(),
            reserved: [0; 64],
        }
    }

    /// First block after the group.
    #[must_use]
    pub const fn end(&self) -> BlockAddr {
        BlockAddr(self.data0.0 + self.data as u64)
    }

    /// The index in the bitmap of `block`; `None` when the bitmap does not describe it.
    #[must_use]
    pub fn index_of(&self, block: BlockAddr) -> Option<u32> {
        let index = u32::try_from(block.0.checked_sub(self.data0.0)?).ok()?;
        (index < self.data).then_some(index)
    }

    /// The block at `index` of the bitmap.
    #[must_use]
    pub const fn block_at(&self, index: u32) -> BlockAddr {
        BlockAddr(self.data0.0 + index as u64)
    }

    /// Which of the group's header blocks holds the bits of `index`, the byte in it, and the shift in that byte.
    #[must_use]
    pub fn bit_position(&self, index: u32, block_size: BlockSize) -> BitPosition {
        let byte = (index / BLOCKS_PER_BYTE) as usize;
        let shift = (index % BLOCKS_PER_BYTE) * 2;
        let first = block_size.bitmap_bytes_first();
        if byte < first {
            return BitPosition { header_block: 0, byte: HEADER_BYTES + byte, shift };
        }
        let (further, within) =
            ((byte - first) / block_size.bitmap_bytes_next(), (byte - first) % block_size.bitmap_bytes_next());
        let header_block = u32::try_from(further).unwrap_or(u32::MAX).saturating_add(1);
        BitPosition { header_block, byte: meta::HEADER_BYTES + within, shift }
    }
}

/// Where the two bits of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitPosition {
    /// Block of the group's header, 0 is the header itself.
    pub header_block: u32,
    /// Byte in that block.
    pub byte: usize,
    /// Shift of the two bits in that byte.
    pub shift: u32,
}

/// Header and bitmap blocks that a group of `data` blocks needs.
#[must_use]
pub fn length_for(data: u32, block_size: BlockSize) -> u32 {
    let beyond = ((data / BLOCKS_PER_BYTE) as usize).saturating_sub(block_size.bitmap_bytes_first());
    u32::try_from(beyond.div_ceil(block_size.bitmap_bytes_next())).unwrap_or(u32::MAX).saturating_add(1)
}

/// The superblock's block number, the lowest address that no group may reach down to.
fn superblock_block(block_size: BlockSize) -> u64 {
    super::superblock::Superblock::addr(block_size).0
}

/// The counters of a resource group, checked against its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RgrpHeader {
    /// `FLAG_…`.
    pub flags: u32,
    /// Free blocks.
    pub free: u32,
    /// Dinodes, unlinked ones included.
    pub dinodes: u32,
    /// Generation number that the next inode of this group gets.
    pub igeneration: u64,
}

impl RgrpHeader {
    /// Checks the header block of the group at `place`.
    ///
    /// # Errors
    /// `BadMagic`, `WrongKind`, `RgrpCrc`, `RgrpCounts`.
    pub fn parse(place: &RgrpPlace, block: &[u8]) -> Result<Self, FsError> {
        meta::check(place.addr, block, BlockKind::RGRP)?;
        let (raw, _) = RawRgrpHeader::ref_from_prefix(block).map_err(|_| CorruptKind::ShortBlock.at(place.addr))?;
        if raw.crc.get() != 0 && raw.crc.get() != header_crc(raw) {
            return Err(CorruptKind::RgrpCrc { found: raw.crc.get(), wanted: header_crc(raw) }.at(place.addr));
        }
        let (free, dinodes) = (raw.free.get(), raw.dinodes.get());
        if free.checked_add(dinodes).is_none_or(|used| used > place.data) {
            return Err(CorruptKind::RgrpCounts { free, dinodes, data: place.data }.at(place.addr));
        }
        Ok(Self { flags: raw.flags.get(), free, dinodes, igeneration: raw.igeneration.get() })
    }

    /// Writes the counters into the header block of the group, and a crc that is right for them: the image is read again
    /// before it is sealed.
    pub fn write_to(&self, block: &mut [u8]) {
        if let Ok((raw, _)) = RawRgrpHeader::mut_from_prefix(block) {
            raw.flags = self.flags.into();
            raw.free = self.free.into();
            raw.dinodes = self.dinodes.into();
            raw.igeneration = self.igeneration.into();
            raw.crc = header_crc(raw).into();
        }
    }
}

fn header_crc(raw: &RawRgrpHeader) -> u32 {
    let mut copy = *raw;
    copy.crc = 0.into();
    crc32fast::hash(copy.as_bytes())
}

/// Sets the crc of the resource group header at the start of `block`.
pub fn set_crc(block: &mut [u8]) {
    if let Ok((raw, _)) = RawRgrpHeader::mut_from_prefix(block) {
        raw.crc = header_crc(raw).into();
    }
}
