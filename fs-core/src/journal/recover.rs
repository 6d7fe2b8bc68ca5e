//! Recovers a journal: brings what its log has committed to its place, and closes the log.
//!
//! Laws
//! * Nothing is written before the whole log, from tail to head, has been found sound.
//! * The log itself is not touched until all of it is in place and durable, so recovery may end anywhere and be begun
//!   again, by this node or another one.
//! * No block is written twice. When recovery returns, also with an error, no write of it is under way. Who drops it
//!   half-way must not begin another one before the device is quiet.
//! * The statfs files are not touched, except as blocks like any other.

use block::device::{BlockDevice, Durability, IoBuf};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::chain::{Bounds, Chain};
use super::extents::JournalMap;
use super::head::Head;
use super::owner::Owners;
use super::read_ahead::ReadAhead;
use super::replay::{Image, Plan, Replay};
use crate::addr::BlockAddr;
use crate::attr::Timestamp;
use crate::error::FsError;
use crate::format::log::{self, NewHeader, StatfsDelta, flags};
use crate::format::meta;

/// Most of the log that is in memory while it is copied.
const BATCH_BYTES: u32 = 4 << 20;
/// Writes in flight. They go to places all over the volume, where a disk gains by having a choice.
const WRITES_MAX: usize = 32;

/// A journal to be recovered, and what has to be known for it.
#[derive(Clone, Copy)]
pub struct Recovery<'a> {
    /// The volume.
    pub device: &'a dyn BlockDevice,
    /// The journal. Nobody else may write to it.
    pub journal: &'a JournalMap,
    /// Where its images may go.
    pub bounds: Bounds,
    /// The volume's checksums can be believed: images are checked against theirs, and the closing header is stamped.
    pub checksums_hold: bool,
    /// Journal of the node that recovers.
    pub writer_jid: u32,
    /// For the closing header.
    pub now: Timestamp,
}

/// A log that was found sound.
#[derive(Debug)]
pub struct Log {
    head: Head,
    plan: Plan,
}

/// The result of copying a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Blocks written in place.
    pub blocks: u64,
    /// Images that a revoke voided.
    pub revoked: u64,
    /// Images that a later one replaced.
    pub skipped: u64,
    /// What the journal's node had not added to the statfs file yet.
    pub local: StatfsDelta,
    /// lunfs wrote the log. If not, another implementation changed blocks, and their checksums are not true.
    pub stamped: bool,
    /// Sequence number of the closing header.
    pub sequence: u64,
    /// Where the closing header is: the log goes on behind it.
    pub position: u32,
}

impl Log {
    /// The header that ends the log.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The locks that cover what has to be copied.
    #[must_use]
    pub const fn owners(&self) -> &Owners {
        &self.plan.owners
    }

    /// What has to be copied.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Recovery<'_> {
    /// Finds out what has to be done for a journal that was found to end at `head`, which is not clean, and changes
    /// nothing.
    ///
    /// # Errors
    /// `JournalChain`, `JournalTarget`, `Device`.
    pub async fn inspect(&self, head: Head) -> Result<Log, FsError> {
        let mut chain = Chain::new(self.journal, head, self.bounds, self.checksums_hold)?;
        let mut replay = Replay::default();
        let mut records = Vec::new();
        let mut log = ReadAhead::new(self.device, self.journal, head.header.tail, chain.length());
        while let Some(chunk) = log.next().await {
            let (_, blocks) = chunk?;
            for block in blocks.chunks_exact(self.journal.block_size().bytes()) {
                chain.push(block, &mut records)?;
                records.drain(..).for_each(|record| replay.push(record));
            }
        }
        chain.finish(&mut records)?;
        records.drain(..).for_each(|record| replay.push(record));
        #[cfg(mistakes)]
        if mistake!(ReplayWithoutEnd) {
            crate::mistakes::go_beyond(self.device, self.journal, &head, &mut replay).await?;
        }
        Ok(Log { head, plan: replay.finish() })
    }

    /// Does what [`Self::inspect`] found, and closes the journal.
    ///
    /// # Errors
    /// `Device`. The journal is as dirty as before, unless its closing header had been written.
    pub async fn apply(&self, log: &Log) -> Result<Replayed, FsError> {
        let Log { head, plan } = log;
        // The log was read, which does not mean that it would survive a power cut: its images must not be in place by
        // halves with nothing to complete them from.
        self.device.flush().await?;
        let header = self.close(head);
        if mistake!(ReplayClosesFirst) {
            self.write_header(&header).await?;
        }
        let mut left = plan.images.as_slice();
        while let Some((_, first)) = left.first() {
            let end = first.at.saturating_add(BATCH_BYTES >> self.journal.block_size().shift());
            let (batch, rest) = left.split_at(left.partition_point(|(_, image)| image.at < end));
            self.copy(head.header.tail, batch).await?;
            left = rest;
        }
        if !mistake!(ReplayWithoutFlush) {
            self.device.flush().await?;
        }
        if !mistake!(ReplayClosesFirst) {
            self.write_header(&header).await?;
        }
        Ok(Replayed {
            blocks: plan.images.len() as u64,
            revoked: plan.revoked,
            skipped: plan.skipped,
            local: head.header.local,
            stamped: head.header.stamped,
            sequence: header.sequence,
            position: header.blkno,
        })
    }

    /// Writes the header that closes the log.
    async fn write_header(&self, header: &NewHeader) -> Result<(), FsError> {
        let size = self.journal.block_size();
        let mut block = IoBuf::zeroed(size.bytes());
        if self.checksums_hold {
            log::write_header(&mut block, header);
        } else {
            log::write_header_unstamped(&mut block, header);
        }
        self.device.write(header.addr << size.shift(), block, Durability::Durable).await?;
        self.device.flush().await?;
        Ok(())
    }

    /// The header that closes a log which ended at `head`.
    fn close(&self, head: &Head) -> NewHeader {
        let blkno = self.journal.advance(head.header.blkno, 1);
        NewHeader {
            jid: self.writer_jid,
            sequence: head.header.sequence.wrapping_add(1),
            flags: flags::UNMOUNT | flags::RECOVERY,
            // As the kernel's recovery leaves it. A clean header's tail is not looked at.
            tail: 0,
            blkno,
            addr: self.journal.addr(blkno).unwrap_or_default().0,
            time: self.now,
            jinode: self.journal.inode().get(),
            statfs_addr: 0,
            quota_addr: 0,
            // The caller has it from now on.
            local: StatfsDelta::default(),
        }
    }

    /// Copies images that are near each other in the log.
    async fn copy(&self, tail: u32, batch: &[(BlockAddr, Image)]) -> Result<(), FsError> {
        let (Some((_, first)), Some((_, last))) = (batch.first(), batch.last()) else { return Ok(()) };
        let size = self.journal.block_size();
        let position = self.journal.advance(tail, first.at);
        let mut log = self.journal.read(self.device, position, last.at - first.at + 1).await?;

        let mut by_home: Vec<(BlockAddr, usize)> = Vec::with_capacity(batch.len());
        for (home, image) in batch {
            let start = ((image.at - first.at) as usize) << size.shift();
            by_home.push((*home, start));
            if let Some(bytes) = log.get_mut(start..start + 4).filter(|_| image.escaped) {
                bytes.copy_from_slice(&meta::MAGIC.to_be_bytes());
            }
        }
        by_home.sort_unstable();

        let mut writes = FuturesUnordered::new();
        let mut result = Ok(());
        for run in by_home.chunk_by(|(home, _), (next, _)| home.checked_add(1) == Some(*next)) {
            let Some((home, _)) = run.first() else { continue };
            let mut data = IoBuf::with_capacity(run.len() << size.shift());
            for (_, start) in run {
                data.extend_from_slice(log.get(*start..*start + size.bytes()).unwrap_or_default());
            }
            if writes.len() >= WRITES_MAX {
                result = result.and(writes.next().await.unwrap_or(Ok(IoBuf::zeroed(0))).map(drop));
            }
            if result.is_err() {
                break;
            }
            writes.push(self.device.write(home.0 << size.shift(), data, Durability::Cached));
        }
        // After an error as well: a repeated recovery must not meet a write of this one.
        while let Some(done) = writes.next().await {
            result = result.and(done.map(drop));
        }
        Ok(result?)
    }
}

#[cfg(test)]
#[path = "recover_test.rs"]
mod tests;
