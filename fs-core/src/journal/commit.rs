//! Joining the running transaction: room in the log first, then all changes in one step.

use std::collections::BTreeSet;

use super::change::{Change, LogClass};
use super::encode;
use super::flush::Header;
use super::log::{Journal, SLACK_BLOCKS, State};
use super::owner::{Owner, OwnerKind};
use crate::addr::BlockAddr;
use crate::alloc::rgrps::Rgrps;
use crate::error::FsError;
use crate::format::log::StatfsDelta;

impl Journal {
    /// Applies `change`, all of it or nothing. On return everybody sees it; it is durable after [`Journal::flush`] up
    /// to the number that is returned.
    ///
    /// # Errors
    /// `Withdrawn`, device errors while room is made; `Corrupt` if the bitmaps contradict the change, which withdraws
    /// the node.
    pub async fn commit(&self, mut change: Change) -> Result<u64, FsError> {
        if self.is_loaded() {
            self.relieve().await?;
        }
        if let Some(number) = self.try_apply(&mut change, false)? {
            return Ok(number);
        }
        let _place = Queued::at_the_end_of(self);
        let _turn = self.room.lock().await;
        // As it is, after emptying the running transaction, and after emptying the log, which nobody fills meanwhile.
        for attempt in 0..3 {
            if attempt > 0 {
                self.make_room(attempt > 1).await?;
            }
            if let Some(number) = self.try_apply(&mut change, true)? {
                return Ok(number);
            }
        }
        Err(FsError::Unsupported("one operation that needs more room than the journal has"))
    }

    /// Applies `change`, which is empty then, if there is room, and nobody in the queue whom that would overtake.
    fn try_apply(&self, change: &mut Change, first_in_queue: bool) -> Result<Option<u64>, FsError> {
        self.disk.health.check()?;
        let mut state = self.state.lock();
        if (state.queued > 0 && !first_in_queue) || !self.has_room(&state, change) {
            return Ok(None);
        }
        let change = std::mem::take(change);
        let number = self.apply(&mut state, change).inspect_err(|error| self.disk.health.withdraw(error))?;
        if self.has_work(&state) {
            self.pressure.notify_one();
        }
        Ok(Some(number))
    }

    /// More than half of the cache waits to be written.
    fn is_loaded(&self) -> bool {
        let state = self.state.lock();
        state.dirty_count + state.due.len() + state.running.blocks.len() > self.cache.limit_blocks() / 2
    }

    /// The running transaction and `change` together fit into the log, and into a sensible flush.
    fn has_room(&self, state: &State, change: &Change) -> bool {
        let rgrp_blocks = self.rgrps.blocks_of(&change.bits);
        let fresh = |addr: &&BlockAddr| !state.running.blocks.contains_key(addr);
        let jdata_new = change
            .blocks
            .iter()
            .filter(|(addr, block)| block.class == LogClass::Jdata && !state.running.blocks.contains_key(addr))
            .count();
        let slot_blocks: BTreeSet<BlockAddr> = change.quota.iter().map(|slot| slot.addr).collect();
        let blocks_new = change.blocks.keys().filter(fresh).count()
            + rgrp_blocks.iter().filter(fresh).count()
            + slot_blocks.iter().filter(fresh).count()
            + change.trimmed.len();
        let jdata = state.running.jdata_count + jdata_new;
        // One more for the node's statfs_change file.
        let metadata = state.running.blocks.len() + blocks_new + 1 - jdata;
        let revokes = state.running.revokes.len() + change.revokes.len();
        let needed = encode::blocks_needed(self.block_size(), metadata, jdata, revokes);
        let size = self.map.blocks() as usize;
        let used = if mistake!(LogOverwritten) { 0 } else { self.map.distance(state.tail, state.next) as usize };
        let free = size - used;
        needed + SLACK_BLOCKS <= free && (state.running.is_empty() || needed <= size / 5 * 2)
    }

    fn apply(&self, state: &mut State, change: Change) -> Result<u64, FsError> {
        self.rgrps.apply(&change.bits)?;
        let trimmed = change.trimmed.iter().filter_map(|number| self.rgrps.mark_trimmed(*number));
        for addr in self.rgrps.blocks_of(&change.bits).into_iter().chain(trimmed) {
            if state.running.blocks.insert(addr, (rgrp_owner(&self.rgrps, addr), LogClass::Metadata)).is_none() {
                self.cache.pin(addr);
            }
        }
        for (addr, block) in change.blocks {
            let entry = state.running.blocks.insert(addr, (block.owner, block.class));
            self.cache.replace(addr, block.image, entry.is_none());
            let was_jdata = entry.is_some_and(|(_, class)| class == LogClass::Jdata);
            state.running.jdata_count += usize::from(block.class == LogClass::Jdata);
            state.running.jdata_count -= usize::from(was_jdata);
        }
        for slot in change.quota {
            let owner = Owner::new(OwnerKind::INODE, slot.file.addr());
            if state.running.blocks.insert(slot.addr, (owner, LogClass::Metadata)).is_none() {
                self.cache.pin(slot.addr);
            }
            self.cache.change(slot.addr, false, |block| slot.apply_to(block));
        }
        for addr in change.revokes {
            if let Some((_, class)) = state.running.blocks.remove(&addr) {
                state.running.jdata_count -= usize::from(class == LogClass::Jdata);
                self.cache.unpin(addr);
            }
            self.cache.forget(addr);
            state.running.revokes.insert(addr);
        }
        for (ino, addr) in change.freed_data {
            if let Some(dirty) = state.dirty.get_mut(&ino)
                && dirty.remove(&addr)
            {
                if dirty.is_empty() {
                    state.dirty.remove(&ino);
                }
                state.dirty_count -= 1;
                self.cache.unpin(addr);
            }
            self.cache.forget(addr);
        }
        for block in change.data {
            let fresh = state.dirty.entry(block.ino).or_default().insert(block.addr);
            state.dirty_count += usize::from(fresh);
            self.cache.replace(block.addr, block.image, fresh);
            if block.ordered {
                state.running.ordered.push((block.ino, block.addr));
            }
        }
        state.running.freed.extend(change.bits.iter().filter(|run| run.to == crate::format::rgrp::BlockState::Free));
        if mistake!(FreedBlockReused) {
            self.rgrps.release(&std::mem::take(&mut state.running.freed));
        }
        if change.delta != StatfsDelta::default() {
            state.local.total = state.local.total.wrapping_add(change.delta.total);
            state.local.free = state.local.free.wrapping_add(change.delta.free);
            state.local.dinodes = state.local.dinodes.wrapping_add(change.delta.dinodes);
            state.running.counted = true;
        }
        state.running.inodes.extend(change.inodes);
        Ok(state.running.number)
    }

    pub(super) async fn make_room(&self, thorough: bool) -> Result<(), FsError> {
        let number = self.state.lock().running.number;
        self.flush(number).await?;
        if thorough {
            self.checkpoint_all().await?;
            self.write_log(Header::Tail, 0).await?;
        }
        Ok(())
    }

    /// On return, nothing that was in the log before the call would be replayed after a crash: it is in its place.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn empty(&self) -> Result<(), FsError> {
        self.make_room(true).await
    }

    /// Writes everything that waits to be written.
    async fn relieve(&self) -> Result<(), FsError> {
        self.write_data(None).await?;
        self.make_room(false).await?;
        self.checkpoint_all().await
    }
}

/// A place in the queue for room.
struct Queued<'a>(&'a Journal);

impl<'a> Queued<'a> {
    fn at_the_end_of(journal: &'a Journal) -> Self {
        journal.state.lock().queued += 1;
        Self(journal)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let queued = &mut self.0.state.lock().queued;
        *queued = queued.saturating_sub(1);
    }
}

fn rgrp_owner(rgrps: &Rgrps, addr: BlockAddr) -> Owner {
    let header = rgrps.place(rgrps.near(addr)).map_or(addr, |place| place.addr);
    Owner::new(OwnerKind::RGRP, header)
}
