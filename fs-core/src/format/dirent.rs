//! Directory entries, and the leaf blocks that hold them in hashed directories.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::meta::{self, BlockKind, RawMetaHeader};
use super::superblock::RawInum;
use super::{U16, U32, U64};
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::error::{CorruptKind, FsError};

/// Size of [`RawDirent`], in bytes; the name follows.
pub const DIRENT_HEADER_BYTES: usize = size_of::<RawDirent>();
/// Size of [`RawLeaf`], in bytes; entries follow.
pub const LEAF_HEADER_BYTES: usize = size_of::<RawLeaf>();
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// `lf_dirent_format`.
pub const DIRENT_FORMAT: u32 = 1200;

/// Header of a directory entry. Entries chain by `rec_len` to the very end of their area.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawDirent {
    /// The inode; a zero in either field: the entry is free, which only the first of an area may be.
    pub inum: RawInum,
    /// [`hash`] of the name.
    pub hash: U32,
    /// Bytes to the next entry; a multiple of 8.
    pub rec_len: U16,
    /// Length of the name, in bytes.
    pub name_len: U16,
    /// Type of the inode: its mode >> 12.
    pub kind: U16,
    /// 1: the inode's extended attributes are in the block behind it. A hint.
    pub rahead: U16,
    /// Zero.
    pub pad: [u8; 12],
}

/// Header of a directory leaf.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawLeaf {
    /// Type 6.
    pub meta: RawMetaHeader,
    /// How many bits of the hash all names of this leaf share.
    pub depth: U16,
    /// Number of entries in use.
    pub entries: U16,
    /// 1200; 0 on some volumes.
    pub dirent_format: U32,
    /// Next leaf of the chain, or zero.
    pub next: U64,
    /// The directory's dinode.
    pub inode: U64,
    /// 1 for a leaf that the table points to, rising along the chain.
    pub distance: U32,
    /// Nanoseconds of the last change.
    pub nsec: U32,
    /// Seconds of the last change.
    pub sec: U64,
    /// Zero.
    pub reserved: [u8; 40],
}

const _: () = {
    assert!(size_of::<RawDirent>() == 40);
    assert!(core::mem::offset_of!(RawDirent, rec_len) == 20);
    assert!(size_of::<RawLeaf>() == 104);
    assert!(core::mem::offset_of!(RawLeaf, next) == 32);
    assert!(core::mem::offset_of!(RawLeaf, distance) == 48);
};

/// The hash of a name: CRC-32.
#[must_use]
pub fn hash(name: &[u8]) -> u32 {
    crc32fast::hash(name)
}

/// Space that an entry with a name of `name_len` bytes needs.
#[must_use]
pub const fn space_for(name_len: usize) -> usize {
    (DIRENT_HEADER_BYTES + name_len + 7) & !7
}

/// An entry of an area, where it stands and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Dirent<'a> {
    /// Offset in the area, in bytes.
    pub offset: usize,
    /// Bytes to the next entry.
    pub rec_len: usize,
    /// What it names; `None` for the free entry at the start of an area.
    pub target: Option<Target<'a>>,
}

/// What an entry in use says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The inode.
    pub ino: InodeNo,
    /// The inode's formal number.
    pub formal: u64,
    /// The name's hash.
    pub hash: u32,
    /// The inode's type.
    pub kind: FileKind,
    /// The name.
    pub name: &'a [u8],
}

impl Dirent<'_> {
    /// Bytes that the entry itself needs; the rest up to `rec_len` is free.
    #[must_use]
    pub fn used(&self) -> usize {
        self.target.map_or(0, |target| space_for(target.name.len()))
    }
}

/// Walks the entries of an area, checking each. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Dirents<'a> {
    block: BlockAddr,
    area: &'a [u8],
    offset: usize,
}

/// The entries of `area`, which is the part of block `block` that holds them.
#[must_use]
pub const fn entries(block: BlockAddr, area: &[u8]) -> Dirents<'_> {
    Dirents { block, area, offset: 0 }
}

impl<'a> Dirents<'a> {
    fn parse(&self) -> Result<Dirent<'a>, CorruptKind> {
        let broken = CorruptKind::DirentChain { offset: self.offset };
        let rest = self.area.get(self.offset..).ok_or(broken)?;
        let (raw, tail) = RawDirent::ref_from_prefix(rest).map_err(|_| broken)?;
        let rec_len = usize::from(raw.rec_len.get());
        if rec_len < DIRENT_HEADER_BYTES || rec_len % 8 != 0 || rec_len > rest.len() {
            return Err(broken);
        }
        let (formal, ino) = (raw.inum.formal.get(), InodeNo::new(raw.inum.addr.get()));
        let Some(ino) = ino.filter(|_| formal != 0) else {
            if self.offset != 0 {
                return Err(CorruptKind::DirentFreeInMiddle { offset: self.offset });
            }
            return Ok(Dirent { offset: 0, rec_len, target: None });
        };
        let name_len = usize::from(raw.name_len.get());
        if name_len == 0 || name_len > NAME_BYTES_MAX || space_for(name_len) > rec_len {
            return Err(CorruptKind::DirentName { offset: self.offset });
        }
        let name = tail.get(..name_len).ok_or(broken)?;
        if name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(CorruptKind::DirentName { offset: self.offset });
        }
        if raw.hash.get() != hash(name) {
            return Err(CorruptKind::DirentHash { offset: self.offset });
        }
        let kind = FileKind::from_dirent(u32::from(raw.kind.get()))
            .ok_or(CorruptKind::DirentKind { offset: self.offset, kind: raw.kind.get() })?;
        let target = Target { ino, formal, hash: raw.hash.get(), kind, name };
        Ok(Dirent { offset: self.offset, rec_len, target: Some(target) })
    }
}

impl<'a> Iterator for Dirents<'a> {
    type Item = Result<Dirent<'a>, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.area.len() {
            return None;
        }
        match self.parse() {
            Ok(dirent) => {
                self.offset += dirent.rec_len;
                Some(Ok(dirent))
            }
            Err(kind) => {
                self.offset = self.area.len();
                Some(Err(kind.at(self.block)))
            }
        }
    }
}

/// Writes an entry at `offset` of `area`. The caller has checked that there is room for `rec_len` bytes.
pub fn write(area: &mut [u8], offset: usize, rec_len: usize, target: Target<'_>) {
    let raw = RawDirent {
        inum: RawInum { formal: target.formal.into(), addr: target.ino.get().into() },
        hash: target.hash.into(),
        rec_len: length_field(rec_len),
        name_len: length_field(target.name.len()),
        kind: target.kind.dirent_number().into(),
        rahead: 0.into(),
        pad: [0; 12],
    };
    let Some(rest) = area.get_mut(offset..) else { return };
    if raw.write_to_prefix(rest).is_ok()
        && let Some(to) = rest.get_mut(DIRENT_HEADER_BYTES..DIRENT_HEADER_BYTES + target.name.len())
    {
        to.copy_from_slice(target.name);
    }
}

/// Changes only the length of the entry at `offset`.
pub fn set_rec_len(area: &mut [u8], offset: usize, rec_len: usize) {
    with_raw(area, offset, |raw| raw.rec_len = length_field(rec_len));
}

/// Makes the entry at `offset` free: allowed for the first one of an area only.
pub fn set_free(area: &mut [u8], offset: usize) {
    with_raw(area, offset, |raw| raw.inum = RawInum::default());
}

/// Lets the entry at `offset` name another inode.
pub fn set_target(area: &mut [u8], offset: usize, ino: InodeNo, formal: u64, kind: FileKind) {
    with_raw(area, offset, |raw| {
        raw.inum = RawInum { formal: formal.into(), addr: ino.get().into() };
        raw.kind = kind.dirent_number().into();
        raw.rahead = 0.into();
    });
}

/// A free entry that covers the whole of `area`, as in an empty leaf.
pub fn clear(area: &mut [u8]) {
    area.fill(0);
    let len = area.len();
    set_rec_len(area, 0, len);
}

fn with_raw(area: &mut [u8], offset: usize, change: impl FnOnce(&mut RawDirent)) {
    if let Some(Ok((raw, _))) = area.get_mut(offset..).map(RawDirent::mut_from_prefix) {
        change(raw);
    }
}

/// Lengths inside a block always fit: the largest block has 4096 bytes.
fn length_field(len: usize) -> U16 {
    u16::try_from(len).unwrap_or(u16::MAX).into()
}

/// The header of a leaf that passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// How many bits of the hash all names of this leaf share.
    pub depth: u16,
    /// Number of entries in use.
    pub entries: u16,
    /// Next leaf of the chain.
    pub next: Option<BlockAddr>,
    /// Place in the chain, from 1.
    pub distance: u32,
}

impl Leaf {
    /// Checks the leaf in `block`.
    ///
    /// # Errors
    /// `BadMagic`, `WrongKind`, `LeafDepth`.
    pub fn parse(addr: BlockAddr, block: &[u8]) -> Result<Self, FsError> {
        meta::check(addr, block, BlockKind::LEAF)?;
        let (raw, _) = RawLeaf::ref_from_prefix(block).map_err(|_| CorruptKind::ShortBlock.at(addr))?;
        let depth = raw.depth.get();
        if depth > super::dinode::DIR_DEPTH_MAX {
            return Err(CorruptKind::LeafDepth { depth }.at(addr));
        }
        Ok(Self {
            depth,
            entries: raw.entries.get(),
            next: InodeNo::new(raw.next.get()).map(InodeNo::addr),
            distance: raw.distance.get(),
        })
    }

    /// Writes the header of a leaf of directory `dir` into `block`, with the time of the change.
    pub fn write_to(&self, block: &mut [u8], dir: InodeNo, now: crate::attr::Timestamp) {
        if meta::header(block).is_none_or(|header| header.kind.get() != BlockKind::LEAF.0) {
            meta::start(block, BlockKind::LEAF);
        }
        let Ok((raw, _)) = RawLeaf::mut_from_prefix(block) else { return };
        raw.depth = self.depth.into();
        raw.entries = self.entries.into();
        raw.dirent_format = DIRENT_FORMAT.into();
        raw.next = self.next.map_or(0, |addr| addr.0).into();
        raw.inode = dir.get().into();
        raw.distance = self.distance.into();
        raw.nsec = now.nsec.into();
        raw.sec = now.sec.unsigned_abs().into();
    }
}
