//! Reads a whole volume with the parsers of `fs-core::format` and nothing else, and accounts for every block in use.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::FileKind;
use fs_core::format::block_size::BlockSize;
use fs_core::format::dinode::{self, Dinode, RawDinode};
use fs_core::format::dirent::{self, LEAF_HEADER_BYTES, Leaf};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::rgrp::{BlockState, RINDEX_ENTRY_BYTES, RawRindexEntry, RgrpHeader, RgrpPlace};
use fs_core::format::superblock::{OFFSET_BYTES, SIZE_BYTES, Superblock};
use fs_core::format::{indirect, log};
use zerocopy::FromBytes;

/// An entry of a directory, as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) formal: u64,
    pub(crate) hash: u32,
    pub(crate) kind: FileKind,
    pub(crate) ino: InodeNo,
}

/// An inode and how it was reached.
pub(crate) struct Found {
    pub(crate) dinode: Dinode,
    pub(crate) raw: RawDinode,
    pub(crate) entries: BTreeMap<String, Named>,
}

/// A volume that was read completely.
pub(crate) struct Walk {
    file: File,
    pub(crate) superblock: Superblock,
    /// By path; the master directory is `master`, the root is `root`.
    pub(crate) inodes: BTreeMap<String, Found>,
    /// What each block in use was found to be.
    used: BTreeMap<u64, BlockState>,
    pub(crate) log_headers: u64,
    pub(crate) stamped: u64,
    /// Metadata blocks that carry a checksum.
    pub(crate) checksummed: u64,
    pub(crate) unchecksummed: u64,
}

impl Walk {
    /// Reads the volume in `image`; panics at the first broken rule.
    pub(crate) fn of(image: &Path) -> Self {
        let file = File::open(image).unwrap();
        let mut bytes = [0; SIZE_BYTES];
        file.read_exact_at(&mut bytes, OFFSET_BYTES).unwrap();
        let superblock = Superblock::parse(&bytes).unwrap();
        let (master, root) = (superblock.master, superblock.root);
        let mut walk = Self {
            file,
            superblock,
            inodes: BTreeMap::new(),
            used: BTreeMap::new(),
            log_headers: 0,
            stamped: 0,
            checksummed: 0,
            unchecksummed: 0,
        };
        walk.inode("master", master);
        walk.inode("root", root);
        walk.check_bitmaps();
        walk
    }

    fn size(&self) -> BlockSize {
        self.superblock.block_size
    }

    fn block(&self, addr: BlockAddr) -> Vec<u8> {
        let mut block = vec![0; self.size().bytes()];
        self.file.read_exact_at(&mut block, addr.0 * self.size().bytes_u64()).unwrap();
        block
    }

    fn metadata(&mut self, addr: BlockAddr, kind: BlockKind) -> Vec<u8> {
        let block = self.block(addr);
        meta::check(addr, &block, kind).unwrap();
        meta::verify(addr, &block).unwrap();
        assert_eq!(meta::header(&block).unwrap().format.get(), kind.format(), "{addr}");
        if meta::header(&block).unwrap().version.get() == 0 {
            self.unchecksummed += 1;
        } else {
            self.checksummed += 1;
        }
        block
    }

    fn take(&mut self, addr: BlockAddr, state: BlockState) {
        assert_eq!(self.used.insert(addr.0, state), None, "block {addr} is used twice");
    }

    fn inode(&mut self, path: &str, ino: InodeNo) {
        self.take(ino.addr(), BlockState::Dinode);
        let block = self.metadata(ino.addr(), BlockKind::DINODE);
        let dinode = Dinode::parse(ino, &block, self.size()).unwrap();
        let raw = *RawDinode::ref_from_prefix(&block).unwrap().0;
        let mut data = Vec::new();
        self.tree(&block, dinode::HEADER_BYTES, dinode.height, &mut data);
        let mut entries = BTreeMap::new();
        if dinode.kind == FileKind::Directory {
            self.directory(&dinode, &block, &data, &mut entries);
        } else if path.contains("/journal") {
            self.journal(&dinode, &data);
        } else if path.contains("/quota_change") {
            assert_eq!(data.len() as u64 * self.size().bytes_u64(), dinode.size);
            for addr in &data {
                self.metadata(*addr, BlockKind::QUOTA_CHANGE);
            }
        }
        let children: Vec<(String, InodeNo)> = entries
            .iter()
            .filter(|(name, _)| *name != "." && *name != "..")
            .map(|(name, named): (&String, &Named)| (format!("{path}/{name}"), named.ino))
            .collect();
        assert!(dinode.blocks > data.len() as u64, "{path}");
        self.inodes.insert(path.to_owned(), Found { dinode, raw, entries });
        for (path, ino) in children {
            self.inode(&path, ino);
        }
    }

    /// Takes all blocks below `block` and collects the data blocks.
    fn tree(&mut self, block: &[u8], first: usize, height: u16, data: &mut Vec<BlockAddr>) {
        if height == 0 {
            return;
        }
        for addr in (0..indirect::count(block, first)).filter_map(|index| indirect::pointer(block, first, index)) {
            self.take(addr, BlockState::Used);
            if height == 1 {
                data.push(addr);
            } else {
                let child = self.metadata(addr, BlockKind::INDIRECT);
                self.tree(&child, indirect::FIRST_IN_INDIRECT, height - 1, data);
            }
        }
    }

    fn directory(
        &mut self,
        dir: &Dinode,
        block: &[u8],
        table_blocks: &[BlockAddr],
        entries: &mut BTreeMap<String, Named>,
    ) {
        if !dir.is_hashed() {
            collect(dir.ino.addr(), &block[dinode::HEADER_BYTES..], entries);
            assert_eq!(entries.len(), dir.entries as usize);
            return;
        }
        let mut table = Vec::new();
        if table_blocks.is_empty() {
            table.extend_from_slice(&block[dinode::HEADER_BYTES..]);
        }
        for addr in table_blocks {
            let block = self.metadata(*addr, BlockKind::JOURNALED_DATA);
            table.extend_from_slice(&block[meta::HEADER_BYTES..]);
        }
        let mut slot = 0;
        while slot < 1 << dir.depth {
            let addr = indirect::pointer(&table, 0, slot).unwrap();
            self.take(addr, BlockState::Used);
            let block = self.metadata(addr, BlockKind::LEAF);
            let leaf = Leaf::parse(addr, &block).unwrap();
            let span = 1 << (dir.depth - leaf.depth);
            assert!(slot % span == 0 && leaf.next.is_none());
            assert!((slot..slot + span).all(|slot| indirect::pointer(&table, 0, slot) == Some(addr)));
            let mut own = BTreeMap::new();
            collect(addr, &block[LEAF_HEADER_BYTES..], &mut own);
            assert_eq!(own.len(), usize::from(leaf.entries));
            let in_range = |named: &Named| (slot..slot + span).contains(&((named.hash >> (32 - dir.depth)) as usize));
            assert!(own.values().all(in_range));
            entries.extend(own);
            slot += span;
        }
        assert_eq!(entries.len(), dir.entries as usize);
    }

    fn journal(&mut self, dinode: &Dinode, data: &[BlockAddr]) {
        assert_eq!(data.len() as u64 * self.size().bytes_u64(), dinode.size);
        let mut sequences = Vec::new();
        for (position, addr) in (0..).zip(data) {
            let header = log::parse_header(&self.block(*addr), position).unwrap();
            assert!(header.is_clean());
            self.log_headers += 1;
            self.stamped += u64::from(header.stamped);
            sequences.push(header.sequence);
        }
        let falls = sequences.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(falls <= 1, "the sequence wraps once at most");
    }

    /// The content of a system file.
    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        let dinode = &self.inodes[path].dinode;
        let block = self.block(dinode.ino.addr());
        let mut bytes = Vec::new();
        if dinode.is_stuffed() {
            bytes.extend_from_slice(&block[dinode::HEADER_BYTES..]);
        }
        let mut blocks = vec![(block, dinode::HEADER_BYTES, dinode.height)];
        while let Some((block, first, height)) = blocks.pop() {
            let children =
                (0..indirect::count(&block, first)).filter_map(|index| indirect::pointer(&block, first, index));
            if height == 1 {
                children.for_each(|addr| bytes.extend(self.block(addr)));
            } else if height > 1 {
                let below: Vec<_> = children.collect();
                blocks.extend(
                    below.iter().rev().map(|addr| (self.block(*addr), indirect::FIRST_IN_INDIRECT, height - 1)),
                );
            }
        }
        bytes.truncate(dinode.size as usize);
        bytes
    }

    /// The resource groups that rindex lists.
    pub(crate) fn rgrps(&self) -> Vec<RgrpPlace> {
        let rindex = self.content("master/rindex");
        let entries =
            rindex.chunks_exact(RINDEX_ENTRY_BYTES).map(|entry| RawRindexEntry::ref_from_bytes(entry).unwrap());
        let places: Vec<_> = entries.map(|raw| RgrpPlace::parse(BlockAddr(0), raw, self.size()).unwrap()).collect();
        assert!(places.windows(2).all(|pair| pair[0].end() <= pair[1].addr));
        places
    }

    /// Every block that the bitmaps call used was found, as what they call it, and no other was.
    fn check_bitmaps(&mut self) {
        let mut claimed = BTreeMap::new();
        for place in self.rgrps() {
            let mut blocks = vec![self.metadata(place.addr, BlockKind::RGRP)];
            for number in 1..place.length {
                blocks.push(self.metadata(BlockAddr(place.addr.0 + u64::from(number)), BlockKind::RGRP_BITMAP));
            }
            let header = RgrpHeader::parse(&place, &blocks[0]).unwrap();
            let (mut free, mut dinodes) = (0, 0);
            for index in 0..place.data {
                let at = place.bit_position(index, self.size());
                let state = BlockState::from_bits(blocks[at.header_block as usize][at.byte] >> at.shift);
                free += u32::from(state == BlockState::Free);
                dinodes += u32::from(state == BlockState::Dinode);
                if state != BlockState::Free {
                    claimed.insert(place.block_at(index).0, state);
                }
            }
            assert_eq!((free, dinodes), (header.free, header.dinodes), "group {}", place.addr);
        }
        assert_eq!(claimed, self.used);
    }
}

fn collect(block: BlockAddr, area: &[u8], entries: &mut BTreeMap<String, Named>) {
    for entry in dirent::entries(block, area) {
        if let Some(target) = entry.unwrap().target {
            let named = Named { formal: target.formal, hash: target.hash, kind: target.kind, ino: target.ino };
            entries.insert(String::from_utf8(target.name.to_vec()).unwrap(), named);
        }
    }
}
