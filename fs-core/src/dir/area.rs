//! Areas of entries: what stands behind the header of a linear directory's dinode, or of a leaf.

use zerocopy::FromBytes;

use super::Link;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::error::{CorruptKind, FsError};
use crate::format::dirent::{self, DIRENT_HEADER_BYTES, RawDirent, Target};

/// The part of `block` from byte `first` on.
pub(super) fn part(block: &[u8], first: usize) -> &[u8] {
    block.get(first..).unwrap_or_default()
}

/// The part of `block` from byte `first` on.
pub(super) fn part_mut(block: &mut [u8], first: usize) -> &mut [u8] {
    block.get_mut(first..).unwrap_or_default()
}

/// Where in its area a name stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    /// Offset of the entry, in bytes.
    pub(super) offset: usize,
    /// Offset of the entry before it.
    pub(super) previous: Option<usize>,
    /// What the name stands for.
    pub(super) link: Link,
}

/// Outcome of a search.
#[derive(Debug, Clone, Copy)]
pub(super) enum Search {
    /// The name is here.
    Hit(Hit),
    /// The name is not among the `entries` entries of the area.
    Miss {
        /// Entries in use.
        entries: u32,
    },
}

/// Searches for `name`. Lookups spend their time here, so an entry is compared by its hash first, and what no answer
/// depends on is not checked: the stored hash and the bytes of other names.
pub(super) fn find(block: BlockAddr, area: &[u8], name: &[u8], hash: u32) -> Result<Search, FsError> {
    let (mut offset, mut previous, mut entries) = (0, None, 0);
    while let Some(rest) = area.get(offset..).filter(|rest| !rest.is_empty()) {
        let broken = CorruptKind::DirentChain { offset };
        let (raw, tail) = RawDirent::ref_from_prefix(rest).map_err(|_| broken.at(block))?;
        let rec_len = usize::from(raw.rec_len.get());
        if rec_len < DIRENT_HEADER_BYTES || rec_len % 8 != 0 || rec_len > rest.len() {
            return Err(broken.at(block));
        }
        let formal = raw.inum.formal.get();
        match InodeNo::new(raw.inum.addr.get()).filter(|_| formal != 0) {
            None if offset != 0 => return Err(CorruptKind::DirentFreeInMiddle { offset }.at(block)),
            None => {}
            Some(ino) => {
                let name_len = usize::from(raw.name_len.get());
                if name_len == 0 || dirent::space_for(name_len) > rec_len {
                    return Err(CorruptKind::DirentName { offset }.at(block));
                }
                if raw.hash.get() == hash && tail.get(..name_len) == Some(name) {
                    let number = raw.kind.get();
                    let kind = FileKind::from_dirent(u32::from(number))
                        .ok_or_else(|| CorruptKind::DirentKind { offset, kind: number }.at(block))?;
                    return Ok(Search::Hit(Hit { offset, previous, link: Link { ino, formal, kind } }));
                }
                entries += 1;
            }
        }
        previous = Some(offset);
        offset += rec_len;
    }
    Ok(Search::Miss { entries })
}

/// Where a new entry fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The entry that has the room behind it.
    offset: usize,
    /// Bytes that this entry needs itself; zero for a free one.
    used: usize,
    /// Bytes to the next entry.
    rec_len: usize,
}

/// Checks every entry of an area; counts them, and finds the first room of `space` bytes.
pub(super) fn survey(block: BlockAddr, area: &[u8], space: usize) -> Result<(u32, Option<Room>), FsError> {
    let (mut count, mut room) = (0, None);
    for entry in dirent::entries(block, area) {
        let entry = entry?;
        count += u32::from(entry.target.is_some());
        if room.is_none() && entry.rec_len - entry.used() >= space {
            room = Some(Room { offset: entry.offset, used: entry.used(), rec_len: entry.rec_len });
        }
    }
    Ok((count, room))
}

/// Writes an entry into room that [`survey`] found in this very area.
pub(super) fn put(area: &mut [u8], room: Room, target: Target<'_>) {
    if room.used != 0 {
        dirent::set_rec_len(area, room.offset, room.used);
    }
    dirent::write(area, room.offset + room.used, room.rec_len - room.used, target);
}

/// Takes out an entry that [`find`] found in this very area.
pub(super) fn take(area: &mut [u8], hit: Hit) {
    let Some(previous) = hit.previous else {
        return dirent::set_free(area, hit.offset);
    };
    let len = rec_len(area, previous) + rec_len(area, hit.offset);
    dirent::set_rec_len(area, previous, len);
}

fn rec_len(area: &[u8], offset: usize) -> usize {
    let raw = area.get(offset..).and_then(|rest| RawDirent::ref_from_prefix(rest).ok());
    raw.map_or(0, |(raw, _)| usize::from(raw.rec_len.get()))
}

/// Fills `to` with those entries of `from` whose hash is wanted, without gaps; returns their number. `to` is at least
/// as large as what `from` uses.
pub(super) fn repack(
    block: BlockAddr,
    from: &[u8],
    to: &mut [u8],
    wanted: impl Fn(u32) -> bool,
) -> Result<u16, FsError> {
    dirent::clear(to);
    let (mut count, mut at, mut last) = (0u16, 0, 0);
    for entry in dirent::entries(block, from) {
        let entry = entry?;
        if !entry.target.is_some_and(|target| wanted(target.hash)) {
            continue;
        }
        let used = entry.used();
        // The whole record is copied: its hint about extended attributes stays.
        if let (Some(record), Some(place)) = (from.get(entry.offset..entry.offset + used), to.get_mut(at..at + used)) {
            place.copy_from_slice(record);
        }
        dirent::set_rec_len(to, at, used);
        count = count.saturating_add(1);
        (last, at) = (at, at + used);
    }
    let rest = to.len() - last;
    dirent::set_rec_len(to, last, rest);
    Ok(count)
}
