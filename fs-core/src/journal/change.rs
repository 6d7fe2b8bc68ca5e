//! What a transaction changes, and what the running transaction has gathered.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::{FromBytes, FromZeros};

use super::owner::Owner;
use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::rgrps::BitRun;
use crate::blocks::BlockImage;
use crate::format::log::StatfsDelta;
use crate::format::system_files::RawQuotaChange;
use crate::quota::{Kind, QuotaId};

/// Where the content of a logged block belongs in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogClass {
    /// Has a metadata header.
    Metadata,
    /// Is file data without a header.
    Jdata,
}

/// One block as a transaction leaves it.
#[derive(Debug, Clone)]
pub struct ChangedBlock {
    /// Its content.
    pub image: BlockImage,
    /// The lock that covers it.
    pub owner: Owner,
    /// How it is logged.
    pub class: LogClass,
}

/// File data that goes straight to its place, not through the log.
#[derive(Debug, Clone)]
pub struct DataBlock {
    /// Whose.
    pub ino: InodeNo,
    /// Where.
    pub addr: BlockAddr,
    /// Its content.
    pub image: BlockImage,
    /// This very transaction makes the block, or some of its bytes, part of the file: until the data is on disk, the
    /// transaction must not be, or a crash would show what stood there before.
    pub ordered: bool,
}

/// An addition to a slot of a quota change file. The slot is nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotChange {
    /// The file.
    pub file: InodeNo,
    /// The block, which is pinned in the cache.
    pub addr: BlockAddr,
    /// Where the slot starts in it, in bytes.
    pub offset: usize,
    /// Whose slot.
    pub id: QuotaId,
    /// Blocks gained or lost.
    pub change: i64,
}

impl SlotChange {
    /// Adds it to the slot. One that comes to nothing is free again.
    pub(super) fn apply_to(&self, block: &mut [u8]) {
        let slot = block.get_mut(self.offset..).and_then(|rest| RawQuotaChange::mut_from_prefix(rest).ok());
        let Some((raw, _)) = slot else { return };
        let sum = raw.change.get().saturating_add(self.change);
        *raw = RawQuotaChange::new_zeroed();
        if sum != 0 {
            raw.change = sum.into();
            raw.flags = if self.id.kind == Kind::User { RawQuotaChange::USER } else { 0 }.into();
            raw.id = self.id.id.into();
        }
    }
}

/// All that one operation changes. Applied as a whole.
#[derive(Debug, Default)]
pub struct Change {
    /// Logged blocks.
    pub blocks: BTreeMap<BlockAddr, ChangedBlock>,
    /// Bits of the resource groups.
    pub bits: Vec<BitRun>,
    /// Freed blocks whose older images in the log must not be replayed any more.
    pub revokes: Vec<BlockAddr>,
    /// Freed blocks of file data.
    pub freed_data: Vec<(InodeNo, BlockAddr)>,
    /// New file data.
    pub data: Vec<DataBlock>,
    /// Numbers of resource groups that have just been trimmed.
    pub trimmed: Vec<usize>,
    /// Change of the volume's counters.
    pub delta: StatfsDelta,
    /// Changes of quotas.
    pub quota: Vec<SlotChange>,
    /// Inodes whose fsync has to wait for this.
    pub inodes: Vec<InodeNo>,
}

/// The transaction that operations join, until a flush seals it.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Rises by one with each transaction.
    pub(super) number: u64,
    /// Blocks that changed; their content is in the cache.
    pub(super) blocks: BTreeMap<BlockAddr, (Owner, LogClass)>,
    pub(super) jdata_count: usize,
    pub(super) revokes: BTreeSet<BlockAddr>,
    /// Blocks that become available when this transaction is durable.
    pub(super) freed: Vec<BitRun>,
    /// Data that has to be on disk before this transaction is.
    pub(super) ordered: Vec<(InodeNo, BlockAddr)>,
    pub(super) inodes: BTreeSet<InodeNo>,
    /// The counters have changed: the node's statfs_change file goes with it.
    pub(super) counted: bool,
}

impl Running {
    pub(super) fn next(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.revokes.is_empty() && self.freed.is_empty() && !self.counted
    }
}
