//! Promising free blocks to transactions under way.

use std::sync::atomic::Ordering;

use super::rgrps::{Group, Rgrps};
use crate::addr::{BlockAddr, InodeNo};
use crate::error::FsError;
use crate::glock::GlockGuard;

/// Blocks promised to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// First block.
    pub addr: BlockAddr,
    /// Number of the group.
    pub group: usize,
    /// Index of the first block in the group.
    pub index: u32,
    /// How many blocks.
    pub len: u32,
    /// Generation, for a dinode.
    pub generation: u64,
}

/// What a block is allocated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new inode.
    Dinode,
    /// Indirect blocks, leaves, hash tables.
    Metadata,
    /// File data: the blocks behind are kept for the file's next writes.
    Data,
}

impl Rgrps {
    /// Promises up to `want` blocks in a row to `owner`, near `goal`: the first of what is found there, in the groups
    /// after it, and in all others. With `dinode`, the promise has a generation number.
    ///
    /// # Errors
    /// `NoSpace` when no group has a block; errors of reading a group.
    pub async fn promise(
        &self,
        goal: BlockAddr,
        want: u32,
        owner: InodeNo,
        purpose: Purpose,
    ) -> Result<(Promise, GlockGuard<'_>), FsError> {
        for windows in [true, false] {
            for number in self.groups_with(goal, 1) {
                if let Some(found) = self.promise_in(number, goal, want, owner, purpose, windows).await? {
                    return Ok(found);
                }
            }
        }
        Err(FsError::NoSpace)
    }

    /// Promises `count` blocks of one group, not necessarily in a row.
    ///
    /// # Errors
    /// `NoSpace` when no group has as many; errors of reading a group.
    pub async fn promise_together(
        &self,
        goal: BlockAddr,
        count: u32,
        owner: InodeNo,
    ) -> Result<Vec<(Promise, GlockGuard<'_>)>, FsError> {
        for windows in [true, false] {
            for number in self.groups_with(goal, count) {
                let (mut found, mut left, mut at) = (Vec::new(), count, goal);
                let ended = loop {
                    if left == 0 {
                        return Ok(found);
                    }
                    match self.promise_in(number, at, left, owner, Purpose::Metadata, windows).await {
                        Ok(Some((promise, guard))) => {
                            left = left.saturating_sub(promise.len);
                            at = BlockAddr(promise.addr.0.saturating_add(u64::from(promise.len)));
                            found.push((promise, guard));
                        }
                        Ok(None) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                };
                found.iter().for_each(|(promise, _)| self.withdraw_promise(promise));
                ended?;
            }
        }
        Err(FsError::NoSpace)
    }

    /// Groups that may have `count` blocks available, from that of `goal` on.
    fn groups_with(&self, goal: BlockAddr, count: u32) -> impl Iterator<Item = usize> {
        let (first, len) = (self.near(goal), self.groups.len());
        let has_some = move |group: &Group| group.available.load(Ordering::Relaxed) >= count;
        (0..len)
            .map(move |step| (first + step) % len)
            .filter(move |number| self.groups.get(*number).is_some_and(has_some))
    }

    /// The same as [`Rgrps::promise`] in one group; `windows`: what is kept for others is left alone.
    async fn promise_in(
        &self,
        number: usize,
        goal: BlockAddr,
        want: u32,
        owner: InodeNo,
        purpose: Purpose,
        windows: bool,
    ) -> Result<Option<(Promise, GlockGuard<'_>)>, FsError> {
        let (group, guard) = self.enter(number).await?;
        let goal_index = group.place.index_of(goal).unwrap_or(0);
        let found = self.state(group).and_then(|mut loaded| {
            let (index, len) = loaded.find(goal_index, want.max(1), owner, windows)?;
            loaded.take(index, len, owner, purpose == Purpose::Data);
            let generation = if purpose == Purpose::Dinode { loaded.next_generation() } else { 0 };
            Some(Promise { addr: group.place.block_at(index), group: number, index, len, generation })
        });
        if found.is_none() {
            self.exit(number);
        }
        Ok(found.map(|promise| (promise, guard)))
    }

    /// Gives a promise back that was not used.
    pub fn withdraw_promise(&self, promise: &Promise) {
        if let Some(group) = self.groups.get(promise.group)
            && let Some(mut loaded) = self.state(group)
        {
            for index in promise.index..promise.index + promise.len {
                loaded.avail.insert(index);
            }
            // A trim under way may have passed them by.
            loaded.trim_is_whole = false;
        }
        self.exit(promise.group);
    }
}
