//! Rules of extended attributes: their blocks, the records in them, and the blocks of long values.

use zerocopy::FromBytes;

use super::read::BATCH_BLOCKS;
use super::rule::Rule;
use super::walk::Walk;
use crate::addr::BlockAddr;
use crate::error::CorruptKind;
use crate::format::dinode::flags;
use crate::format::indirect::{self, FIRST_IN_INDIRECT};
use crate::format::meta::{self, BlockKind};
use crate::format::xattr::RawXattrHeader;

/// Size of a record's header, in bytes.
const HEADER_BYTES: usize = size_of::<RawXattrHeader>();
/// Flag of the last record.
const LAST: u8 = 1;
/// Type of a record that is not in use.
const UNUSED: u8 = 0;
/// Greatest type, and the first format that has it.
const TRUSTED: u8 = 4;
const TRUSTED_FORMAT: u32 = 1802;

/// Checks what `di_eattr` leads to.
pub(super) async fn check(walk: &mut Walk<'_>) {
    let own = walk.dinode.ino.addr();
    let Some(addr) = walk.dinode.eattr else { return };
    if !walk.claim(addr, own) {
        return;
    }
    if walk.dinode.flags & flags::EA_INDIRECT == 0 {
        return blocks(walk, &[addr]).await;
    }
    let image = walk.reader().one(addr).await;
    let Some(image) = walk.checked(addr, image, BlockKind::INDIRECT) else { return };
    let pointers: Vec<Option<BlockAddr>> = (0..indirect::count(&image, FIRST_IN_INDIRECT))
        .map(|index| indirect::pointer(&image, FIRST_IN_INDIRECT, index))
        .collect();
    list(walk, addr, &pointers);
    let mut found = Vec::new();
    for pointer in pointers.into_iter().flatten() {
        if walk.claim(pointer, addr) {
            found.push(pointer);
        }
    }
    blocks(walk, &found).await;
}

/// The list ends with its first zero.
fn list(walk: &Walk<'_>, addr: BlockAddr, pointers: &[Option<BlockAddr>]) {
    if pointers.iter().skip_while(|pointer| pointer.is_some()).any(Option::is_some) {
        walk.report_at(addr, Rule::XattrListHole);
    }
}

async fn blocks(walk: &mut Walk<'_>, addrs: &[BlockAddr]) {
    for batch in addrs.chunks(BATCH_BLOCKS) {
        let images = walk.reader().many(batch).await;
        for (addr, image) in batch.iter().zip(images) {
            if let Some(image) = walk.checked(*addr, image, BlockKind::XATTR) {
                let values = records(walk, *addr, &image);
                value_blocks(walk, *addr, &values).await;
            }
        }
    }
}

async fn value_blocks(walk: &mut Walk<'_>, from: BlockAddr, pointers: &[BlockAddr]) {
    let mut found = Vec::new();
    for pointer in pointers {
        if walk.claim(*pointer, from) {
            found.push(*pointer);
        }
    }
    for batch in found.chunks(BATCH_BLOCKS) {
        let images = walk.reader().many(batch).await;
        for (addr, image) in batch.iter().zip(images) {
            walk.checked(*addr, image, BlockKind::XATTR_DATA);
        }
    }
}

/// Checks the records of a block. Returns the blocks of their values: at most as many as a block has pointers.
fn records(walk: &mut Walk<'_>, addr: BlockAddr, block: &[u8]) -> Vec<BlockAddr> {
    let mut values = Vec::new();
    let mut offset = meta::HEADER_BYTES;
    while offset < block.len() {
        let Some((raw, record)) = record(block, offset) else {
            walk.broken = true;
            walk.report_at(addr, CorruptKind::XattrChain { offset });
            return values;
        };
        let end = offset.saturating_add(record.len());
        let is_last = end >= block.len();
        if (raw.flags & LAST != 0) != is_last {
            walk.report_at(addr, Rule::XattrLast { offset });
        }
        if raw.kind != UNUSED {
            in_use(walk, addr, offset, raw, record);
            values.extend(pointers(raw, record));
        }
        offset = end;
    }
    values
}

fn record(block: &[u8], offset: usize) -> Option<(&RawXattrHeader, &[u8])> {
    let rest = block.get(offset..)?;
    let (raw, _) = RawXattrHeader::ref_from_prefix(rest).ok()?;
    let len = usize::try_from(raw.rec_len.get()).ok().filter(|len| *len >= HEADER_BYTES)?;
    Some((raw, rest.get(..len)?))
}

/// The pointers of a record, as far as they are in it.
fn pointers<'a>(raw: &RawXattrHeader, record: &'a [u8]) -> impl Iterator<Item = BlockAddr> + use<'a> {
    let first = pointers_start(raw);
    (0..usize::from(raw.num_ptrs)).filter_map(move |index| indirect::pointer(record, first, index))
}

fn pointers_start(raw: &RawXattrHeader) -> usize {
    HEADER_BYTES + usize::from(raw.name_len).next_multiple_of(8)
}

fn in_use(walk: &Walk<'_>, addr: BlockAddr, offset: usize, raw: &RawXattrHeader, record: &[u8]) {
    kind(walk, addr, offset, raw);
    if raw.name_len == 0 {
        walk.report_at(addr, Rule::XattrName { offset });
    }
    value(walk, addr, offset, raw, record);
}

fn kind(walk: &Walk<'_>, addr: BlockAddr, offset: usize, raw: &RawXattrHeader) {
    let too_new = raw.kind == TRUSTED && walk.checker.superblock.fs_format < TRUSTED_FORMAT;
    if raw.kind > TRUSTED || too_new {
        walk.report_at(addr, Rule::XattrKind { offset, kind: raw.kind });
    }
}

/// A value stands behind the name, or in as many blocks as it needs.
fn value(walk: &Walk<'_>, addr: BlockAddr, offset: usize, raw: &RawXattrHeader, record: &[u8]) {
    let len = raw.data_len.get();
    let bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let count = usize::from(raw.num_ptrs);
    let fits = if count == 0 {
        bytes.saturating_add(HEADER_BYTES + usize::from(raw.name_len)) <= record.len()
    } else {
        count == bytes.div_ceil(walk.reader().size().payload_bytes())
            && pointers_start(raw) + 8 * count <= record.len()
            && pointers(raw, record).count() == count
    };
    if !fits {
        walk.report_at(addr, Rule::XattrValue { offset, pointers: raw.num_ptrs, len });
    }
}
