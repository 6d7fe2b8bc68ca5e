//! A volume of which all that matters is in memory, and a directory on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;

use crate::addr::{BlockAddr, InodeNo};
use crate::attr::{DirEntry, FileKind, Timestamp};
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::dir::{self, CookieKey, Link, Progress};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::{self, BlockKind};

/// Blocks in memory; changes are visible at once.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) size: BlockSize,
    pub(super) blocks: BTreeMap<u64, BlockImage>,
    /// Blocks changed, made or freed since this was cleared.
    pub(super) touched: BTreeSet<u64>,
    next: u64,
}

impl Blocks for Memory {
    fn block_size(&self) -> BlockSize {
        self.size
    }

    async fn meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        let block = self.blocks.get(&addr.0).ok_or(CorruptKind::PointerRange { target: addr }.at(addr))?;
        meta::check(addr, block, kind)?;
        Ok(Arc::clone(block))
    }

    async fn data(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        Err(CorruptKind::PointerRange { target: addr }.at(addr))
    }
}

impl Edit for Memory {
    async fn edit(&mut self, addr: BlockAddr, kind: BlockKind) -> Result<&mut [u8], FsError> {
        self.touched.insert(addr.0);
        let block = self.blocks.get_mut(&addr.0).ok_or(CorruptKind::PointerRange { target: addr }.at(addr))?;
        meta::check(addr, block, kind)?;
        Ok(Arc::make_mut(block))
    }

    fn create(&mut self, addr: BlockAddr, kind: BlockKind) -> &mut [u8] {
        let mut block = vec![0; self.size.bytes()];
        meta::start(&mut block, kind);
        assert!(self.blocks.insert(addr.0, block.into()).is_none(), "created twice");
        self.touched.insert(addr.0);
        Arc::make_mut(self.blocks.get_mut(&addr.0).unwrap())
    }

    async fn allocate(&mut self, owner: InodeNo, goal: BlockAddr) -> Result<BlockAddr, FsError> {
        assert_eq!(owner.get(), Dir::INO);
        assert!(goal.0 != 0);
        self.next += 1;
        Ok(BlockAddr(self.next))
    }

    async fn free_meta(&mut self, addr: BlockAddr) -> Result<(), FsError> {
        self.touched.insert(addr.0);
        let freed = self.blocks.remove(&addr.0);
        freed.map(drop).ok_or(CorruptKind::PointerRange { target: addr }.at(addr))
    }

    fn now(&self) -> Timestamp {
        Timestamp { sec: 77, nsec: 5 }
    }
}

/// A directory and the volume that it is on. Each call is one transaction.
#[derive(Clone)]
pub(super) struct Dir {
    pub(super) memory: Memory,
    pub(super) dinode: Dinode,
    pub(super) key: CookieKey,
}

pub(super) fn link(number: u64) -> Link {
    let kind = if number.is_multiple_of(2) { FileKind::Regular } else { FileKind::Directory };
    Link { ino: InodeNo::new(number).unwrap(), formal: number + 1, kind }
}

/// Nothing in memory ever waits. Demands that the future could run on another thread.
pub(super) fn run<T>(future: impl Future<Output = T> + Send) -> T {
    future.now_or_never().expect("memory never waits")
}

impl Dir {
    pub(super) const INO: u64 = 1000;
    pub(super) const PARENT: u64 = 900;

    pub(super) fn new(block_bytes: u32) -> Self {
        let size = BlockSize::new(block_bytes).unwrap();
        let (ino, parent) = (InodeNo::new(Self::INO).unwrap(), InodeNo::new(Self::PARENT).unwrap());
        let dinode = Dinode {
            ino,
            formal: 7,
            kind: FileKind::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            nlink: 2,
            size: size.stuffed_bytes_max() as u64,
            blocks: 1,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            rdev: (0, 0),
            goal: ino.addr(),
            generation: 0,
            flags: flags::JDATA,
            height: 0,
            depth: 0,
            entries: 2,
            eattr: None,
        };
        let mut block = vec![0xee; size.bytes()];
        dinode.write_to(&mut block);
        dir::new_directory(&mut block, ino, 7, parent, 6);
        let blocks = BTreeMap::from([(Self::INO, block.into())]);
        let memory = Memory { size, blocks, touched: BTreeSet::new(), next: Self::INO };
        Self { memory, dinode, key: CookieKey::new(b"0123456789abcdef") }
    }

    /// Runs a change as its callers do: parse before, write back behind it.
    fn change<T>(&mut self, change: impl FnOnce(&mut Memory, &mut Dinode) -> Result<T, FsError>) -> Result<T, FsError> {
        self.memory.touched.clear();
        let block = Arc::clone(&self.memory.blocks[&Self::INO]);
        let mut dinode = Dinode::parse(InodeNo::new(Self::INO).unwrap(), &block, self.memory.size)?;
        let done = change(&mut self.memory, &mut dinode)?;
        dinode.write_to(run(self.memory.edit(dinode.ino.addr(), BlockKind::DINODE))?);
        self.dinode = dinode;
        Ok(done)
    }

    pub(super) fn insert(&mut self, name: &[u8], to: Link) -> Result<(), FsError> {
        self.change(|memory, dinode| run(dir::insert(memory, dinode, name, to)))
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Result<Link, FsError> {
        self.change(|memory, dinode| run(dir::remove(memory, dinode, name)))
    }

    pub(super) fn replace(&mut self, name: &[u8], to: Link) -> Result<Link, FsError> {
        self.change(|memory, dinode| run(dir::replace(memory, dinode, name, to)))
    }

    pub(super) fn free_leaves(&mut self, from: u32, blocks_max: usize) -> Result<Progress, FsError> {
        self.change(|memory, dinode| run(dir::free_leaves(memory, dinode, from, blocks_max)))
    }

    pub(super) fn lookup(&self, name: &[u8]) -> Result<Option<Link>, FsError> {
        run(dir::lookup(&self.memory, &self.dinode, name))
    }

    pub(super) fn read(&self, after: u64, count_max: usize) -> Result<Vec<DirEntry>, FsError> {
        run(dir::read(&self.memory, &self.dinode, after, count_max, &self.key))
    }

    /// Changes bytes of a block behind everybody's back.
    pub(super) fn poke(&mut self, addr: u64, offset: usize, bytes: &[u8]) {
        let block = Arc::make_mut(self.memory.blocks.get_mut(&addr).unwrap());
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
