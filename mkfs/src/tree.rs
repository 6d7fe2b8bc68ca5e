//! The pointer tree of a file without holes, all of whose blocks stand one behind the other: dinode, pointer blocks
//! from the top down, data.

use fs_core::format::block_size::BlockSize;

/// Shape of the tree of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Blocks at each level below the dinode; the last level is the data. Empty: the content is in the dinode.
    levels: Vec<u64>,
}

/// A block of the file behind its dinode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A pointer block: where its first child stands (counted like [`Tree::blocks`], the dinode is 0), and how many
    /// children it has.
    Indirect {
        /// Offset of the first child.
        child_first: u64,
        /// Number of children.
        children: u64,
    },
    /// The data block with this number.
    Data(u64),
}

impl Tree {
    /// The tree of a file of `data_blocks`; with none the content is in the dinode.
    #[must_use]
    pub fn new(data_blocks: u64, block_size: BlockSize) -> Self {
        let mut levels = Vec::new();
        if data_blocks > 0 {
            let mut count = data_blocks;
            levels.push(count);
            while count > block_size.dinode_pointers() as u64 {
                count = count.div_ceil(block_size.indirect_pointers() as u64);
                levels.push(count);
            }
            levels.reverse();
        }
        Self { levels }
    }

    /// Levels of the tree.
    #[must_use]
    pub fn height(&self) -> u16 {
        u16::try_from(self.levels.len()).unwrap_or(u16::MAX)
    }

    /// All blocks of the file, the dinode included.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        1 + self.levels.iter().sum::<u64>()
    }

    /// Pointers in the dinode. They point to the blocks behind it, from offset 1 on.
    #[must_use]
    pub fn root_pointers(&self) -> u64 {
        self.levels.first().copied().unwrap_or(0)
    }

    /// The blocks behind the dinode, in the order in which they stand.
    pub fn nodes(&self, block_size: BlockSize) -> impl Iterator<Item = Node> {
        let fanout = block_size.indirect_pointers() as u64;
        let mut level_first = 1;
        self.levels.iter().enumerate().flat_map(move |(level, &count)| {
            level_first += count;
            let (below_first, below_count) = (level_first, self.levels.get(level + 1).copied());
            (0..count).map(move |index| match below_count {
                Some(below) => Node::Indirect {
                    child_first: below_first + index * fanout,
                    children: fanout.min(below - index * fanout),
                },
                None => Node::Data(index),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_pointed_to_exactly_once() {
        for (bytes, data_blocks) in [(512, 35), (512, 36), (512, 16_384), (4096, 2048), (4096, 483 * 509 + 1)] {
            let block_size = BlockSize::new(bytes).unwrap();
            let tree = Tree::new(data_blocks, block_size);
            let mut pointed: Vec<u64> = (1..=tree.root_pointers()).collect();
            let mut data = 0;
            for node in tree.nodes(block_size) {
                match node {
                    Node::Indirect { child_first, children } => pointed.extend(child_first..child_first + children),
                    Node::Data(index) => {
                        assert_eq!(index, data);
                        data += 1;
                    }
                }
            }
            assert_eq!(data, data_blocks);
            assert_eq!(pointed, (1..tree.blocks()).collect::<Vec<_>>(), "{bytes} {data_blocks}");
            assert!(tree.root_pointers() <= block_size.dinode_pointers() as u64);
        }
    }

    #[test]
    fn a_file_without_data_blocks_is_its_dinode() {
        let tree = Tree::new(0, BlockSize::MAX);
        assert_eq!((tree.height(), tree.blocks(), tree.root_pointers()), (0, 1, 0));
    }
}
