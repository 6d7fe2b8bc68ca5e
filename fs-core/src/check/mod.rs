//! Examines a whole volume that nobody has mounted, and reports every rule that is broken, with its block.
//!
//! ```text
//! superblock ─▶ journals ─▶ resource index ─▶ bitmaps ─▶ every inode that a bitmap names ─▶ what is left over
//!                                                          header · tree · entries · attributes      leaked blocks
//!                                                          each reference claims its block           wrong names
//! ```
//!
//! Laws
//! * Reads only, and repairs nothing. Journals are not replayed: where one is dirty, what is in place is not the truth,
//!   and the report says so.
//! * Whatever the device contains, it ends, without a panic: trees count their levels down, and no block is followed
//!   twice.
//! * Memory is four bits for each block that a bitmap describes (128 MiB for each TiB with blocks of 4 KiB), 16 bytes for
//!   each directory, and buffers of a fixed size. There is no table of inodes: names are compared by sums, and only
//!   where a sum is wrong are the inodes in question looked at one by one, a limited number at a time.
//! * One function for each rule; a rule that follows from another that is broken is left out where that can be known.
//!   Where a resource group cannot be read, nothing is said about its blocks.

mod dinode;
mod directory;
mod entries;
mod journal;
mod leaks;
mod links;
mod map;
mod names;
mod read;
pub mod report;
mod rgrps;
pub mod rule;
mod shared;
mod superblock;
mod system;
mod tree;
mod usage;
mod walk;
mod xattr;

use std::sync::Arc;

use block::device::BlockDevice;
use futures_util::StreamExt;
use parking_lot::Mutex;

use self::links::Directory;
use self::map::BlockMap;
use self::read::{BATCH_BLOCKS, Image, Reader, kind_of};
use self::report::{Report, Stage, Tally, Watch};
use self::rgrps::Group;
use self::rule::{Finding, Rule};
use self::shared::Shared;
use self::system::System;
use self::usage::Usage;
use self::walk::Walk;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::error::CorruptKind;
use crate::format::dinode::Dinode;
use crate::format::log::StatfsDelta;
use crate::format::meta::BlockKind;
use crate::format::rgrp::BlockState;
use crate::format::superblock::Superblock;

/// Resource groups whose inodes are examined at once.
const GROUPS_AT_ONCE: usize = 16;

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many findings of each rule are shown to [`Watch::finding`]; the rest is only counted.
    pub findings_max: u64,
    /// Count what every user and group has, and compare it with the quota file.
    pub quotas: bool,
    /// Users and groups that are counted at most: about 100 bytes of memory for each.
    pub quota_ids_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { findings_max: 100, quotas: false, quota_ids_max: 1 << 20 }
    }
}

/// What is known of the volume.
struct Checker<'a> {
    reader: Reader,
    tally: Tally<'a>,
    superblock: Superblock,
    map: BlockMap,
    /// Generation that the next inode of each group gets.
    igenerations: Vec<u64>,
    directories: Mutex<Vec<Directory>>,
    shared: Shared,
    /// Blocks of everybody, if that is asked for.
    usage: Option<Usage>,
}

/// Examines the volume on `device`, which nobody may write to meanwhile: changes in flight look like damage. Errors of
/// the device are findings, as everything else that is wrong.
pub async fn check(device: Arc<dyn BlockDevice>, options: Options, watch: &dyn Watch) -> Report {
    let tally = Tally::new(watch, options.findings_max);
    let Some(superblock) = superblock::read(&*device, &tally).await else {
        tally.incomplete();
        return tally.finish();
    };
    let reader = Reader::new(device, superblock.block_size);
    let mut checker = Checker {
        reader,
        tally,
        superblock,
        map: BlockMap::default(),
        igenerations: Vec::new(),
        directories: Mutex::default(),
        shared: Shared::default(),
        usage: options.quotas.then(|| Usage::new(options.quota_ids_max)),
    };
    checker.run().await;
    checker.finish()
}

impl Checker<'_> {
    /// The root or the master directory, which nobody names.
    fn is_top(&self, ino: InodeNo) -> bool {
        ino == self.superblock.root || ino == self.superblock.master
    }

    async fn run(&mut self) {
        let marker = superblock::marker(self.reader.device(), &self.superblock, &self.tally).await;
        let system = System::find(self).await;
        if self.tally.is_cancelled() {
            return;
        }
        self.tally.begin(Stage::Journals, system.journals.len() as u64);
        let journals = journal::check(self, &system.journals).await;
        // Another implementation that wrote here kept the checksum fields, but not their truth; and a block that a log
        // still has to bring to its place may be torn.
        self.reader.set_checksums(marker.is_some() && journals.clean && journals.stamped);

        let Some(groups) = self.groups(&system).await else { return self.tally.incomplete() };
        if self.tally.is_cancelled() {
            return;
        }
        if let (Some(marker), Some(first)) = (&marker, groups.first()) {
            superblock::gap(marker, first.map.place.addr, self.reader.size(), &self.tally);
        }
        let counts = groups.iter().all(|group| group.map.known).then(|| {
            groups.iter().fold(StatfsDelta::default(), |sum, group| StatfsDelta {
                total: sum.total.saturating_add(group.counts.total),
                free: sum.free.saturating_add(group.counts.free),
                dinodes: sum.dinodes.saturating_add(group.counts.dinodes),
            })
        });
        for group in groups {
            self.igenerations.push(group.igeneration);
            self.map.groups.push(group.map);
        }
        self.inodes().await;
        if self.tally.is_cancelled() {
            return;
        }
        leaks::check(self);
        let mut directories = std::mem::take(&mut *self.directories.lock());
        directories.sort_unstable();
        names::check(self, &directories).await;
        links::circles(self, &directories);
        if !self.tally.is_cancelled() {
            system.check(self, counts).await;
            shared::check(self).await;
        }
        *self.directories.lock() = directories;
    }

    /// The resource groups; `None`, with a finding, when they are not known.
    async fn groups(&self, system: &System) -> Option<Vec<Group>> {
        let master = self.superblock.master.addr();
        let missing = || {
            self.tally.at(master, CorruptKind::SystemFileMissing { name: "rindex" });
        };
        let Some(ino) = system.rindex() else {
            // Why there is no such name is not known before it is read again.
            self.master_is_readable().await;
            missing();
            return None;
        };
        let Some((rindex, _)) = system::inode(self, ino).await else {
            missing();
            return None;
        };
        let places = rgrps::index(&self.reader, &rindex, &self.tally).await?;
        Some(rgrps::read_all(&self.reader, &places, &self.tally).await)
    }

    /// The first rule that the master directory's block breaks, if it does.
    async fn master_is_readable(&self) {
        let addr = self.superblock.master.addr();
        let Some(image) = self.reader.one(addr).await else { return self.tally.at(addr, Rule::Unreadable) };
        let checked = self.reader.check(addr, &image, BlockKind::DINODE);
        let decoded = || Dinode::parse(self.superblock.master, &image, self.reader.size()).map_err(kind_of);
        if let Err(kind) = checked.and_then(|()| decoded().map(drop)) {
            self.tally.at(addr, kind);
        }
    }

    /// Examines every inode.
    async fn inodes(&self) {
        let total = self.map.blocks_total();
        self.tally.begin(Stage::Inodes, total);
        let groups: Vec<_> = (0..self.map.groups.len()).map(|number| self.group_inodes(number)).collect();
        let mut groups = futures_util::stream::iter(groups).buffer_unordered(GROUPS_AT_ONCE);
        while let Some(blocks) = groups.next().await {
            self.tally.step(Stage::Inodes, blocks, total);
        }
    }

    /// Examines every inode that the bitmap of a group names. Returns the group's size, in blocks.
    async fn group_inodes(&self, number: usize) -> u64 {
        let Some(group) = self.map.groups.get(number).filter(|group| group.known) else { return 0 };
        let igeneration = self.igenerations.get(number).copied().unwrap_or(u64::MAX);
        let mut index = 0;
        while index < group.place.data && !self.tally.is_cancelled() {
            let mut batch = Vec::new();
            while index < group.place.data && batch.len() < BATCH_BLOCKS {
                let state = group.state(index);
                if matches!(state, BlockState::Dinode | BlockState::Unlinked) {
                    batch.push((group.place.block_at(index), state));
                }
                index += 1;
            }
            let addrs: Vec<BlockAddr> = batch.iter().map(|(addr, _)| *addr).collect();
            let images = self.reader.many(&addrs).await;
            for ((addr, state), image) in batch.into_iter().zip(images) {
                self.inode(addr, state, image, igeneration).await;
            }
        }
        u64::from(group.place.data)
    }

    async fn inode(&self, addr: BlockAddr, state: BlockState, image: Option<Image>, igeneration: u64) {
        let Some(ino) = InodeNo::new(addr.0) else { return };
        self.tally.count_inode();
        let report = |rule| self.tally.report(&Finding::new(rule, addr).of(ino));
        let Some(image) = image else { return report(Rule::Unreadable) };
        if let Err(kind) = self.reader.check(addr, &image, BlockKind::DINODE) {
            report(kind.into());
            if !matches!(kind, CorruptKind::BadChecksum { .. }) {
                return;
            }
        }
        let dinode = match Dinode::decode(ino, &image) {
            Ok(dinode) => dinode,
            Err(error) => return report(kind_of(error).into()),
        };
        if let Some(usage) = &self.usage {
            usage.add_inode(&image);
        }
        let is_named = state == BlockState::Dinode;
        if let Some((number, index)) = self.map.find(addr).filter(|_| is_named) {
            if let Some(group) = self.map.groups.get(number) {
                group.set_sound(index);
            }
            links::add_inode(self, &dinode);
        }
        let mut walk = Walk::new(self, &dinode, &image, false);
        if dinode::check(&walk, state, igeneration) {
            tree::check(&mut walk).await;
            if dinode.kind == FileKind::Directory {
                directory(&mut walk, is_named).await;
            }
            xattr::check(&mut walk).await;
            block_count(&walk);
        }
    }

    fn finish(self) -> Report {
        let directories = self.directories.into_inner().len() as u64;
        let used = |group: &map::GroupMap| (0..group.place.data).filter(|index| group.is_claimed(*index)).count();
        let blocks_used = self.map.groups.iter().map(|group| used(group) as u64).sum();
        let blocks_total = self.map.blocks_total();
        Report { directories, blocks_used, blocks_total, ..self.tally.finish() }
    }
}

async fn directory(walk: &mut Walk<'_>, is_named: bool) {
    if !is_named {
        if walk.dinode.is_hashed() {
            directory::claim_rest(walk).await;
        }
        return;
    }
    let (checker, dinode) = (walk.checker, walk.dinode);
    let dots = directory::check(walk, &mut |entry| links::add_entry(checker, dinode, entry)).await;
    links::add_directory(checker, dinode, dots);
}

/// `di_blocks` counts the dinode and all blocks that it leads to.
fn block_count(walk: &Walk<'_>) {
    let (counted, found) = (walk.dinode.blocks, walk.blocks);
    if counted != found && !walk.broken {
        walk.report(Rule::BlockCount { counted, found });
    }
}
