//! Extended attributes: as much of them as is needed to free the blocks of an inode that has some.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::meta;
use super::{U32, U64};
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};

/// Header of a record in an extended attribute block; the name follows, then the value or pointers to it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawXattrHeader {
    /// Bytes to the next record.
    pub rec_len: U32,
    /// Length of the value, in bytes.
    pub data_len: U32,
    /// Length of the name without its prefix, in bytes.
    pub name_len: u8,
    /// 0 unused, 1 user, 2 system, 3 security, 4 trusted.
    pub kind: u8,
    /// 1: the last record of the block.
    pub flags: u8,
    /// Blocks that hold the value; zero: it follows the name.
    pub num_ptrs: u8,
    /// Zero.
    pub pad: U32,
}

const _: () = assert!(size_of::<RawXattrHeader>() == 16);

/// The blocks that hold the values of the records in the extended attribute block `block`.
///
/// # Errors
/// `XattrChain`.
pub fn value_blocks(addr: BlockAddr, block: &[u8]) -> Result<Vec<BlockAddr>, FsError> {
    meta::check(addr, block, meta::BlockKind::XATTR)?;
    let mut found = Vec::new();
    let mut offset = meta::HEADER_BYTES;
    while offset < block.len() {
        let broken = || CorruptKind::XattrChain { offset }.at(addr);
        let rest = block.get(offset..).ok_or_else(broken)?;
        let (raw, _) = RawXattrHeader::ref_from_prefix(rest).map_err(|_| broken())?;
        let rec_len = usize::try_from(raw.rec_len.get()).map_err(|_| broken())?;
        if rec_len < size_of::<RawXattrHeader>() || rec_len > rest.len() {
            return Err(broken());
        }
        if raw.kind != 0 {
            let first = size_of::<RawXattrHeader>() + usize::from(raw.name_len).next_multiple_of(8);
            for index in 0..usize::from(raw.num_ptrs) {
                let at = first + index * 8;
                let pointer = rest.get(..rec_len).and_then(|record| record.get(at..at + 8)).ok_or_else(broken)?;
                let (pointer, _) = U64::read_from_prefix(pointer).map_err(|_| broken())?;
                if pointer.get() != 0 {
                    found.push(BlockAddr(pointer.get()));
                }
            }
        }
        offset += rec_len;
    }
    Ok(found)
}
