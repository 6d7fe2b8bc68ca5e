//! Finding a name.

use super::Link;
use super::area::{self, Hit, Search};
use super::leaf::Chain;
use super::table::{self, Table};
use crate::addr::BlockAddr;
use crate::blocks::Blocks;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode};
use crate::format::dirent::{self, LEAF_HEADER_BYTES, Leaf, NAME_BYTES_MAX};
use crate::format::meta::BlockKind;

/// Where a name stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The block.
    pub(super) addr: BlockAddr,
    /// The block's header, if it is a leaf; else it is the dinode.
    pub(super) leaf: Option<Leaf>,
    /// Where in the block's area of entries.
    pub(super) hit: Hit,
}

impl Place {
    /// What the block is.
    pub(super) fn kind(&self) -> BlockKind {
        if self.leaf.is_some() { BlockKind::LEAF } else { BlockKind::DINODE }
    }

    /// Where in the block its entries start.
    pub(super) fn first(&self) -> usize {
        if self.leaf.is_some() { LEAF_HEADER_BYTES } else { dinode::HEADER_BYTES }
    }
}

/// What `name` stands for in `dir`; `None` if there is no such name.
///
/// # Errors
/// `NameTooLong`, `Corrupt`, and as [`Blocks::meta`].
pub async fn lookup(blocks: &impl Blocks, dir: &Dinode, name: &[u8]) -> Result<Option<Link>, FsError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    Ok(locate(blocks, dir, name).await?.map(|place| place.hit.link))
}

/// Where `name` stands.
pub(super) async fn locate(blocks: &impl Blocks, dir: &Dinode, name: &[u8]) -> Result<Option<Place>, FsError> {
    let hash = dirent::hash(name);
    if !dir.is_hashed() {
        let addr = dir.ino.addr();
        let image = blocks.meta(addr, BlockKind::DINODE).await?;
        return match area::find(addr, area::part(&image, dinode::HEADER_BYTES), name, hash)? {
            Search::Hit(hit) => Ok(Some(Place { addr, leaf: None, hit })),
            Search::Miss { entries } if entries == dir.entries => Ok(None),
            Search::Miss { .. } => Err(CorruptKind::DirectoryEntries { entries: dir.entries }.at(addr)),
        };
    }
    let first = Table::default().leaf(blocks, dir, table::slot_of(hash, dir)).await?;
    let mut chain = Chain::new(dir, first);
    while let Some(node) = chain.next(blocks).await? {
        match area::find(node.addr, node.area(), name, hash)? {
            Search::Hit(hit) => return Ok(Some(Place { addr: node.addr, leaf: Some(node.leaf), hit })),
            Search::Miss { entries } => node.check_entries(entries)?,
        }
    }
    Ok(None)
}
