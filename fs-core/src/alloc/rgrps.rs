//! The resource groups of a volume: finding blocks, promising them to transactions, writing the bitmaps.
//!
//! Life of a block that is allocated: promised (out of `avail`, nothing changed on disk or in the bitmap), then either
//! applied with its transaction or given back. Of one that is freed: applied with its transaction, out of reach until
//! that is durable, then available.
//!
//! The node holds a group's glock exclusively; its own operations share it and meet only in the short lock of the group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::avail;
use super::group::Loaded;
use crate::addr::{BlockAddr, InodeNo};
use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::meta::BlockKind;
use crate::format::rgrp::{BlockState, RgrpHeader, RgrpPlace};
use crate::glock::service::Name;
use crate::glock::{GlockGuard, Glocks};

/// Neighbouring blocks of one group that change to one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRun {
    /// Number of the group.
    pub group: usize,
    /// First block, as an index in the group.
    pub index: u32,
    /// How many.
    pub len: u32,
    /// What they become.
    pub to: BlockState,
}

pub(super) struct Group {
    pub(super) place: RgrpPlace,
    state: Mutex<Option<Loaded>>,
    loading: tokio::sync::Mutex<()>,
    /// Blocks that are available, or `UNKNOWN`. A hint for choosing a group.
    pub(super) available: AtomicU32,
}

const UNKNOWN: u32 = u32::MAX;

/// All resource groups of a volume.
pub struct Rgrps {
    disk: Arc<Disk>,
    pub(super) cache: Arc<Cache>,
    glocks: Arc<Glocks>,
    pub(super) groups: Vec<Group>,
    loaded: AtomicUsize,
    loaded_max: usize,
    /// Where the search for a group to unload goes on.
    hand: AtomicUsize,
}

impl Rgrps {
    /// The groups at `places`, which are sorted and do not overlap. Their bitmaps use at most about `memory_bytes`.
    #[must_use]
    pub fn new(
        disk: Arc<Disk>,
        cache: Arc<Cache>,
        glocks: Arc<Glocks>,
        places: Vec<RgrpPlace>,
        memory_bytes: u64,
    ) -> Self {
        let largest = places.iter().map(|place| u64::from(place.data / 4 + place.data / 8)).max().unwrap_or(1);
        let loaded_max = usize::try_from(memory_bytes / largest.max(1)).unwrap_or(usize::MAX).max(4);
        let groups = places
            .into_iter()
            .map(|place| Group {
                place,
                state: Mutex::new(None),
                loading: tokio::sync::Mutex::new(()),
                available: AtomicU32::new(UNKNOWN),
            })
            .collect();
        Self { disk, cache, glocks, groups, loaded: AtomicUsize::new(0), loaded_max, hand: AtomicUsize::new(0) }
    }

    fn block_size(&self) -> BlockSize {
        self.disk.block_size()
    }

    /// How many groups there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// Where group `number` stands.
    #[must_use]
    pub fn place(&self, number: usize) -> Option<&RgrpPlace> {
        self.groups.get(number).map(|group| &group.place)
    }

    /// Blocks that the bitmaps describe, over all groups.
    #[must_use]
    pub fn blocks_total(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.place.data)).sum()
    }

    /// The group that describes `addr`, and its index there.
    ///
    /// # Errors
    /// `PointerRange` when none does.
    pub fn locate(&self, addr: BlockAddr) -> Result<(usize, u32), FsError> {
        let number = self.groups.partition_point(|group| group.place.addr <= addr).checked_sub(1);
        number
            .and_then(|number| Some((number, self.groups.get(number)?.place.index_of(addr)?)))
            .ok_or(CorruptKind::PointerRange { target: addr }.at(addr))
    }

    /// Checks that `count` neighbouring blocks from `addr` on belong to one group: none of them is a header, or outside
    /// the volume.
    ///
    /// # Errors
    /// `PointerRange`.
    pub fn check_data(&self, addr: BlockAddr, count: u64) -> Result<(), FsError> {
        let outside = CorruptKind::PointerRange { target: addr }.at(addr);
        let last = addr.checked_add(count.saturating_sub(1)).ok_or(outside.clone())?;
        if self.locate(addr)?.0 == self.locate(last)?.0 { Ok(()) } else { Err(outside) }
    }

    /// The group of `addr`, or the first one.
    #[must_use]
    pub fn near(&self, addr: BlockAddr) -> usize {
        self.groups.partition_point(|group| group.place.addr <= addr).saturating_sub(1)
    }

    pub(super) fn state<'a>(&self, group: &'a Group) -> Option<MappedMutexGuard<'a, Loaded>> {
        MutexGuard::try_map(group.state.lock(), Option::as_mut).ok()
    }

    /// All header blocks of a group: the header and the bitmap. What is in memory counts more than what is on the disk,
    /// where it may just be overwritten; so the caller has the group's turn at loading, and nobody brings into memory
    /// and changes what is read here.
    async fn read_blocks(&self, place: &RgrpPlace) -> Result<Vec<Arc<[u8]>>, FsError> {
        let length = place.length as usize;
        self.disk.health.check()?;
        let cached: Vec<Option<Arc<[u8]>>> =
            (0..u64::from(place.length)).map(|block| self.cache.get(BlockAddr(place.addr.0 + block))).collect();
        if cached.iter().all(Option::is_some) {
            return Ok(cached.into_iter().flatten().collect());
        }
        self.disk.check_pointer(place.addr)?;
        let buf = self.disk.read(place.addr, length).await?;
        let mut blocks = Vec::with_capacity(length);
        for ((block, addr), cached) in buf.chunks(self.block_size().bytes()).zip(place.addr.0..).zip(cached) {
            let kind = if blocks.is_empty() { BlockKind::RGRP } else { BlockKind::RGRP_BITMAP };
            if let Some(image) = cached {
                blocks.push(image);
                continue;
            }
            self.disk.check_meta(BlockAddr(addr), block, kind)?;
            blocks.push(Arc::from(block));
        }
        Ok(blocks)
    }

    /// Locks a group for this node, brings it into memory and counts one more user of it, so that it stays.
    pub(super) async fn enter(&self, number: usize) -> Result<(&Group, GlockGuard<'_>), FsError> {
        let group = self.groups.get(number).ok_or(FsError::Invalid("no such resource group"))?;
        let guard = self.glocks.lock_for_node(Name::rgrp(group.place.addr.0)).await?;
        if let Some(mut loaded) = self.state(group) {
            loaded.users += 1;
            loaded.recent = true;
            return Ok((group, guard));
        }
        let _turn = group.loading.lock().await;
        if let Some(mut loaded) = self.state(group) {
            loaded.users += 1;
            return Ok((group, guard));
        }
        let blocks = self.read_blocks(&group.place).await?;
        let header = RgrpHeader::parse(&group.place, blocks.first().map_or(&[], |block| &block[..]))?;
        let slices: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
        let (available, _) = avail::scan(&group.place, &slices, self.block_size());
        if available.count() != header.free {
            let kind = CorruptKind::RgrpFreeCount { counted: header.free, found: available.count() };
            return Err(kind.at(group.place.addr));
        }
        for (block, addr) in blocks.into_iter().zip(group.place.addr.0..) {
            self.cache.keep_pinned(BlockAddr(addr), block);
        }
        group.available.store(available.count(), Ordering::Relaxed);
        let mut loaded = Loaded::new(header, available);
        loaded.users = 1;
        *group.state.lock() = Some(loaded);
        if self.loaded.fetch_add(1, Ordering::Relaxed) + 1 > self.loaded_max {
            self.unload_one();
        }
        Ok((group, guard))
    }

    /// Unloads a group that nobody uses, if there is one among the next few.
    fn unload_one(&self) {
        for _ in 0..self.groups.len().min(self.loaded_max * 2) {
            let number = self.hand.fetch_add(1, Ordering::Relaxed) % self.groups.len();
            let Some(group) = self.groups.get(number) else { return };
            let mut state = group.state.lock();
            match state.as_mut() {
                Some(loaded) if loaded.users == 0 && !loaded.recent => {
                    *state = None;
                    for addr in group.place.addr.0..group.place.data0.0 {
                        self.cache.unpin(BlockAddr(addr));
                    }
                    self.loaded.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                Some(loaded) => loaded.recent = false,
                None => {}
            }
        }
    }

    pub(super) fn exit(&self, number: usize) {
        if let Some(group) = self.groups.get(number)
            && let Some(mut loaded) = self.state(group)
        {
            loaded.users = loaded.users.saturating_sub(1);
            group.available.store(loaded.avail.count(), Ordering::Relaxed);
        }
    }

    /// Checks that the block is in the state `expected`, and keeps its group in memory until the change is applied, or
    /// taken back by [`Rgrps::leave`].
    ///
    /// # Errors
    /// `PointerRange`, `BitmapTransition`; errors of reading the group.
    pub async fn prepare(
        &self,
        addr: BlockAddr,
        expected: BlockState,
        to: BlockState,
    ) -> Result<(BitRun, GlockGuard<'_>), FsError> {
        let (number, index) = self.locate(addr)?;
        let (group, guard) = self.enter(number).await?;
        let from = self.bits(&group.place, index);
        if from != Some(expected) {
            self.exit(number);
            let from = from.unwrap_or(BlockState::Free);
            return Err(CorruptKind::BitmapTransition { block: addr, from, to }.at(group.place.addr));
        }
        Ok((BitRun { group: number, index, len: 1, to }, guard))
    }

    /// One user less of the group of a change that was not applied.
    pub fn leave(&self, run: &BitRun) {
        self.exit(run.group);
    }

    fn bits(&self, place: &RgrpPlace, index: u32) -> Option<BlockState> {
        let position = place.bit_position(index, self.block_size());
        let block = self.cache.get(BlockAddr(place.addr.0 + u64::from(position.header_block)))?;
        Some(BlockState::from_bits(block.get(position.byte)? >> position.shift))
    }

    /// State of a block in the bitmap.
    ///
    /// # Errors
    /// `PointerRange`; errors of reading the group.
    pub async fn state_of(&self, addr: BlockAddr) -> Result<BlockState, FsError> {
        let (number, index) = self.locate(addr)?;
        let (group, _guard) = self.enter(number).await?;
        let state = self.bits(&group.place, index).unwrap_or(BlockState::Free);
        self.exit(number);
        Ok(state)
    }

    /// The header blocks that `runs` change.
    #[must_use]
    pub fn blocks_of(&self, runs: &[BitRun]) -> BTreeSet<BlockAddr> {
        let mut blocks = BTreeSet::new();
        for run in runs {
            let Some(group) = self.groups.get(run.group) else { continue };
            let first = group.place.bit_position(run.index, self.block_size()).header_block;
            let last = group.place.bit_position(run.index + run.len.max(1) - 1, self.block_size()).header_block;
            blocks.insert(group.place.addr);
            blocks.extend((first..=last).map(|block| BlockAddr(group.place.addr.0 + u64::from(block))));
        }
        blocks
    }

    /// Writes `runs` into the bitmaps and headers in the cache. Each run gives up its use of the group, except those
    /// that free blocks: they keep it until [`Rgrps::release`].
    ///
    /// # Errors
    /// `BitmapTransition` if a block is not in a state from which it may change so: a bug or a damaged volume. `Bug` if a
    /// group is not in memory.
    pub fn apply(&self, runs: &[BitRun]) -> Result<(), FsError> {
        for run in runs {
            // Whoever changes a group keeps it in memory.
            let group = self.groups.get(run.group).ok_or(FsError::Bug("a change of an unknown resource group"))?;
            let mut loaded = self.state(group).ok_or(FsError::Bug("a change of a bitmap that is not in memory"))?;
            let mut header = loaded.header;
            for index in run.index..run.index + run.len {
                let position = group.place.bit_position(index, self.block_size());
                let addr = BlockAddr(group.place.addr.0 + u64::from(position.header_block));
                let mut from = BlockState::Free;
                self.cache.change(addr, false, |block| {
                    if let Some(byte) = block.get_mut(position.byte) {
                        from = BlockState::from_bits(*byte >> position.shift);
                        *byte = (*byte & !(3 << position.shift)) | ((run.to as u8) << position.shift);
                    }
                });
                if !from.may_become(run.to) {
                    let block = group.place.block_at(index);
                    return Err(CorruptKind::BitmapTransition { block, from, to: run.to }.at(group.place.addr));
                }
                let (from_dinode, to_dinode) = (is_dinode(from), is_dinode(run.to));
                header.free = header.free.wrapping_add(u32::from(run.to == BlockState::Free));
                header.free = header.free.wrapping_sub(u32::from(from == BlockState::Free));
                header.dinodes = header.dinodes.wrapping_add(u32::from(to_dinode)).wrapping_sub(u32::from(from_dinode));
            }
            header.igeneration = loaded.generation_next;
            if run.to == BlockState::Free {
                header.flags &= !crate::format::rgrp::FLAG_TRIMMED;
                loaded.frees_pending = loaded.frees_pending.saturating_add(run.len);
                loaded.trim_is_whole = false;
            } else {
                loaded.users = loaded.users.saturating_sub(1);
            }
            loaded.header = header;
            group.available.store(loaded.avail.count(), Ordering::Relaxed);
            self.cache.change(group.place.addr, false, |block| header.write_to(block));
        }
        Ok(())
    }

    /// The transaction that freed these blocks is durable: they can be handed out again.
    pub fn release(&self, runs: &[BitRun]) {
        for run in runs {
            if let Some(group) = self.groups.get(run.group)
                && let Some(mut loaded) = self.state(group)
            {
                for index in run.index..run.index + run.len {
                    loaded.avail.insert(index);
                }
                loaded.frees_pending = loaded.frees_pending.saturating_sub(run.len);
            }
            self.exit(run.group);
        }
    }

    /// Reads every group from the disk: the sums of their counters. Bitmaps do not stay in memory.
    ///
    /// # Errors
    /// Errors of reading a group.
    pub async fn survey(&self) -> Result<Survey, FsError> {
        let mut survey = Survey::default();
        for group in &self.groups {
            let (header, _) = self.look_at(group).await?;
            survey.free += u64::from(header.free);
            survey.dinodes += u64::from(header.dinodes);
        }
        Ok(survey)
    }

    /// The dinodes of group `number` that wait to be freed. The bitmap does not stay in memory.
    ///
    /// # Errors
    /// Errors of reading the group.
    pub async fn unlinked(&self, number: usize) -> Result<Vec<InodeNo>, FsError> {
        let Some(group) = self.groups.get(number) else { return Ok(Vec::new()) };
        let (_, blocks) = self.look_at(group).await?;
        let slices: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
        let (_, unlinked) = avail::scan(&group.place, &slices, self.block_size());
        Ok(unlinked.into_iter().filter_map(|index| InodeNo::new(group.place.block_at(index).0)).collect())
    }

    /// A group's header and its blocks, as they are now.
    async fn look_at(&self, group: &Group) -> Result<(RgrpHeader, Vec<Arc<[u8]>>), FsError> {
        let _guard = self.glocks.lock_for_node(Name::rgrp(group.place.addr.0)).await?;
        let _turn = group.loading.lock().await;
        let blocks = self.read_blocks(&group.place).await?;
        let header = RgrpHeader::parse(&group.place, blocks.first().map_or(&[], |block| &block[..]))?;
        Ok((header, blocks))
    }
}

const fn is_dinode(state: BlockState) -> bool {
    matches!(state, BlockState::Unlinked | BlockState::Dinode)
}

/// What all resource groups say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Free blocks.
    pub free: u64,
    /// Dinodes, unlinked ones included.
    pub dinodes: u64,
}
