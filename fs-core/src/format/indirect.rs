//! Arrays of block pointers: in dinodes, in indirect blocks, in hash tables.

use super::dinode;
use super::meta;
use crate::addr::BlockAddr;

/// Offset of the first pointer of an indirect block, in bytes.
pub const FIRST_IN_INDIRECT: usize = meta::HEADER_BYTES;
/// Offset of the first pointer of a dinode, in bytes.
pub const FIRST_IN_DINODE: usize = dinode::HEADER_BYTES;

/// The pointer at `index` of the array that starts at byte `first` of `block`; `None` for a hole, and past the end.
#[must_use]
pub fn pointer(block: &[u8], first: usize, index: usize) -> Option<BlockAddr> {
    let at = first.checked_add(index.checked_mul(8)?)?;
    let value = u64::from_be_bytes(*block.get(at..)?.first_chunk::<8>()?);
    (value != 0).then_some(BlockAddr(value))
}

/// Sets the pointer at `index` of the array that starts at byte `first`.
pub fn set_pointer(block: &mut [u8], first: usize, index: usize, addr: Option<BlockAddr>) {
    let at = first + index * 8;
    if let Some(to) = block.get_mut(at..at + 8) {
        to.copy_from_slice(&addr.map_or(0, |addr| addr.0).to_be_bytes());
    }
}

/// How many pointers fit behind byte `first` of `block`.
#[must_use]
pub const fn count(block: &[u8], first: usize) -> usize {
    block.len().saturating_sub(first) / 8
}
