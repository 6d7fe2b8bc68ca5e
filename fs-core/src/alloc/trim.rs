//! Free blocks that are told to the device: taken out of reach while that is under way, so that nobody gets one of them
//! meanwhile.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::rgrps::Rgrps;
use crate::addr::BlockAddr;
use crate::error::FsError;
use crate::format::rgrp::{FLAG_TRIMMED, RgrpHeader};
use crate::glock::GlockGuard;

/// Lets those who have found no space look again while no free block is set apart. Nobody who has others waiting is ever
/// waited for here: a trim ends its piece without needing anything that somebody else may hold.
#[derive(Debug, Default)]
pub struct Quiet {
    state: Mutex<QuietState>,
    changed: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct QuietState {
    /// Operations that look for space.
    looking: usize,
    /// Blocks are set apart.
    apart: bool,
}

/// Ends what it stands for when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct QuietGuard<'a> {
    quiet: &'a Quiet,
    looks: bool,
}

impl Quiet {
    /// No blocks are set apart while the guard lives.
    pub async fn look(&self) -> QuietGuard<'_> {
        self.state.lock().looking += 1;
        let guard = QuietGuard { quiet: self, looks: true };
        loop {
            let changed = self.changed.notified();
            if !self.state.lock().apart {
                return guard;
            }
            changed.await;
        }
    }

    /// Blocks may be set apart, as soon as nobody looks for space.
    pub async fn set_apart(&self) -> QuietGuard<'_> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if state.looking == 0 && !state.apart {
                    state.apart = true;
                    return QuietGuard { quiet: self, looks: false };
                }
            }
            changed.await;
        }
    }
}

impl Drop for QuietGuard<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.quiet.state.lock();
            if self.looks {
                state.looking = state.looking.saturating_sub(1);
            } else {
                state.apart = false;
            }
        }
        self.quiet.changed.notify_waiters();
    }
}

/// Free blocks of one group that nobody can have for now.
#[derive(Debug, Default)]
#[must_use]
pub struct Apart {
    /// First block of each run, as an index in the group, and how many.
    pub runs: Vec<(u32, u32)>,
    /// Where the search may go on, as an index.
    pub next: u32,
}

impl Rgrps {
    /// Keeps a group in memory until [`Rgrps::end_trim`]. `None` if nothing was freed in it since it was last trimmed.
    ///
    /// # Errors
    /// Errors of reading the group.
    pub async fn begin_trim(&self, number: usize) -> Result<Option<GlockGuard<'_>>, FsError> {
        let (group, guard) = self.enter(number).await?;
        let trimmed = self.state(group).is_none_or(|mut loaded| {
            loaded.trim_is_whole = loaded.frees_pending == 0;
            loaded.header.flags & FLAG_TRIMMED != 0
        });
        if trimmed {
            self.exit(number);
            return Ok(None);
        }
        Ok(Some(guard))
    }

    /// The group may leave memory again.
    pub fn end_trim(&self, number: usize) {
        self.exit(number);
    }

    /// Takes free runs of at least `min` blocks out of reach, from index `from` up to `end`, until they are `enough`
    /// blocks. The group is in memory.
    pub fn set_apart(&self, number: usize, from: u32, end: u32, min: u32, enough: u32) -> Apart {
        let mut apart = Apart { runs: Vec::new(), next: end };
        let Some(group) = self.groups.get(number) else { return apart };
        let Some(mut loaded) = self.state(group) else { return apart };
        let (mut at, mut count) = (from, 0_u32);
        while let Some(index) = loaded.avail.next(at).filter(|index| *index < end) {
            let len = loaded.avail.run(index, end - index);
            if len >= min {
                for taken in index..index + len {
                    loaded.avail.remove(taken);
                }
                apart.runs.push((index, len));
                count = count.saturating_add(len);
            }
            at = index + len.max(1);
            if count >= enough {
                apart.next = at;
                break;
            }
        }
        apart
    }

    /// The blocks can be had again.
    pub fn put_back(&self, number: usize, apart: &Apart) {
        let Some(group) = self.groups.get(number) else { return };
        let Some(mut loaded) = self.state(group) else { return };
        for index in apart.runs.iter().flat_map(|(first, len)| *first..first + len) {
            loaded.avail.insert(index);
        }
        // Somebody may have looked while they were missing.
        group.available.store(loaded.avail.count(), Ordering::Relaxed);
    }

    /// Notes in the header, in the cache, that the group is trimmed, unless something was freed in it meanwhile. Returns
    /// the header's block if it has changed. The group is in memory.
    pub fn mark_trimmed(&self, number: usize) -> Option<BlockAddr> {
        let group = self.groups.get(number)?;
        let mut loaded = self.state(group)?;
        if !loaded.trim_is_whole {
            return None;
        }
        let header = RgrpHeader { flags: loaded.header.flags | FLAG_TRIMMED, ..loaded.header };
        loaded.header = header;
        self.cache.change(group.place.addr, false, |block| header.write_to(block))?;
        Some(group.place.addr)
    }
}
