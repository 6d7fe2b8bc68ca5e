//! Blocks in memory.
//!
//! Invariants
//! * An image never changes; a change replaces it. Whoever holds one sees the block as it was at that moment.
//! * A pinned block is never evicted. Pins belong to those who know more than the disk does: a transaction, a block
//!   that waits to be written in place, dirty file data, a loaded resource group.
//! * What is evicted can be read from the disk again, byte for byte.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// The block cache of a volume.
pub struct Cache {
    disk: Arc<Disk>,
    shards: [Mutex<Shard>; SHARDS],
    shard_entries_max: usize,
    pinned: AtomicU64,
}

impl Cache {
    /// A cache that keeps at most `limit_bytes` of blocks that can be evicted.
    #[must_use]
    pub fn new(disk: Arc<Disk>, limit_bytes: u64) -> Self {
        // Each entry costs its block and about 128 bytes around it.
        let per_entry = disk.block_size().bytes_u64() + 128;
        let entries = usize::try_from(limit_bytes / per_entry).unwrap_or(usize::MAX);
        Self {
            disk,
            shards: std::array::from_fn(|_| Mutex::default()),
            shard_entries_max: (entries / SHARDS).max(16),
            pinned: AtomicU64::new(0),
        }
    }

    fn shard(&self, addr: BlockAddr) -> &Mutex<Shard> {
        // Groups of 16 neighbours share a shard.
        let index = usize::try_from((addr.0 >> 4) % SHARDS as u64).unwrap_or(0);
        &self.shards[index]
    }

    /// Share of the cache that is pinned: in thousandths of its limit.
    #[must_use]
    pub fn pinned_permille(&self) -> u64 {
        let limit = (self.shard_entries_max * SHARDS) as u64;
        self.pinned.load(Ordering::Relaxed).saturating_mul(1000) / limit.max(1)
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

    /// Replaces the block's image, or adds it; `pin` adds a pin.
    pub fn replace(&self, addr: BlockAddr, image: BlockImage, pin: bool) {
        let pins = u32::from(pin);
        let mut shard = self.shard(addr).lock();
        if let Some(entry) = shard.entries.get_mut(&addr) {
            if entry.pins == 0 && pin {
                self.pinned.fetch_add(1, Ordering::Relaxed);
            }
            entry.image = image;
            entry.pins += pins;
            entry.recent = true;
        } else {
            if pin {
                self.pinned.fetch_add(1, Ordering::Relaxed);
            }
            self.insert(&mut shard, addr, image, pins);
        }
    }

    /// Changes the block in place if it is in memory, and returns its new image; `pin` adds a pin.
    pub fn change(&self, addr: BlockAddr, pin: bool, change: impl FnOnce(&mut [u8])) -> Option<BlockImage> {
        let mut shard = self.shard(addr).lock();
        let entry = shard.entries.get_mut(&addr)?;
        if pin {
            if entry.pins == 0 {
                self.pinned.fetch_add(1, Ordering::Relaxed);
            }
            entry.pins += 1;
        }
        change(Arc::make_mut(&mut entry.image));
        Some(Arc::clone(&entry.image))
    }

    /// Takes one pin away.
    pub fn unpin(&self, addr: BlockAddr) {
        let mut shard = self.shard(addr).lock();
        if let Some(entry) = shard.entries.get_mut(&addr)
            && entry.pins > 0
        {
            entry.pins -= 1;
            if entry.pins == 0 {
                self.pinned.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Pins a block that is in memory; false if it is not.
    pub fn pin(&self, addr: BlockAddr) -> bool {
        self.change(addr, true, |_| ()).is_some()
    }

    /// Drops a block that was freed, if nobody has it pinned.
    pub fn forget(&self, addr: BlockAddr) {
        let mut shard = self.shard(addr).lock();
        if shard.entries.get(&addr).is_some_and(|entry| entry.pins == 0) {
            shard.entries.remove(&addr);
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
                Some(_) => {
                    shard.entries.remove(&victim);
                }
            }
        }
        // Blocks that were dropped leave their names in the clock.
        if shard.clock.len() > shard.entries.len() * 2 + 64 {
            let Shard { entries, clock } = shard;
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
        self.replace(addr, image, true);
        Ok(())
    }

    /// Reads the metadata blocks at `addrs` that are not in memory, several at once; what is broken is left for the one
    /// who asks for it by [`Blocks::meta`].
    pub async fn prefetch(&self, addrs: &[BlockAddr], kind: BlockKind) {
        use futures_util::StreamExt;
        let missing = addrs.iter().copied().filter(|addr| self.get(*addr).is_none());
        futures_util::stream::iter(missing)
            .for_each_concurrent(32, |addr| async move {
                if let Ok(image) = self.disk.read_meta(addr, kind).await {
                    self.keep(addr, image);
                }
            })
            .await;
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
