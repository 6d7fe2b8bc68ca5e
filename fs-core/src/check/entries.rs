//! Rules of directory entries, one area of them at a time: behind a dinode's header, or a leaf's.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;
use zerocopy::FromBytes;

use super::rule::Rule;
use super::walk::Walk;
use crate::addr::BlockAddr;
use crate::attr::FileKind;
use crate::dir::{DOT, DOT_DOT};
use crate::error::CorruptKind;
use crate::format::dirent::{self, DIRENT_HEADER_BYTES, NAME_BYTES_MAX, RawDirent};

/// Names that are remembered to find one that stands twice. A chain of leaves may be longer; then its end is not
/// compared with its start.
const NAMES_MAX: usize = 1 << 16;

/// An entry in use, as it stands there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Where: the block.
    pub(super) block: BlockAddr,
    /// The inode it leads to.
    pub(super) target: u64,
    /// That inode's formal number.
    pub(super) formal: u64,
    /// That inode's type.
    pub(super) kind: u16,
    /// The name.
    pub(super) name: &'a [u8],
}

impl Entry<'_> {
    pub(super) fn is_dot(&self) -> bool {
        self.name == DOT
    }

    pub(super) fn is_dot_dot(&self) -> bool {
        self.name == DOT_DOT
    }

    /// It says that it leads to a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory.dirent_number()
    }
}

/// Who wants to see each entry.
pub(super) type Visit<'a> = dyn FnMut(&Entry<'_>) + Send + 'a;

/// Entries that hash to the same leaf, as far as they were seen.
#[derive(Default)]
pub(super) struct Names(BTreeSet<u64>);

impl Names {
    /// True when the name is new.
    fn insert(&mut self, name: &[u8]) -> bool {
        if self.0.len() >= NAMES_MAX {
            return true;
        }
        let mut hasher = SipHasher13::new();
        name.hash(&mut hasher);
        self.0.insert(hasher.finish())
    }
}

/// Where entries are, and which hashes belong there.
pub(super) struct Area<'a> {
    pub(super) block: BlockAddr,
    pub(super) bytes: &'a [u8],
    /// Least and greatest hash.
    pub(super) hashes: (u32, u32),
}

/// Checks the entries of an area and shows each to `visit`. Returns how many there are.
pub(super) fn check(walk: &mut Walk<'_>, area: &Area<'_>, names: &mut Names, visit: &mut Visit<'_>) -> u32 {
    let (mut offset, mut count) = (0, 0_u32);
    while offset < area.bytes.len() {
        let Some((raw, record)) = record(area.bytes, offset) else {
            walk.broken = true;
            walk.report_at(area.block, CorruptKind::DirentChain { offset });
            return count;
        };
        let len = record.len();
        if raw.inum.formal.get() == 0 || raw.inum.addr.get() == 0 {
            if offset != 0 {
                walk.broken = true;
                walk.report_at(area.block, CorruptKind::DirentFreeInMiddle { offset });
            }
        } else {
            count = count.saturating_add(1);
            in_use(walk, area, offset, raw, record, names, visit);
        }
        offset = offset.saturating_add(len);
    }
    count
}

/// The record at `offset`, header and whole; `None` when it does not chain to the next, or to the end.
fn record(area: &[u8], offset: usize) -> Option<(&RawDirent, &[u8])> {
    let rest = area.get(offset..)?;
    let (raw, _) = RawDirent::ref_from_prefix(rest).ok()?;
    let len = usize::from(raw.rec_len.get());
    if len < DIRENT_HEADER_BYTES || len % 8 != 0 {
        return None;
    }
    Some((raw, rest.get(..len)?))
}

fn in_use(
    walk: &mut Walk<'_>,
    area: &Area<'_>,
    offset: usize,
    raw: &RawDirent,
    record: &[u8],
    names: &mut Names,
    visit: &mut Visit<'_>,
) {
    let Some(name) = name(raw, record) else {
        walk.report_at(area.block, CorruptKind::DirentName { offset });
        return;
    };
    hash(walk, area, offset, raw, name);
    kind(walk, area, offset, raw, name);
    if !names.insert(name) {
        walk.report_name(area.block, name, Rule::NameTwice { offset });
    }
    visit(&Entry {
        block: area.block,
        target: raw.inum.addr.get(),
        formal: raw.inum.formal.get(),
        kind: raw.kind.get(),
        name,
    });
}

/// A name has 1 to 255 bytes, none of them zero or a slash, and fits into its record.
fn name<'a>(raw: &RawDirent, record: &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(raw.name_len.get());
    if len == 0 || len > NAME_BYTES_MAX {
        return None;
    }
    let name = record.get(DIRENT_HEADER_BYTES..DIRENT_HEADER_BYTES + len)?;
    (!name.iter().any(|byte| matches!(byte, 0 | b'/'))).then_some(name)
}

/// The hash is that of the name, and leads to where the entry is.
fn hash(walk: &Walk<'_>, area: &Area<'_>, offset: usize, raw: &RawDirent, name: &[u8]) {
    let hash = dirent::hash(name);
    if raw.hash.get() != hash {
        walk.report_name(area.block, name, CorruptKind::DirentHash { offset });
    } else if hash < area.hashes.0 || hash > area.hashes.1 {
        walk.report_name(area.block, name, CorruptKind::DirentLeaf { offset });
    }
}

/// The type is one. Whether it is the inode's is found out with the counts of names.
fn kind(walk: &Walk<'_>, area: &Area<'_>, offset: usize, raw: &RawDirent, name: &[u8]) {
    let kind = raw.kind.get();
    if FileKind::from_dirent(u32::from(kind)).is_none() {
        walk.report_name(area.block, name, CorruptKind::DirentKind { offset, kind });
    }
}
