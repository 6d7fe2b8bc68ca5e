//! Deliberate mistakes, one at a time, to prove that the tests of power cuts find each of them. Only the package
//! `fs-core-with-mistakes`, which is these sources and nothing else, contains this module; everywhere else `mistake!` is
//! `false`.

use std::cell::Cell;

use super::addr::BlockAddr;
use super::error::FsError;
use super::format::log::{self, DESCRIPTOR_BYTES, DescriptorKind};
use super::journal::extents::{Extent, JournalMap};
use super::journal::head::Head;
use super::journal::owner::Owner;
use super::journal::replay::{Image, Record, Replay};
use block::device::BlockDevice;

macro_rules! mistakes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A mistake in the protocol between memory, log and disk.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mistake {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mistake {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

mistakes! {
    /// The log's blocks and ordered data are not flushed before the header that commits them.
    NoFlushBeforeHeader,
    /// The header is only in the disk's cache when its transaction is called durable.
    HeaderNotDurable,
    /// Blocks go to their places before the header that commits them.
    InPlaceBeforeCommit,
    /// Bitmaps go to their places before the header that commits them.
    BitmapsEarly,
    /// Data that the transaction refers to is not written before it.
    OrderedDataSkipped,
    /// Data behind the old end of a file is not ordered when it needs no new block.
    LongerFileNotOrdered,
    /// Freed metadata is not revoked.
    RevokesForgotten,
    /// A freed block is handed out again before its transaction is durable.
    FreedBlockReused,
    /// A freed block still goes to its place with the next checkpoint.
    FreedBlockCheckpointed,
    /// A freed block is handed out while a checkpoint may still be writing it.
    FreedBlockUnderWay,
    /// The tail moves past blocks that are not in their places.
    TailTooFar,
    /// Log space is used again before the header that moves the tail is durable.
    TailMovedEarly,
    /// Room in the log is counted without regard to the tail.
    LogOverwritten,
    /// A checkpoint forgets a block.
    CheckpointForgetsBlock,
    /// The journal is called clean while blocks wait to go to their places.
    CleanTooEarly,
    /// The counters do not go into the log with the transaction that changes them.
    StatfsNotLogged,
    /// What a node has counted is added to the statfs file and stays in its own as well.
    StatfsAddedTwice,
    /// fsync answers without a commit.
    FsyncBeforeCommit,
    /// fsync takes a transaction that is just being written for a durable one.
    FsyncOfFlushUnderWay,
    /// fsync and syncfs do not flush file data out of the disk's cache.
    DataNotFlushed,
    /// Two writers of file data can be at work on one block.
    DataWritersOverlap,
    /// Rename takes the old name away in a transaction of its own.
    RenameInTwo,
    /// Replay calls the log clean before what it has written is durable.
    ReplayWithoutFlush,
    /// Replay calls the log clean before it has written anything.
    ReplayClosesFirst,
    /// Replay ignores revokes.
    ReplayIgnoresRevokes,
    /// Replay forgets the last block.
    ReplayForgetsBlock,
    /// Replay applies a transaction that has no end.
    ReplayWithoutEnd,
    /// Log headers are believed without their checksums.
    HeaderHashIgnored,
    /// Inodes without names are not searched for after a crash.
    OrphansSkipped,
    /// It is noted that they have been searched for before they are freed.
    OrphansSettledEarly,
}

thread_local! {
    static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
    static JOURNAL_BLOCKS: Cell<Option<u32>> = const { Cell::new(None) };
}

/// From now on, this thread makes this mistake, or none.
pub fn make(mistake: Option<Mistake>) {
    MADE.set(mistake);
}

pub(crate) fn is_made(mistake: Mistake) -> bool {
    MADE.get() == Some(mistake)
}

/// From now on, this thread uses only so many blocks of each journal: so a log wraps around and fills up often.
pub fn shorten_journals(blocks: Option<u32>) {
    JOURNAL_BLOCKS.set(blocks);
}

/// The part of a journal that is used; `None`: all of it.
pub(crate) fn shortened(extents: &[Extent]) -> Option<Vec<Extent>> {
    let end = u64::from(JOURNAL_BLOCKS.get()?);
    let part = |extent: &Extent| Extent { count: extent.count.min(end.saturating_sub(extent.position)), ..*extent };
    Some(extents.iter().map(part).filter(|extent| extent.count > 0).collect())
}

/// Takes what stands behind the head for committed.
pub(crate) async fn go_beyond(
    device: &dyn BlockDevice,
    journal: &JournalMap,
    head: &Head,
    replay: &mut Replay,
) -> Result<(), FsError> {
    let at = journal.distance(head.header.tail, head.header.blkno) + 1;
    let block = journal.read(device, journal.advance(head.header.blkno, 1), 1).await?;
    let Some((DescriptorKind::METADATA, _, count)) = log::parse_descriptor(&block) else { return Ok(()) };
    let entries = block.get(DESCRIPTOR_BYTES..).unwrap_or_default().as_chunks::<8>().0;
    for (step, entry) in (1..=count).zip(entries) {
        let image = Image { at: at + step, escaped: false, owner: Owner::UNKNOWN };
        replay.push(Record::Logged { home: BlockAddr(u64::from_be_bytes(*entry)), image });
    }
    replay.push(Record::Committed { owners_named: false });
    Ok(())
}
