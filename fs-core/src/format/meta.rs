//! The header that starts every metadata block, and the checksum that lunfs keeps in its unused bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::U32;
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};

/// The magic number of GFS2.
pub const MAGIC: u32 = 0x0116_1970;
/// Size of [`RawMetaHeader`], in bytes.
pub const HEADER_BYTES: usize = size_of::<RawMetaHeader>();

/// Starts each metadata block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawMetaHeader {
    /// [`MAGIC`].
    pub magic: U32,
    /// What the block is, a [`BlockKind`].
    pub kind: U32,
    /// Rises with each write of the block by lunfs; zero: the block has no checksum. Always zero in the superblock and
    /// in log blocks. Unused in GFS2.
    pub version: U32,
    /// CRC-32C over the block's number (u64) and the block, this field and a resource group's own crc taken as zero.
    /// Valid while `version` is not zero. Unused in GFS2.
    pub crc32c: U32,
    /// 100 · kind; readers do not check it.
    pub format: U32,
    /// The journal through which the block was written last. Readers do not check it.
    pub jid: U32,
}

const _: () = {
    assert!(size_of::<RawMetaHeader>() == 24);
    assert!(core::mem::offset_of!(RawMetaHeader, version) == 8);
    assert!(core::mem::offset_of!(RawMetaHeader, format) == 16);
};

/// What a metadata block is. A wrapper and not an `enum`: a number that we do not know must be reportable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKind(pub u32);

impl BlockKind {
    /// Superblock.
    pub const SUPERBLOCK: Self = Self(1);
    /// Resource group header.
    pub const RGRP: Self = Self(2);
    /// Continuation of a resource group's bitmap.
    pub const RGRP_BITMAP: Self = Self(3);
    /// Dinode.
    pub const DINODE: Self = Self(4);
    /// Indirect block.
    pub const INDIRECT: Self = Self(5);
    /// Directory leaf.
    pub const LEAF: Self = Self(6);
    /// Journaled data with a header: blocks of a directory's hash table.
    pub const JOURNALED_DATA: Self = Self(7);
    /// Log header.
    pub const LOG_HEADER: Self = Self(8);
    /// Log descriptor.
    pub const LOG_DESCRIPTOR: Self = Self(9);
    /// Extended attributes.
    pub const XATTR: Self = Self(10);
    /// Value of an extended attribute.
    pub const XATTR_DATA: Self = Self(11);
    /// Continuation of a list of revokes.
    pub const LOG_CONTINUATION: Self = Self(12);
    /// Quota changes.
    pub const QUOTA_CHANGE: Self = Self(14);

    /// The format number that belongs to this kind.
    #[must_use]
    pub const fn format(self) -> u32 {
        self.0.wrapping_mul(100)
    }

    /// The kind carries a version and a checksum on volumes of lunfs.
    #[must_use]
    pub const fn is_checksummed(self) -> bool {
        matches!(self.0, 2..=7 | 10 | 11 | 14)
    }
}

impl std::fmt::Display for BlockKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            Self::SUPERBLOCK => "superblock",
            Self::RGRP => "resource group",
            Self::RGRP_BITMAP => "bitmap",
            Self::DINODE => "dinode",
            Self::INDIRECT => "indirect block",
            Self::LEAF => "directory leaf",
            Self::JOURNALED_DATA => "hash table block",
            Self::LOG_HEADER => "log header",
            Self::LOG_DESCRIPTOR => "log descriptor",
            Self::XATTR => "extended attribute block",
            Self::XATTR_DATA => "extended attribute value",
            Self::LOG_CONTINUATION => "log continuation",
            Self::QUOTA_CHANGE => "quota change block",
            Self(number) => return write!(f, "block of unknown type {number}"),
        })
    }
}

impl RawMetaHeader {
    /// The header of a new block of `kind`.
    #[must_use]
    pub fn new(kind: BlockKind) -> Self {
        Self {
            magic: MAGIC.into(),
            kind: kind.0.into(),
            version: 0.into(),
            crc32c: 0.into(),
            format: kind.format().into(),
            jid: 0.into(),
        }
    }
}

/// The header of `block`, if it is a metadata block.
#[must_use]
pub fn header(block: &[u8]) -> Option<&RawMetaHeader> {
    let (header, _) = RawMetaHeader::ref_from_prefix(block).ok()?;
    (header.magic.get() == MAGIC).then_some(header)
}

/// Puts the header of a new block of `kind` in front of `block`.
pub fn start(block: &mut [u8], kind: BlockKind) {
    if let Some(head) = block.first_chunk_mut::<HEADER_BYTES>() {
        head.copy_from_slice(RawMetaHeader::new(kind).as_bytes());
    }
}

/// Checks magic number and type.
///
/// # Errors
/// `BadMagic`, `WrongKind`.
pub fn check(addr: BlockAddr, block: &[u8], wanted: BlockKind) -> Result<(), FsError> {
    let Some(header) = header(block) else {
        let found = block.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        return Err(CorruptKind::BadMagic { found }.at(addr));
    };
    if header.kind.get() != wanted.0 {
        return Err(CorruptKind::WrongKind { wanted, found: BlockKind(header.kind.get()) }.at(addr));
    }
    Ok(())
}

/// Byte offset of the crc of a resource group's own, which is computed last.
const RGRP_CRC: std::ops::Range<usize> = 64..68;
/// Byte offset of [`RawMetaHeader::crc32c`].
const CRC32C: std::ops::Range<usize> = 12..16;

/// The checksum that belongs into `block` when it stands at `addr`.
#[must_use]
pub fn checksum(addr: BlockAddr, block: &[u8]) -> u32 {
    let part = |range: std::ops::Range<usize>| block.get(range).unwrap_or_default();
    let is_rgrp = header(block).is_some_and(|header| header.kind.get() == BlockKind::RGRP.0);
    let mut crc = crc32c::crc32c(&addr.0.to_be_bytes());
    crc = crc32c::crc32c_append(crc, part(0..CRC32C.start));
    crc = crc32c::crc32c_append(crc, &[0; 4]);
    if is_rgrp {
        crc = crc32c::crc32c_append(crc, part(CRC32C.end..RGRP_CRC.start));
        crc = crc32c::crc32c_append(crc, &[0; 4]);
        crc32c::crc32c_append(crc, part(RGRP_CRC.end..block.len()))
    } else {
        crc32c::crc32c_append(crc, part(CRC32C.end..block.len()))
    }
}

/// Makes a metadata block ready to be written at `addr`: journal number, version and checksums. `version` 0 means that
/// the volume has no checksums. Blocks without such fields stay as they are.
pub fn seal(addr: BlockAddr, block: &mut [u8], jid: u32, version: u32) {
    let Ok((header, _)) = RawMetaHeader::mut_from_prefix(block) else { return };
    if header.magic.get() != MAGIC || !BlockKind(header.kind.get()).is_checksummed() {
        return;
    }
    let is_rgrp = header.kind.get() == BlockKind::RGRP.0;
    header.jid = jid.into();
    header.version = version.into();
    header.crc32c = 0.into();
    if version != 0 {
        let crc = checksum(addr, block);
        if let Some(field) = block.get_mut(CRC32C) {
            field.copy_from_slice(&crc.to_be_bytes());
        }
    }
    if is_rgrp {
        super::rgrp::set_crc(block);
    }
}

/// Checks the checksum of a block that lunfs wrote; a block without one passes.
///
/// # Errors
/// `BadChecksum`.
pub fn verify(addr: BlockAddr, block: &[u8]) -> Result<(), FsError> {
    match header(block) {
        Some(header) if header.version.get() != 0 && BlockKind(header.kind.get()).is_checksummed() => {
            let (found, wanted) = (header.crc32c.get(), checksum(addr, block));
            if found == wanted { Ok(()) } else { Err(CorruptKind::BadChecksum { found, wanted }.at(addr)) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_block_verifies_only_at_its_own_place() {
        for kind in [BlockKind::RGRP, BlockKind::DINODE, BlockKind::LEAF] {
            let mut block = vec![7; 512];
            start(&mut block, kind);
            seal(BlockAddr(9), &mut block, 1, 3);
            verify(BlockAddr(9), &block).unwrap();
            assert!(verify(BlockAddr(10), &block).is_err());
            block[100] ^= 1;
            assert!(verify(BlockAddr(9), &block).is_err());
        }
    }

    #[test]
    fn version_zero_means_no_checksum() {
        let mut block = vec![7; 512];
        start(&mut block, BlockKind::DINODE);
        seal(BlockAddr(9), &mut block, 1, 0);
        assert_eq!(header(&block).unwrap().crc32c.get(), 0);
        block[100] ^= 1;
        verify(BlockAddr(9), &block).unwrap();
    }
}
