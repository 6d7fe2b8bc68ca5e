//! Damaged volumes: whatever a disk says, there is no panic, no endless loop, no memory without bound and no request
//! outside the device, and each error names the rule that is broken and the block.
//!
//! A few volumes are made once; each variant is a copy of one of them with a little damage, which is opened, walked,
//! written to and closed. `LUNFS_DAMAGED=20000` tries so many variants, `LUNFS_DAMAGED_SEED=77` one of them again.

// A test. Unsafe: an allocator that counts.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem::Discriminant;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    ACCESS, DEFAULT, ForkDisk, Maker, ROOT, Rng, Step, mount, new_volume, pattern, read_whole, run, write_all,
};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::{Attr, DirEntry, FileKind, OpenFlags, RenameMode, SeekTarget, SetAttr, SetXattr, WriteFlags};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::format::log::{self, NewHeader, RawLogHeader, StatfsDelta};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::superblock::Superblock;
use fs_core::fs::Fs;
use parking_lot::Mutex;
use zerocopy::FromBytes;

/// Cache of each mount, in bytes.
const CACHE_BYTES: u64 = 1 << 20;
/// Memory that a variant may have at once, in bytes: caches, the log that is read ahead, what was written to the disk.
const MEMORY_MAX: i64 = 48 << 20;

thread_local! {
    static USED: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// Counts what each thread has.
struct Counting;

fn count(bytes: i64) {
    let used = USED.get() + bytes;
    USED.set(used);
    PEAK.set(PEAK.get().max(used));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A volume that variants are made of.
struct Base {
    name: String,
    size: BlockSize,
    disk: ForkDisk,
    /// Blocks by what they are; file data that is worth damaging among them.
    kinds: BTreeMap<u32, Vec<u64>>,
    /// Resource index: blocks and where in them entries start.
    rindex: Vec<(u64, usize)>,
    /// Content of regular files by path, and targets of links.
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All metadata in place has checksums, and nothing will be replayed.
    protected: bool,
}

const KIND_RINDEX: u32 = 100;
const KIND_COUNTERS: u32 = 101;

/// Attributes of inode `number`: small and large ones, more than one block of records.
fn attribute(number: u64, index: u64, block_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let len = [0, 20, block_bytes, 5 * block_bytes, 9][index as usize % 5];
    (format!("user.{index}{}", "n".repeat(100)).into_bytes(), pattern(number * 100 + index, len))
}

/// Sets an access control list and attributes.
async fn add_attributes(fs: &Fs, ino: InodeNo, number: u64, count: u64, block_bytes: usize) -> Result<(), FsError> {
    for index in 0..count {
        let (name, value) = attribute(number, index, block_bytes);
        fs.setxattr(ino, &name, &value, &SetXattr::default(), ROOT).await?;
    }
    fs.setxattr(ino, ACCESS, ACL, &SetXattr::default(), ROOT).await
}

/// Owner, user 5, group, mask, others: all may do everything.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 5, 0, 0, 0, 4, 0, 7, 0, 255, 255, 255, 255, 16, 0, 7, 0,
    255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255,
];

/// Fills a volume with one of everything.
async fn fill(fs: &Fs, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, block_bytes: usize) -> Result<(), FsError> {
    let root = fs.root();
    let file = async |dir: InodeNo, name: &[u8]| fs.mknod(dir, name, 0o100_644, (0, 0), ROOT).await;
    for (index, len) in [0, 200, 3 * block_bytes + 5, 80 * block_bytes, 900 * block_bytes].into_iter().enumerate() {
        let name = format!("file{index}").into_bytes();
        let ino = file(root, &name).await?.ino;
        let content = pattern(index as u64, len);
        for (piece, data) in content.chunks(1 << 20).enumerate() {
            write_all(fs, ino, (piece << 20) as u64, data).await?;
        }
        model.insert([b"/", &*name].concat(), content);
        add_attributes(fs, ino, index as u64, [0, 3, 40, 5, 0][index], block_bytes).await?;
    }
    let sparse = file(root, b"sparse").await?.ino;
    for offset in [0, 10 << 20, 3 << 40] {
        write_all(fs, sparse, offset, b"an island").await?;
    }
    let many = fs.mkdir(root, b"many", 0o755, ROOT).await?.ino;
    for index in 0..250 {
        let name = format!("a name among many others, {index}");
        fs.forget(file(many, name.as_bytes()).await?.ino, 1);
        model.insert(format!("/many/{name}").into_bytes(), Vec::new());
    }
    let dir = fs.mkdir(root, b"dir", 0o755, ROOT).await?.ino;
    fs.setxattr(dir, DEFAULT, ACL, &SetXattr::default(), ROOT).await?;
    let sub = fs.mkdir(dir, b"sub", 0o755, ROOT).await?.ino;
    fs.symlink(sub, b"link", b"some/where", ROOT).await?;
    model.insert(b"/dir/sub/link".to_vec(), b"some/where".to_vec());
    fs.mknod(sub, b"fifo", 0o010_644, (0, 0), ROOT).await?;
    fs.mknod(sub, b"device", 0o060_644, (8, 1), ROOT).await?;
    let linked = fs.lookup(root, b"file2").await?.ino;
    fs.link(linked, sub, b"hard").await?;
    model.insert(b"/dir/sub/hard".to_vec(), model.get(&b"/file2"[..]).unwrap().clone());
    Ok(())
}

async fn make_bases(maker: Maker, size: BlockSize) -> Result<[Base; 2], FsError> {
    let disk = Arc::new(new_volume(maker, size).await);
    let mut model = BTreeMap::new();
    let fs = mount(disk.clone(), 8 << 20, false).await?;
    fill(&fs, &mut model, size.bytes()).await?;
    fs.unmount().await?;
    let clean = Base::new(format!("{maker:?} {} clean", size.bytes()), size, disk.fork(), model.clone());

    // A second time, cut off: orphans, freed blocks, a log to be replayed.
    let fs = mount(disk.clone(), 8 << 20, false).await?;
    for (index, blocks) in [1, 70].into_iter().enumerate() {
        let name = format!("orphan{index}").into_bytes();
        let ino = fs.mknod(fs.root(), &name, 0o100_600, (0, 0), ROOT).await?.ino;
        write_all(&fs, ino, 0, &pattern(9, blocks * size.bytes())).await?;
        add_attributes(&fs, ino, 9, 30 * index as u64, size.bytes()).await?;
        fs.unlink(fs.root(), &name).await?;
        fs.sync().await?;
    }
    let dir = fs.lookup(fs.root(), b"dir").await?.ino;
    for index in 0..10 {
        let ino = fs.mknod(dir, format!("new{index}").as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
        write_all(&fs, ino, 0, &pattern(index, 40 * size.bytes())).await?;
        let shorter = SetAttr { size_bytes: Some(7 * size.bytes_u64()), ..SetAttr::default() };
        fs.setattr(ino, &shorter, ROOT).await?;
        fs.sync().await?;
    }
    let dirty = Base::new(format!("{maker:?} {} dirty", size.bytes()), size, disk.fork(), BTreeMap::new());
    assert!(dirty.kinds.contains_key(&BlockKind::LOG_DESCRIPTOR.0));
    let protected = maker == Maker::Lunfs;
    Ok([Base { protected, ..clean }, dirty])
}

impl Base {
    fn new(name: String, size: BlockSize, disk: ForkDisk, model: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let mut kinds: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let (mut rindex, mut counters) = (Vec::new(), Vec::new());
        for addr in Superblock::addr(size).0..disk.blocks(size) {
            let block = disk.block(addr, size);
            let Some(kind) = meta::header(&block).map(|header| header.kind.get()) else { continue };
            kinds.entry(kind).or_default().push(addr);
            let word = |at: usize| u32::from_be_bytes(*block[at..].first_chunk().unwrap());
            if kind != BlockKind::DINODE.0 || get(&block, 32, 8) != addr {
                continue;
            }
            if word(132) == 1100 {
                match word(136) {
                    0 => rindex.push((addr, 232)),
                    _ => rindex.extend((0..20).map(|at| (get(&block, 232 + 8 * at, 8), 0)).filter(|(to, _)| *to != 0)),
                }
            }
            if word(128) & 0x200 != 0 && get(&block, 56, 8) == 24 {
                counters.push(addr);
            }
        }
        // Headers in the unused part of the journal interest nobody.
        let descriptors = kinds.get(&BlockKind::LOG_DESCRIPTOR.0).cloned().unwrap_or_default();
        if let Some(headers) = kinds.get_mut(&BlockKind::LOG_HEADER.0) {
            let (first, last) = (headers[0], *headers.last().unwrap());
            headers
                .retain(|addr| *addr == first || *addr == last || descriptors.iter().any(|at| at.abs_diff(*addr) < 12));
        }
        assert!(!rindex.is_empty() && !counters.is_empty(), "{name}");
        kinds.insert(KIND_RINDEX, rindex.iter().map(|(addr, _)| *addr).collect());
        kinds.insert(KIND_COUNTERS, counters);
        Self { name, size, disk, kinds, rindex, model, protected: false }
    }
}

impl Base {
    /// The start of the superblock, and what the blocks say they are that make up the resource groups.
    fn landmarks(&self, disk: &ForkDisk) -> Vec<Vec<u8>> {
        let kinds = [BlockKind::SUPERBLOCK, BlockKind::RGRP, BlockKind::RGRP_BITMAP];
        let log = &self.kinds[&BlockKind::LOG_HEADER.0];
        // What stands in the log is an image.
        let in_place = |addr: &&u64| **addr < log[0] || **addr > log[log.len() - 1];
        let addrs = kinds.iter().filter_map(|kind| self.kinds.get(&kind.0)).flatten().filter(in_place);
        addrs.map(|addr| disk.block(*addr, self.size)[..8].to_vec()).collect()
    }
}

fn get(block: &[u8], at: usize, len: usize) -> u64 {
    block[at..at + len].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn put(block: &mut [u8], at: usize, len: usize, value: u64) {
    if let Some(field) = block.get_mut(at..at + len) {
        field.copy_from_slice(&value.to_be_bytes()[8 - len..]);
    }
}

/// A value that somebody might not expect: numbers of blocks of all kinds, limits.
fn value(rng: &mut Rng, base: &Base, own: u64, old: u64) -> u64 {
    let kinds: Vec<&Vec<u64>> = base.kinds.values().collect();
    let blocks = base.disk.blocks(base.size);
    match rng.below(22) {
        0 => 0,
        1 => 1,
        2 => own,
        3 => Superblock::addr(base.size).0,
        4 => blocks,
        5 => blocks - 1,
        6 => *rng.pick(&[u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 63, 1 << 56, 1 << 52]),
        7 => rng.below(64),
        8 => 1 << rng.below(64),
        9 => rng.next(),
        10 => rng.below(blocks),
        11 => old.wrapping_add(1),
        12 => old.wrapping_sub(1),
        13 => old ^ (1 << rng.below(64)),
        14 => *rng.pick(&[7, 8, 16, 40, 48, 255, 256, 279, 280, 511, 512, 4095, 4096, 65535]),
        15 => *rng.pick(&base.kinds[&BlockKind::RGRP.0]),
        16 => *rng.pick(&base.kinds[&BlockKind::DINODE.0]),
        _ => {
            let kind = rng.below(kinds.len() as u64) as usize;
            *rng.pick(kinds[kind])
        }
    }
}

/// Fields of blocks of a kind: offset and length in bytes.
fn fields(rng: &mut Rng, base: &Base, block: &[u8], kind: u32) -> (usize, usize) {
    const DINODE: [(usize, usize); 24] = [
        (24, 8),
        (32, 8),
        (40, 4),
        (52, 4),
        (56, 8),
        (56, 8),
        (64, 8),
        (72, 8),
        (80, 8),
        (104, 8),
        (112, 8),
        (120, 8),
        (128, 4),
        (128, 4),
        (132, 4),
        (138, 2),
        (138, 2),
        (138, 2),
        (146, 2),
        (146, 2),
        (148, 4),
        (148, 4),
        (168, 8),
        (176, 4),
    ];
    const LEAF: [(usize, usize); 7] = [(24, 2), (26, 2), (28, 4), (32, 8), (32, 8), (40, 8), (48, 4)];
    const RGRP: [(usize, usize); 7] = [(24, 4), (28, 4), (32, 4), (36, 4), (40, 8), (48, 8), (64, 4)];
    const SUPERBLOCK: [(usize, usize); 9] =
        [(24, 4), (28, 4), (36, 4), (40, 4), (48, 8), (56, 8), (80, 8), (88, 8), (96, 8)];
    const HEADER: [(usize, usize); 9] =
        [(24, 8), (32, 4), (36, 4), (40, 4), (72, 8), (80, 8), (96, 8), (104, 8), (112, 8)];
    const ENTRY: [(usize, usize); 5] = [(0, 8), (8, 4), (16, 8), (24, 4), (28, 4)];
    let len = block.len() as u64;
    if rng.one_in(12) {
        // The header that all have.
        return *rng.pick(&[(0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4)]);
    }
    match BlockKind(kind) {
        BlockKind::DINODE => {
            let is_linear = get(block, 40, 4) >> 12 == 4 && get(block, 128, 4) & 2 == 0;
            match rng.below(3) {
                0 if is_linear => dirent_field(rng, block, 232),
                0 => pointer_field(rng, len, 232),
                _ => *rng.pick(&DINODE),
            }
        }
        BlockKind::XATTR => xattr_field(rng, block),
        BlockKind::LEAF if rng.one_in(2) => dirent_field(rng, block, 104),
        BlockKind::LEAF => *rng.pick(&LEAF),
        BlockKind::INDIRECT | BlockKind::JOURNALED_DATA => pointer_field(rng, len, 24),
        BlockKind::RGRP if rng.one_in(2) => (128 + rng.below(len - 128) as usize, 1),
        BlockKind::RGRP => *rng.pick(&RGRP),
        BlockKind::SUPERBLOCK => *rng.pick(&SUPERBLOCK),
        BlockKind::LOG_HEADER => *rng.pick(&HEADER),
        BlockKind::LOG_DESCRIPTOR if rng.one_in(2) => *rng.pick(&[(24, 4), (28, 4), (32, 4)]),
        BlockKind::LOG_DESCRIPTOR => (72 + 8 * rng.below(8) as usize, 8),
        BlockKind(KIND_RINDEX) => {
            let (_, start) = *rng.pick(&base.rindex);
            let (at, len) = *rng.pick(&ENTRY);
            (start + at + 96 * rng.below(3) as usize, len)
        }
        BlockKind(KIND_COUNTERS) => (232 + 8 * rng.below(3) as usize, 8),
        _ => (rng.below(len) as usize, 1),
    }
}

/// One of the pointers behind byte `first`, often one of the first.
fn pointer_field(rng: &mut Rng, block_bytes: u64, first: u64) -> (usize, usize) {
    let count = if rng.one_in(2) { 4 } else { (block_bytes - first) / 8 };
    ((first + 8 * rng.below(count)) as usize, 8)
}

/// A field of some directory entry of the area behind byte `first`.
fn dirent_field(rng: &mut Rng, block: &[u8], first: usize) -> (usize, usize) {
    let mut starts = vec![first];
    let mut at = first;
    while at + 40 < block.len() && starts.len() < 100 {
        at += get(block, at + 20, 2).max(8) as usize;
        starts.push(at);
    }
    let start = *rng.pick(&starts);
    let (at, len) = *rng.pick(&[(0, 8), (8, 8), (8, 8), (16, 4), (20, 2), (20, 2), (22, 2), (24, 2), (40, 1)]);
    if start + at + len <= block.len() { (start + at, len) } else { (first + at, len) }
}

/// A field, a byte of the name, or a pointer, of some attribute's record.
fn xattr_field(rng: &mut Rng, block: &[u8]) -> (usize, usize) {
    let mut starts = vec![24];
    let mut at = 24;
    while at + 16 < block.len() && starts.len() < 100 {
        at += get(block, at, 4).max(8) as usize;
        starts.push(at);
    }
    let start = *rng.pick(&starts);
    let pointer = (16 + 104 + 8 * rng.below(3) as usize, 8);
    let (at, len) = *rng.pick(&[(0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (16, 1), (116, 4), pointer, pointer]);
    if start + at + len <= block.len() { (start + at, len) } else { (24 + at, len) }
}

/// Makes checksums true again that were true before.
fn seal(addr: u64, block: &mut [u8]) {
    let Some(header) = meta::header(block) else { return };
    if header.kind.get() == BlockKind::LOG_HEADER.0 {
        let Ok((raw, _)) = RawLogHeader::read_from_prefix(block) else { return };
        let stamped = log::stamp(block).is_some();
        let new = NewHeader {
            jid: raw.meta.jid.get(),
            sequence: raw.sequence.get(),
            flags: raw.flags.get(),
            tail: raw.tail.get(),
            blkno: raw.blkno.get(),
            addr: raw.addr.get(),
            time: fs_core::attr::Timestamp { sec: raw.sec.get(), nsec: raw.nsec.get() },
            jinode: raw.jinode.get(),
            statfs_addr: raw.statfs_addr.get(),
            quota_addr: raw.quota_addr.get(),
            local: StatfsDelta {
                total: raw.local_total.get(),
                free: raw.local_free.get(),
                dinodes: raw.local_dinodes.get(),
            },
        };
        if stamped {
            log::write_header(block, &new)
        } else {
            log::write_header_unstamped(block, &new)
        }
        return;
    }
    let (jid, version) = (header.jid.get(), header.version.get());
    meta::seal(BlockAddr(addr), block, jid, version);
}

/// Damages the disk a little; says how, and whether checksums have to reveal it.
fn damage(rng: &mut Rng, base: &Base, disk: &ForkDisk) -> (String, bool) {
    let kinds: Vec<u32> = base.kinds.keys().copied().collect();
    let kind = *rng.pick(&kinds);
    let addr = *rng.pick(&base.kinds[&kind]);
    let mut block = disk.block(addr, base.size);
    let what;
    if rng.one_in(4) {
        let count = 1 + rng.below(8);
        let at: Vec<usize> = (0..count).map(|_| rng.below(block.len() as u64) as usize).collect();
        for at in &at {
            block[*at] ^= 1 << rng.below(8);
        }
        what = format!("bits of bytes {at:?}");
    } else if rng.one_in(12) {
        let kind = *rng.pick(&kinds);
        block = disk.block(*rng.pick(&base.kinds[&kind]), base.size);
        what = "another block's content".into();
    } else {
        let (at, len) = fields(rng, base, &block, kind);
        let old = if at + len <= block.len() { get(&block, at, len) } else { 0 };
        let new = value(rng, base, addr, old);
        put(&mut block, at, len, new);
        what = format!("bytes {at}..{} {old:#x} to {new:#x}", at + len);
    }
    let sealed = rng.one_in(2);
    if sealed {
        seal(addr, &mut block);
    }
    disk.poke(addr << base.size.shift(), &block);
    let revealed = BlockKind(kind).is_checksummed() && !sealed && get(&block, 8, 4) != 0;
    (format!("kind {kind} block {addr}: {what}, sealed {sealed}"), revealed)
}

/// What may be answered on a damaged volume: never that the device failed.
fn judge<T>(fs: &Fs, what: &str, result: Result<T, FsError>) -> Option<T> {
    match result {
        Ok(value) => return Some(value),
        Err(error @ FsError::Corrupt { .. }) => {
            assert!(fs.withdrawn().is_some(), "{what}: {error}, and nothing follows from it");
            assert!(error.to_string().starts_with("block "), "{what}: {error}");
        }
        Err(FsError::Withdrawn) => assert!(fs.withdrawn().is_some(), "{what}"),
        Err(error @ (FsError::Device(_) | FsError::Unsupported(_) | FsError::NotMountable(_))) => {
            panic!("{what}: {error:?}")
        }
        Err(_) => {}
    }
    None
}

/// Looks at everything, within reason.
async fn walk(fs: &Fs, model: Option<&BTreeMap<Vec<u8>, Vec<u8>>>) {
    let mut todo = VecDeque::from([(Vec::new(), fs.root())]);
    let mut budget = 600;
    while let Some((path, dir)) = todo.pop_front() {
        let mut names = Vec::new();
        let mut emit = |entry: &DirEntry| {
            names.push(entry.name.clone());
            names.len() < 1000
        };
        judge(fs, "readdir", fs.readdir(dir, 0, &mut emit).await);
        let mut seen = 0;
        let mut emit = |_: &DirEntry, _: &Attr| {
            seen += 1;
            seen < 1000
        };
        judge(fs, "readdirplus", fs.readdirplus(dir, 0, &mut emit).await);
        for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let Some(attr) = judge(fs, "lookup", fs.lookup(dir, name).await) else { continue };
            let path = [&*path, b"/", name].concat();
            look(fs, attr, model.and_then(|model| model.get(&path))).await;
            if attr.kind == FileKind::Directory && path.len() < 200 {
                todo.push_back((path, attr.ino));
            }
        }
    }
}

async fn look(fs: &Fs, attr: Attr, expected: Option<&Vec<u8>>) {
    let ino = attr.ino;
    judge(fs, "getattr", fs.getattr(ino).await);
    let list = judge(fs, "listxattr", fs.listxattr(ino, ROOT).await).unwrap_or_default();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Some(value) = judge(fs, "getxattr", fs.getxattr(ino, name).await) else { continue };
        if expected.is_some() && name.starts_with(b"user.") {
            let is_one = |index| {
                (0..10).any(|number| {
                    attribute(number, index, attr.block_size_bytes as usize) == (name.to_vec(), value.clone())
                })
            };
            assert!((0..40).any(is_one), "a wrong attribute");
        }
    }
    let is = |found: &[u8]| expected.is_none_or(|expected| expected == found);
    match attr.kind {
        FileKind::Symlink => {
            if let Some(target) = judge(fs, "readlink", fs.readlink(ino).await) {
                assert!(is(&target), "a wrong target");
            }
        }
        FileKind::Regular if expected.is_some() && attr.size_bytes < 8 << 20 => {
            if let Some(content) = judge(fs, "read", read_whole(fs, ino).await) {
                assert!(is(&content), "wrong content");
            }
        }
        FileKind::Regular => {
            for offset in [0, attr.size_bytes / 2, attr.size_bytes.saturating_sub(5000), attr.size_bytes, u64::MAX] {
                judge(fs, "read", fs.read(ino, offset, 128 << 10).await);
            }
            for target in [SeekTarget::Data, SeekTarget::Hole] {
                for offset in [0, attr.size_bytes / 3, attr.size_bytes.saturating_sub(1), u64::MAX] {
                    judge(fs, "seek", fs.seek(ino, offset, target).await);
                }
            }
        }
        _ => {}
    }
}

/// Changes a little of everything, in some order.
async fn change(fs: &Fs, rng: &mut Rng) {
    let root = fs.root();
    let mut known = vec![root];
    for name in [&b"file1"[..], b"file2", b"file3", b"file4", b"sparse", b"many", b"dir"] {
        if let Some(attr) = judge(fs, "lookup", fs.lookup(root, name).await) {
            known.push(attr.ino);
        }
    }
    for step in 0..14_u64 {
        let (ino, dir) = (*rng.pick(&known), *rng.pick(&known));
        let old = [&b"file1"[..], b"file2", b"file3", b"file4", b"sparse", b"many", b"dir", b"sub", b"x3"];
        let (name, new) = (*rng.pick(&old), format!("x{step}").into_bytes());
        match rng.below(15) {
            12 | 13 => {
                let index = rng.below(50);
                let (name, _) = attribute(0, index, 512);
                let value = pattern(step, *rng.pick(&[0, 10, 300, 4000, 20_000]));
                judge(fs, "setxattr", fs.setxattr(ino, &name, &value, &SetXattr::default(), ROOT).await);
                let list = if rng.one_in(2) { ACCESS } else { DEFAULT };
                judge(fs, "set a list", fs.setxattr(ino, list, ACL, &SetXattr::default(), ROOT).await);
            }
            14 => {
                let chmod = SetAttr { permissions: Some(0o640), ..SetAttr::default() };
                judge(fs, "chmod", fs.setattr(ino, &chmod, ROOT).await);
                for index in 0..5 {
                    let (name, _) = attribute(0, index, 512);
                    judge(fs, "removexattr", fs.removexattr(ino, &name).await);
                }
            }
            0 => drop(judge(fs, "mknod", fs.mknod(dir, &new, 0o100_644, (0, 0), ROOT).await)),
            1 => drop(judge(fs, "mkdir", fs.mkdir(dir, &new, 0o755, ROOT).await)),
            2 | 3 => {
                let offset = *rng.pick(&[0, 100, 5000, 300_000, 11 << 20, 3 << 40, i64::MAX as u64 - 100]);
                let data = pattern(step, *rng.pick(&[10, 4096, 60_000]));
                judge(fs, "write", fs.write(ino, offset, data, WriteFlags::default(), ROOT).await);
            }
            4 | 5 => {
                let size_bytes = Some(*rng.pick(&[0, 10, 5000, 100_000, 1 << 40, u64::MAX]));
                judge(fs, "setattr", fs.setattr(ino, &SetAttr { size_bytes, ..SetAttr::default() }, ROOT).await);
            }
            6 | 7 => drop(judge(fs, "unlink", fs.unlink(dir, name).await)),
            8 => drop(judge(fs, "rmdir", fs.rmdir(dir, name).await)),
            9 => {
                let mode = *rng.pick(&[RenameMode::Replace, RenameMode::Exchange, RenameMode::NoReplace]);
                let to = if rng.one_in(2) { *rng.pick(&old) } else { &*new };
                judge(fs, "rename", fs.rename(dir, name, *rng.pick(&known), to, mode).await);
            }
            10 => drop(judge(fs, "link", fs.link(ino, dir, &new).await)),
            _ => {
                let open = OpenFlags { write: true, truncate: true, append: false };
                judge(fs, "open", fs.open(ino, open, ROOT).await);
                judge(fs, "sync", fs.sync().await);
            }
        }
    }
    // Many names in one directory, so that leaves split.
    for index in 0..if rng.one_in(4) { 40 } else { 0 } {
        let name = format!("one more name in a directory that is damaged, {index}");
        judge(fs, "mknod", fs.mknod(*rng.pick(&known), name.as_bytes(), 0o100_644, (0, 0), ROOT).await);
    }
}

/// What became of a variant.
#[derive(Default)]
struct Outcome {
    mounted: bool,
    withdrawn: bool,
    /// The rule that was found broken.
    broken: Option<Discriminant<CorruptKind>>,
    peak: i64,
}

fn broken(error: &FsError) -> Option<Discriminant<CorruptKind>> {
    if let FsError::Corrupt { kind, .. } = error { Some(std::mem::discriminant(kind)) } else { None }
}

fn variant(bases: &[Base], seed: u64) -> Outcome {
    let mut rng = Rng(seed);
    let base = rng.pick(bases);
    let disk = Arc::new(base.disk.fork());
    let mut how = Vec::new();
    let mut revealed = base.protected;
    for _ in 0..*rng.pick(&[1, 1, 1, 1, 2, 4]) {
        let (what, by_checksum) = damage(&mut rng, base, &disk);
        how.push(what);
        revealed &= by_checksum;
    }
    let story = format!("variant {seed} of {}: {}", base.name, how.join("; "));
    let _step = Step::new(story.clone());
    if std::env::var_os("LUNFS_DAMAGED_SEED").is_some() {
        eprintln!("{story}");
    }
    let landmarks = base.landmarks(&disk);
    let before = USED.get();
    PEAK.set(before);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let read_only = rng.one_in(8);
            let fs = match mount(disk.clone(), CACHE_BYTES, read_only).await {
                Ok(fs) => fs,
                Err(error @ FsError::Corrupt { .. }) => {
                    assert!(error.to_string().starts_with("block "), "{error}");
                    return Outcome { broken: broken(&error), ..Outcome::default() };
                }
                Err(FsError::NotMountable(_)) => return Outcome::default(),
                Err(error) => panic!("mount: {error:?}"),
            };
            judge(&fs, "statfs", fs.statfs().await);
            if revealed {
                walk(&fs, Some(&base.model)).await;
                change(&fs, &mut rng).await;
            } else if rng.one_in(2) {
                change(&fs, &mut rng).await;
                walk(&fs, None).await;
            } else {
                walk(&fs, None).await;
                change(&fs, &mut rng).await;
            }
            judge(&fs, "sync", fs.sync().await);
            judge(&fs, "unmount", fs.unmount().await);
            let withdrawn = fs.withdrawn();
            let broken = withdrawn.as_ref().and_then(broken);
            Outcome { mounted: true, withdrawn: withdrawn.is_some(), broken, peak: 0 }
        })
    }));
    let peak = PEAK.get() - before;
    // A log may say that something goes there; a pointer of a file may not.
    let moved = landmarks != base.landmarks(&disk) && !base.name.ends_with("dirty");
    match outcome {
        Ok(_) if moved => panic!("{story}: file data was written over the volume's skeleton"),
        Ok(outcome) if peak <= MEMORY_MAX => Outcome { peak, ..outcome },
        Ok(_) => panic!("{story}: takes {peak} bytes"),
        Err(_) => panic!("{story}: see above"),
    }
}

#[test]
fn whatever_a_volume_says_there_is_an_error_that_names_it_and_nothing_worse() {
    let bases: Vec<Base> = run(async {
        let mut bases = Vec::new();
        for bytes in [512, 1024, 2048, 4096] {
            for maker in [Maker::Lunfs, Maker::Gfs2] {
                bases.extend(make_bases(maker, BlockSize::new(bytes).unwrap()).await.unwrap());
            }
        }
        bases
    });
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("LUNFS_DAMAGED_SEED") {
        variant(&bases, seed);
        return;
    }
    let count = number("LUNFS_DAMAGED").unwrap_or(2000);
    let (next, mounted, withdrawn, largest) = <(AtomicU64, AtomicU64, AtomicU64, AtomicU64)>::default();
    let (failed, rules) = (Mutex::new(Vec::new()), Mutex::new(HashSet::new()));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    match std::panic::catch_unwind(AssertUnwindSafe(|| variant(&bases, seed))) {
                        Ok(outcome) => {
                            mounted.fetch_add(u64::from(outcome.mounted), Ordering::Relaxed);
                            withdrawn.fetch_add(u64::from(outcome.withdrawn), Ordering::Relaxed);
                            rules.lock().extend(outcome.broken);
                            largest.fetch_max(outcome.peak.max(0) as u64, Ordering::Relaxed);
                        }
                        Err(_) => failed.lock().push(seed),
                    }
                }
            });
        }
    });
    let (failed, rules) = (failed.into_inner(), rules.into_inner().len() as u64);
    let (mounted, withdrawn) = (mounted.into_inner(), withdrawn.into_inner());
    println!(
        "{count} variants: {mounted} mounted, {withdrawn} of them withdrew, {rules} different rules broken; at most {} KiB of memory",
        largest.into_inner() >> 10
    );
    // A test that mounts nothing, or damages nothing that matters, would pass as well.
    if count >= 1000 {
        assert!(mounted * 2 > count && withdrawn * 20 > count && rules >= 20, "too little happened");
    }
    assert!(failed.is_empty(), "{} variants: LUNFS_DAMAGED_SEED={:?}", failed.len(), &failed[..failed.len().min(40)]);
}
