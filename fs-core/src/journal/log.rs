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
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;

use super::change::Running;
use super::extents::JournalMap;
use super::flush::Header;
use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::rgrps::{BitRun, Rgrps};
use crate::blocks::BlockImage;
use crate::cache::Cache;
use crate::disk::Disk;
use crate::env::Env;
use crate::error::FsError;
use crate::format::block_size::BlockSize;
use crate::format::log::StatfsDelta;

/// Blocks of the log that stay free for headers.
pub(super) const SLACK_BLOCKS: usize = 8;
/// Blocks that one checkpoint writes at most before it lets others in.
pub(super) const CHECKPOINT_BLOCKS_MAX: usize = 4096;
/// Blocks of file data that are written at once before others get a turn.
pub(super) const DATA_BLOCKS_MAX: usize = 4096;

/// A block whose committed image has to be written in place.
pub(super) struct Due {
    pub(super) image: BlockImage,
    pub(super) flush: u64,
}

/// A flush that is in the log and still has blocks to be written in place.
pub(super) struct Flushed {
    pub(super) number: u64,
    pub(super) start: u32,
    pub(super) remaining: usize,
}

pub(super) struct State {
    pub(super) running: Running,
    /// Number of the transaction that is being flushed, with the inodes in it.
    pub(super) sealed: Option<(u64, BTreeSet<InodeNo>)>,
    pub(super) due: BTreeMap<BlockAddr, Due>,
    pub(super) flushed: VecDeque<Flushed>,
    /// Dirty file data; the content is in the cache.
    pub(super) dirty: HashMap<InodeNo, BTreeSet<BlockAddr>>,
    pub(super) dirty_count: usize,
    /// Changes of the counters that are not in the statfs file.
    pub(super) local: StatfsDelta,
    /// Where the next log block goes.
    pub(super) next: u32,
    pub(super) sequence: u64,
    /// Tail of the last durable header: the log from here to `next` is in use.
    pub(super) tail: u32,
    /// Everything from here on is in use once the next header is durable.
    pub(super) tail_next: u32,
    /// The log ends with a header that says clean.
    pub(super) clean: bool,
    /// Operations in the queue for room.
    pub(super) queued: usize,
    /// Blocks that were freed for good, and wait to be discarded before they can be had again.
    pub(super) to_discard: Vec<BitRun>,
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
    pub(super) disk: Arc<Disk>,
    pub(super) cache: Arc<Cache>,
    pub(super) rgrps: Arc<Rgrps>,
    pub(super) env: Arc<dyn Env>,
    pub(super) map: JournalMap,
    pub(super) statfs_change: InodeNo,
    pub(super) quota_change: InodeNo,
    pub(super) state: Mutex<State>,
    pub(super) flushing: tokio::sync::Mutex<()>,
    pub(super) checkpointing: tokio::sync::Mutex<()>,
    pub(super) writing_data: tokio::sync::Mutex<()>,
    /// The queue of those who need room in the log.
    pub(super) room: tokio::sync::Mutex<()>,
    /// Number of the last transaction that is durable.
    pub(super) durable: AtomicU64,
    /// Counts completed writes of file data, and how many of them a flush of the device has covered.
    pub(super) data_written: AtomicU64,
    pub(super) data_flushed: AtomicU64,
    /// Freed blocks are discarded.
    pub(super) discards: AtomicBool,
    /// Held by whoever discards.
    pub(super) discarding: tokio::sync::Mutex<()>,
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
            to_discard: Vec::new(),
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
            discards: AtomicBool::new(false),
            discarding: tokio::sync::Mutex::new(()),
            pressure: tokio::sync::Notify::new(),
        }
    }

    pub(super) fn block_size(&self) -> BlockSize {
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
        !state.running.freed.is_empty() || state.sealed.is_some() || !state.to_discard.is_empty()
    }

    pub(super) fn has_work(&self, state: &State) -> bool {
        state.dirty_count > DATA_BLOCKS_MAX || self.log_is_half_full(state)
    }

    pub(super) fn log_is_half_full(&self, state: &State) -> bool {
        self.map.distance(state.tail, state.next) > self.map.blocks() / 2
    }

    /// Work that can be done ahead of need: writes file data and checkpoints while much is dirty, and discards.
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
        if !self.state.lock().to_discard.is_empty() {
            self.discard_freed().await?;
        }
        Ok(())
    }

    /// The last header says clean, and shall be followed by one that says so once more when the journal is closed.
    pub fn write_clean_header(&self) {
        self.state.lock().clean = false;
    }

    /// Everything in its place, and a header that says so.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn close(&self) -> Result<(), FsError> {
        loop {
            self.sync().await?;
            if !mistake!(CleanTooEarly) {
                self.checkpoint_all().await?;
            }
            self.write_log(Header::Clean, 0).await?;
            if self.state.lock().clean {
                return self.discard_freed().await;
            }
        }
    }
}

/// One block less of flush `number` has to be written in place.
pub(super) fn less_remaining(flushed: &mut VecDeque<Flushed>, number: u64) {
    if let Ok(index) = flushed.binary_search_by_key(&number, |flushed| flushed.number)
        && let Some(flushed) = flushed.get_mut(index)
    {
        flushed.remaining = flushed.remaining.saturating_sub(1);
    }
}
