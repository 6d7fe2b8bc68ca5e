//! Rules of directories: linear ones, hash tables, leaves and their chains, counts, `.` and `..`.

use super::entries::{self, Area, Entry, Names, Visit};
use super::read::{BATCH_BLOCKS, Image};
use super::rule::Rule;
use super::walk::Walk;
use crate::addr::{BlockAddr, InodeNo};
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, DIR_DEPTH_MAX};
use crate::format::dirent::{LEAF_HEADER_BYTES, Leaf, RawLeaf};
use crate::format::indirect;
use crate::format::meta::{self, BlockKind};
use crate::inode::map;
use zerocopy::FromBytes;

/// Leaves that are read at once.
const LEAVES: usize = BATCH_BLOCKS / 2;

/// Neighbouring slots of a hash table that point to one leaf.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    len: u32,
    leaf: BlockAddr,
}

/// Where a directory's own entries lead.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dots {
    dot: Option<(u64, u64)>,
    /// Target of `..`.
    pub(super) parent: Option<u64>,
}

/// Checks a directory and shows each of its entries to `visit`. Its tree has been claimed.
pub(super) async fn check(walk: &mut Walk<'_>, visit: &mut Visit<'_>) -> Dots {
    let mut dots = Dots::default();
    let mut seen = |entry: &Entry<'_>| {
        if entry.is_dot() {
            dots.dot = dots.dot.or(Some((entry.target, entry.formal)));
        } else if entry.is_dot_dot() {
            dots.parent = dots.parent.or(Some(entry.target));
        }
        visit(entry);
    };
    let count = if walk.dinode.is_hashed() { hashed(walk, &mut seen).await } else { linear(walk, &mut seen) };
    if !walk.broken {
        entry_count(walk, count);
        dot(walk, dots);
    }
    dots
}

/// Claims the leaves of a directory that is being freed: what is left of it follows no other rule.
pub(super) async fn claim_rest(walk: &mut Walk<'_>) {
    for run in table(walk, false).await {
        let mut next = walk.claim(run.leaf, walk.dinode.ino.addr()).then_some(run.leaf);
        while let Some(addr) = next.take() {
            let image = walk.reader().one(addr).await;
            let Some(image) = walk.checked(addr, image, BlockKind::LEAF) else { break };
            let behind = Leaf::parse(addr, &image).ok().and_then(|leaf| leaf.next);
            next = behind.filter(|behind| walk.claim(*behind, addr));
        }
    }
}

fn linear(walk: &mut Walk<'_>, visit: &mut Visit<'_>) -> u32 {
    let image = walk.image.clone();
    let bytes = image.get(dinode::HEADER_BYTES..).unwrap_or_default();
    let area = Area { block: walk.dinode.ino.addr(), bytes, hashes: (0, u32::MAX) };
    entries::check(walk, &area, &mut Names::default(), visit)
}

async fn hashed(walk: &mut Walk<'_>, visit: &mut Visit<'_>) -> u32 {
    let runs = table(walk, true).await;
    let mut count = 0_u32;
    for batch in runs.chunks(LEAVES) {
        if walk.checker.tally.is_cancelled() {
            walk.broken = true;
            return count;
        }
        let mut wanted = Vec::new();
        for run in batch {
            if walk.claim(run.leaf, walk.dinode.ino.addr()) {
                wanted.push(*run);
            }
        }
        let addrs: Vec<BlockAddr> = wanted.iter().map(|run| run.leaf).collect();
        let images = walk.reader().many(&addrs).await;
        for (run, image) in wanted.into_iter().zip(images) {
            count = count.saturating_add(chain(walk, run, image, visit).await);
        }
    }
    count
}

/// The hash table, as runs of slots. What cannot be read is left out.
async fn table(walk: &mut Walk<'_>, complete: bool) -> Vec<Run> {
    let dinode = walk.dinode;
    let slots = 1_u32 << dinode.depth.min(DIR_DEPTH_MAX);
    let mut runs = Runs { next: 0, found: Vec::new(), hole: None };
    if dinode.is_stuffed() {
        runs.take(walk.image, dinode::HEADER_BYTES, slots);
    } else {
        table_blocks(walk, slots, &mut runs).await;
    }
    let missing = if runs.next < slots { Some(runs.next) } else { None };
    if complete && let Some(slot) = runs.hole.or(missing) {
        walk.broken = true;
        walk.report(CorruptKind::HashTableHole { slot });
    }
    runs.found
}

/// Collects slots into runs.
struct Runs {
    /// The next slot.
    next: u32,
    found: Vec<Run>,
    /// The first slot that points nowhere.
    hole: Option<u32>,
}

impl Runs {
    fn take(&mut self, block: &[u8], first: usize, slots: u32) {
        for index in 0..indirect::count(block, first) {
            if self.next >= slots {
                return;
            }
            match indirect::pointer(block, first, index) {
                None => self.hole = self.hole.or(Some(self.next)),
                Some(leaf) => match self.found.last_mut() {
                    Some(run) if run.leaf == leaf && run.start + run.len == self.next => run.len += 1,
                    _ => self.found.push(Run { start: self.next, len: 1, leaf }),
                },
            }
            self.next += 1;
        }
    }
}

/// Reads the blocks of a table that is not in the dinode.
async fn table_blocks(walk: &mut Walk<'_>, slots: u32, runs: &mut Runs) {
    let size = walk.reader().size();
    let blocks = u64::from(slots).div_ceil(size.indirect_pointers() as u64);
    let extents = match map::extents(walk.reader(), walk.dinode, 0, blocks).await {
        Ok(extents) => extents,
        // The tree has been examined, and whatever is wrong with it reported.
        Err(FsError::Corrupt { .. }) => Vec::new(),
        Err(_) => {
            walk.report(Rule::Unreadable);
            Vec::new()
        }
    };
    let places = extents.iter().map_while(|extent| Some((extent.addr?, extent.count)));
    let addrs: Vec<BlockAddr> =
        places.flat_map(|(addr, count)| (0..count).map(move |step| BlockAddr(addr.0.saturating_add(step)))).collect();
    for batch in addrs.chunks(LEAVES) {
        let images = walk.reader().many(batch).await;
        for (addr, image) in batch.iter().zip(images) {
            let Some(image) = walk.checked(*addr, image, BlockKind::JOURNALED_DATA) else { return };
            runs.take(&image, meta::HEADER_BYTES, slots);
        }
    }
}

/// Ends a walk along a chain that is a circle, without remembering the way: a mark that moves on after 1, 2, 4, …
/// steps (Brent).
struct Circle {
    mark: BlockAddr,
    steps: u64,
    lap: u64,
}

impl Circle {
    fn closes(&mut self, at: BlockAddr) -> bool {
        if self.mark == at {
            return true;
        }
        self.steps += 1;
        if self.steps == self.lap {
            *self = Self { mark: at, steps: 0, lap: self.lap.saturating_mul(2) };
        }
        false
    }
}

/// Checks the leaf of a run, and those that are chained to it. Returns how many entries they have.
async fn chain(walk: &mut Walk<'_>, run: Run, first: Option<Image>, visit: &mut Visit<'_>) -> u32 {
    let (mut addr, mut image, mut count) = (run.leaf, first, 0_u32);
    let mut names = Names::default();
    let mut depth = None;
    let mut circle = Circle { mark: BlockAddr(0), steps: 0, lap: 1 };
    loop {
        let Some(block) = walk.checked(addr, image.take(), BlockKind::LEAF) else { return count };
        let Ok(leaf) = Leaf::parse(addr, &block) else {
            walk.broken = true;
            walk.report_at(addr, CorruptKind::LeafDepth { depth: depth.unwrap_or(u16::MAX) });
            return count;
        };
        leaf_depth(walk, addr, &leaf, depth);
        if depth.is_none() {
            leaf_range(walk, run, &leaf);
        }
        let depth = *depth.get_or_insert(leaf.depth);
        let bytes = block.get(LEAF_HEADER_BYTES..).unwrap_or_default();
        let hashes = hashes(walk.dinode.depth, depth, run.start);
        let area = Area { block: addr, bytes, hashes };
        let found = entries::check(walk, &area, &mut names, visit);
        leaf_entries(walk, addr, &leaf, found);
        leaf_owner(walk, addr, &block);
        count = count.saturating_add(found);
        let Some(next) = leaf.next else { return count };
        leaf_chain(walk, addr, &leaf);
        if circle.closes(next) || !walk.claim(next, addr) {
            walk.broken = true;
            return count;
        }
        addr = next;
        image = walk.reader().one(addr).await;
    }
}

/// Least and greatest hash that lead to the leaf of `depth` around `slot`.
fn hashes(table_depth: u16, depth: u16, slot: u32) -> (u32, u32) {
    if depth > table_depth {
        // No rule can be made of that.
        return (0, u32::MAX);
    }
    let table_depth = u32::from(table_depth.min(DIR_DEPTH_MAX));
    let len = 1_u64 << table_depth.saturating_sub(u32::from(depth));
    let start = u64::from(slot) & !(len - 1);
    let least = start << (32 - table_depth);
    let greatest = ((start + len) << (32 - table_depth)) - 1;
    (u32::try_from(least).unwrap_or(u32::MAX), u32::try_from(greatest).unwrap_or(u32::MAX))
}

/// A leaf is not deeper than the table, and all of a chain have the same depth.
fn leaf_depth(walk: &Walk<'_>, addr: BlockAddr, leaf: &Leaf, first: Option<u16>) {
    if leaf.depth > walk.dinode.depth || first.is_some_and(|first| first != leaf.depth) {
        walk.report_at(addr, CorruptKind::LeafDepth { depth: leaf.depth });
    }
}

/// The slots of a leaf are as many as its depth says, and start at a multiple of that.
fn leaf_range(walk: &Walk<'_>, run: Run, leaf: &Leaf) {
    let Some(bits) = walk.dinode.depth.checked_sub(leaf.depth).filter(|_| !walk.broken) else { return };
    let len = 1_u32 << bits.min(DIR_DEPTH_MAX);
    if run.len != len || !run.start.is_multiple_of(len) {
        walk.report(CorruptKind::HashTableRange { slot: run.start });
    }
}

fn leaf_entries(walk: &Walk<'_>, addr: BlockAddr, leaf: &Leaf, found: u32) {
    if u32::from(leaf.entries) != found && !walk.broken {
        walk.report_at(addr, Rule::LeafEntryCount { counted: leaf.entries, found });
    }
}

/// Zero on some volumes.
fn leaf_owner(walk: &Walk<'_>, addr: BlockAddr, block: &[u8]) {
    let Ok((raw, _)) = RawLeaf::ref_from_prefix(block) else { return };
    let owner = raw.inode.get();
    if owner != 0 && owner != walk.dinode.ino.get() {
        walk.report_at(addr, Rule::LeafOwner { owner });
    }
}

/// Only leaves that cannot be split have a chain.
fn leaf_chain(walk: &Walk<'_>, addr: BlockAddr, leaf: &Leaf) {
    if leaf.depth != DIR_DEPTH_MAX {
        walk.report_at(addr, CorruptKind::LeafChain { depth: leaf.depth });
    }
}

fn entry_count(walk: &Walk<'_>, found: u32) {
    let counted = walk.dinode.entries;
    if counted != found {
        walk.report(Rule::EntryCount { counted, found });
    }
}

/// `.` is the directory itself; `..` is there, and at the top it is the directory itself as well.
fn dot(walk: &Walk<'_>, dots: Dots) {
    let own = (walk.dinode.ino.get(), walk.dinode.formal);
    match dots.dot {
        None => walk.report(Rule::DotMissing { parent: false }),
        Some(found) if found != own => walk.report(Rule::DotTarget { target: found.0 }),
        Some(_) => {}
    }
    match dots.parent {
        None => walk.report(Rule::DotMissing { parent: true }),
        Some(target) if walk.checker.is_top(walk.dinode.ino) && InodeNo::new(target) != Some(walk.dinode.ino) => {
            walk.report(Rule::TopParent { target });
        }
        Some(_) => {}
    }
}
