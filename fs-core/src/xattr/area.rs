//! The records of one block, and how they share it. No I/O.
//!
//! Laws
//! * Only the first record of a block is ever made free; any other one that goes becomes room behind the one before it.
//! * A new record takes a free one as a whole, or the room behind another one as a whole.

use crate::format::meta;
use crate::format::xattr::{self, NewRecord, Record};

/// Makes the whole of a new block free. Its metadata header is there already.
pub(super) fn clear(block: &mut [u8]) {
    let len = block.len().saturating_sub(meta::HEADER_BYTES);
    xattr::write_free(block, meta::HEADER_BYTES, len);
}

/// Nothing is in the block: no attribute, and no blocks that belong to one.
pub(super) fn is_empty(records: &[Record], block: &[u8]) -> bool {
    records.iter().all(|record| record.namespace.is_none() && record.blocks(block).is_empty())
}

/// A record that has room for one of `bytes`. No free record has blocks any more.
pub(super) fn find_room(records: &[Record], bytes: usize) -> Option<usize> {
    records.iter().position(|record| record.room() >= bytes)
}

/// Puts a new record where [`find_room`] found room for it.
pub(super) fn insert(records: &[Record], index: usize, block: &mut [u8], new: &NewRecord<'_>) {
    let Some(record) = records.get(index) else { return };
    let used = if record.namespace.is_some() { record.used() } else { 0 };
    if used > 0 {
        xattr::set_len(block, record.offset, used);
    }
    xattr::write_record(block, record.offset + used, record.len.saturating_sub(used), new);
}

/// Takes a record away. Its blocks are the caller's.
pub(super) fn remove(records: &[Record], index: usize, block: &mut [u8]) {
    let Some(record) = records.get(index) else { return };
    match index.checked_sub(1).and_then(|before| records.get(before)) {
        Some(before) => xattr::set_len(block, before.offset, before.len + record.len),
        None => xattr::write_free(block, record.offset, record.len),
    }
}
