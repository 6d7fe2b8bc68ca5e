//! The system files: which there are, how large, where, and in which order they were numbered.
//!
//! Numbers follow the order of `mkfs.gfs2`: journals, master, jindex, per_node, three files for each node, inum, statfs,
//! rindex, quota, root. Places differ: a node's files stand behind its journal.

use fs_core::addr::InodeNo;
use fs_core::attr::FileKind;
use fs_core::format::block_size::BlockSize;
use fs_core::format::rgrp::RINDEX_ENTRY_BYTES;

use crate::directory::{Entry, Shape};
use crate::options::MIB;
use crate::tree::Tree;

/// Size of each quota change file, in bytes.
pub const QUOTA_CHANGE_BYTES: u64 = MIB;

/// An inode that has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Formal number.
    pub formal: u64,
    /// The dinode.
    pub ino: InodeNo,
}

/// The blocks of one journal's resource group, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// Shape of the journal.
    pub journal: Tree,
    /// Shape of the quota change file.
    pub quota_change: Tree,
}

/// Where the files of one node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeInodes {
    /// Its journal.
    pub journal: Placed,
    /// `inum_rangeN`.
    pub inum_range: Placed,
    /// `statfs_changeN`.
    pub statfs_change: Placed,
    /// `quota_changeN`.
    pub quota_change: Placed,
}

impl NodeFiles {
    /// The files of a node with a journal of `journal_blocks`.
    #[must_use]
    pub fn new(journal_blocks: u64, block_size: BlockSize) -> Self {
        Self {
            journal: Tree::new(journal_blocks, block_size),
            quota_change: Tree::new(QUOTA_CHANGE_BYTES / block_size.bytes_u64(), block_size),
        }
    }

    /// All their blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.journal.blocks() + 2 + self.quota_change.blocks()
    }

    /// Where they are when `first` is the first block of the group that bitmaps describe.
    pub(crate) fn place(&self, numbers: &Numbers, node: u32, first: u64) -> Option<NodeInodes> {
        let behind = first + self.journal.blocks();
        let placed = |formal, block| InodeNo::new(block).map(|ino| Placed { formal, ino });
        let own = numbers.node_first(node);
        Some(NodeInodes {
            journal: placed(u64::from(node) + 1, first)?,
            inum_range: placed(own, behind)?,
            statfs_change: placed(own + 1, behind + 1)?,
            quota_change: placed(own + 2, behind + 2)?,
        })
    }
}

/// Formal numbers of the system files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    journals: u64,
}

impl Numbers {
    pub(crate) fn new(journals: u32) -> Self {
        Self { journals: u64::from(journals) }
    }

    fn master(self) -> u64 {
        self.journals + 1
    }

    fn node_first(self, node: u32) -> u64 {
        self.journals + 4 + 3 * u64::from(node)
    }

    fn inum(self) -> u64 {
        4 * self.journals + 4
    }

    /// The number that the next inode would get.
    fn next(self) -> u64 {
        self.inum() + 5
    }
}

/// Shapes of the files that a volume has once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFiles {
    /// Directory of the system files.
    pub master: Shape,
    /// Directory of the journals.
    pub jindex: Shape,
    /// Directory of the nodes' files.
    pub per_node: Shape,
    /// List of the resource groups.
    pub rindex: Tree,
}

/// Names in the master directory behind `.` and `..`.
const MASTER_NAMES: [&str; 6] = ["jindex", "per_node", "inum", "statfs", "rindex", "quota"];

/// Name of a journal in jindex.
fn journal_name(node: u32) -> String {
    format!("journal{node}")
}

/// Names of a node's files in per_node.
fn node_names(node: u32) -> [String; 3] {
    [format!("inum_range{node}"), format!("statfs_change{node}"), format!("quota_change{node}")]
}

impl SharedFiles {
    /// The files of a volume with so many journals and resource groups.
    #[must_use]
    pub fn new(journals: u32, rgrps: u64, block_size: BlockSize) -> Self {
        let directory = |names: Vec<String>| {
            Shape::new([".", ".."].into_iter().chain(names.iter().map(String::as_str)), block_size)
        };
        let rindex_bytes = rgrps.saturating_mul(RINDEX_ENTRY_BYTES as u64);
        let rindex_blocks = if rindex_bytes <= block_size.stuffed_bytes_max() as u64 {
            0
        } else {
            rindex_bytes.div_ceil(block_size.bytes_u64())
        };
        Self {
            master: directory(MASTER_NAMES.map(str::to_owned).to_vec()),
            jindex: directory((0..journals).map(journal_name).collect()),
            per_node: directory((0..journals).flat_map(node_names).collect()),
            rindex: Tree::new(rindex_blocks, block_size),
        }
    }

    /// All their blocks: inum, statfs, quota and root have one each.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.master.blocks() + self.jindex.blocks() + self.per_node.blocks() + self.rindex.blocks() + 4
    }
}

/// Where the files that a volume has once are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedInodes {
    /// Directory of the system files.
    pub master: Placed,
    /// Directory of the journals.
    pub jindex: Placed,
    /// Directory of the nodes' files.
    pub per_node: Placed,
    /// Next formal number, a relic.
    pub inum: Placed,
    /// Counters of the volume.
    pub statfs: Placed,
    /// List of the resource groups.
    pub rindex: Placed,
    /// Quotas.
    pub quota: Placed,
    /// Root directory.
    pub root: Placed,
    /// The number that the next inode would get.
    pub next_formal: u64,
}

impl SharedInodes {
    /// Places the files one behind the other from block `first` on.
    pub(crate) fn place(files: &SharedFiles, numbers: Numbers, first: u64) -> Option<Self> {
        let mut block = first;
        let mut place = |formal, blocks| {
            let placed = InodeNo::new(block).map(|ino| Placed { formal, ino });
            block += blocks;
            placed
        };
        let (master, inum) = (numbers.master(), numbers.inum());
        Some(Self {
            master: place(master, files.master.blocks())?,
            jindex: place(master + 1, files.jindex.blocks())?,
            per_node: place(master + 2, files.per_node.blocks())?,
            inum: place(inum, 1)?,
            statfs: place(inum + 1, 1)?,
            rindex: place(inum + 2, files.rindex.blocks())?,
            quota: place(inum + 3, 1)?,
            root: place(inum + 4, 1)?,
            next_formal: numbers.next(),
        })
    }
}

fn directory(this: Placed, parent: Placed, rest: impl IntoIterator<Item = (String, Placed, FileKind)>) -> Vec<Entry> {
    let dots = [(".".to_owned(), this, FileKind::Directory), ("..".to_owned(), parent, FileKind::Directory)];
    let all = dots.into_iter().chain(rest);
    all.map(|(name, placed, kind)| Entry { name, formal: placed.formal, ino: placed.ino, kind }).collect()
}

impl SharedInodes {
    /// Entries of the master directory.
    pub(crate) fn master_entries(&self) -> Vec<Entry> {
        let placed = [self.jindex, self.per_node, self.inum, self.statfs, self.rindex, self.quota];
        let kind = |number| if number < 2 { FileKind::Directory } else { FileKind::Regular };
        let named = MASTER_NAMES.iter().zip(placed).enumerate();
        directory(self.master, self.master, named.map(|(number, (name, at))| ((*name).to_owned(), at, kind(number))))
    }

    /// Entries of jindex.
    pub(crate) fn jindex_entries(&self, nodes: &[NodeInodes]) -> Vec<Entry> {
        let named = (0..).zip(nodes).map(|(node, files)| (journal_name(node), files.journal, FileKind::Regular));
        directory(self.jindex, self.master, named)
    }

    /// Entries of per_node.
    pub(crate) fn per_node_entries(&self, nodes: &[NodeInodes]) -> Vec<Entry> {
        let named = (0..).zip(nodes).flat_map(|(node, files)| {
            let placed = [files.inum_range, files.statfs_change, files.quota_change];
            node_names(node).into_iter().zip(placed).map(|(name, at)| (name, at, FileKind::Regular))
        });
        directory(self.per_node, self.master, named)
    }

    /// Entries of the root directory.
    pub(crate) fn root_entries(&self) -> Vec<Entry> {
        directory(self.root, self.root, [])
    }
}
