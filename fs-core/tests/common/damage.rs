//! Volumes with some of everything, and ways to damage them a little: fields that are worth it, values that nobody
//! expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::{SetAttr, SetXattr};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::format::log::{self, NewHeader, RawLogHeader, StatfsDelta};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::superblock::Superblock;
use fs_core::fs::Fs;
use zerocopy::FromBytes;

use super::{ACCESS, DEFAULT, ForkDisk, Maker, ROOT, Rng, mount, new_volume, pattern, write_all};

/// A volume that variants are made of.
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) size: BlockSize,
    pub(crate) disk: ForkDisk,
    /// Blocks by what they are; file data that is worth damaging among them.
    pub(crate) kinds: BTreeMap<u32, Vec<u64>>,
    /// Resource index: blocks and where in them entries start.
    pub(crate) rindex: Vec<(u64, usize)>,
    /// Content of regular files by path, and targets of links.
    pub(crate) model: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All metadata in place has checksums, and nothing will be replayed.
    pub(crate) protected: bool,
}

pub(crate) const KIND_RINDEX: u32 = 100;
pub(crate) const KIND_COUNTERS: u32 = 101;

/// Attributes of inode `number`: small and large ones, more than one block of records.
pub(crate) fn attribute(number: u64, index: u64, block_bytes: usize) -> (Vec<u8>, Vec<u8>) {
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
pub(crate) const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 5, 0, 0, 0, 4, 0, 7, 0, 255, 255, 255, 255, 16, 0, 7, 0,
    255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255,
];

/// Fills a volume with one of everything.
pub(crate) async fn fill(fs: &Fs, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, block_bytes: usize) -> Result<(), FsError> {
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
    fs.link(linked, sub, b"hard", ROOT).await?;
    model.insert(b"/dir/sub/hard".to_vec(), model.get(&b"/file2"[..]).unwrap().clone());
    Ok(())
}

pub(crate) async fn make_bases(maker: Maker, size: BlockSize) -> Result<[Base; 2], FsError> {
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
    pub(crate) fn new(name: String, size: BlockSize, disk: ForkDisk, model: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
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
    /// What the superblock and the blocks of the resource groups say they are, wherever the resource index of the
    /// undamaged volume has them.
    pub(crate) fn landmarks(&self, disk: &ForkDisk) -> Vec<Vec<u8>> {
        let mut addrs = vec![Superblock::addr(self.size).0];
        for (addr, start) in &self.rindex {
            let block = self.disk.block(*addr, self.size);
            for entry in block[*start..].chunks_exact(96).take_while(|entry| get(entry, 0, 8) != 0) {
                addrs.extend((0..get(entry, 8, 4)).map(|index| get(entry, 0, 8) + index));
            }
        }
        assert!(addrs.len() > self.rindex.len(), "{}", self.name);
        addrs.into_iter().map(|addr| disk.block(addr, self.size)[..8].to_vec()).collect()
    }
}

pub(crate) fn get(block: &[u8], at: usize, len: usize) -> u64 {
    block[at..at + len].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

pub(crate) fn put(block: &mut [u8], at: usize, len: usize, value: u64) {
    if let Some(field) = block.get_mut(at..at + len) {
        field.copy_from_slice(&value.to_be_bytes()[8 - len..]);
    }
}

/// A value that somebody might not expect: numbers of blocks of all kinds, limits.
pub(crate) fn value(rng: &mut Rng, base: &Base, own: u64, old: u64) -> u64 {
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
pub(crate) fn fields(rng: &mut Rng, base: &Base, block: &[u8], kind: u32) -> (usize, usize) {
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
pub(crate) fn pointer_field(rng: &mut Rng, block_bytes: u64, first: u64) -> (usize, usize) {
    let count = if rng.one_in(2) { 4 } else { (block_bytes - first) / 8 };
    ((first + 8 * rng.below(count)) as usize, 8)
}

/// A field of some directory entry of the area behind byte `first`.
pub(crate) fn dirent_field(rng: &mut Rng, block: &[u8], first: usize) -> (usize, usize) {
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
pub(crate) fn seal(addr: u64, block: &mut [u8]) {
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
pub(crate) fn damage(rng: &mut Rng, base: &Base, disk: &ForkDisk) -> (String, bool) {
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
