//! A small volume in memory whose log is made by the encoder, and a second implementation of the rule for revokes: two
//! passes over the positions of the log, as the format's description has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use block::device::{BlockDevice, Durability, IoBuf};
use block::faulty::FaultyDevice;
use block::mem::MemDevice;

use super::chain::Bounds;
use super::encode::{Encoder, LogImage};
use super::extents::{Extent, JournalMap};
use super::owner::{Owner, OwnerKind};
use super::recover::Recovery;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::Timestamp;
use crate::blocks::BlockImage;
use crate::format::block_size::BlockSize;
use crate::format::log::{self, NewHeader, StatfsDelta, flags};
use crate::format::meta::{self, BlockKind};

pub(super) const VOLUME_BLOCKS: u64 = 400;
pub(super) const JOURNAL_BLOCKS: u32 = 64;
pub(super) const BOUNDS: Bounds = Bounds { first: BlockAddr(200), end: BlockAddr(VOLUME_BLOCKS) };

/// What one flush commits: numbers of blocks, counted from `BOUNDS.first`.
#[derive(Debug, Clone, Default)]
pub(super) struct Flush {
    pub(super) metadata: Vec<u64>,
    /// The flag: begins with the magic number.
    pub(super) jdata: Vec<(u64, bool)>,
    pub(super) revokes: Vec<u64>,
}

/// A volume with a journal in three parts, and what is known about its log.
pub(super) struct Volume {
    pub(super) device: Arc<FaultyDevice>,
    pub(super) map: JournalMap,
    pub(super) sequence: u64,
    pub(super) position: u32,
    /// Position, home and content of each image; position and number of each revoke.
    pub(super) images: Vec<(u32, BlockAddr, BlockImage)>,
    pub(super) revokes: Vec<(u32, BlockAddr)>,
    pub(super) starts: Vec<u32>,
    pub(super) used: u32,
}

impl Volume {
    /// Its log starts at block `position`; the rest of the journal is as a new one.
    pub(super) async fn new(block_size: BlockSize, position: u32) -> Self {
        let extents = [(0, 100, 20), (20, 60, 30), (50, 140, 14)].map(|(position, addr, count)| Extent {
            position,
            addr: BlockAddr(addr),
            count,
        });
        let map = JournalMap::with_any_size(1, InodeNo::FIRST, block_size, &extents).unwrap();
        let device = MemDevice::new(VOLUME_BLOCKS << block_size.shift());
        let device = Arc::new(FaultyDevice::new(Arc::new(device)));
        let mut volume =
            Self { device, map, sequence: 0, position, images: vec![], revokes: vec![], starts: vec![], used: 0 };
        for at in 0..JOURNAL_BLOCKS {
            volume.sequence = if at < position { 1000 } else { 0 } + u64::from(at);
            volume.header(at, at, flags::UNMOUNT).await;
        }
        volume.sequence = 1000 + u64::from(position);
        volume
    }

    pub(super) fn size(&self) -> BlockSize {
        self.map.block_size()
    }

    pub(super) async fn put(&self, position: u32, block: &[u8]) {
        let offset = self.map.addr(position).unwrap().0 << self.size().shift();
        self.device.write(offset, IoBuf::copied_from(block), Durability::Cached).await.unwrap();
    }

    pub(super) async fn header(&self, position: u32, tail: u32, flags: u32) {
        let mut block = vec![0; self.size().bytes()];
        let new = NewHeader {
            jid: 1,
            sequence: self.sequence,
            flags,
            tail,
            blkno: position,
            addr: self.map.addr(position).unwrap().0,
            time: Timestamp { sec: 0, nsec: 0 },
            jinode: 1,
            statfs_addr: 0,
            quota_addr: 0,
            local: StatfsDelta { total: 0, free: -3, dinodes: 2 },
        };
        log::write_header(&mut block, &new);
        self.put(position, &block).await;
    }

    fn content(&self, number: u64, salt: usize) -> Vec<u8> {
        let start = usize::try_from(number).unwrap() * 31 + salt * 7;
        (start..start + self.size().bytes()).map(|byte| u8::try_from(byte % 256).unwrap() | 1).collect()
    }

    /// Writes a flush behind the last one, if it fits; its header names the oldest flush as the tail.
    pub(super) async fn flush(&mut self, flush: &Flush) -> bool {
        let home = |number: &u64| BlockAddr(BOUNDS.first.0 + number);
        let salt = self.starts.len();
        let image = |number: &u64, start: &[u8]| {
            let mut content = self.content(*number, salt);
            content[..start.len()].copy_from_slice(start);
            let owner = Owner::new(OwnerKind::INODE, home(number));
            LogImage { addr: home(number), image: content.into(), owner }
        };
        let mut header = vec![0; meta::HEADER_BYTES];
        meta::start(&mut header, BlockKind::DINODE);
        let metadata: Vec<LogImage> = flush.metadata.iter().map(|number| image(number, &header)).collect();
        let jdata: Vec<LogImage> =
            flush.jdata.iter().map(|(number, magic)| image(number, if *magic { &header[..4] } else { &[] })).collect();
        let revokes: Vec<BlockAddr> = flush.revokes.iter().map(home).collect();
        let encoder = Encoder::new(1, self.size(), &metadata, &jdata, &revokes);
        let count = u32::try_from(encoder.block_count()).unwrap();
        if self.used + count + 3 > JOURNAL_BLOCKS {
            return false;
        }
        let mut out = IoBuf::with_capacity(0);
        encoder.append(0..encoder.block_count(), &mut out);
        self.starts.push(self.position);
        let by_home: BTreeMap<BlockAddr, BlockImage> =
            metadata.iter().chain(&jdata).map(|image| (image.addr, Arc::clone(&image.image))).collect();
        // Where things went is read off the blocks, not asked of the encoder.
        let mut announced: Vec<BlockAddr> = vec![];
        let mut revokes_left = 0;
        for block in out.chunks_exact(self.size().bytes()) {
            let numbers = |from: usize, step: usize, count: usize| -> Vec<BlockAddr> {
                let at = |index| u64::from_be_bytes(*block[from + index * step..].first_chunk().unwrap());
                (0..count).map(|index| BlockAddr(at(index))).collect()
            };
            if !announced.is_empty() {
                let home = announced.remove(0);
                self.images.push((self.position, home, Arc::clone(&by_home[&home])));
            } else if revokes_left > 0 {
                let count = revokes_left.min(self.size().indirect_pointers());
                revokes_left -= count;
                self.revokes.extend(numbers(24, 8, count).into_iter().map(|home| (self.position, home)));
            } else {
                let (kind, _, entries) = log::parse_descriptor(block).unwrap();
                let entries = entries as usize;
                match kind {
                    log::DescriptorKind::METADATA => announced = numbers(72, 8, entries),
                    log::DescriptorKind::JDATA => announced = numbers(72, 16, entries),
                    _ => {
                        let count = entries.min(self.size().descriptor_pointers());
                        revokes_left = entries - count;
                        self.revokes.extend(numbers(72, 8, count).into_iter().map(|home| (self.position, home)));
                    }
                }
            }
            self.put(self.position, block).await;
            self.position = self.map.advance(self.position, 1);
        }
        self.header(self.position, self.starts[0], flags::FLUSH_NORMAL).await;
        self.position = self.map.advance(self.position, 1);
        self.sequence += 1;
        self.used += count + 1;
        true
    }

    /// What has to be in place: the rule by positions.
    pub(super) fn expected(&self) -> BTreeMap<BlockAddr, BlockImage> {
        let tail = self.starts.first().copied().unwrap_or(self.position);
        let revoked: BTreeMap<BlockAddr, u32> = self.revokes.iter().map(|(at, home)| (*home, *at)).collect();
        let mut expected = BTreeMap::new();
        for (at, home, image) in &self.images {
            let void = revoked.get(home).is_some_and(|revoke| {
                if *revoke >= tail { tail < *at && at < revoke } else { *at > tail || at < revoke }
            });
            if !void {
                expected.insert(*home, Arc::clone(image));
            }
        }
        expected
    }

    pub(super) fn recovery(&self) -> Recovery<'_> {
        Recovery {
            device: &*self.device,
            journal: &self.map,
            bounds: BOUNDS,
            checksums_hold: true,
            writer_jid: 0,
            now: Timestamp { sec: 5, nsec: 6 },
        }
    }

    pub(super) async fn bytes(&self) -> Vec<u8> {
        let len = usize::try_from(self.device.geometry().size_bytes).unwrap();
        self.device.read(0, IoBuf::zeroed(len)).await.unwrap().to_vec()
    }

    pub(super) async fn check_replayed(&self) {
        let bytes = self.bytes().await;
        let expected = self.expected();
        for addr in (BOUNDS.first.0..BOUNDS.end.0).map(BlockAddr) {
            let start = usize::try_from(addr.0).unwrap() << self.size().shift();
            let found = &bytes[start..start + self.size().bytes()];
            match expected.get(&addr) {
                Some(image) => assert_eq!(found, &**image, "block {addr}"),
                None => assert!(found.iter().all(|byte| *byte == 0), "block {addr} was written"),
            }
        }
    }
}
