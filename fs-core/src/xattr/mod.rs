//! Extended attributes of an inode.
//!
//! An inode with attributes points to one block of records, or to an indirect block that lists such blocks, dense and
//! ended by a zero. Values that are too long for a record are in blocks of their own.
//!
//! Laws
//! * All of it is metadata: it goes through the log, and what is freed is revoked. So a change is atomic, also one of a
//!   value of 64 KiB.
//! * All blocks of one value are in one resource group: the kernel's driver frees them under the lock of the last one's
//!   group only.
//! * The blocks count in the dinode. An inode without attributes has none of them.

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks};
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::indirect::{self, FIRST_IN_INDIRECT};
use crate::format::meta::{self, BlockKind};
use crate::format::xattr::{self, Namespace, Record};

mod area;
pub mod change;
pub mod free;
#[cfg(test)]
mod tests;

/// What an attribute is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The part before the first dot.
    pub namespace: Namespace,
    /// The part behind it, 1 to 255 bytes.
    pub text: &'a [u8],
}

/// Where an attribute was found.
#[derive(Debug)]
pub struct Found {
    /// The block of its record.
    pub block: BlockAddr,
    image: BlockImage,
    records: Vec<Record>,
    index: usize,
}

impl Found {
    /// Blocks of the value, if it has blocks of its own.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockAddr> {
        self.records.get(self.index).map(|record| record.blocks(&self.image)).unwrap_or_default()
    }

    /// Length of the value, in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.records.get(self.index).map_or(0, |record| record.value_bytes)
    }
}

/// The blocks of records, in order.
async fn record_blocks(blocks: &impl Blocks, dinode: &Dinode) -> Result<Vec<BlockAddr>, FsError> {
    let Some(eattr) = dinode.eattr else { return Ok(Vec::new()) };
    if dinode.flags & flags::EA_INDIRECT == 0 {
        return Ok(vec![eattr]);
    }
    let index = blocks.meta(eattr, BlockKind::INDIRECT).await?;
    let count = indirect::count(&index, FIRST_IN_INDIRECT);
    Ok((0..count).map_while(|at| indirect::pointer(&index, FIRST_IN_INDIRECT, at)).collect())
}

/// Finds an attribute. Reads nothing if the inode has none at all. `format` is the volume's fs format.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn find(
    blocks: &impl Blocks,
    dinode: &Dinode,
    format: u32,
    name: Name<'_>,
) -> Result<Option<Found>, FsError> {
    for block in record_blocks(blocks, dinode).await? {
        let image = blocks.meta(block, BlockKind::XATTR).await?;
        let records = xattr::records(block, &image, format)?;
        let is_it = |record: &Record| record.namespace == Some(name.namespace) && record.name(&image) == name.text;
        if let Some(index) = records.iter().position(is_it) {
            return Ok(Some(Found { block, image, records, index }));
        }
    }
    Ok(None)
}

/// The value of an attribute that was found.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn value(blocks: &impl Blocks, found: &Found) -> Result<Vec<u8>, FsError> {
    let Some(record) = found.records.get(found.index) else { return Ok(Vec::new()) };
    if let Some(value) = record.value(&found.image) {
        return Ok(value.to_vec());
    }
    let mut value = Vec::with_capacity(record.value_bytes);
    for addr in found.blocks() {
        let block = blocks.meta(addr, BlockKind::XATTR_DATA).await?;
        value.extend_from_slice(block.get(meta::HEADER_BYTES..).unwrap_or_default());
    }
    value.truncate(record.value_bytes);
    Ok(value)
}

/// Calls `emit` for each attribute, in the order of the disk.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub async fn list(
    blocks: &impl Blocks,
    dinode: &Dinode,
    format: u32,
    emit: &mut (dyn FnMut(Name<'_>) + Send),
) -> Result<(), FsError> {
    for block in record_blocks(blocks, dinode).await? {
        let image = blocks.meta(block, BlockKind::XATTR).await?;
        for record in xattr::records(block, &image, format)? {
            if let Some(namespace) = record.namespace {
                emit(Name { namespace, text: record.name(&image) });
            }
        }
    }
    Ok(())
}
