//! One resource group in memory.

use std::collections::BTreeMap;

use super::avail::Avail;
use crate::addr::InodeNo;
use crate::format::rgrp::{FLAG_NOALLOC, RgrpHeader};

/// Blocks that are kept for the next writes of a file that just got some, so that files written side by side do not
/// interleave block by block.
pub const WINDOW_BLOCKS: u32 = 32;

/// A resource group whose bitmap is in memory. Its blocks are pinned in the cache as long as this exists.
#[derive(Debug)]
pub struct Loaded {
    /// Counters as of the running transaction.
    pub header: RgrpHeader,
    /// What may be handed out.
    pub avail: Avail,
    /// Generation for the next inode; ahead of the header by inodes that are not applied yet.
    pub generation_next: u64,
    /// Transactions under way that hold promises here, and frees that are not durable yet.
    pub users: u32,
    /// Blocks that were freed by transactions which are not durable yet, or wait to be discarded.
    pub frees_pending: u32,
    /// Nothing became free since the last trim began.
    pub trim_is_whole: bool,
    /// Used since the last look for a group to unload.
    pub recent: bool,
    /// First block of each window, its end, and for whom it is.
    windows: BTreeMap<u32, (u32, InodeNo)>,
}

impl Loaded {
    /// A group as it was just read.
    #[must_use]
    pub fn new(header: RgrpHeader, avail: Avail) -> Self {
        Self {
            header,
            avail,
            generation_next: header.igeneration,
            users: 0,
            frees_pending: 0,
            trim_is_whole: false,
            recent: true,
            windows: BTreeMap::new(),
        }
    }

    /// Nothing may be allocated here.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.header.flags & FLAG_NOALLOC != 0
    }

    /// The window of somebody else that `index` lies in.
    fn foreign_window(&self, index: u32, owner: InodeNo) -> Option<u32> {
        let (_, (end, holder)) = self.windows.range(..=index).next_back()?;
        (*end > index && *holder != owner).then_some(*end)
    }

    /// Length of the free run at `index` up to `want` blocks, which ends where somebody else's window starts.
    fn run_at(&self, index: u32, want: u32, owner: InodeNo, windows: bool) -> u32 {
        let run = self.avail.run(index, want);
        if !windows {
            return run;
        }
        let limit = self
            .windows
            .range(index..index.saturating_add(run))
            .find(|(_, (_, holder))| *holder != owner)
            .map_or(run, |(start, _)| start - index);
        run.min(limit)
    }

    /// Finds up to `want` free blocks in a row for `owner`: at `goal` if that is free, else the first run that is long
    /// enough, else the longest. With `windows`, what is kept for others is left alone.
    #[must_use]
    pub fn find(&self, goal: u32, want: u32, owner: InodeNo, windows: bool) -> Option<(u32, u32)> {
        if self.avail.count() == 0 || self.is_closed() {
            return None;
        }
        let mut best: Option<(u32, u32)> = None;
        // Twice: from the goal to the end, then from the start to the goal.
        for (from, to) in [(goal, u32::MAX), (0, goal)] {
            let mut at = from;
            while let Some(index) = self.avail.next(at).filter(|index| *index < to) {
                if windows && let Some(end) = self.foreign_window(index, owner) {
                    at = end;
                    continue;
                }
                let run = self.run_at(index, want, owner, windows);
                if run >= want || index == goal {
                    return Some((index, run));
                }
                if best.is_none_or(|(_, len)| run > len) {
                    best = Some((index, run));
                }
                at = index + run.max(1);
            }
        }
        best.filter(|(_, len)| *len > 0)
    }

    /// Takes a run out of what is available, and keeps the blocks behind it for `owner`.
    pub fn take(&mut self, index: u32, len: u32, owner: InodeNo, window: bool) {
        for taken in index..index + len {
            self.avail.remove(taken);
        }
        self.windows.retain(|_, (_, holder)| *holder != owner);
        // A bound on the memory for windows: the oldest knowledge is not worth more than this.
        if self.windows.len() > 256 {
            self.windows.clear();
        }
        let start = index + len;
        if window && self.foreign_window(start, owner).is_none() {
            let ahead = self.run_at(start, WINDOW_BLOCKS, owner, true);
            if ahead > 0 {
                self.windows.insert(start, (start + ahead, owner));
            }
        }
    }

    /// A generation number for a new inode of this group. Zero is not used.
    pub fn next_generation(&mut self) -> u64 {
        if self.generation_next == 0 {
            self.generation_next = 1;
        }
        let generation = self.generation_next;
        self.generation_next = generation.wrapping_add(1);
        generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(free: std::ops::Range<u32>) -> Loaded {
        let mut avail = Avail::none(1000);
        free.for_each(|index| avail.insert(index));
        Loaded::new(RgrpHeader { flags: 0, free: 0, dinodes: 0, igeneration: 0 }, avail)
    }

    #[test]
    fn two_files_that_grow_side_by_side_stay_contiguous() {
        let (a, b) = (InodeNo::new(5).unwrap(), InodeNo::new(6).unwrap());
        let mut group = group(0..1000);
        let mut goals = [(a, 0), (b, 0)];
        let mut breaks = 0;
        for _ in 0..32 {
            for (owner, goal) in &mut goals {
                let (index, len) = group.find(*goal, 1, *owner, true).unwrap();
                group.take(index, len, *owner, true);
                breaks += u32::from(index != *goal);
                *goal = index + len;
            }
        }
        assert!(breaks <= 2, "{breaks} breaks");
    }

    #[test]
    fn windows_give_way_when_nothing_else_is_left() {
        let (a, b) = (InodeNo::new(5).unwrap(), InodeNo::new(6).unwrap());
        let mut group = group(0..20);
        group.take(0, 1, a, true);
        assert_eq!(group.find(0, 1, b, true), None);
        assert_eq!(group.find(0, 1, b, false), Some((1, 1)));
    }
}
