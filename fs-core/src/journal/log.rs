//! The running log of this node: operations join a transaction, a flush makes it durable, a checkpoint writes its
//! blocks in place and moves the tail.
//!
//! Laws
//! * A block is written in place only after the header that commits its image is durable; and only that image, never
//!   what a later transaction has made of it meanwhile.
//! * Log space is used again only after a durable header has moved the tail past it.
//! * A freed block is handed out again only when the transaction that freed it is durable, and no older write to it is
//!   still under way.
//! * Data is on disk before the transaction that makes it part of a file, be it by a pointer or by a size.
//! * One flush at a time, one checkpoint at a time, one writer of file data at a time: so no two writes of one block
//!   are ever in flight together.
//!
//! Nobody has to call anything in the background for correctness: whoever needs room or durability makes it. Who needs
//! room queues up, and who comes later does not overtake: so the first in the queue gets the whole log if need be.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::device::{Durability, IoBuf};
use parking_lot::Mutex;

use super::change::{Change, LogClass, Running};
use super::encode::{self, Encoder, LogImage};
use super::extents::JournalMap;
use super::owner::{Owner, OwnerKind};
use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::rgrps::{BitRun, Rgrps};
use crate::blocks::BlockImage;
use crate::cache::{AddrMap, Cache};
use crate::disk::Disk;
use crate::env::Env;
use crate::error::FsError;
use crate::format::block_size::BlockSize;
use crate::format::log::{self, NewHeader, StatfsDelta};
use crate::format::{dinode, meta, system_files};

/// Blocks of the log that stay free for headers.
const SLACK_BLOCKS: usize = 8;
/// Blocks that one checkpoint writes at most before it lets others in.
const CHECKPOINT_BLOCKS_MAX: usize = 4096;
/// Blocks of file data that are written at once before others get a turn.
const DATA_BLOCKS_MAX: usize = 4096;

/// A block whose committed image has to be written in place.
struct Due {
    image: BlockImage,
    flush: u64,
}

/// A flush that is in the log and still has blocks to be written in place.
struct Flushed {
    number: u64,
    start: u32,
    remaining: usize,
}

struct State {
    running: Running,
    /// Number of the transaction that is being flushed, with the inodes in it.
    sealed: Option<(u64, BTreeSet<InodeNo>)>,
    due: BTreeMap<BlockAddr, Due>,
    flushed: VecDeque<Flushed>,
    /// Dirty file data; the content is in the cache.
    dirty: HashMap<InodeNo, BTreeSet<BlockAddr>>,
    dirty_count: usize,
    /// Changes of the counters that are not in the statfs file.
    local: StatfsDelta,
    /// Where the next log block goes.
    next: u32,
    sequence: u64,
    /// Tail of the last durable header: the log from here to `next` is in use.
    tail: u32,
    /// Everything from here on is in use once the next header is durable.
    tail_next: u32,
    /// The log ends with a header that says clean.
    clean: bool,
    /// Operations in the queue for room.
    queued: usize,
}

/// Where a journal was found to end.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Position of the last header.
    pub head: u32,
    /// Its sequence number.
    pub sequence: u64,
    /// Counters of this node that are not in the statfs file.
    pub local: StatfsDelta,
}

/// The journal of this node.
pub struct Journal {
    disk: Arc<Disk>,
    cache: Arc<Cache>,
    rgrps: Arc<Rgrps>,
    env: Arc<dyn Env>,
    map: JournalMap,
    statfs_change: InodeNo,
    quota_change: InodeNo,
    state: Mutex<State>,
    flushing: tokio::sync::Mutex<()>,
    checkpointing: tokio::sync::Mutex<()>,
    writing_data: tokio::sync::Mutex<()>,
    /// The queue of those who need room in the log.
    room: tokio::sync::Mutex<()>,
    /// Number of the last transaction that is durable.
    durable: AtomicU64,
    /// Counts completed writes of file data, and how many of them a flush of the device has covered.
    data_written: AtomicU64,
    data_flushed: AtomicU64,
    /// Rung when [`Journal::work_ahead`] has something to do.
    pub pressure: tokio::sync::Notify,
}

/// System files of this node that the log speaks of.
#[derive(Debug, Clone, Copy)]
pub struct NodeFiles {
    /// The node's statfs_change dinode; it is pinned in the cache.
    pub statfs_change: InodeNo,
    /// The node's quota_change dinode.
    pub quota_change: InodeNo,
}

/// Why a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Commits a transaction, if there is one.
    IfNeeded,
    /// Moves the tail, also without a transaction.
    Tail,
    /// Says that the journal is clean.
    Clean,
}

impl Journal {
    /// Continues the journal at `start`.
    #[must_use]
    pub fn new(
        disk: Arc<Disk>,
        cache: Arc<Cache>,
        rgrps: Arc<Rgrps>,
        env: Arc<dyn Env>,
        map: JournalMap,
        files: NodeFiles,
        start: Start,
    ) -> Self {
        let next = map.advance(start.head, 1);
        let state = State {
            running: Running::next(1),
            sealed: None,
            due: BTreeMap::new(),
            flushed: VecDeque::new(),
            dirty: HashMap::new(),
            dirty_count: 0,
            local: start.local,
            next,
            sequence: start.sequence,
            tail: start.head,
            tail_next: start.head,
            clean: true,
            queued: 0,
        };
        Self {
            disk,
            cache,
            rgrps,
            env,
            map,
            statfs_change: files.statfs_change,
            quota_change: files.quota_change,
            state: Mutex::new(state),
            flushing: tokio::sync::Mutex::new(()),
            checkpointing: tokio::sync::Mutex::new(()),
            writing_data: tokio::sync::Mutex::new(()),
            room: tokio::sync::Mutex::new(()),
            durable: AtomicU64::new(0),
            data_written: AtomicU64::new(0),
            data_flushed: AtomicU64::new(0),
            pressure: tokio::sync::Notify::new(),
        }
    }

    fn block_size(&self) -> BlockSize {
        self.disk.block_size()
    }

    /// Counters of this node that are not in the statfs file.
    #[must_use]
    pub fn local(&self) -> StatfsDelta {
        self.state.lock().local
    }

    /// Blocks were freed by transactions that are not durable yet: a flush would make them available.
    #[must_use]
    pub fn has_pending_frees(&self) -> bool {
        let state = self.state.lock();
        !state.running.freed.is_empty() || state.sealed.is_some()
    }

    // ---- Transactions ----

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
        let blocks_new = change.blocks.keys().filter(fresh).count() + rgrp_blocks.iter().filter(fresh).count();
        let jdata = state.running.jdata_count + jdata_new;
        // One more for the node's statfs_change file.
        let metadata = state.running.blocks.len() + blocks_new + 1 - jdata;
        let revokes = state.running.revokes.len() + change.revokes.len();
        let needed = encode::blocks_needed(self.block_size(), metadata, jdata, revokes);
        let size = self.map.blocks() as usize;
        let free = size - self.map.distance(state.tail, state.next) as usize;
        needed + SLACK_BLOCKS <= free && (state.running.is_empty() || needed <= size / 5 * 2)
    }

    fn apply(&self, state: &mut State, change: Change) -> Result<u64, FsError> {
        self.rgrps.apply(&change.bits)?;
        for addr in self.rgrps.blocks_of(&change.bits) {
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
        if change.delta != StatfsDelta::default() {
            state.local.total = state.local.total.wrapping_add(change.delta.total);
            state.local.free = state.local.free.wrapping_add(change.delta.free);
            state.local.dinodes = state.local.dinodes.wrapping_add(change.delta.dinodes);
            state.running.counted = true;
        }
        state.running.inodes.extend(change.inodes);
        Ok(state.running.number)
    }

    async fn make_room(&self, thorough: bool) -> Result<(), FsError> {
        let number = self.state.lock().running.number;
        self.flush(number).await?;
        if thorough {
            self.checkpoint_all().await?;
            self.write_log(Header::Tail, 0).await?;
        }
        Ok(())
    }

    /// Writes everything that waits to be written.
    async fn relieve(&self) -> Result<(), FsError> {
        self.write_data(None).await?;
        self.make_room(false).await?;
        self.checkpoint_all().await
    }

    // ---- Flush ----

    /// Makes transactions up to `number` durable.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn flush(&self, number: u64) -> Result<(), FsError> {
        if self.durable.load(Ordering::Acquire) >= number {
            return self.disk.health.check();
        }
        self.write_log(Header::IfNeeded, number).await
    }

    /// Makes durable everything that was applied before the call, file data included.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn sync(&self) -> Result<(), FsError> {
        self.write_data(None).await?;
        let number = self.state.lock().running.number;
        self.flush(number).await?;
        self.flush_data().await
    }

    /// Makes one inode durable: its data, and the transactions that changed it.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn sync_inode(&self, ino: InodeNo) -> Result<(), FsError> {
        self.write_data(Some(ino)).await?;
        let number = {
            let state = self.state.lock();
            if state.running.inodes.contains(&ino) {
                state.running.number
            } else {
                state.sealed.as_ref().filter(|(_, inodes)| inodes.contains(&ino)).map_or(0, |(number, _)| *number)
            }
        };
        self.flush(number).await?;
        self.flush_data().await
    }

    /// One turn at the log: seals the running transaction, writes the data that it orders, its blocks, and the header.
    async fn write_log(&self, header: Header, number: u64) -> Result<(), FsError> {
        let _turn = self.flushing.lock().await;
        if header == Header::IfNeeded && self.durable.load(Ordering::Acquire) >= number {
            return self.disk.health.check();
        }
        self.disk.health.check()?;
        // Held until the ordered data is written, so that no other writer has older data of it in flight.
        let data_turn = self.writing_data.lock().await;
        let Some(sealed) = self.seal(header) else {
            return Ok(());
        };
        self.disk.write_sorted(&sealed.ordered).await?;
        self.data_is_written(&sealed.ordered_inodes, &sealed.ordered);
        drop(data_turn);
        self.write_sealed(&sealed).await?;
        self.complete(sealed).await;
        Ok(())
    }

    /// Takes the running transaction out, with images of all its blocks, and finds it a place in the log. `None`: there
    /// is nothing to write.
    fn seal(&self, header: Header) -> Option<Sealed> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let nothing = state.running.is_empty();
        let needless = match header {
            Header::IfNeeded => nothing,
            Header::Tail => nothing && state.tail == state.tail_next,
            Header::Clean => nothing && state.clean,
        };
        if needless {
            // What was asked for is durable: the running transaction is empty.
            return None;
        }
        if state.running.counted {
            self.put_local(state);
        }
        let number = state.running.number;
        let running = std::mem::replace(&mut state.running, Running::next(number + 1));
        let (mut metadata, mut jdata) = (Vec::new(), Vec::new());
        for (addr, (owner, class)) in &running.blocks {
            let jid = self.map.jid();
            let image = self.cache.change(*addr, false, |block| {
                if *class == LogClass::Metadata {
                    meta::seal(*addr, block, jid, self.disk.next_version());
                }
            });
            let Some(image) = image else { continue };
            let target = if *class == LogClass::Metadata { &mut metadata } else { &mut jdata };
            target.push(LogImage { addr: *addr, image, owner: *owner });
        }
        let revokes: Vec<BlockAddr> = running.revokes.iter().copied().collect();
        let ordered_inodes: AddrMap<BlockAddr, InodeNo> = running
            .ordered
            .iter()
            .filter(|(ino, addr)| state.dirty.get(ino).is_some_and(|dirty| dirty.contains(addr)))
            .map(|(ino, addr)| (*addr, *ino))
            .collect();
        let mut ordered: Vec<(BlockAddr, BlockImage)> = running
            .ordered
            .iter()
            .filter(|(_, addr)| ordered_inodes.contains_key(addr))
            .filter_map(|(_, addr)| Some((*addr, self.cache.get(*addr)?)))
            .collect();
        ordered.sort_unstable_by_key(|(addr, _)| *addr);
        ordered.dedup_by_key(|(addr, _)| *addr);

        let blocks = encode::blocks_needed(self.block_size(), metadata.len(), jdata.len(), revokes.len());
        let start = state.next;
        let header_position = self.map.advance(start, u32::try_from(blocks).unwrap_or(u32::MAX));
        state.next = self.map.advance(header_position, 1);
        state.sequence += 1;
        if state.flushed.is_empty() && metadata.is_empty() && jdata.is_empty() {
            state.tail_next = header_position;
        } else if state.flushed.is_empty() {
            state.tail_next = start;
        }
        state.sealed = Some((number, running.inodes));
        // Whatever came in meanwhile keeps the journal dirty.
        state.clean = header == Header::Clean && blocks == 0 && state.flushed.is_empty();
        Some(Sealed {
            number,
            metadata,
            jdata,
            revokes,
            freed: running.freed,
            ordered,
            ordered_inodes,
            start,
            header_position,
            sequence: state.sequence,
            tail: state.tail_next,
            local: state.local,
            clean: state.clean,
        })
    }

    /// Brings the node's statfs_change file up to date, as part of the running transaction.
    fn put_local(&self, state: &mut State) {
        let addr = self.statfs_change.addr();
        let bytes = system_files::RawStatfs::new(state.local);
        let owner = Owner::new(OwnerKind::INODE, addr);
        let fresh = state.running.blocks.insert(addr, (owner, LogClass::Metadata)).is_none();
        self.cache.change(addr, fresh, |block| {
            if let Some(to) = block.get_mut(dinode::HEADER_BYTES..dinode::HEADER_BYTES + 24) {
                to.copy_from_slice(zerocopy::IntoBytes::as_bytes(&bytes));
            }
        });
    }

    /// Writes a sealed transaction and the header that commits it.
    async fn write_sealed(&self, sealed: &Sealed) -> Result<(), FsError> {
        let encoder = Encoder::new(self.map.jid(), self.block_size(), &sealed.metadata, &sealed.jdata, &sealed.revokes);
        let count = encoder.block_count();
        let piece = (crate::disk::TRANSFER_BYTES_MAX / self.block_size().bytes()).max(1);
        let mut done = 0;
        while done < count {
            let take = piece.min(count - done);
            let position = self.map.advance(sealed.start, u32::try_from(done).unwrap_or(0));
            let mut at = done;
            for run in self.map.runs(position, u32::try_from(take).unwrap_or(0)) {
                let mut buf = IoBuf::with_capacity(run.count as usize * self.block_size().bytes());
                encoder.append(at..at + run.count as usize, &mut buf);
                self.disk.write(run.addr, buf, Durability::Cached).await?;
                at += run.count as usize;
            }
            done += take;
        }
        // Blocks, and the data that they order, before the header.
        let written = self.data_written.load(Ordering::Acquire);
        self.disk.flush().await?;
        self.data_flushed.fetch_max(written, Ordering::AcqRel);
        self.write_header(sealed).await
    }

    async fn write_header(&self, sealed: &Sealed) -> Result<(), FsError> {
        let position = sealed.header_position;
        let Some(addr) = self.map.addr(position) else {
            return Err(FsError::Invalid("log position outside the journal"));
        };
        let flags =
            if sealed.clean { log::flags::UNMOUNT | log::flags::FLUSH_SHUTDOWN } else { log::flags::FLUSH_NORMAL };
        let mut block = IoBuf::zeroed(self.block_size().bytes());
        let write = if self.disk.checksums() { log::write_header } else { log::write_header_unstamped };
        write(
            &mut block,
            &NewHeader {
                jid: self.map.jid(),
                sequence: sealed.sequence,
                flags,
                tail: sealed.tail,
                blkno: position,
                addr: addr.0,
                time: self.env.now(),
                jinode: self.map.inode().get(),
                statfs_addr: self.statfs_change.get(),
                quota_addr: self.quota_change.get(),
                local: sealed.local,
                stamp_flags: 0,
            },
        );
        self.disk.write(addr, block, Durability::Durable).await
    }

    /// The header is durable: the images may go to their places, the freed blocks to others.
    async fn complete(&self, sealed: Sealed) {
        // A checkpoint under way may be writing a block that was freed: its write must end before the block is reused.
        let checkpoint = if sealed.freed.is_empty() { None } else { Some(self.checkpointing.lock().await) };
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut remaining = 0;
        for image in sealed.metadata.into_iter().chain(sealed.jdata) {
            let due = Due { image: image.image, flush: sealed.number };
            if let Some(old) = state.due.insert(image.addr, due) {
                self.cache.unpin(image.addr);
                less_remaining(&mut state.flushed, old.flush);
            }
            remaining += 1;
        }
        if remaining > 0 {
            state.flushed.push_back(Flushed { number: sealed.number, start: sealed.start, remaining });
        }
        for addr in &sealed.revokes {
            if let Some(old) = state.due.remove(addr) {
                self.cache.unpin(*addr);
                less_remaining(&mut state.flushed, old.flush);
            }
        }
        state.tail = sealed.tail;
        self.move_tail(state, sealed.header_position);
        state.sealed = None;
        self.durable.store(sealed.number, Ordering::Release);
        self.rgrps.release(&sealed.freed);
        drop(checkpoint);
    }

    /// Forgets flushes that have nothing left to be written in place. `head` is the last header.
    fn move_tail(&self, state: &mut State, head: u32) {
        while state.flushed.front().is_some_and(|flushed| flushed.remaining == 0) {
            state.flushed.pop_front();
        }
        state.tail_next = state.flushed.front().map_or(head, |flushed| flushed.start);
    }

    // ---- Checkpoint ----

    /// Writes committed images in place, oldest flushes first, as many as one turn allows. Returns whether there are
    /// more.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn checkpoint(&self) -> Result<bool, FsError> {
        let _turn = self.checkpointing.lock().await;
        let (batch, more) = {
            let state = self.state.lock();
            let mut numbers = state.flushed.iter().map(|flushed| (flushed.number, flushed.remaining));
            let (mut upto, mut count) = (0, 0);
            for (number, remaining) in numbers.by_ref() {
                upto = number;
                count += remaining;
                if count >= CHECKPOINT_BLOCKS_MAX {
                    break;
                }
            }
            let batch: Vec<(BlockAddr, BlockImage, u64)> = state
                .due
                .iter()
                .filter(|(_, due)| due.flush <= upto)
                .map(|(addr, due)| (*addr, Arc::clone(&due.image), due.flush))
                .collect();
            (batch, numbers.next().is_some())
        };
        if batch.is_empty() {
            return Ok(false);
        }
        let blocks: Vec<(BlockAddr, BlockImage)> =
            batch.iter().map(|(addr, image, _)| (*addr, Arc::clone(image))).collect();
        self.disk.write_sorted(&blocks).await?;
        self.disk.flush().await?;
        let mut state = self.state.lock();
        let state = &mut *state;
        for (addr, _, flush) in batch {
            if state.due.get(&addr).is_some_and(|due| due.flush == flush) {
                state.due.remove(&addr);
                self.cache.unpin(addr);
                less_remaining(&mut state.flushed, flush);
            }
        }
        if state.sealed.is_none() {
            // While a flush is under way its header has its tail already; the next one moves it on.
            let head = self.map.advance(state.next, self.map.blocks() - 1);
            self.move_tail(state, head);
        }
        Ok(more)
    }

    async fn checkpoint_all(&self) -> Result<(), FsError> {
        while self.checkpoint().await? {}
        Ok(())
    }

    // ---- File data ----

    /// Writes the data of one inode, or of all, that is dirty now to its place. It is durable after
    /// [`Journal::flush_data`].
    async fn write_data(&self, only: Option<InodeNo>) -> Result<(), FsError> {
        let mut todo: Vec<(BlockAddr, InodeNo)> = {
            let state = self.state.lock();
            let of = |ino: InodeNo, addrs: &BTreeSet<BlockAddr>| -> Vec<_> {
                addrs.iter().map(|addr| (*addr, ino)).collect()
            };
            match only {
                Some(ino) => state.dirty.get(&ino).map(|addrs| of(ino, addrs)).unwrap_or_default(),
                None => state.dirty.iter().flat_map(|(ino, addrs)| of(*ino, addrs)).collect(),
            }
        };
        todo.sort_unstable();
        for piece in todo.chunks(DATA_BLOCKS_MAX) {
            let _turn = self.writing_data.lock().await;
            let blocks: Vec<(BlockAddr, BlockImage)> = {
                let state = self.state.lock();
                piece
                    .iter()
                    .filter(|(addr, ino)| state.dirty.get(ino).is_some_and(|dirty| dirty.contains(addr)))
                    .filter_map(|(addr, _)| Some((*addr, self.cache.get(*addr)?)))
                    .collect()
            };
            self.disk.write_sorted(&blocks).await?;
            self.data_is_written(&piece.iter().copied().collect(), &blocks);
        }
        Ok(())
    }

    /// Blocks that still hold what was written are clean now.
    fn data_is_written(&self, inodes: &AddrMap<BlockAddr, InodeNo>, blocks: &[(BlockAddr, BlockImage)]) {
        if blocks.is_empty() {
            return;
        }
        // First of all: who finds a block clean has to know that a flush may be due for it.
        self.data_written.fetch_add(1, Ordering::AcqRel);
        let mut state = self.state.lock();
        for (addr, written) in blocks {
            let unchanged = self.cache.get(*addr).is_some_and(|image| Arc::ptr_eq(&image, written));
            if let Some(ino) = inodes.get(addr).filter(|_| unchanged)
                && let Some(dirty) = state.dirty.get_mut(ino)
                && dirty.remove(addr)
            {
                if dirty.is_empty() {
                    state.dirty.remove(ino);
                }
                state.dirty_count -= 1;
                self.cache.unpin(*addr);
            }
        }
    }

    /// Makes written file data durable, unless a flush of the device has done so meanwhile.
    async fn flush_data(&self) -> Result<(), FsError> {
        let written = self.data_written.load(Ordering::Acquire);
        if self.data_flushed.load(Ordering::Acquire) < written {
            self.disk.flush().await?;
            self.data_flushed.fetch_max(written, Ordering::AcqRel);
        }
        Ok(())
    }

    // ---- Housekeeping ----

    fn has_work(&self, state: &State) -> bool {
        state.dirty_count > DATA_BLOCKS_MAX || self.log_is_half_full(state)
    }

    fn log_is_half_full(&self, state: &State) -> bool {
        self.map.distance(state.tail, state.next) > self.map.blocks() / 2
    }

    /// Work that can be done ahead of need: writes file data and checkpoints while much is dirty.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn work_ahead(&self) -> Result<(), FsError> {
        if self.state.lock().dirty_count > DATA_BLOCKS_MAX {
            self.write_data(None).await?;
        }
        if self.log_is_half_full(&self.state.lock()) {
            self.checkpoint_all().await?;
        }
        Ok(())
    }

    /// Everything in its place, and a header that says so.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn close(&self) -> Result<(), FsError> {
        loop {
            self.sync().await?;
            self.checkpoint_all().await?;
            self.write_log(Header::Clean, 0).await?;
            if self.state.lock().clean {
                return Ok(());
            }
        }
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

/// A transaction on its way to the disk.
struct Sealed {
    number: u64,
    metadata: Vec<LogImage>,
    jdata: Vec<LogImage>,
    revokes: Vec<BlockAddr>,
    freed: Vec<BitRun>,
    ordered: Vec<(BlockAddr, BlockImage)>,
    ordered_inodes: AddrMap<BlockAddr, InodeNo>,
    start: u32,
    header_position: u32,
    sequence: u64,
    tail: u32,
    local: StatfsDelta,
    clean: bool,
}

fn less_remaining(flushed: &mut VecDeque<Flushed>, number: u64) {
    if let Ok(index) = flushed.binary_search_by_key(&number, |flushed| flushed.number)
        && let Some(flushed) = flushed.get_mut(index)
    {
        flushed.remaining = flushed.remaining.saturating_sub(1);
    }
}

fn rgrp_owner(rgrps: &Rgrps, addr: BlockAddr) -> Owner {
    let header = rgrps.place(rgrps.near(addr)).map_or(addr, |place| place.addr);
    Owner::new(OwnerKind::RGRP, header)
}
