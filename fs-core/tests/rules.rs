//! Volumes on which one rule is broken, on purpose and at a known place: the error names the rule, and nobody waits for
//! ever.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture};
use common::{ForkDisk, Maker, ROOT, Step, TickingEnv, mount, new_volume, new_volume_with, pattern, run, write_all};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::{RenameMode, Timestamp};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::format::log::{self, NewHeader, RawLogHeader, StatfsDelta};
use fs_core::format::marker;
use fs_core::format::meta::{self, BlockKind};
use fs_core::fs::{Fs, MountOptions};
use zerocopy::FromBytes;

const CACHE_BYTES: u64 = 8 << 20;

fn size() -> BlockSize {
    BlockSize::new(4096).unwrap()
}

/// Changes a metadata block, and makes its checksum true again.
fn damage(disk: &ForkDisk, addr: BlockAddr, change: impl FnOnce(&mut [u8])) {
    let mut block = disk.block(addr.0, size());
    let header = meta::header(&block).unwrap();
    let (jid, version) = (header.jid.get(), header.version.get());
    change(&mut block);
    meta::seal(addr, &mut block, jid, version);
    disk.poke(addr.0 << size().shift(), &block);
}

fn put(block: &mut [u8], at: usize, value: u64) {
    block[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Where in a directory that has its entries in its dinode the entry of `name` starts.
fn entry_of(block: &[u8], name: &[u8]) -> usize {
    let at = block.windows(name.len()).rposition(|part| part == name).unwrap();
    at - 40
}

async fn file(fs: &Fs, dir: InodeNo, name: &[u8]) -> InodeNo {
    fs.mknod(dir, name, 0o100_644, (0, 0), ROOT).await.unwrap().ino
}

#[test]
fn an_inode_that_cannot_have_more_blocks_gets_none() {
    run(async {
        let whole = u64::from(size().bytes_u32());
        // What is there, and what is written then: into a stuffed file, behind the end, on another level.
        for (len, offset) in [(10, whole), (5000, 5 * whole), (5000, 4 << 30)] {
            let disk = Arc::new(new_volume(Maker::Lunfs, size()).await);
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let ino = file(&fs, fs.root(), b"file").await;
            write_all(&fs, ino, 0, &pattern(1, len)).await.unwrap();
            fs.unmount().await.unwrap();
            damage(&disk, ino.addr(), |block| put(block, 64, u64::MAX));
            let fs = mount(disk, CACHE_BYTES, false).await.unwrap();
            let error = write_all(&fs, ino, offset, b"more").await.unwrap_err();
            let FsError::Corrupt { addr, kind: CorruptKind::DinodeBlocks { blocks: u64::MAX } } = error else {
                panic!("{error:?}")
            };
            assert_eq!(addr, ino.addr());
        }
    });
}

/// A disk that lets others run before it answers.
struct Slow(ForkDisk);

impl BlockDevice for Slow {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.read(offset_bytes, buf).await
        })
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        self.0.write(offset_bytes, data, durability)
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.0.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.0.discard(offset_bytes, len_bytes)
    }
}

/// `/P/D`, where names in `D` lead up: `up` is a directory and `liar` a file, both of them `P`.
async fn circle() -> (ForkDisk, InodeNo, InodeNo) {
    let disk = Arc::new(new_volume(Maker::Lunfs, size()).await);
    let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
    let parent = fs.mkdir(fs.root(), b"P", 0o755, ROOT).await.unwrap().ino;
    let dir = fs.mkdir(parent, b"D", 0o755, ROOT).await.unwrap().ino;
    fs.mkdir(dir, b"up", 0o755, ROOT).await.unwrap();
    file(&fs, dir, b"liar").await;
    fs.unmount().await.unwrap();
    let formal = disk.block(parent.get(), size())[24..32].to_vec();
    damage(&disk, dir.addr(), |block| {
        for name in [&b"up"[..], b"liar"] {
            let at = entry_of(block, name);
            block[at..at + 8].copy_from_slice(&formal);
            put(block, at + 8, parent.get());
        }
    });
    (disk.fork(), parent, dir)
}

#[test]
fn names_that_lead_up_make_nobody_wait_for_ever() {
    run(async {
        let (disk, parent, dir) = circle().await;
        for operation in 0..6 {
            let _step = Step::new(format!("operation {operation} in a directory that names its parent"));
            let fs = mount(Arc::new(Slow(disk.fork())), CACHE_BYTES, false).await.unwrap();
            // The parent is in memory, so that the second one has it locked while the first one reads.
            fs.getattr(parent).await.unwrap();
            let first = async {
                match operation {
                    0 => fs.readdirplus(dir, 0, &mut |_, _| true).await.err(),
                    1 => fs.rmdir(dir, b"up").await.err(),
                    2 => fs.unlink(dir, b"liar").await.err(),
                    3 => fs.rename(dir, b"up", dir, b"other", RenameMode::Replace, ROOT).await.err(),
                    4 => fs.rename(dir, b"up", dir, b"liar", RenameMode::Exchange, ROOT).await.err(),
                    _ => fs.link(parent, dir, b"linked", ROOT).await.err(),
                }
            };
            let (first, second) = futures_util::future::join(first, fs.rmdir(parent, b"D")).await;
            println!("{operation}: {first:?}, {second:?}");
            let second = second.unwrap_err();
            assert!(matches!(second, FsError::NotEmpty | FsError::Withdrawn | FsError::Corrupt { .. }), "{second}");
            // A wrong type is seen, and directories get no second name. The others may find nothing wrong, once they are
            // alone: only the lookups of a whole way would.
            assert!(first.is_some() || !matches!(operation, 2 | 5), "operation {operation} was done");
        }
    });
}

/// A disk that says it is larger than it is; zeroes are behind the end.
struct Huge(ForkDisk);

impl BlockDevice for Huge {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: 1 << 40, ..self.0.geometry() }
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        if offset_bytes >= self.0.size_bytes() {
            return Box::pin(async move { Ok(buf) });
        }
        self.0.read(offset_bytes, buf)
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        self.0.write(offset_bytes, data, durability)
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.0.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.0.discard(offset_bytes, len_bytes)
    }
}

/// The dinode of the resource index.
fn rindex(disk: &ForkDisk) -> BlockAddr {
    let is_rindex = |addr: &u64| {
        let block = disk.block(*addr, size());
        block[..8] == [1, 0x16, 0x19, 0x70, 0, 0, 0, 4] && block[132..136] == 1100_u32.to_be_bytes()
    };
    BlockAddr((0..disk.blocks(size())).find(is_rindex).unwrap())
}

async fn mount_error(device: Arc<dyn BlockDevice>) -> FsError {
    match mount(device, CACHE_BYTES, false).await {
        Ok(_) => panic!("it was mounted"),
        Err(error) => error,
    }
}

#[test]
fn a_resource_index_of_any_size_takes_no_memory_for_what_is_not_there() {
    run(async {
        let _step = Step::new("a resource index that fills the device, with a hole".into());
        let disk = new_volume(Maker::Lunfs, size()).await;
        let rindex = rindex(&disk);
        // As many entries as a device of 1 TiB has room for: 5 GB, of which nothing is there.
        damage(&disk, rindex, |block| {
            put(block, 56, (1 << 28) / 5 * 96);
            block[138..140].copy_from_slice(&3_u16.to_be_bytes());
            block[232..].fill(0);
        });
        let error = mount_error(Arc::new(Huge(disk))).await;
        let FsError::Corrupt { addr, kind } = error else { panic!("{error:?}") };
        assert_eq!((addr, kind), (rindex, CorruptKind::SystemFileShape { name: "rindex" }));
    });
}

#[test]
fn a_resource_index_is_read_up_to_the_first_entry_that_is_wrong() {
    run(async {
        let disk = new_volume(Maker::Lunfs, size()).await;
        let (rindex, file) = (rindex(&disk), disk.blocks(size()) - 1);
        // Every pointer leads to one block, which has a group in front, and then nothing.
        let content = disk.block(rindex.0, size())[232..].to_vec();
        let mut block = content[..96].to_vec();
        block.resize(size().bytes(), 0);
        disk.poke(file << size().shift(), &block);
        damage(&disk, rindex, |block| {
            put(block, 56, 96 * 4096);
            block[138..140].copy_from_slice(&1_u16.to_be_bytes());
            for at in (232..block.len() - 7).step_by(8) {
                put(block, at, file);
            }
        });
        let error = mount_error(Arc::new(Huge(disk))).await;
        assert!(matches!(error, FsError::Corrupt { kind: CorruptKind::RindexGeometry { rgrp: 0 }, .. }), "{error:?}");
    });
}

/// A disk whose writes do not return, or panic, once that was asked for.
struct Trap {
    disk: ForkDisk,
    trap: AtomicU8,
}

const STUCK: u8 = 1;
const PANIC: u8 = 2;

impl BlockDevice for Trap {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        self.disk.read(offset_bytes, buf)
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        match self.trap.load(Ordering::Relaxed) {
            STUCK => Box::pin(std::future::pending()),
            PANIC => panic!("on purpose"),
            _ => self.disk.write(offset_bytes, data, durability),
        }
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.disk.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.disk.discard(offset_bytes, len_bytes)
    }
}

async fn trapped(commit_interval: Duration) -> (Arc<Trap>, Arc<Fs>) {
    let device = Arc::new(Trap { disk: new_volume(Maker::Lunfs, size()).await, trap: AtomicU8::new(0) });
    let options = MountOptions { commit_interval, ..MountOptions::default() };
    let fs = Fs::mount(device.clone(), options, Arc::new(TickingEnv::default())).await.unwrap();
    (device, fs)
}

#[test]
fn a_flush_that_is_dropped_half_way_makes_the_node_withdraw() {
    run(async {
        let (device, fs) = trapped(Duration::from_secs(1000)).await;
        file(&fs, fs.root(), b"file").await;
        device.trap.store(STUCK, Ordering::Relaxed);
        let mut sync = fs.sync();
        assert!(futures_util::poll!(&mut sync).is_pending());
        assert!(fs.withdrawn().is_none());
        drop(sync);
        device.trap.store(0, Ordering::Relaxed);
        assert!(matches!(fs.withdrawn(), Some(FsError::Bug(_))));
        assert!(matches!(fs.sync().await, Err(FsError::Withdrawn)), "what was lost counts as written");
    });
}

#[test]
fn a_panic_in_the_background_makes_the_node_withdraw() {
    run(async {
        let _step = Step::new("a panic in the background".into());
        let (device, fs) = trapped(Duration::from_millis(10)).await;
        file(&fs, fs.root(), b"file").await;
        device.trap.store(PANIC, Ordering::Relaxed);
        fs.clone().background().await;
        assert!(matches!(fs.withdrawn(), Some(FsError::Bug(_))));
        assert!(matches!(fs.sync().await, Err(FsError::Withdrawn)));
    });
}

/// The last header of a journal.
fn last_header(disk: &ForkDisk, jid: u32) -> RawLogHeader {
    let headers = (0..disk.blocks(size())).filter_map(|addr| {
        let (raw, _) = RawLogHeader::read_from_prefix(&disk.block(addr, size())).unwrap();
        let is_header = raw.meta.magic.get() == meta::MAGIC && raw.meta.kind.get() == BlockKind::LOG_HEADER.0;
        (is_header && raw.addr.get() == addr).then_some(raw)
    });
    let journals: BTreeSet<u64> = headers.clone().map(|raw| raw.jinode.get()).collect();
    let inode = *journals.iter().nth(jid as usize).unwrap();
    headers.filter(|raw| raw.jinode.get() == inode).max_by_key(|raw| raw.sequence.get()).unwrap()
}

/// Closes a journal once more.
fn close_again(disk: &ForkDisk, jid: u32, flags: u32, write: fn(&mut [u8], &NewHeader)) {
    let head = last_header(disk, jid);
    // Journals are in one piece here.
    let blkno = (head.blkno.get() + 1) % ((8 << 20) / size().bytes_u32());
    let mut block = vec![0; size().bytes()];
    let closed = NewHeader {
        jid,
        sequence: head.sequence.get() + 1,
        flags,
        tail: 0,
        blkno,
        addr: head.addr.get() - u64::from(head.blkno.get()) + u64::from(blkno),
        time: Timestamp { sec: 1_700_000_000, nsec: 0 },
        jinode: head.jinode.get(),
        statfs_addr: 0,
        quota_addr: 0,
        local: StatfsDelta::default(),
    };
    write(&mut block, &closed);
    disk.poke(closed.addr << size().shift(), &block);
}

#[test]
fn a_search_for_orphans_is_made_once() {
    run(async {
        let disk = Arc::new(new_volume_with(Maker::Lunfs, size(), 2).await);
        let recovered = log::flags::UNMOUNT | log::flags::RECOVERY;
        for jid in [0, 1] {
            let head = last_header(&disk, jid);
            assert!(head.flags.get() & log::flags::UNMOUNT != 0);
            close_again(&disk, jid, recovered, log::write_header);
            assert_eq!(last_header(&disk, jid).flags.get(), recovered);
        }
        mount(disk.clone(), CACHE_BYTES, true).await.unwrap().unmount().await.unwrap();
        assert_eq!(last_header(&disk, 1).flags.get(), recovered, "a read-only mount searches nothing");
        mount(disk.clone(), CACHE_BYTES, false).await.unwrap().unmount().await.unwrap();
        for jid in [0, 1] {
            assert_eq!(last_header(&disk, jid).flags.get() & recovered, log::flags::UNMOUNT, "journal {jid}");
        }
        assert_eq!(common::fsck_objects(&disk), None);
        let before = last_header(&disk, 1).sequence.get();
        mount(disk.clone(), CACHE_BYTES, false).await.unwrap().unmount().await.unwrap();
        assert_eq!(last_header(&disk, 1).sequence.get(), before);
    });
}

#[test]
fn a_read_only_mount_leaves_the_marker_where_another_implementation_has_written() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, size()).await);
        mount(disk.clone(), CACHE_BYTES, false).await.unwrap().unmount().await.unwrap();
        // Somebody without stamps has closed the journal last.
        close_again(&disk, 0, log::flags::UNMOUNT, log::write_header_unstamped);

        let marker = || {
            let mut bytes = vec![0; marker::SIZE_BYTES];
            disk.peek(marker::OFFSET_BYTES, &mut bytes);
            bytes
        };
        let before = marker();
        assert!(before.iter().any(|byte| *byte != 0));
        let fs = mount(disk.clone(), CACHE_BYTES, true).await.unwrap();
        fs.unmount().await.unwrap();
        assert!(marker() == before, "a read-only mount has written");
        mount(disk.clone(), CACHE_BYTES, false).await.unwrap().unmount().await.unwrap();
        assert!(marker().iter().all(|byte| *byte == 0), "the marker of checksums that are not true");
    });
}
