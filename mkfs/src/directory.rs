//! A directory whose entries are all known: its shape follows from the names alone, so that it can be placed before the
//! inodes it names are.
//!
//! Its blocks stand one behind the other: dinode, blocks of the hash table, leaves.

use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::{FileKind, Timestamp};
use fs_core::format::block_size::BlockSize;
use fs_core::format::dinode::DIR_DEPTH_MAX;
use fs_core::format::dirent::{self, Target};

use crate::tree::Tree;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// The inode's formal number.
    pub formal: u64,
    /// The inode.
    pub ino: InodeNo,
    /// The inode's type.
    pub kind: FileKind,
}

/// How a directory is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `None`: the entries are in the dinode.
    pub hashed: Option<Hashed>,
}

/// A directory with a hash table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Binary logarithm of the table's length.
    pub depth: u16,
    /// Where the table is: in the dinode, or in blocks of its own.
    pub table: Tree,
    /// The leaves in the order of their hashes.
    pub leaves: Vec<Leaf>,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Bits of the hash that its names share.
    pub depth: u16,
    /// Indices of its entries in the list of names.
    pub entries: Vec<usize>,
}

impl Shape {
    /// The shape of a directory with these names, `.` and `..` included.
    #[must_use]
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, block_size: BlockSize) -> Self {
        let names: Vec<&str> = names.collect();
        let space: usize = names.iter().map(|name| dirent::space_for(name.len())).sum();
        if space <= block_size.stuffed_bytes_max() {
            return Self { hashed: None };
        }
        let mut leaves = Vec::new();
        split(&names, (0..names.len()).collect(), 0, block_size, &mut leaves);
        let deepest = leaves.iter().map(|leaf| leaf.depth).max().unwrap_or(0);
        let depth = deepest.max(block_size.hash_depth_initial());
        let table_bytes = 8_usize << depth;
        let table_blocks = if table_bytes <= block_size.stuffed_bytes_max() {
            0
        } else {
            table_bytes.div_ceil(block_size.payload_bytes())
        };
        Self { hashed: Some(Hashed { depth, table: Tree::new(table_blocks as u64, block_size), leaves }) }
    }

    /// Blocks of the directory, its dinode included.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.hashed.as_ref().map_or(1, |hashed| hashed.table.blocks() + hashed.leaves.len() as u64)
    }
}

/// Divides names until each leaf holds its share.
fn split(names: &[&str], entries: Vec<usize>, depth: u16, block_size: BlockSize, leaves: &mut Vec<Leaf>) {
    let name = |index: &usize| names.get(*index).copied().unwrap_or_default();
    let space: usize = entries.iter().map(|index| dirent::space_for(name(index).len())).sum();
    if space <= block_size.leaf_bytes() || depth == DIR_DEPTH_MAX {
        leaves.push(Leaf { depth, entries });
        return;
    }
    let (upper, lower) =
        entries.into_iter().partition(|index| dirent::hash(name(index).as_bytes()) & (0x8000_0000 >> depth) != 0);
    split(names, lower, depth + 1, block_size, leaves);
    split(names, upper, depth + 1, block_size, leaves);
}

/// Writes `entries` one behind the other into `area`; the last one takes what remains.
pub(crate) fn write_entries<'a>(area: &mut [u8], entries: impl ExactSizeIterator<Item = &'a Entry>) {
    let count = entries.len();
    if count == 0 {
        dirent::clear(area);
    }
    let mut offset = 0;
    for (number, entry) in entries.enumerate() {
        let name = entry.name.as_bytes();
        let rec_len =
            if number + 1 == count { area.len().saturating_sub(offset) } else { dirent::space_for(name.len()) };
        let target = Target { ino: entry.ino, formal: entry.formal, hash: dirent::hash(name), kind: entry.kind, name };
        dirent::write(area, offset, rec_len, target);
        offset += rec_len;
    }
}

impl Hashed {
    /// The hash table when the first leaf stands at `leaf_first`, as bytes.
    pub(crate) fn table_bytes(&self, leaf_first: u64) -> Vec<u8> {
        let leaves = self.leaves.iter().zip(leaf_first..);
        leaves
            .flat_map(|(leaf, addr)| std::iter::repeat_n(addr.to_be_bytes(), 1 << (self.depth - leaf.depth)))
            .flatten()
            .collect()
    }

    /// Fills `block` with a leaf of the directory `dir`.
    pub(crate) fn write_leaf(&self, block: &mut [u8], leaf: &Leaf, dir: InodeNo, entries: &[Entry], now: Timestamp) {
        let header = dirent::Leaf {
            depth: leaf.depth,
            entries: u16::try_from(leaf.entries.len()).unwrap_or(u16::MAX),
            next: None::<BlockAddr>,
            distance: 1,
        };
        header.write_to(block, dir, now);
        let own: Vec<&Entry> = leaf.entries.iter().filter_map(|index| entries.get(*index)).collect();
        if let Some(area) = block.get_mut(dirent::LEAF_HEADER_BYTES..) {
            write_entries(area, own.into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_cover_the_hash_table_exactly_and_hold_each_name_once() {
        for bytes in [512, 1024, 2048, 4096] {
            let block_size = BlockSize::new(bytes).unwrap();
            for journals in [1, 8, 64, 128] {
                let names: Vec<String> = (0..journals).map(|journal| format!("quota_change{journal}")).collect();
                let shape = Shape::new(names.iter().map(String::as_str), block_size);
                let Some(hashed) = shape.hashed else { continue };
                let slots: usize = hashed.leaves.iter().map(|leaf| 1 << (hashed.depth - leaf.depth)).sum();
                assert_eq!(slots, 1 << hashed.depth);
                let mut seen: Vec<usize> = hashed.leaves.iter().flat_map(|leaf| leaf.entries.clone()).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..names.len()).collect::<Vec<_>>());
            }
        }
    }
}
