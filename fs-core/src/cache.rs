//! Blocks in memory.
//!
//! Invariants
//! * An image never changes; a change replaces it. Whoever holds one sees the block as it was at that moment.
//! * A pinned block is never evicted. Pins belong to those who know more than the disk does: a transaction, a block
//!   that waits to be written in place, dirty file data, a loaded resource group.
//! * What is evicted can be read from the disk again, byte for byte.
//! * What was read from the disk enters only while it is sure to be the latest: either the reader holds the lock that
//!   covers the block, or the block has not been in memory since the read began.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks};
use crate::disk::Disk;
use crate::error::FsError;
use crate::format::block_size::BlockSize;
use crate::format::meta::{self, BlockKind};

/// Shards of the table, each with its lock.
const SHARDS: usize = 16;

/// Block numbers are spread by a multiplication: they are no attacker's choice, and dense.
#[derive(Default)]
pub(crate) struct AddrHasher(u64);

impl Hasher for AddrHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

pub(crate) type AddrMap<K, V> = HashMap<K, V, BuildHasherDefault<AddrHasher>>;

struct Entry {
    image: BlockImage,
    pins: u32,
    /// Used since the clock hand passed.
    recent: bool,
}

#[derive(Default)]
struct Shard {
    entries: AddrMap<BlockAddr, Entry>,
    /// Clock order; may name blocks that are gone.
    clock: VecDeque<BlockAddr>,
    /// Blocks that are being read without their lock, and whether they have been in memory meanwhile: then the disk may
    /// have changed since it was read.
    read_ahead: AddrMap<BlockAddr, bool>,
}

impl Shard {
    fn remove(&mut self, addr: BlockAddr) {
        self.entries.remove(&addr);
        if let Some(outdated) = self.read_ahead.get_mut(&addr) {
            *outdated = true;
        }
    }
}

/// The block cache of a volume.
pub struct Cache {
    disk: Arc<Disk>,
    shards: [Mutex<Shard>; SHARDS],
    shard_entries_max: usize,
}

impl Cache {
    /// A cache that keeps at most `limit_bytes` of blocks that can be evicted.
    #[must_use]
    pub fn new(disk: Arc<Disk>, limit_bytes: u64) -> Self {
        // Each entry costs its block and about 128 bytes around it.
        let per_entry = disk.block_size().bytes_u64() + 128;
        let entries = usize::try_from(limit_bytes / per_entry).unwrap_or(usize::MAX);
        Self { disk, shards: std::array::from_fn(|_| Mutex::default()), shard_entries_max: (entries / SHARDS).max(16) }
    }

    fn shard(&self, addr: BlockAddr) -> &Mutex<Shard> {
        // Groups of 16 neighbours share a shard.
        let index = usize::try_from((addr.0 >> 4) % SHARDS as u64).unwrap_or(0);
        &self.shards[index]
    }

    /// Blocks that the cache keeps at most, unless more are pinned.
    #[must_use]
    pub const fn limit_blocks(&self) -> usize {
        self.shard_entries_max * SHARDS
    }

    /// The block, if it is in memory.
    #[must_use]
    pub fn get(&self, addr: BlockAddr) -> Option<BlockImage> {
        let mut shard = self.shard(addr).lock();
        let entry = shard.entries.get_mut(&addr)?;
        entry.recent = true;
        Some(Arc::clone(&entry.image))
    }

    /// Keeps a block that was just read, unless it is there already. Returns the one that is in the cache now.
    pub fn keep(&self, addr: BlockAddr, image: BlockImage) -> BlockImage {
        let mut shard = self.shard(addr).lock();
        if let Some(entry) = shard.entries.get(&addr) {
            return Arc::clone(&entry.image);
        }
        self.insert(&mut shard, addr, Arc::clone(&image), 0);
        image
    }

    /// Pins a block that was just read; what is in memory by now counts more than what was read.
    pub fn keep_pinned(&self, addr: BlockAddr, image: BlockImage) {
        let mut shard = self.shard(addr).lock();
        match shard.entries.get_mut(&addr) {
            Some(entry) => entry.pins += 1,
            None => self.insert(&mut shard, addr, image, 1),
        }
    }

    /// Replaces the block's image, or adds it; `pin` adds a pin.
    pub fn replace(&self, addr: BlockAddr, image: BlockImage, pin: bool) {
        let pins = u32::from(pin);
        let mut shard = self.shard(addr).lock();
        if let Some(entry) = shard.entries.get_mut(&addr) {
            entry.image = image;
            entry.pins += pins;
            entry.recent = true;
        } else {
            self.insert(&mut shard, addr, image, pins);
        }
    }

    /// Changes the block in place if it is in memory, and returns its new image; `pin` adds a pin.
    pub fn change(&self, addr: BlockAddr, pin: bool, change: impl FnOnce(&mut [u8])) -> Option<BlockImage> {
        let mut shard = self.shard(addr).lock();
        let entry = shard.entries.get_mut(&addr)?;
        entry.pins += u32::from(pin);
        change(Arc::make_mut(&mut entry.image));
        Some(Arc::clone(&entry.image))
    }

    /// Takes one pin away.
    pub fn unpin(&self, addr: BlockAddr) {
        let mut shard = self.shard(addr).lock();
        if let Some(entry) = shard.entries.get_mut(&addr) {
            entry.pins = entry.pins.saturating_sub(1);
        }
    }

    /// Pins a block that is in memory; false if it is not.
    pub fn pin(&self, addr: BlockAddr) -> bool {
        let mut shard = self.shard(addr).lock();
        let entry = shard.entries.get_mut(&addr);
        entry.map(|entry| entry.pins += 1).is_some()
    }

    /// Drops a block that was freed, if nobody has it pinned.
    pub fn forget(&self, addr: BlockAddr) {
        let mut shard = self.shard(addr).lock();
        if shard.entries.get(&addr).is_some_and(|entry| entry.pins == 0) {
            shard.remove(addr);
        }
    }

    fn insert(&self, shard: &mut Shard, addr: BlockAddr, image: BlockImage, pins: u32) {
        shard.entries.insert(addr, Entry { image, pins, recent: pins > 0 });
        shard.clock.push_back(addr);
        // Each turn of the hand gives an entry one more chance, so two turns find a victim if there is any.
        let mut looks = shard.clock.len() * 2;
        while shard.entries.len() > self.shard_entries_max && looks > 0 {
            looks -= 1;
            let Some(victim) = shard.clock.pop_front() else { break };
            match shard.entries.get_mut(&victim) {
                None => {}
                Some(entry) if entry.pins > 0 => shard.clock.push_back(victim),
                Some(entry) if entry.recent => {
                    entry.recent = false;
                    shard.clock.push_back(victim);
                }
                Some(_) if victim == addr => shard.clock.push_back(victim),
                Some(_) => shard.remove(victim),
            }
        }
        // Blocks that were dropped leave their names in the clock.
        if shard.clock.len() > shard.entries.len() * 2 + 64 {
            let Shard { entries, clock, .. } = shard;
            let mut seen = AddrMap::<BlockAddr, ()>::default();
            clock.retain(|name| entries.contains_key(name) && seen.insert(*name, ()).is_none());
        }
    }

    /// The metadata block, from memory or the disk.
    async fn meta_block(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        self.disk.health.check()?;
        if let Some(image) = self.get(addr) {
            meta::check(addr, &image, kind)?;
            return Ok(image);
        }
        let image = self.disk.read_meta(addr, kind).await?;
        Ok(self.keep(addr, image))
    }

    /// Reads a metadata block and pins it.
    ///
    /// # Errors
    /// As [`Blocks::meta`].
    pub async fn meta_pinned(&self, addr: BlockAddr, kind: BlockKind) -> Result<(), FsError> {
        let image = self.meta_block(addr, kind).await?;
        self.keep_pinned(addr, image);
        Ok(())
    }

    /// Reads the metadata blocks at `addrs` that are not in memory, several at once; what is broken is left for the one
    /// who asks for it by [`Blocks::meta`]. Their locks need not be held.
    pub async fn prefetch(&self, addrs: &[BlockAddr], kind: BlockKind) {
        use futures_util::StreamExt;
        let missing = addrs.iter().copied().filter(|addr| self.begin_read_ahead(*addr));
        futures_util::stream::iter(missing)
            .for_each_concurrent(32, |addr| async move {
                let image = self.disk.read_meta(addr, kind).await.ok();
                self.end_read_ahead(addr, image);
            })
            .await;
    }

    /// False if the block is in memory, or being read.
    fn begin_read_ahead(&self, addr: BlockAddr) -> bool {
        let mut shard = self.shard(addr).lock();
        !shard.entries.contains_key(&addr) && shard.read_ahead.insert(addr, false).is_none()
    }

    /// Keeps what was read, unless the block has been in memory since: who had it there may have changed it.
    fn end_read_ahead(&self, addr: BlockAddr, image: Option<BlockImage>) {
        let mut shard = self.shard(addr).lock();
        let outdated = shard.read_ahead.remove(&addr) != Some(false);
        if let Some(image) = image
            && !outdated
            && !shard.entries.contains_key(&addr)
        {
            self.insert(&mut shard, addr, image, 0);
        }
    }
}

impl Blocks for Cache {
    fn block_size(&self) -> BlockSize {
        self.disk.block_size()
    }

    async fn meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        self.meta_block(addr, kind).await
    }

    async fn data(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        self.disk.health.check()?;
        if let Some(image) = self.get(addr) {
            return Ok(image);
        }
        self.disk.check_pointer(addr)?;
        let block = self.disk.read(addr, 1).await?;
        Ok(self.keep(addr, Arc::from(&block[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::mem::MemDevice;

    fn cache() -> Cache {
        let disk = Disk::new(Arc::new(MemDevice::new(64 << 20)), BlockSize::MAX);
        Cache::new(Arc::new(disk), 0)
    }

    fn image(byte: u8) -> BlockImage {
        Arc::from(vec![byte; 4096])
    }

    #[test]
    fn what_was_read_without_a_lock_never_hides_a_later_change() {
        let (cache, addr) = (cache(), BlockAddr(1000));
        assert!(cache.begin_read_ahead(addr));
        assert!(!cache.begin_read_ahead(addr));
        // Somebody else reads, changes and writes it, and it is evicted, before the first read returns.
        cache.replace(addr, image(2), false);
        cache.forget(addr);
        cache.end_read_ahead(addr, Some(image(1)));
        assert!(cache.get(addr).is_none());
        assert!(cache.begin_read_ahead(addr));
        cache.replace(addr, image(2), false);
        cache.end_read_ahead(addr, Some(image(1)));
        assert_eq!(cache.get(addr), Some(image(2)));
        // Undisturbed, it stays.
        assert!(cache.begin_read_ahead(BlockAddr(7)));
        cache.end_read_ahead(BlockAddr(7), Some(image(3)));
        assert_eq!(cache.get(BlockAddr(7)), Some(image(3)));
    }

    #[test]
    fn pinned_blocks_stay_and_others_make_room() {
        let cache = cache();
        cache.keep_pinned(BlockAddr(0), image(1));
        // What is in memory counts more.
        cache.keep_pinned(BlockAddr(0), image(9));
        for addr in 1..10_000 {
            cache.keep(BlockAddr(addr), image(0));
        }
        assert_eq!(cache.get(BlockAddr(0)), Some(image(1)));
        let kept = (0..10_000).filter(|addr| cache.get(BlockAddr(*addr)).is_some()).count();
        assert!(kept <= cache.limit_blocks());
        cache.unpin(BlockAddr(0));
        cache.forget(BlockAddr(0));
        assert!(cache.get(BlockAddr(0)).is_some());
        cache.unpin(BlockAddr(0));
        cache.forget(BlockAddr(0));
        assert!(cache.get(BlockAddr(0)).is_none());
    }
}
