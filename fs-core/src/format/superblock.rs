//! The superblock: one copy, at byte 65536. While a volume is mounted, only its label is written.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::block_size::BlockSize;
use super::meta::{self, BlockKind, RawMetaHeader};
use super::{U32, U64};
use crate::addr::{BlockAddr, InodeNo};
use crate::error::{CorruptKind, FsError};

/// Where the superblock starts, in bytes.
pub const OFFSET_BYTES: u64 = 65536;
/// Size of [`RawSuperblock`], in bytes; read at least this much.
pub const SIZE_BYTES: usize = size_of::<RawSuperblock>();
/// Oldest format that is understood.
pub const FORMAT_MIN: u32 = 1801;
/// Newest format, which new volumes get.
pub const FORMAT_MAX: u32 = 1802;
/// `multihost_format` of every volume.
pub const MULTIHOST_FORMAT: u32 = 1900;
/// Size of the name fields, in bytes, including a terminating zero.
pub const NAME_BYTES: usize = 64;
/// The lock protocol of volumes made by lunfs. The kernel refuses to mount it, so nobody mounts one uncoordinated.
pub const LOCK_PROTOCOL: &str = "lock_lunfs";

/// A pair that names an inode for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawInum {
    /// Formal number: the generation in its resource group.
    pub formal: U64,
    /// Block of the dinode.
    pub addr: U64,
}

/// The superblock.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawSuperblock {
    /// Type 1.
    pub meta: RawMetaHeader,
    /// 1801 or 1802.
    pub fs_format: U32,
    /// 1900.
    pub multihost_format: U32,
    /// Zero.
    pub pad0: U32,
    /// Block size, in bytes.
    pub block_size: U32,
    /// Its binary logarithm.
    pub block_size_shift: U32,
    /// Zero.
    pub pad1: U32,
    /// Directory of the system files.
    pub master_dir: RawInum,
    /// Zero.
    pub pad2: RawInum,
    /// Root directory.
    pub root_dir: RawInum,
    /// Lock protocol, padded with zeroes.
    pub lock_proto: [u8; NAME_BYTES],
    /// Lock table, which is the label; padded with zeroes.
    pub lock_table: [u8; NAME_BYTES],
    /// Zero.
    pub pad3: RawInum,
    /// Zero.
    pub pad4: RawInum,
    /// UUID; may be zero.
    pub uuid: [u8; 16],
}

const _: () = {
    assert!(size_of::<RawSuperblock>() == 272);
    assert!(core::mem::offset_of!(RawSuperblock, block_size) == 36);
    assert!(core::mem::offset_of!(RawSuperblock, master_dir) == 48);
    assert!(core::mem::offset_of!(RawSuperblock, lock_proto) == 96);
    assert!(core::mem::offset_of!(RawSuperblock, uuid) == 256);
};

/// A superblock that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// 1801 or 1802.
    pub fs_format: u32,
    /// Block size.
    pub block_size: BlockSize,
    /// Directory of the system files.
    pub master: InodeNo,
    /// Root directory.
    pub root: InodeNo,
    /// Lock protocol.
    pub lock_proto: String,
    /// Lock table: the label.
    pub lock_table: String,
    /// UUID; may be zero.
    pub uuid: [u8; 16],
}

impl Superblock {
    /// The block that holds the superblock.
    #[must_use]
    pub const fn addr(block_size: BlockSize) -> BlockAddr {
        BlockAddr(OFFSET_BYTES >> block_size.shift())
    }

    /// Checks the bytes that stand at [`OFFSET_BYTES`].
    ///
    /// # Errors
    /// The first rule that failed. Addresses in these errors are block numbers for 4 KiB blocks, since the block size
    /// is not known yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, FsError> {
        let addr = Self::addr(BlockSize::MAX);
        let corrupt = |kind: CorruptKind| kind.at(addr);
        meta::check(addr, bytes, BlockKind::SUPERBLOCK)?;
        let (raw, _) = RawSuperblock::ref_from_prefix(bytes).map_err(|_| corrupt(CorruptKind::ShortBlock))?;
        let fs_format = raw.fs_format.get();
        if !(FORMAT_MIN..=FORMAT_MAX).contains(&fs_format) {
            return Err(corrupt(CorruptKind::FsFormat { found: fs_format }));
        }
        if raw.multihost_format.get() != MULTIHOST_FORMAT {
            return Err(corrupt(CorruptKind::MultihostFormat { found: raw.multihost_format.get() }));
        }
        let block_size = BlockSize::new(raw.block_size.get())
            .filter(|size| size.shift() == raw.block_size_shift.get())
            .ok_or_else(|| corrupt(CorruptKind::BlockSize { found: raw.block_size.get() }))?;
        let inode = |inum: RawInum| InodeNo::new(inum.addr.get()).ok_or_else(|| corrupt(CorruptKind::NullInode));
        Ok(Self {
            fs_format,
            block_size,
            master: inode(raw.master_dir)?,
            root: inode(raw.root_dir)?,
            lock_proto: name(&raw.lock_proto),
            lock_table: name(&raw.lock_table),
            uuid: raw.uuid,
        })
    }
}

/// Puts `text` into the superblock at the start of `block` as its lock table; what is too long is cut.
pub fn set_lock_table(block: &mut [u8], text: &str) {
    if let Ok((raw, _)) = RawSuperblock::mut_from_prefix(block) {
        raw.lock_table = name_field(text);
    }
}

/// The text of a padded name field.
fn name(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// A padded name field; what is too long is cut so that a zero remains.
#[must_use]
pub fn name_field(text: &str) -> [u8; NAME_BYTES] {
    let mut field = [0; NAME_BYTES];
    for (to, from) in field.iter_mut().take(NAME_BYTES - 1).zip(text.bytes()) {
        *to = from;
    }
    field
}
