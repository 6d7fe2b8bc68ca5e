//! Making transactions durable: the running one is sealed, the data that it orders written, then its blocks and the
//! header that commits them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use block::device::{Durability, IoBuf};

use super::change::{LogClass, Running};
use super::encode::{self, Encoder, LogImage};
use super::log::{Due, Flushed, Journal, State, less_remaining};
use super::owner::{Owner, OwnerKind};
use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::rgrps::BitRun;
use crate::blocks::BlockImage;
use crate::cache::AddrMap;
use crate::error::FsError;
use crate::format::log::{self, NewHeader, StatfsDelta};
use crate::format::{dinode, meta, system_files};
use crate::health::Health;

/// Why a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Commits a transaction, if there is one.
    IfNeeded,
    /// Moves the tail, also without a transaction.
    Tail,
    /// Says that the journal is clean.
    Clean,
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

/// A turn at the log: from the seal until all is written, the transaction is nowhere else. If that ends half-way, by a
/// panic or because nobody drives it on, the node withdraws: what follows would build on what the log does not have.
struct Unfinished<'a> {
    health: &'a Health,
    done: bool,
}

impl Unfinished<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.health.withdraw(&FsError::Bug("a transaction was left half written"));
        }
    }
}

impl Journal {
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
        let mut number = {
            let state = self.state.lock();
            let is_in = |inodes: &BTreeSet<InodeNo>| inodes.contains(&ino) && !mistake!(FsyncOfFlushUnderWay);
            if state.running.inodes.contains(&ino) {
                state.running.number
            } else {
                state.sealed.as_ref().filter(|(_, inodes)| is_in(inodes)).map_or(0, |(number, _)| *number)
            }
        };
        if mistake!(FsyncBeforeCommit) {
            number = 0;
        }
        self.flush(number).await?;
        self.flush_data().await
    }

    /// One turn at the log: seals the running transaction, writes the data that it orders, its blocks, and the header.
    pub(super) async fn write_log(&self, header: Header, number: u64) -> Result<(), FsError> {
        let _turn = self.flushing.lock().await;
        if header == Header::IfNeeded && self.durable.load(Ordering::Acquire) >= number {
            return self.disk.health.check();
        }
        self.disk.health.check()?;
        // Held until the ordered data is written, so that no other writer has older data of it in flight.
        let data_turn = self.writing_data.lock().await;
        let unfinished = Unfinished { health: &self.disk.health, done: false };
        let data_turn = Some(data_turn).filter(|_| !mistake!(DataWritersOverlap));
        let Some(sealed) = self.seal(header) else {
            unfinished.done();
            return Ok(());
        };
        let written = async {
            if !mistake!(OrderedDataSkipped) {
                self.disk.write_sorted(&sealed.ordered).await?;
                self.data_is_written(&sealed.ordered_inodes, &sealed.ordered);
            }
            drop(data_turn);
            self.write_sealed(&sealed).await
        };
        written.await.inspect_err(|error| self.disk.health.withdraw(error))?;
        self.complete(sealed).await;
        unfinished.done();
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
        if state.running.counted && !mistake!(StatfsNotLogged) {
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
        let mut revokes: Vec<BlockAddr> = running.revokes.iter().copied().collect();
        if mistake!(RevokesForgotten) {
            revokes.clear();
        }
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
        state.clean = header == Header::Clean && blocks == 0 && (state.flushed.is_empty() || mistake!(CleanTooEarly));
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
        #[cfg(mistakes)]
        self.write_early(sealed).await?;
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
        if !mistake!(NoFlushBeforeHeader) {
            self.disk.flush().await?;
        }
        self.data_flushed.fetch_max(written, Ordering::AcqRel);
        self.write_header(sealed).await
    }

    /// Two mistakes: what belongs behind the header goes in place before it.
    #[cfg(mistakes)]
    async fn write_early(&self, sealed: &Sealed) -> Result<(), FsError> {
        let is_rgrp = |image: &LogImage| {
            meta::header(&image.image).is_some_and(|header| header.kind.get() == meta::BlockKind::RGRP.0)
        };
        let is_early = |image: &&LogImage| mistake!(InPlaceBeforeCommit) || (mistake!(BitmapsEarly) && is_rgrp(image));
        let early = sealed.metadata.iter().filter(is_early);
        let early: Vec<_> = early.map(|image| (image.addr, image.image.clone())).collect();
        self.disk.write_sorted(&early).await
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
            },
        );
        let durability = if mistake!(HeaderNotDurable) { Durability::Cached } else { Durability::Durable };
        self.disk.write(addr, block, durability).await
    }

    /// The header is durable: the images may go to their places, the freed blocks to others.
    async fn complete(&self, sealed: Sealed) {
        // A checkpoint under way may be writing a block that was freed: its write must end before the block is reused.
        let checkpoint = if sealed.freed.is_empty() || mistake!(FreedBlockUnderWay) {
            None
        } else {
            Some(self.checkpointing.lock().await)
        };
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
        for addr in sealed.revokes.iter().filter(|_| !mistake!(FreedBlockCheckpointed)) {
            if let Some(old) = state.due.remove(addr) {
                self.cache.unpin(*addr);
                less_remaining(&mut state.flushed, old.flush);
            }
        }
        state.tail = sealed.tail;
        self.move_tail(state, sealed.header_position);
        state.sealed = None;
        self.durable.store(sealed.number, Ordering::Release);
        self.freed(state, &sealed.freed);
        drop(checkpoint);
    }

    /// Forgets flushes that have nothing left to be written in place. `head` is the last header.
    pub(super) fn move_tail(&self, state: &mut State, head: u32) {
        while state.flushed.front().is_some_and(|flushed| flushed.remaining == 0) {
            state.flushed.pop_front();
        }
        state.tail_next = state.flushed.front().map_or(head, |flushed| flushed.start);
        if mistake!(TailTooFar) {
            state.tail_next = head;
        }
        if mistake!(TailMovedEarly) {
            state.tail = state.tail_next;
        }
    }
}
