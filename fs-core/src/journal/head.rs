//! Finds the head of a log: the last header that was written.
//!
//! Sequence numbers rise from block 0 of the journal to the head; behind it is what the previous turn left, with
//! smaller numbers. Blocks that are no valid header do not count, torn ones included: what they would have committed
//! was never promised to anybody.

use block::device::BlockDevice;

use super::extents::JournalMap;
use super::read_ahead::ReadAhead;
use crate::error::{CorruptKind, FsError};
use crate::format::log::{self, LogHeader, STAMP_OWNERS_INCOMPLETE};

/// The last header of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The header; `header.blkno` is its position.
    pub header: LogHeader,
    /// The descriptors of the flush that it commits name the owners of all their blocks.
    pub owners_named: bool,
}

impl Head {
    /// The head in `block`, which is block `position` of the journal; `None` when it is no valid header.
    #[must_use]
    pub fn parse(block: &[u8], position: u32) -> Option<Self> {
        let header = log::parse_header(block, position)?;
        let stamp = log::stamp(block).filter(|_| header.stamped);
        Some(Self { header, owners_named: stamp.is_some_and(|stamp| stamp.flags.get() & STAMP_OWNERS_INCOMPLETE == 0) })
    }
}

/// The search, as far as it came. It is given the blocks of a journal from the first on.
#[derive(Debug, Default)]
pub struct Search {
    position: u32,
    best: Option<Head>,
    over: bool,
}

impl Search {
    /// Takes the next block. True when the search is over, and no more blocks are needed.
    pub fn push(&mut self, block: &[u8]) -> bool {
        if let Some(head) = Head::parse(block, self.position).filter(|_| !self.over) {
            match self.best {
                Some(best) if head.header.sequence < best.header.sequence => self.over = true,
                _ => self.best = Some(head),
            }
        }
        self.position = self.position.saturating_add(1);
        self.over
    }

    /// The head; `None` when there was no valid header at all.
    #[must_use]
    pub const fn finish(self) -> Option<Head> {
        self.best
    }
}

/// Finds the head of a journal.
///
/// # Errors
/// `JournalNoHead`, `Device`.
pub async fn find(device: &dyn BlockDevice, map: &JournalMap) -> Result<Head, FsError> {
    let mut search = Search::default();
    let mut log = ReadAhead::new(device, map, 0, map.blocks());
    'log: while let Some(chunk) = log.next().await {
        let (_, blocks) = chunk?;
        for block in blocks.chunks_exact(map.block_size().bytes()) {
            if search.push(block) {
                break 'log;
            }
        }
    }
    search.finish().ok_or_else(|| CorruptKind::JournalNoHead { jid: map.jid() }.at(map.inode().addr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Timestamp;
    use crate::format::log::{NewHeader, StatfsDelta, flags};

    fn header(position: u32, sequence: u64) -> Vec<u8> {
        let mut block = vec![0; 512];
        let new = NewHeader {
            jid: 0,
            sequence,
            flags: flags::UNMOUNT,
            tail: position,
            blkno: position,
            addr: 0,
            time: Timestamp { sec: 0, nsec: 0 },
            jinode: 0,
            statfs_addr: 0,
            quota_addr: 0,
            local: StatfsDelta::default(),
            stamp_flags: 0,
        };
        log::write_header(&mut block, &new);
        block
    }

    fn found(sequences: &[u64]) -> Option<u32> {
        let mut search = Search::default();
        for (position, sequence) in (0..).zip(sequences) {
            // Zero stands for a block that is no header.
            let block = if *sequence == 0 { vec![0x55; 512] } else { header(position, *sequence) };
            search.push(&block);
        }
        search.finish().map(|head| head.header.blkno)
    }

    #[test]
    fn the_head_is_the_last_header_before_the_numbers_fall() {
        assert_eq!(found(&[5, 6, 7, 8]), Some(3));
        assert_eq!(found(&[9, 6, 7, 8]), Some(0));
        assert_eq!(found(&[9, 10, 7, 8]), Some(1));
        assert_eq!(found(&[0, 9, 0, 10, 0, 0, 7, 11]), Some(3));
        assert_eq!(found(&[0, 0, 4, 0]), Some(2));
        assert_eq!(found(&[0, 0]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_header_that_belongs_elsewhere_does_not_count() {
        let mut search = Search::default();
        search.push(&header(0, 5));
        search.push(&header(7, 99));
        search.push(&header(2, 6));
        assert_eq!(search.finish().map(|head| head.header.sequence), Some(6));
    }
}
