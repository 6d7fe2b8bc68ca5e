//! Rules of the resource index, of resource groups, and of their bitmaps' counters.

use futures_util::StreamExt;
use zerocopy::FromBytes;

use super::map::GroupMap;
use super::read::{Image, Reader, kind_of};
use super::report::{Stage, Tally};
use super::rule::Rule;
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::format::log::StatfsDelta;
use crate::format::meta::{self, BlockKind};
use crate::format::rgrp::{
    self, BLOCKS_PER_BYTE, BlockState, RINDEX_ENTRY_BYTES, RawRgrpHeader, RawRindexEntry, RgrpHeader, RgrpPlace,
};
use crate::inode::content;

/// Blocks of the smallest resource group: a header, and four that it describes.
const RGRP_BLOCKS_MIN: u64 = 5;
/// Resource groups that are read at once.
const GROUPS_AT_ONCE: usize = 16;
/// Header and bitmap blocks of a group that are read at once.
const HEADER_BLOCKS: u32 = 64;
/// Bits of `rg_flags` that are in use.
const FLAGS_MASK: u32 = 0x0fff_ffff;

/// The entries of the resource index; `None`, with a finding, when they cannot all be believed.
pub(super) async fn index(reader: &Reader, rindex: &Dinode, tally: &Tally<'_>) -> Option<Vec<RgrpPlace>> {
    let at = rindex.ino.addr();
    let entry_bytes = RINDEX_ENTRY_BYTES as u64;
    // Not more entries than the device has room for groups, so that a wrong size costs no memory.
    let size_max = (reader.block_count() / RGRP_BLOCKS_MIN).saturating_mul(entry_bytes);
    if rindex.size == 0 || !rindex.size.is_multiple_of(entry_bytes) || rindex.size > size_max {
        tally.at(at, CorruptKind::RindexSize { size: rindex.size });
        return None;
    }
    let content = match content::read_whole(reader, rindex, size_max).await {
        Ok(content) => content,
        Err(FsError::Corrupt { addr, kind }) => {
            tally.at(addr, kind);
            return None;
        }
        Err(_) => {
            tally.at(at, Rule::Unreadable);
            return None;
        }
    };
    let mut places: Vec<RgrpPlace> = Vec::with_capacity(content.len() / RINDEX_ENTRY_BYTES);
    let mut sound = true;
    for entry in content.chunks_exact(RINDEX_ENTRY_BYTES) {
        match place(reader, at, entry, places.last()) {
            Ok(place) => places.push(place),
            Err(rule) => {
                tally.at(at, rule);
                sound = false;
            }
        }
    }
    sound.then_some(places)
}

/// An entry of the index is possible, behind the last one, and on the device.
fn place(reader: &Reader, at: BlockAddr, entry: &[u8], last: Option<&RgrpPlace>) -> Result<RgrpPlace, Rule> {
    let raw = RawRindexEntry::ref_from_bytes(entry).map_err(|_| CorruptKind::ShortBlock)?;
    let place = RgrpPlace::parse(at, raw, reader.size()).map_err(kind_of)?;
    if last.is_some_and(|last| place.addr < last.end()) {
        return Err(CorruptKind::RindexOrder { rgrp: place.addr }.into());
    }
    if place.end().0 > reader.block_count() {
        return Err(Rule::BeyondDevice { end: place.end().0, blocks: reader.block_count() });
    }
    Ok(place)
}

/// What is known of a resource group.
pub(super) struct Group {
    pub(super) map: GroupMap,
    /// Generation that its next inode gets.
    pub(super) igeneration: u64,
    /// What its bitmap says.
    pub(super) counts: StatfsDelta,
}

/// Reads all groups and their bitmaps, and checks what can be checked with no more than that.
pub(super) async fn read_all(reader: &Reader, places: &[RgrpPlace], tally: &Tally<'_>) -> Vec<Group> {
    let total = places.len() as u64;
    tally.begin(Stage::Bitmaps, total);
    let nexts = places.iter().skip(1).map(Some).chain([None]);
    let reads: Vec<_> = places.iter().zip(nexts).map(|(place, next)| read_one(reader, place, next, tally)).collect();
    let mut reads = futures_util::stream::iter(reads).buffered(GROUPS_AT_ONCE);
    let mut groups = Vec::with_capacity(places.len());
    while let Some(group) = reads.next().await {
        groups.push(group);
        tally.step(Stage::Bitmaps, 1, total);
    }
    drop(reads);
    if let Some(last) = places.last() {
        unlisted(reader, last, tally).await;
    }
    groups
}

async fn read_one(reader: &Reader, place: &RgrpPlace, next: Option<&RgrpPlace>, tally: &Tally<'_>) -> Group {
    let mut group = Group { map: GroupMap::new(*place), igeneration: u64::MAX, counts: StatfsDelta::default() };
    let mut number = 0;
    let mut index = 0;
    let mut known = true;
    let mut header = None;
    while number < place.length && !tally.is_cancelled() {
        let count = HEADER_BLOCKS.min(place.length - number);
        let addrs: Vec<BlockAddr> = (0..count).map(|step| BlockAddr(place.addr.0 + u64::from(number + step))).collect();
        for (addr, image) in addrs.iter().zip(reader.many(&addrs).await) {
            let kind = if number == 0 { BlockKind::RGRP } else { BlockKind::RGRP_BITMAP };
            known &= header_block(reader, *addr, image.as_ref(), kind, tally);
            let first = if number == 0 { rgrp::HEADER_BYTES } else { meta::HEADER_BYTES };
            for byte in image.iter().flat_map(|image| image.get(first..)).flatten() {
                if index < place.data {
                    group.map.load(index, *byte);
                    index += BLOCKS_PER_BYTE;
                }
            }
            if number == 0 {
                header = image;
            }
            number += 1;
        }
    }
    group.map.known = known && !tally.is_cancelled();
    if !known {
        // Nothing can be said about what the group's blocks are used for.
        tally.incomplete();
    }
    if let Some(header) = header.filter(|_| group.map.known) {
        count(&mut group);
        header_rules(&mut group, &header, next, tally);
    }
    group
}

/// A header or bitmap block is one. True when its bitmap can be used.
fn header_block(reader: &Reader, addr: BlockAddr, image: Option<&Image>, kind: BlockKind, tally: &Tally<'_>) -> bool {
    let Some(image) = image else {
        tally.at(addr, Rule::Unreadable);
        return false;
    };
    match reader.check(addr, image, kind) {
        Ok(()) => true,
        Err(rule) => {
            tally.at(addr, rule);
            matches!(rule, CorruptKind::BadChecksum { .. })
        }
    }
}

/// Counts the states in the bitmap.
fn count(group: &mut Group) {
    let place = group.map.place;
    let (mut free, mut dinodes) = (0_i64, 0_i64);
    for index in 0..place.data {
        match group.map.state(index) {
            BlockState::Free => free += 1,
            BlockState::Dinode | BlockState::Unlinked => dinodes += 1,
            BlockState::Used => {}
        }
    }
    group.counts = StatfsDelta { total: i64::from(place.data), free, dinodes };
}

/// The header agrees with the bitmap, with the index, and with itself.
fn header_rules(group: &mut Group, block: &[u8], next: Option<&RgrpPlace>, tally: &Tally<'_>) {
    let place = group.map.place;
    let Ok((raw, _)) = RawRgrpHeader::ref_from_prefix(block) else { return };
    group.igeneration = raw.igeneration.get();
    if let Err(kind) = RgrpHeader::parse(&place, block).map_err(kind_of) {
        tally.at(place.addr, kind);
        if matches!(kind, CorruptKind::RgrpCounts { .. }) {
            return;
        }
    }
    free_count(group, raw, tally);
    dinode_count(group, raw, tally);
    copies(&place, raw, tally);
    skip(&place, raw, next, tally);
}

fn free_count(group: &Group, raw: &RawRgrpHeader, tally: &Tally<'_>) {
    let (counted, found) = (raw.free.get(), u32::try_from(group.counts.free).unwrap_or(u32::MAX));
    if counted != found {
        tally.at(group.map.place.addr, CorruptKind::RgrpFreeCount { counted, found });
    }
}

/// Dinodes without names count until they are freed.
fn dinode_count(group: &Group, raw: &RawRgrpHeader, tally: &Tally<'_>) {
    let (counted, found) = (raw.dinodes.get(), u32::try_from(group.counts.dinodes).unwrap_or(u32::MAX));
    if counted != found {
        tally.at(group.map.place.addr, Rule::RgrpDinodeCount { counted, found });
    }
}

/// The copies of the index entry are zero on old volumes.
fn copies(place: &RgrpPlace, raw: &RawRgrpHeader, tally: &Tally<'_>) {
    let copy = (raw.data0.get(), raw.data.get(), raw.bitbytes.get());
    let sound = copy == (0, 0, 0) || copy == (place.data0.0, place.data, place.data / BLOCKS_PER_BYTE);
    if !sound || raw.flags.get() & !FLAGS_MASK != 0 {
        tally.at(place.addr, Rule::RgrpCopy);
    }
}

/// The distance to the next group; the last one has none, and keeps having none when others come behind it.
fn skip(place: &RgrpPlace, raw: &RawRgrpHeader, next: Option<&RgrpPlace>, tally: &Tally<'_>) {
    let skip = raw.skip.get();
    let sound = skip == 0 || next.is_some_and(|next| next.addr.0 - place.addr.0 == u64::from(skip));
    if !sound {
        tally.at(place.addr, Rule::RgrpSkip { skip });
    }
}

/// A group that stands right behind the last one of the index: growing the volume was interrupted.
async fn unlisted(reader: &Reader, last: &RgrpPlace, tally: &Tally<'_>) {
    let addr = last.end();
    let Some(image) = reader.one(addr).await else { return };
    let is_header = |raw: &RawRgrpHeader| raw.data0.get() > addr.0 && raw.crc.get() != 0;
    let found = meta::check(addr, &image, BlockKind::RGRP).is_ok()
        && RawRgrpHeader::ref_from_prefix(&image).is_ok_and(|(raw, _)| is_header(raw));
    if found {
        tally.at(addr, Rule::RgrpUnlisted);
    }
}
