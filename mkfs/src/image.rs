//! Single blocks of a new volume, sealed: dinodes, pointer blocks, resource group headers, the superblock.

use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::{FileKind, Timestamp};
use fs_core::format::block_size::BlockSize;
use fs_core::format::dinode::{Dinode, RawDinode, flags};
use fs_core::format::meta::{self, BlockKind, RawMetaHeader};
use fs_core::format::rgrp::{self, BlockState, RawRgrpHeader, RgrpPlace};
use fs_core::format::superblock::{self, RawInum, RawSuperblock};
use fs_core::format::{dinode, indirect};
use zerocopy::{FromBytes, IntoBytes};

use crate::directory::{Entry, Shape, write_entries};
use crate::options::Identity;
use crate::plan::Plan;
use crate::system::Placed;
use crate::tree::{Node, Tree};

/// Version of every block of a new volume.
const FIRST_VERSION: u32 = 1;
/// `di_payload_format` of rindex.
pub(crate) const PAYLOAD_RINDEX: u32 = 1100;
/// `di_payload_format` of quota.
pub(crate) const PAYLOAD_QUOTA: u32 = 1500;

/// Gives a finished metadata block its checksum. What was written while no journal was in use counts for the first.
pub(crate) fn seal(addr: BlockAddr, block: &mut [u8]) {
    meta::seal(addr, block, 0, FIRST_VERSION);
}

/// A regular system file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) placed: Placed,
    pub(crate) tree: &'a Tree,
    pub(crate) size: u64,
    pub(crate) journaled: bool,
    pub(crate) payload_format: u32,
    /// Content, if it is in the dinode.
    pub(crate) stuffed: &'a [u8],
}

fn inode(placed: Placed, kind: FileKind, now: Timestamp) -> Dinode {
    Dinode {
        ino: placed.ino,
        formal: placed.formal,
        kind,
        permissions: 0o600,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        blocks: 1,
        atime: now,
        mtime: now,
        ctime: now,
        rdev: (0, 0),
        goal: placed.ino.addr(),
        generation: 0,
        flags: flags::SYSTEM,
        height: 0,
        depth: 0,
        entries: 0,
        eattr: None,
    }
}

impl File<'_> {
    /// Fills `block` with the dinode.
    pub(crate) fn write_dinode(&self, block: &mut [u8], now: Timestamp) {
        let mut dinode = inode(self.placed, FileKind::Regular, now);
        dinode.size = self.size;
        dinode.blocks = self.tree.blocks();
        dinode.goal = BlockAddr(self.placed.ino.get() + self.tree.blocks() - 1);
        dinode.height = self.tree.height();
        if self.journaled {
            dinode.flags |= flags::JDATA;
        }
        dinode.write_to(block);
        if let Ok((raw, _)) = RawDinode::mut_from_prefix(block) {
            raw.payload_format = self.payload_format.into();
        }
        if let Some(to) = block.get_mut(dinode::HEADER_BYTES..dinode::HEADER_BYTES + self.stuffed.len()) {
            to.copy_from_slice(self.stuffed);
        }
        write_pointers(block, indirect::FIRST_IN_DINODE, self.placed.ino.get() + 1, self.tree.root_pointers());
        seal(self.placed.ino.addr(), block);
    }
}

/// Fills `block`, which stands at `addr`, with a pointer block of the file whose dinode is `ino`.
pub(crate) fn write_indirect(block: &mut [u8], addr: BlockAddr, ino: InodeNo, child_first: u64, children: u64) {
    meta::start(block, BlockKind::INDIRECT);
    write_pointers(block, indirect::FIRST_IN_INDIRECT, ino.get() + child_first, children);
    seal(addr, block);
}

fn write_pointers(block: &mut [u8], first_byte: usize, first: u64, count: u64) {
    for (index, target) in (first..first + count).enumerate() {
        indirect::set_pointer(block, first_byte, index, Some(BlockAddr(target)));
    }
}

/// A directory and what is in it.
pub(crate) struct Directory<'a> {
    pub(crate) placed: Placed,
    pub(crate) shape: &'a Shape,
    pub(crate) entries: &'a [Entry],
    pub(crate) permissions: u32,
    pub(crate) system: bool,
}

impl Directory<'_> {
    /// All blocks of the directory, which stand one behind the other.
    pub(crate) fn blocks(&self, block_size: BlockSize, now: Timestamp) -> Vec<u8> {
        let (ino, bytes) = (self.placed.ino, block_size.bytes());
        let mut blocks = vec![0; usize::try_from(self.shape.blocks()).unwrap_or(0) * bytes];
        let mut images = blocks.chunks_exact_mut(bytes).zip((ino.get()..).map(BlockAddr));
        if let Some((block, addr)) = images.next() {
            self.write_dinode(block, block_size, now);
            seal(addr, block);
        }
        let Some(hashed) = &self.shape.hashed else { return blocks };
        let table = hashed.table_bytes(ino.get() + hashed.table.blocks());
        let mut parts = table.chunks(block_size.payload_bytes());
        for node in hashed.table.nodes(block_size) {
            let Some((block, addr)) = images.next() else { break };
            match node {
                Node::Indirect { child_first, children } => write_indirect(block, addr, ino, child_first, children),
                Node::Data(_) => {
                    meta::start(block, BlockKind::JOURNALED_DATA);
                    let part = parts.next().unwrap_or_default();
                    if let Some(to) = block.get_mut(meta::HEADER_BYTES..meta::HEADER_BYTES + part.len()) {
                        to.copy_from_slice(part);
                    }
                    seal(addr, block);
                }
            }
        }
        for (leaf, (block, addr)) in hashed.leaves.iter().zip(images) {
            hashed.write_leaf(block, leaf, ino, self.entries, now);
            seal(addr, block);
        }
        blocks
    }

    fn write_dinode(&self, block: &mut [u8], block_size: BlockSize, now: Timestamp) {
        let mut dinode = inode(self.placed, FileKind::Directory, now);
        let subdirectories = self.entries.iter().filter(|entry| entry.kind == FileKind::Directory).count();
        dinode.nlink = u32::try_from(subdirectories).unwrap_or(u32::MAX);
        dinode.permissions = self.permissions;
        dinode.flags = flags::JDATA | if self.system { flags::SYSTEM } else { 0 };
        dinode.blocks = self.shape.blocks();
        dinode.goal = BlockAddr(self.placed.ino.get() + self.shape.blocks() - 1);
        dinode.entries = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let content = dinode::HEADER_BYTES..block.len();
        let Some(hashed) = &self.shape.hashed else {
            dinode.size = block_size.stuffed_bytes_max() as u64;
            dinode.write_to(block);
            if let Some(area) = block.get_mut(content) {
                write_entries(area, self.entries.iter());
            }
            return;
        };
        dinode.flags |= flags::EXHASH;
        dinode.depth = hashed.depth;
        dinode.size = 8 << hashed.depth;
        dinode.height = hashed.table.height();
        dinode.write_to(block);
        if hashed.table.height() > 0 {
            write_pointers(block, content.start, self.placed.ino.get() + 1, hashed.table.root_pointers());
        } else {
            let table = hashed.table_bytes(self.placed.ino.get() + 1);
            if let Some(to) = block.get_mut(content.start..content.start + table.len()) {
                to.copy_from_slice(&table);
            }
        }
    }
}

/// Blocks of a resource group in one state, from its first block on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) state: BlockState,
    pub(crate) blocks: u64,
}

/// A resource group of a new volume.
pub(crate) struct Rgrp<'a> {
    pub(crate) place: RgrpPlace,
    /// What is in use; the rest is free.
    pub(crate) runs: &'a [Run],
    /// Distance to the next group, zero for the last.
    pub(crate) skip: u64,
}

impl Rgrp<'_> {
    /// Adds the header and the bitmap to `blocks`.
    pub(crate) fn write_to(&self, blocks: &mut Vec<u8>, block_size: BlockSize) {
        let place = &self.place;
        blocks.clear();
        blocks.resize(usize::try_from(place.length).unwrap_or(0) * block_size.bytes(), 0);
        for (number, block) in blocks.chunks_exact_mut(block_size.bytes()).enumerate() {
            if number == 0 {
                let _ = self.header().write_to_prefix(block);
            } else {
                meta::start(block, BlockKind::RGRP_BITMAP);
            }
        }
        let states =
            self.runs.iter().flat_map(|run| std::iter::repeat_n(run.state, usize::try_from(run.blocks).unwrap_or(0)));
        for (index, state) in (0..place.data).zip(states) {
            let position = place.bit_position(index, block_size);
            let at = usize::try_from(position.header_block).unwrap_or(0) * block_size.bytes() + position.byte;
            if let Some(byte) = blocks.get_mut(at) {
                *byte |= (state as u8) << position.shift;
            }
        }
        for (addr, block) in (place.addr.0..).zip(blocks.chunks_exact_mut(block_size.bytes())) {
            seal(BlockAddr(addr), block);
        }
    }

    fn header(&self) -> RawRgrpHeader {
        let used: u64 = self.runs.iter().map(|run| run.blocks).sum();
        let dinodes = self.runs.iter().filter(|run| run.state == BlockState::Dinode).map(|run| run.blocks).sum();
        let field = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).into();
        RawRgrpHeader {
            meta: RawMetaHeader::new(BlockKind::RGRP),
            flags: 0.into(),
            free: field(u64::from(self.place.data).saturating_sub(used)),
            dinodes: field(dinodes),
            skip: field(self.skip),
            igeneration: 0.into(),
            data0: self.place.data0.0.into(),
            data: self.place.data.into(),
            bitbytes: (self.place.data / rgrp::BLOCKS_PER_BYTE).into(),
            crc: 0.into(),
            reserved: [0; 60],
        }
    }
}

/// The superblock.
pub(crate) fn superblock(plan: &Plan, identity: &Identity) -> RawSuperblock {
    let inum = |placed: Placed| RawInum { formal: placed.formal.into(), addr: placed.ino.get().into() };
    RawSuperblock {
        meta: RawMetaHeader::new(BlockKind::SUPERBLOCK),
        fs_format: superblock::FORMAT_MAX.into(),
        multihost_format: superblock::MULTIHOST_FORMAT.into(),
        pad0: 0.into(),
        block_size: plan.block_size.bytes_u32().into(),
        block_size_shift: plan.block_size.shift().into(),
        pad1: 0.into(),
        master_dir: inum(plan.shared.master),
        pad2: RawInum::default(),
        root_dir: inum(plan.shared.root),
        lock_proto: superblock::name_field(superblock::LOCK_PROTOCOL),
        lock_table: superblock::name_field(&plan.label),
        pad3: RawInum::default(),
        pad4: RawInum::default(),
        uuid: *identity.uuid.as_bytes(),
    }
}
