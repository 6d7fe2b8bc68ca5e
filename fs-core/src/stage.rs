//! A transaction while an operation works on it.
//!
//! Everything that the operation changes is kept here, seen by nobody else. Reading, allocating and changing may fail
//! or wait at any point; dropping the stage then undoes all of it, promises of blocks included. [`Stage::commit`]
//! reserves journal space for exactly what was staged, and applies it in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::promise::{Promise, Purpose};
use crate::alloc::rgrps::BitRun;
use crate::alloc::runs::Runs;
use crate::attr::{Caller, Timestamp};
use crate::blocks::{BlockImage, Blocks, Edit};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::log::StatfsDelta;
use crate::format::meta::{self, BlockKind};
use crate::format::rgrp::BlockState;
use crate::glock::GlockGuard;
use crate::journal::change::{Change, ChangedBlock, DataBlock, LogClass};
use crate::journal::owner::{Owner, OwnerKind};
use crate::quota::charge::{self, Charged, Postings};
use crate::quota::{Charge, QuotaId, Record};
use crate::volume::Volume;

/// A transaction under construction.
pub struct Stage<'v> {
    volume: &'v Volume,
    now: Timestamp,
    /// The inode whose lock covers what is changed next.
    owner: InodeNo,
    blocks: BTreeMap<BlockAddr, ChangedBlock>,
    promises: Vec<Promise>,
    /// States that promised blocks get, and changes of blocks that are in use.
    bits: Runs,
    freed: BTreeSet<BlockAddr>,
    revokes: Vec<BlockAddr>,
    freed_data: Vec<(InodeNo, BlockAddr)>,
    data: BTreeMap<BlockAddr, DataBlock>,
    inodes: Vec<InodeNo>,
    /// Resource groups that have just been trimmed.
    trimmed: Vec<usize>,
    /// Change of the volume's counters.
    delta: StatfsDelta,
    /// Whom the dinodes were charged to before they were changed here.
    charged: BTreeMap<BlockAddr, Option<Charged>>,
    /// What happens to quotas beside that.
    postings: Postings,
    /// Limits of quotas count.
    limited: bool,
    /// Resource groups whose bitmaps change.
    rgrp_locks: Vec<GlockGuard<'v>>,
}

impl<'v> Stage<'v> {
    /// Nothing changed yet; `owner` is the inode whose lock covers the first changes.
    #[must_use]
    pub fn new(volume: &'v Volume, owner: InodeNo) -> Self {
        Self {
            volume,
            now: volume.env.now(),
            owner,
            blocks: BTreeMap::new(),
            promises: Vec::new(),
            bits: Runs::default(),
            freed: BTreeSet::new(),
            revokes: Vec::new(),
            freed_data: Vec::new(),
            data: BTreeMap::new(),
            inodes: vec![owner],
            trimmed: Vec::new(),
            delta: StatfsDelta::default(),
            charged: BTreeMap::new(),
            postings: Postings::new(),
            limited: true,
            rgrp_locks: Vec::new(),
        }
    }

    /// The transaction is `caller`'s: root may go beyond the limits of quotas. Who does not say whose it is, keeps to them.
    #[must_use]
    pub const fn on_behalf_of(mut self, caller: Caller) -> Self {
        self.limited = caller.uid != 0;
        self
    }

    /// Nobody asked: what is done has to be done.
    pub(crate) const fn ignore_limits(&mut self) {
        self.limited = false;
    }

    /// Limits of quotas count, whoever asked.
    pub const fn keep_to_limits(&mut self) {
        self.limited = true;
    }

    /// Adds to what is pending for a user or group.
    pub(crate) fn add_quota(&mut self, id: QuotaId, change: i64) {
        let posting = self.postings.entry(id).or_default();
        posting.change = posting.change.saturating_add(change);
    }

    /// The same, and with this transaction `record` is what the quota file says.
    pub(crate) fn set_quota(&mut self, id: QuotaId, change: i64, record: Record) {
        self.add_quota(id, change);
        self.postings.entry(id).or_default().record = Some(record);
    }

    /// Remembers whom a dinode is charged to, before it is changed.
    fn note_charged(&mut self, addr: BlockAddr, charged: impl FnOnce() -> Option<Charged>) {
        if self.volume.quotas.mode().accounts() {
            self.charged.entry(addr).or_insert_with(charged);
        }
    }

    /// What happens to quotas.
    fn postings(&mut self) -> Postings {
        let mut postings = std::mem::take(&mut self.postings);
        for (addr, before) in std::mem::take(&mut self.charged) {
            let after = self.blocks.get(&addr).and_then(|block| Charged::of(&block.image));
            charge::post(&mut postings, before, after);
        }
        postings
    }

    /// What is changed from here on is covered by the lock of `owner`.
    pub fn set_owner(&mut self, owner: InodeNo) {
        self.owner = owner;
        self.inodes.push(owner);
    }

    /// The volume.
    #[must_use]
    pub const fn volume(&self) -> &'v Volume {
        self.volume
    }

    /// The time of this transaction.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.now
    }

    /// Adds to the counters that this node keeps apart from the statfs file: `delta` goes into them with this
    /// transaction.
    pub const fn add_counts(&mut self, delta: StatfsDelta) {
        self.delta.total += delta.total;
        self.delta.free += delta.free;
        self.delta.dinodes += delta.dinodes;
    }

    /// How many blocks are staged for the log.
    #[must_use]
    pub fn log_blocks(&self) -> usize {
        self.blocks.len() + self.bits.headers_len()
    }

    /// Adds a change of the bitmaps. Each run is one use of its group.
    fn add_bits(&mut self, run: BitRun) {
        if self.bits.add(run, self.volume.rgrps.blocks_of(&[run])) {
            self.volume.rgrps.leave(&run);
        }
    }

    /// How many blocks are staged to be freed.
    #[must_use]
    pub fn freed_len(&self) -> usize {
        self.freed.len()
    }

    /// Keeps the lock of a resource group until the end.
    fn keep_lock(&mut self, guard: GlockGuard<'v>) {
        if !self.rgrp_locks.iter().any(|held| held.name() == guard.name()) {
            self.rgrp_locks.push(guard);
        }
    }

    /// Takes up to `want` blocks in a row, near `goal`.
    async fn take(&mut self, goal: BlockAddr, want: u32, owner: InodeNo, purpose: Purpose) -> Result<Promise, FsError> {
        let (promise, guard) = self.volume.rgrps.promise(goal, want, owner, purpose).await?;
        self.keep_lock(guard);
        self.keep_promise(promise, purpose);
        Ok(promise)
    }

    /// Counts promised blocks as used from this transaction on.
    fn keep_promise(&mut self, promise: Promise, purpose: Purpose) {
        self.promises.push(promise);
        let to = if purpose == Purpose::Dinode { BlockState::Dinode } else { BlockState::Used };
        self.add_bits(BitRun { group: promise.group, index: promise.index, len: promise.len, to });
        self.delta.free -= i64::from(promise.len);
        self.delta.dinodes += i64::from(purpose == Purpose::Dinode);
    }

    /// Allocates `count` blocks of one resource group for metadata of `owner`, near `goal` if possible.
    ///
    /// # Errors
    /// `NoSpace` when no group has as many; errors of reading bitmaps.
    pub async fn allocate_together(
        &mut self,
        owner: InodeNo,
        goal: BlockAddr,
        count: usize,
    ) -> Result<Vec<BlockAddr>, FsError> {
        let count = u32::try_from(count).map_err(|_| FsError::NoSpace)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut addrs = Vec::new();
        for (promise, guard) in self.volume.rgrps.promise_together(goal, count, owner).await? {
            self.keep_lock(guard);
            self.keep_promise(promise, Purpose::Metadata);
            addrs.extend((0..u64::from(promise.len)).map(|step| BlockAddr(promise.addr.0 + step)));
        }
        Ok(addrs)
    }

    /// Allocates up to `want` blocks in a row for file data of `owner`. Returns the first and how many.
    ///
    /// # Errors
    /// `NoSpace`; errors of reading bitmaps.
    pub async fn allocate_data(
        &mut self,
        owner: InodeNo,
        goal: BlockAddr,
        want: u32,
    ) -> Result<(BlockAddr, u32), FsError> {
        let promise = self.take(goal, want, owner, Purpose::Data).await?;
        Ok((promise.addr, promise.len))
    }

    /// Allocates the block of a new inode. Returns the inode and its generation, which is its formal number as well.
    ///
    /// # Errors
    /// `NoSpace`; errors of reading bitmaps.
    pub async fn allocate_inode(&mut self, goal: BlockAddr) -> Result<(InodeNo, u64), FsError> {
        let promise = self.take(goal, 1, self.owner, Purpose::Dinode).await?;
        let ino = InodeNo::new(promise.addr.0).ok_or(FsError::Invalid("block 0 is no inode"))?;
        Ok((ino, promise.generation))
    }

    /// Puts the block of an inode from state `from` to `to`.
    ///
    /// # Errors
    /// `Corrupt` if it is in another state.
    pub async fn set_inode_state(&mut self, ino: InodeNo, from: BlockState, to: BlockState) -> Result<(), FsError> {
        let (run, guard) = self.volume.rgrps.prepare(ino.addr(), from, to).await?;
        self.keep_lock(guard);
        self.add_bits(run);
        if to == BlockState::Free {
            let committed = self.volume.cache.meta(ino.addr(), BlockKind::DINODE).await?;
            self.note_charged(ino.addr(), || Charged::of(&committed));
            self.blocks.remove(&ino.addr());
            self.revokes.push(ino.addr());
            self.delta.free += 1;
            self.delta.dinodes -= 1;
        }
        Ok(())
    }

    /// The resource group was trimmed. Counts only if nothing is freed in it before this is applied; it is in memory
    /// until then.
    pub fn mark_trimmed(&mut self, number: usize) {
        self.trimmed.push(number);
    }

    async fn free(&mut self, addr: BlockAddr) -> Result<(), FsError> {
        let (run, guard) = self.volume.rgrps.prepare(addr, BlockState::Used, BlockState::Free).await?;
        self.keep_lock(guard);
        if !self.freed.insert(addr) {
            self.volume.rgrps.leave(&run);
            let kind = CorruptKind::BitmapTransition { block: addr, from: BlockState::Free, to: BlockState::Free };
            return Err(kind.at(self.owner.addr()));
        }
        self.add_bits(run);
        self.delta.free += 1;
        Ok(())
    }

    /// Frees a block of file data of the owner.
    ///
    /// # Errors
    /// `Corrupt` if it is not in use.
    pub async fn free_data(&mut self, addr: BlockAddr) -> Result<(), FsError> {
        self.free(addr).await?;
        self.data.remove(&addr);
        self.freed_data.push((self.owner, addr));
        Ok(())
    }

    /// The block of journaled file data at `addr`, to be changed.
    ///
    /// # Errors
    /// Errors of reading it.
    pub async fn edit_jdata(&mut self, addr: BlockAddr) -> Result<&mut [u8], FsError> {
        if !self.blocks.contains_key(&addr) {
            let image = self.volume.cache.data(addr).await?;
            self.put(addr, image, LogClass::Jdata);
        }
        Ok(self.staged(addr))
    }

    /// A new block of journaled file data.
    pub fn create_jdata(&mut self, addr: BlockAddr, image: BlockImage) {
        self.put(addr, image, LogClass::Jdata);
    }

    /// New content of a block of file data. `ordered`: what this transaction says of the file (a new block, a larger
    /// size) is wrong until the block is written. Once said, it stays so.
    pub fn put_data(&mut self, addr: BlockAddr, image: BlockImage, ordered: bool) {
        let ordered = ordered || self.data.get(&addr).is_some_and(|before| before.ordered);
        self.data.insert(addr, DataBlock { ino: self.owner, addr, image, ordered });
    }

    fn put(&mut self, addr: BlockAddr, image: BlockImage, class: LogClass) {
        let owner = Owner::new(OwnerKind::INODE, self.owner.addr());
        self.blocks.insert(addr, ChangedBlock { image, owner, class });
    }

    fn staged(&mut self, addr: BlockAddr) -> &mut [u8] {
        match self.blocks.get_mut(&addr) {
            Some(block) => Arc::make_mut(&mut block.image),
            None => &mut [],
        }
    }

    /// Reserves journal space and applies everything. Returns the number of the transaction.
    ///
    /// # Errors
    /// Before anything has changed: `QuotaExceeded`, `NoSpace` where no more quotas can be kept account of, device errors
    /// while room is made, `Withdrawn`.
    pub async fn commit(mut self) -> Result<u64, FsError> {
        let postings = self.postings();
        let charge =
            if postings.is_empty() { None } else { Some(Charge::promise(self.volume, postings, self.limited).await?) };
        let change = Change {
            blocks: std::mem::take(&mut self.blocks),
            bits: self.bits.list().to_vec(),
            revokes: std::mem::take(&mut self.revokes),
            freed_data: std::mem::take(&mut self.freed_data),
            data: std::mem::take(&mut self.data).into_values().collect(),
            trimmed: std::mem::take(&mut self.trimmed),
            delta: self.delta,
            quota: charge.as_ref().map(Charge::slots).unwrap_or_default(),
            inodes: std::mem::take(&mut self.inodes),
        };
        let number = self.volume.journal.commit(change).await?;
        charge.into_iter().for_each(Charge::applied);
        // The groups are the journal's now.
        self.promises.clear();
        self.bits.clear();
        Ok(number)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for promise in &self.promises {
            self.volume.rgrps.withdraw_promise(promise);
        }
        for run in self.bits.list() {
            // Promised runs gave their use of the group back just now.
            if matches!(run.to, BlockState::Free | BlockState::Unlinked) {
                self.volume.rgrps.leave(run);
            }
        }
    }
}

impl Blocks for Stage<'_> {
    fn block_size(&self) -> BlockSize {
        self.volume.disk.block_size()
    }

    async fn meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        match self.blocks.get(&addr) {
            Some(block) => {
                meta::check(addr, &block.image, kind)?;
                Ok(Arc::clone(&block.image))
            }
            None => self.volume.cache.meta(addr, kind).await,
        }
    }

    async fn data(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        if let Some(block) = self.blocks.get(&addr) {
            return Ok(Arc::clone(&block.image));
        }
        if let Some(block) = self.data.get(&addr) {
            return Ok(Arc::clone(&block.image));
        }
        self.volume.cache.data(addr).await
    }
}

impl Edit for Stage<'_> {
    async fn edit(&mut self, addr: BlockAddr, kind: BlockKind) -> Result<&mut [u8], FsError> {
        if !self.blocks.contains_key(&addr) {
            let image = self.volume.cache.meta(addr, kind).await?;
            if kind == BlockKind::DINODE {
                self.note_charged(addr, || Charged::of(&image));
            }
            self.put(addr, image, LogClass::Metadata);
        } else if let Some(block) = self.blocks.get(&addr) {
            meta::check(addr, &block.image, kind)?;
        }
        Ok(self.staged(addr))
    }

    fn create(&mut self, addr: BlockAddr, kind: BlockKind) -> &mut [u8] {
        let mut image: BlockImage = std::iter::repeat_n(0, self.block_size().bytes()).collect();
        meta::start(Arc::make_mut(&mut image), kind);
        if kind == BlockKind::DINODE {
            // A new inode: what the block was before belongs to nobody.
            self.note_charged(addr, || None);
        }
        self.put(addr, image, LogClass::Metadata);
        self.staged(addr)
    }

    async fn allocate(&mut self, owner: InodeNo, goal: BlockAddr) -> Result<BlockAddr, FsError> {
        Ok(self.take(goal, 1, owner, Purpose::Metadata).await?.addr)
    }

    async fn free_meta(&mut self, addr: BlockAddr) -> Result<(), FsError> {
        self.free(addr).await?;
        self.blocks.remove(&addr);
        self.revokes.push(addr);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}
