//! Leaves: walking a chain of them, splitting one.

use super::area;
use super::table::{self, Table};
use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{DIR_DEPTH_MAX, Dinode};
use crate::format::dirent::{self, LEAF_HEADER_BYTES, Leaf};
use crate::format::meta::BlockKind;

/// A leaf that was read and whose header was checked.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) addr: BlockAddr,
    /// Its block.
    pub(super) image: BlockImage,
    /// Its header.
    pub(super) leaf: Leaf,
    /// Its place in the chain, from 1. (Old writers leave the distance in the header zero.)
    pub(super) position: u32,
}

impl Node {
    /// The part of the block that holds the entries.
    pub(super) fn area(&self) -> &[u8] {
        area::part(&self.image, LEAF_HEADER_BYTES)
    }

    /// Checks the number of entries that the header claims against the number found.
    pub(super) fn check_entries(&self, found: u32) -> Result<(), FsError> {
        if u32::from(self.leaf.entries) == found {
            return Ok(());
        }
        Err(CorruptKind::LeafEntries { entries: self.leaf.entries }.at(self.addr))
    }
}

/// Walks a chain of leaves, and ends in an error if it is a circle.
#[derive(Debug)]
pub(super) struct Chain {
    next: Option<BlockAddr>,
    table_depth: u16,
    /// Depth of the first leaf, which all share.
    depth: Option<u16>,
    position: u32,
    /// Brent's way to find a circle without remembering the way: a mark that moves on after 1, 2, 4, … steps.
    mark: Option<BlockAddr>,
    steps: u64,
    lap: u64,
}

impl Chain {
    /// The chain that starts with the leaf at `first`, to which the table of `dir` points.
    pub(super) fn new(dir: &Dinode, first: BlockAddr) -> Self {
        Self { next: Some(first), table_depth: dir.depth, depth: None, position: 0, mark: None, steps: 0, lap: 1 }
    }

    /// The next leaf.
    pub(super) async fn next(&mut self, blocks: &impl Blocks) -> Result<Option<Node>, FsError> {
        let Some(addr) = self.next else { return Ok(None) };
        if self.mark == Some(addr) {
            return Err(CorruptKind::PointerCircle.at(addr));
        }
        self.steps += 1;
        if self.steps == self.lap {
            (self.mark, self.steps, self.lap) = (Some(addr), 0, self.lap.saturating_mul(2));
        }
        let image = blocks.meta(addr, BlockKind::LEAF).await?;
        let leaf = Leaf::parse(addr, &image)?;
        if leaf.depth > self.table_depth || self.depth.is_some_and(|depth| depth != leaf.depth) {
            return Err(CorruptKind::LeafDepth { depth: leaf.depth }.at(addr));
        }
        if leaf.next.is_some() && leaf.depth != DIR_DEPTH_MAX {
            return Err(CorruptKind::LeafChain { depth: leaf.depth }.at(addr));
        }
        self.depth = Some(leaf.depth);
        self.next = leaf.next;
        self.position = self.position.saturating_add(1);
        Ok(Some(Node { addr, image, leaf, position: self.position }))
    }
}

/// Splits a leaf that has fewer bits than the table: a new leaf takes the lower half of its slots, and their names.
/// `slot` is one of its slots.
pub(super) async fn split(edit: &mut impl Edit, dir: &mut Dinode, node: &Node, slot: u32) -> Result<(), FsError> {
    let range = table::range(dir, node.leaf.depth, slot);
    let mut table = Table::default();
    for slot in range.clone() {
        if table.leaf(edit, dir, slot).await? != node.addr {
            return Err(CorruptKind::HashTableRange { slot }.at(dir.ino.addr()));
        }
    }
    let mut count = 0;
    for entry in dirent::entries(node.addr, node.area()) {
        let entry = entry?;
        let Some(target) = entry.target else { continue };
        if !range.contains(&table::slot_of(target.hash, dir)) {
            return Err(CorruptKind::DirentLeaf { offset: entry.offset }.at(node.addr));
        }
        count += 1;
    }
    node.check_entries(count)?;

    let addr = table::allocate(edit, dir).await?;
    let dir = &*dir;
    let middle = range.start + (range.end - range.start) / 2;
    let is_lower = |hash| table::slot_of(hash, dir) < middle;
    let (now, depth) = (edit.now(), node.leaf.depth + 1);
    let upper = edit.edit(node.addr, BlockKind::LEAF).await?;
    let area = area::part_mut(upper, LEAF_HEADER_BYTES);
    let entries = area::repack(node.addr, node.area(), area, |hash| !is_lower(hash))?;
    Leaf { depth, entries, ..node.leaf }.write_to(upper, dir.ino, now);

    let lower = edit.create(addr, BlockKind::LEAF);
    let area = area::part_mut(lower, LEAF_HEADER_BYTES);
    let entries = area::repack(node.addr, node.area(), area, is_lower)?;
    Leaf { depth, entries, next: None, distance: 1 }.write_to(lower, dir.ino, now);
    table::set_slots(edit, dir, range.start..middle, Some(addr)).await
}
