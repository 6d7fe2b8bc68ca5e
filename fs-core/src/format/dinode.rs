//! Dinodes: one block per inode, with the content of small files, or the root of the pointer tree, behind the header.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::block_size::BlockSize;
use super::meta::{self, BlockKind, RawMetaHeader};
use super::superblock::RawInum;
use super::{I64, U16, U32, U64};
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::{FileKind, Timestamp};
use crate::error::{CorruptKind, FsError};

/// Size of [`RawDinode`], in bytes: content or pointers start there.
pub const HEADER_BYTES: usize = size_of::<RawDinode>();
/// Deepest hash table of a directory.
pub const DIR_DEPTH_MAX: u16 = 17;
/// `payload_format` of a directory whose entries are in its dinode.
pub const PAYLOAD_DIRENTS: u32 = 1200;

/// Bits of `di_flags`.
pub mod flags {
    /// Content goes through the journal. All directories have it.
    pub const JDATA: u32 = 0x1;
    /// The directory uses a hash table.
    pub const EXHASH: u32 = 0x2;
    /// `eattr` points to an indirect block.
    pub const EA_INDIRECT: u32 = 0x8;
    /// chattr +i.
    pub const IMMUTABLE: u32 = 0x20;
    /// chattr +a.
    pub const APPENDONLY: u32 = 0x40;
    /// chattr +A.
    pub const NOATIME: u32 = 0x80;
    /// chattr +S.
    pub const SYNC: u32 = 0x100;
    /// A system file.
    pub const SYSTEM: u32 = 0x200;
    /// chattr +T.
    pub const TOPDIR: u32 = 0x400;
    /// A truncation began and has to be finished by whoever locks the inode next.
    pub const TRUNC_IN_PROG: u32 = 0x2000_0000;
    /// New files of the directory get `JDATA`.
    pub const INHERIT_JDATA: u32 = 0x8000_0000;
}

/// Header of a dinode.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawDinode {
    /// Type 4.
    pub meta: RawMetaHeader,
    /// The inode's number; `addr` is the block itself.
    pub num: RawInum,
    /// Type and permissions, as POSIX.
    pub mode: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Number of names; directories: 2 + subdirectories.
    pub nlink: U32,
    /// Size, in bytes. Directories: space for entries in the dinode, or size of the hash table.
    pub size: U64,
    /// Blocks of the inode, itself and all its metadata included.
    pub blocks: U64,
    /// Seconds of last access.
    pub atime: I64,
    /// Seconds of last change of the content.
    pub mtime: I64,
    /// Seconds of last change of the inode.
    pub ctime: I64,
    /// Major number of device nodes.
    pub major: U32,
    /// Minor number of device nodes.
    pub minor: U32,
    /// Where to allocate next; must lie inside the volume.
    pub goal_meta: U64,
    /// Where to allocate data next.
    pub goal_data: U64,
    /// Generation, for file handles.
    pub generation: U64,
    /// [`flags`].
    pub flags: U32,
    /// 1200 for a directory whose entries are in the dinode, else zero. Not checked by readers.
    pub payload_format: U32,
    /// Zero.
    pub pad1: U16,
    /// Levels of the pointer tree; zero: content is in the dinode.
    pub height: U16,
    /// Zero.
    pub pad2: U32,
    /// Zero.
    pub pad3: U16,
    /// Directories: binary logarithm of the hash table's length.
    pub depth: U16,
    /// Directories: number of entries, `.` and `..` included.
    pub entries: U32,
    /// Zero.
    pub pad4: RawInum,
    /// Block of extended attributes, or zero.
    pub eattr: U64,
    /// Nanoseconds of `atime`.
    pub atime_nsec: U32,
    /// Nanoseconds of `mtime`.
    pub mtime_nsec: U32,
    /// Nanoseconds of `ctime`.
    pub ctime_nsec: U32,
    /// Zero.
    pub reserved: [u8; 44],
}

const _: () = {
    assert!(size_of::<RawDinode>() == 232);
    assert!(core::mem::offset_of!(RawDinode, mode) == 40);
    assert!(core::mem::offset_of!(RawDinode, size) == 56);
    assert!(core::mem::offset_of!(RawDinode, atime) == 72);
    assert!(core::mem::offset_of!(RawDinode, goal_meta) == 104);
    assert!(core::mem::offset_of!(RawDinode, flags) == 128);
    assert!(core::mem::offset_of!(RawDinode, height) == 138);
    assert!(core::mem::offset_of!(RawDinode, depth) == 146);
    assert!(core::mem::offset_of!(RawDinode, eattr) == 168);
    assert!(core::mem::offset_of!(RawDinode, reserved) == 188);
};

/// A dinode's header that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dinode {
    /// The inode.
    pub ino: InodeNo,
    /// Formal number.
    pub formal: u64,
    /// File type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Size, in bytes.
    pub size: u64,
    /// Blocks of the inode, itself included.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Major and minor number of device nodes.
    pub rdev: (u32, u32),
    /// Where to allocate next.
    pub goal: BlockAddr,
    /// Generation.
    pub generation: u64,
    /// [`flags`].
    pub flags: u32,
    /// Levels of the pointer tree.
    pub height: u16,
    /// Directories: depth of the hash table.
    pub depth: u16,
    /// Directories: number of entries.
    pub entries: u32,
    /// Block of extended attributes.
    pub eattr: Option<BlockAddr>,
}

impl Dinode {
    /// Checks the dinode in `block`, which stands at `ino`.
    ///
    /// # Errors
    /// The first rule that failed.
    pub fn parse(ino: InodeNo, block: &[u8], block_size: BlockSize) -> Result<Self, FsError> {
        let dinode = Self::decode(ino, block)?;
        dinode.check_shape(block_size).map_err(|kind| kind.at(ino.addr()))?;
        Ok(dinode)
    }

    /// As [`Self::parse`], but only checks that the block is the dinode `ino` at all; the rest is for
    /// [`Self::check_shape`].
    ///
    /// # Errors
    /// `BadMagic`, `WrongKind`, `ShortBlock`, `DinodeAddress`, `DinodeMode`.
    pub fn decode(ino: InodeNo, block: &[u8]) -> Result<Self, FsError> {
        let addr = ino.addr();
        let corrupt = |kind: CorruptKind| kind.at(addr);
        meta::check(addr, block, BlockKind::DINODE)?;
        let (raw, _) = RawDinode::ref_from_prefix(block).map_err(|_| corrupt(CorruptKind::ShortBlock))?;
        if raw.num.addr.get() != addr.0 {
            return Err(corrupt(CorruptKind::DinodeAddress { found: raw.num.addr.get() }));
        }
        let mode = raw.mode.get();
        let kind = FileKind::from_mode(mode).ok_or_else(|| corrupt(CorruptKind::DinodeMode { mode }))?;
        Ok(Self {
            ino,
            formal: raw.num.formal.get(),
            kind,
            permissions: mode & 0o7777,
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            nlink: raw.nlink.get(),
            size: raw.size.get(),
            blocks: raw.blocks.get(),
            atime: Timestamp { sec: raw.atime.get(), nsec: raw.atime_nsec.get() },
            mtime: Timestamp { sec: raw.mtime.get(), nsec: raw.mtime_nsec.get() },
            ctime: Timestamp { sec: raw.ctime.get(), nsec: raw.ctime_nsec.get() },
            rdev: (raw.major.get(), raw.minor.get()),
            goal: BlockAddr(raw.goal_meta.get()),
            generation: raw.generation.get(),
            flags: raw.flags.get(),
            height: raw.height.get(),
            depth: raw.depth.get(),
            entries: raw.entries.get(),
            eattr: InodeNo::new(raw.eattr.get()).map(InodeNo::addr),
        })
    }

    /// Height, depth and size fit each other.
    ///
    /// # Errors
    /// The first rule that failed.
    pub fn check_shape(&self, block_size: BlockSize) -> Result<(), CorruptKind> {
        if self.height > block_size.height_max() {
            return Err(CorruptKind::DinodeHeight { height: self.height });
        }
        if self.size > i64::MAX.unsigned_abs() {
            return Err(CorruptKind::DinodeSize { size: self.size });
        }
        if self.kind == FileKind::Directory && self.is_hashed() {
            if self.depth < block_size.hash_depth_initial() || self.depth > DIR_DEPTH_MAX {
                return Err(CorruptKind::DirectoryDepth { depth: self.depth });
            }
            if self.size != 8 << self.depth {
                return Err(CorruptKind::DirectorySize { size: self.size, depth: self.depth });
            }
        } else if self.kind == FileKind::Directory && self.height != 0 {
            return Err(CorruptKind::DinodeHeight { height: self.height });
        }
        let stuffed_max = block_size.stuffed_bytes_max() as u64;
        if self.height == 0 && self.size > stuffed_max {
            return Err(CorruptKind::StuffedSize { size: self.size });
        }
        if self.kind == FileKind::Symlink && (self.height != 0 || self.size == 0) {
            return Err(CorruptKind::SymlinkShape { size: self.size, height: self.height });
        }
        Ok(())
    }

    /// Writes the header into `block`; what stands behind it stays. The block gets a new metadata header only if it
    /// has none yet.
    pub fn write_to(&self, block: &mut [u8]) {
        if meta::header(block).is_none_or(|header| header.kind.get() != BlockKind::DINODE.0) {
            meta::start(block, BlockKind::DINODE);
        }
        let Ok((raw, _)) = RawDinode::mut_from_prefix(block) else { return };
        raw.num = RawInum { formal: self.formal.into(), addr: self.ino.get().into() };
        raw.mode = (self.kind.mode_bits() | self.permissions).into();
        raw.uid = self.uid.into();
        raw.gid = self.gid.into();
        raw.nlink = self.nlink.into();
        raw.size = self.size.into();
        raw.blocks = self.blocks.into();
        raw.atime = self.atime.sec.into();
        raw.mtime = self.mtime.sec.into();
        raw.ctime = self.ctime.sec.into();
        raw.atime_nsec = self.atime.nsec.into();
        raw.mtime_nsec = self.mtime.nsec.into();
        raw.ctime_nsec = self.ctime.nsec.into();
        raw.major = self.rdev.0.into();
        raw.minor = self.rdev.1.into();
        raw.goal_meta = self.goal.0.into();
        raw.goal_data = self.goal.0.into();
        raw.generation = self.generation.into();
        raw.flags = self.flags.into();
        raw.payload_format =
            if self.kind == FileKind::Directory && !self.is_hashed() { PAYLOAD_DIRENTS } else { 0 }.into();
        raw.height = self.height.into();
        raw.depth = self.depth.into();
        raw.entries = self.entries.into();
        raw.eattr = self.eattr.map_or(0, |addr| addr.0).into();
    }

    /// The directory uses a hash table.
    #[must_use]
    pub const fn is_hashed(&self) -> bool {
        self.flags & flags::EXHASH != 0
    }

    /// The content is in the dinode itself.
    #[must_use]
    pub const fn is_stuffed(&self) -> bool {
        self.height == 0
    }

    /// The content goes through the journal.
    #[must_use]
    pub const fn is_journaled(&self) -> bool {
        self.flags & flags::JDATA != 0
    }
}
