//! A sound volume whose parts are known, and tools to damage it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::format::block_size::BlockSize;
use fs_core::format::dirent;
use fs_core::format::rgrp::{BlockState, RawRindexEntry, RgrpPlace};
use fs_core::fs::Fs;
use zerocopy::FromBytes;

use crate::common::damage::{get, put};
use crate::common::{ForkDisk, Maker, ROOT, mount, new_volume, pattern, write_all};

/// Offset of content and pointers in a dinode.
pub(crate) const PAYLOAD: usize = 232;

/// An entry of a directory, where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block: u64,
    pub(crate) offset: usize,
    /// Offset of the one before it.
    pub(crate) previous: usize,
    pub(crate) target: u64,
}

/// The volume: blocks of 1 KiB, made by mkfs.gfs2, so that no checksum is in the way.
pub(crate) struct Lab {
    pub(crate) disk: ForkDisk,
    pub(crate) size: BlockSize,
    pub(crate) places: Vec<RgrpPlace>,
    /// System files by name, and those of the journal's node.
    pub(crate) system: BTreeMap<String, u64>,
    pub(crate) root: u64,
    /// An empty file in `dir`, its last entry.
    pub(crate) empty: u64,
    /// A file of three blocks, in `sub`.
    pub(crate) file: u64,
    /// A file with indirect blocks.
    pub(crate) big: u64,
    pub(crate) symlink: u64,
    /// Linear directories: one in the root, one in that.
    pub(crate) dir: u64,
    pub(crate) sub: u64,
    /// A directory with a hash table, and a leaf of it.
    pub(crate) many: u64,
    pub(crate) leaf: u64,
    /// Files in `many`.
    pub(crate) files: Vec<u64>,
    /// A block that is free.
    pub(crate) free: u64,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let size = BlockSize::new(1024).unwrap();
        let disk = Arc::new(new_volume(Maker::Gfs2, size).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let file = async |fs: &Fs, dir: InodeNo, name: &str| {
            fs.mknod(dir, name.as_bytes(), 0o100_644, (0, 0), ROOT).await.unwrap().ino
        };
        let root = fs.root();
        let dir = fs.mkdir(root, b"dir", 0o755, ROOT).await.unwrap().ino;
        let sub = fs.mkdir(dir, b"sub", 0o755, ROOT).await.unwrap().ino;
        let small = file(&fs, sub, "file").await;
        write_all(&fs, small, 0, &pattern(1, 3 * 1024)).await.unwrap();
        let empty = file(&fs, dir, "empty").await;
        let big = file(&fs, root, "big").await;
        write_all(&fs, big, 0, &pattern(2, 300 * 1024)).await.unwrap();
        let symlink = fs.symlink(root, b"symlink", b"some/where", ROOT).await.unwrap().ino;
        let many = fs.mkdir(root, b"many", 0o755, ROOT).await.unwrap().ino;
        let mut files = Vec::new();
        for number in 0..100 {
            files.push(file(&fs, many, &format!("a name among others {number}")).await.get());
        }
        fs.unmount().await.unwrap();
        drop(fs);
        let disk = Arc::into_inner(disk).unwrap();
        let mut lab = Self {
            root: root.get(),
            empty: empty.get(),
            file: small.get(),
            big: big.get(),
            symlink: symlink.get(),
            dir: dir.get(),
            sub: sub.get(),
            many: many.get(),
            files,
            disk,
            size,
            places: Vec::new(),
            system: BTreeMap::new(),
            leaf: 0,
            free: 0,
        };
        lab.survey();
        lab
    }

    fn survey(&mut self) {
        let master = get(&self.disk.block(64, self.size), 56, 8);
        let mut system = BTreeMap::from([("master".to_owned(), master)]);
        for dir in ["master", "jindex", "per_node"] {
            system.extend(self.list(&self.disk, system[dir]).into_iter().filter(|(name, _)| !name.starts_with('.')));
        }
        let rindex = self.disk.block(system["rindex"], self.size);
        let bytes = get(&rindex, 56, 8) as usize;
        let entries = rindex[PAYLOAD..PAYLOAD + bytes].chunks(96);
        self.places = entries
            .map(|entry| RawRindexEntry::ref_from_bytes(entry).unwrap())
            .map(|raw| RgrpPlace::parse(BlockAddr(0), raw, self.size).unwrap())
            .collect();
        self.system = system;
        self.leaf = self.pointer(&self.disk, self.many, PAYLOAD, 0);
        let last = self.places.last().unwrap();
        let blocks = (0..last.data).map(|index| last.block_at(index).0);
        self.free = blocks.rev().find(|block| self.state(&self.disk, *block) == BlockState::Free).unwrap();
    }

    pub(crate) fn get(&self, disk: &ForkDisk, block: u64, at: usize, len: usize) -> u64 {
        get(&disk.block(block, self.size), at, len)
    }

    /// Sets a field.
    pub(crate) fn put(&self, disk: &ForkDisk, block: u64, at: usize, len: usize, value: u64) {
        let mut image = disk.block(block, self.size);
        put(&mut image, at, len, value);
        disk.poke(block << self.size.shift(), &image);
    }

    /// Adds to a field.
    pub(crate) fn add(&self, disk: &ForkDisk, block: u64, at: usize, len: usize, more: i64) {
        self.put(disk, block, at, len, self.get(disk, block, at, len).wrapping_add_signed(more));
    }

    /// Sets a field of a resource group's header, and says that its crc is not set.
    pub(crate) fn put_rgrp(&self, disk: &ForkDisk, at: usize, len: usize, value: u64) {
        let addr = self.places[0].addr.0;
        self.put(disk, addr, at, len, value);
        self.put(disk, addr, 64, 4, 0);
    }

    /// A pointer of the array behind byte `first`.
    pub(crate) fn pointer(&self, disk: &ForkDisk, block: u64, first: usize, index: usize) -> u64 {
        self.get(disk, block, first + 8 * index, 8)
    }

    /// Entries of the linear directory `dir`, or of a leaf.
    pub(crate) fn entries(&self, disk: &ForkDisk, block: u64) -> Vec<(String, Place)> {
        let image = disk.block(block, self.size);
        let mut at = if get(&image, 4, 4) == 6 { 104 } else { PAYLOAD };
        let (mut previous, mut found) = (at, Vec::new());
        while at < image.len() {
            let name = &image[at + 40..at + 40 + get(&image, at + 22, 2) as usize];
            let target = get(&image, at + 8, 8);
            if target != 0 {
                let place = Place { block, offset: at, previous, target };
                found.push((String::from_utf8(name.to_vec()).unwrap(), place));
            }
            previous = at;
            at += get(&image, at + 20, 2) as usize;
        }
        found
    }

    fn list(&self, disk: &ForkDisk, dir: u64) -> Vec<(String, u64)> {
        self.entries(disk, dir).into_iter().map(|(name, place)| (name, place.target)).collect()
    }

    pub(crate) fn entry(&self, disk: &ForkDisk, dir: u64, name: &str) -> Place {
        self.entries(disk, dir).into_iter().find(|(found, _)| found == name).unwrap().1
    }

    /// Lets an entry of a linear directory name another inode, with its number and type.
    pub(crate) fn retarget(&self, disk: &ForkDisk, dir: u64, name: &str, target: u64) {
        let place = self.entry(disk, dir, name);
        self.put(disk, dir, place.offset, 8, self.get(disk, target, 24, 8));
        self.put(disk, dir, place.offset + 8, 8, target);
        self.put(disk, dir, place.offset + 24, 2, self.get(disk, target, 40, 4) >> 12);
    }

    /// Gives an entry of a linear directory another name of the same length.
    pub(crate) fn rename(&self, disk: &ForkDisk, dir: u64, name: &str, to: &str) {
        let place = self.entry(disk, dir, name);
        let mut image = disk.block(dir, self.size);
        image[place.offset + 40..place.offset + 40 + to.len()].copy_from_slice(to.as_bytes());
        put(&mut image, place.offset + 16, 4, u64::from(dirent::hash(to.as_bytes())));
        disk.poke(dir << self.size.shift(), &image);
    }

    /// Takes an entry out of a linear directory, and counts one less.
    pub(crate) fn remove(&self, disk: &ForkDisk, dir: u64, name: &str) {
        let place = self.entry(disk, dir, name);
        let len = self.get(disk, dir, place.offset + 20, 2) as i64;
        self.add(disk, dir, place.previous + 20, 2, len);
        self.add(disk, dir, 148, 4, -1);
    }

    fn bits(&self, block: u64) -> (u64, usize, u32) {
        let place = self.places.iter().find(|place| place.index_of(BlockAddr(block)).is_some()).unwrap();
        let at = place.bit_position(place.index_of(BlockAddr(block)).unwrap(), self.size);
        (place.addr.0 + u64::from(at.header_block), at.byte, at.shift)
    }

    pub(crate) fn state(&self, disk: &ForkDisk, block: u64) -> BlockState {
        let (header, byte, shift) = self.bits(block);
        BlockState::from_bits((self.get(disk, header, byte, 1) >> shift) as u8)
    }

    /// Gives a block another state in the bitmap, and sets all counters right.
    pub(crate) fn set_state(&self, disk: &ForkDisk, block: u64, state: BlockState) {
        let old = self.state(disk, block);
        let (header, byte, shift) = self.bits(block);
        let rest = self.get(disk, header, byte, 1) & !(3 << shift);
        self.put(disk, header, byte, 1, rest | (state as u64) << shift);
        let place = self.places.iter().find(|place| place.index_of(BlockAddr(block)).is_some()).unwrap();
        let is_dinode = |state| i64::from(matches!(state, BlockState::Dinode | BlockState::Unlinked));
        let is_free = |state| i64::from(state == BlockState::Free);
        for (more, rgrp, statfs) in
            [(is_free(state) - is_free(old), 28, PAYLOAD + 8), (is_dinode(state) - is_dinode(old), 32, PAYLOAD + 16)]
        {
            self.add(disk, place.addr.0, rgrp, 4, more);
            self.add(disk, self.system["statfs"], statfs, 8, more);
        }
        self.put(disk, place.addr.0, 64, 4, 0);
    }
}
