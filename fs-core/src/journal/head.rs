//! Finds the head of a log: the last header that was written.
//!
//! Sequence numbers rise from block 0 of the journal to the head; behind it is what the previous turn left, with
//! smaller numbers. Blocks that are no valid header do not count, torn ones included: what they would have committed
//! was never promised to anybody.
//!
//! So one can search as in a sorted list: the first header at or after some position is either of this turn, with a
//! number at or above that of the journal's first header, and the head is there or behind; or it is of the turn before.
//! What comes close to the head that way is then read block by block, as the rule says.
//!
//! The rule itself is to read from the first block on. The shortcut has to give the same, and never an older head. It
//! is trusted only where all that it saw fits together: each header takes a block and the next number, so numbers
//! never differ by more than places do; and headers of the turn before have to follow, since what looks like one long
//! turn may be the end of the turn before with a new one hidden in front of it. In doubt, all is read.

use block::device::BlockDevice;

use super::extents::JournalMap;
use super::read_ahead::ReadAhead;
use crate::error::{CorruptKind, FsError};
use crate::format::log::{self, LogHeader, STAMP_OWNERS_INCOMPLETE};

/// No log ever gets here: there must be numbers left for the headers to come.
const SEQUENCE_MAX: u64 = u64::MAX / 2;

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
    first: Option<Head>,
    best: Option<Head>,
    /// The header that ended the search.
    end: Option<Head>,
}

impl Search {
    /// Takes the next block. True when the search is over, and no more blocks are needed.
    pub fn push(&mut self, block: &[u8]) -> bool {
        if self.end.is_none()
            && let Some(head) = Head::parse(block, self.position)
        {
            self.first = self.first.or(Some(head));
            match self.best {
                Some(best) if head.header.sequence < best.header.sequence => self.end = Some(head),
                _ => self.best = Some(head),
            }
        }
        self.position = self.position.saturating_add(1);
        self.end.is_some()
    }

    /// The head; `None` when there was no valid header at all.
    #[must_use]
    pub const fn finish(self) -> Option<Head> {
        self.best
    }

    /// Takes the blocks of a journal up to position `to`.
    async fn read_to(&mut self, device: &dyn BlockDevice, map: &JournalMap, to: u32) -> Result<(), FsError> {
        let mut log = ReadAhead::new(device, map, self.position, to.saturating_sub(self.position));
        while let Some(chunk) = log.next().await {
            let (_, blocks) = chunk?;
            if blocks.chunks_exact(map.block_size().bytes()).any(|block| self.push(block)) {
                break;
            }
        }
        Ok(())
    }
}

/// Finds the head of a journal.
///
/// # Errors
/// `JournalNoHead`, `JournalChain` for a number that no log ever reaches, `Device`.
pub async fn find(device: &dyn BlockDevice, map: &JournalMap) -> Result<Head, FsError> {
    let head = match shortcut(device, map, Reach::new(map)).await? {
        Some(head) => Some(head),
        None => scan(device, map).await?,
    };
    let head = head.ok_or_else(|| CorruptKind::JournalNoHead { jid: map.jid() }.at(map.inode().addr()))?;
    if head.header.sequence > SEQUENCE_MAX {
        return Err(map.chain_error(head.header.blkno));
    }
    Ok(head)
}

/// Reads the journal from its first block on.
async fn scan(device: &dyn BlockDevice, map: &JournalMap) -> Result<Option<Head>, FsError> {
    let mut search = Search::default();
    search.read_to(device, map, map.blocks()).await?;
    Ok(search.finish())
}

/// How much the shortcut reads, in blocks.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Parts up to this size are read as a whole: the journal's start, and the surroundings of the head.
    whole: u32,
    /// The first piece that is looked at for a header behind some position. If there is none, larger ones follow.
    probe: u32,
    /// The largest one.
    probe_max: u32,
}

impl Reach {
    const fn new(map: &JournalMap) -> Self {
        let shift = map.block_size().shift();
        Self { whole: (256 << 10) >> shift, probe: (32 << 10) >> shift, probe_max: (1 << 20) >> shift }
    }
}

/// The head, if it can be told without reading everything.
async fn shortcut(device: &dyn BlockDevice, map: &JournalMap, reach: Reach) -> Result<Option<Head>, FsError> {
    let mut start = Search::default();
    start.read_to(device, map, reach.whole.min(map.blocks())).await?;
    let (Some(first), Some(mut good)) = (start.first, start.best) else { return Ok(None) };
    if start.end.is_some() {
        return Ok(Some(good));
    }
    // The head is at `good` or behind it, and before `end`.
    let mut end = map.blocks();
    let mut before: Option<Head> = None;
    while end - good.header.blkno > reach.whole {
        let middle = good.header.blkno + (end - good.header.blkno) / 2;
        let Some(found) = first_header(device, map, middle, end, reach).await? else {
            end = middle;
            continue;
        };
        if found.header.sequence >= first.header.sequence {
            if !follows(map, good, found) {
                return Ok(None);
            }
            good = found;
        } else {
            if before.is_some_and(|before| !follows(map, found, before)) {
                return Ok(None);
            }
            before = Some(found);
            end = middle;
        }
    }
    let mut near = Search { position: good.header.blkno, ..Search::default() };
    near.read_to(device, map, end).await?;
    let Some(head) = near.best.filter(|head| head.header.blkno == good.header.blkno || follows(map, good, *head))
    else {
        return Ok(None);
    };
    // What ends this turn is of the turn before, and its numbers lead to the start of this one.
    let sound = near.end.or(before).is_some_and(|before| {
        before.header.sequence < first.header.sequence && follows(map, before, first) && follows(map, before, head)
    });
    Ok(sound.then_some(head))
}

/// The first header from position `from` on and before `to`.
async fn first_header(
    device: &dyn BlockDevice,
    map: &JournalMap,
    from: u32,
    to: u32,
    reach: Reach,
) -> Result<Option<Head>, FsError> {
    let (mut at, mut count) = (from, reach.probe.max(1));
    while at < to {
        let blocks = map.read(device, at, count.min(to - at)).await?;
        let mut found = (at..).zip(blocks.chunks_exact(map.block_size().bytes()));
        if let Some(head) = found.find_map(|(position, block)| Head::parse(block, position)) {
            return Ok(Some(head));
        }
        at = at.saturating_add(count);
        count = count.saturating_mul(2).min(reach.probe_max.max(1));
    }
    Ok(None)
}

/// `later` can have been written after `earlier`, less than a turn behind it: there was a block for each number between.
fn follows(map: &JournalMap, earlier: Head, later: Head) -> bool {
    let numbers = later.header.sequence.checked_sub(earlier.header.sequence);
    let places = u64::from(map.distance(earlier.header.blkno, later.header.blkno));
    numbers.is_some_and(|numbers| numbers > 0 && numbers <= places)
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

    use crate::addr::{BlockAddr, InodeNo};
    use crate::format::block_size::BlockSize;
    use crate::journal::extents::Extent;
    use block::device::{Durability, IoBuf};
    use block::faulty::FaultyDevice;
    use block::mem::MemDevice;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A journal of `blocks` blocks of 512 bytes.
    fn journal(blocks: u32) -> (FaultyDevice, JournalMap) {
        let device = FaultyDevice::new(Arc::new(MemDevice::new(u64::from(blocks) * 512)));
        let extents = [Extent { position: 0, addr: BlockAddr(0), count: u64::from(blocks) }];
        let size = BlockSize::new(512).unwrap();
        (device, JournalMap::with_any_size(0, InodeNo::FIRST, size, &extents).unwrap())
    }

    /// A log as a writer makes it: the content of its blocks, where zero is no header.
    fn written(blocks: usize, formatted: bool, start: usize, flushes: &[usize]) -> Vec<u64> {
        let mut log = vec![0; blocks];
        if formatted {
            // As mkfs leaves it: numbers rise from some place on, around the end.
            for (step, at) in (0..blocks).enumerate() {
                log[(start + at) % blocks] = 1 + step as u64;
            }
        }
        let (mut next, mut sequence) = (start, blocks as u64 + 1);
        for flush in flushes {
            let length = (*flush).min(blocks / 2);
            for step in 0..length {
                log[(next + step) % blocks] = 0;
            }
            log[(next + length) % blocks] = sequence;
            next = (next + length + 1) % blocks;
            sequence += 1;
        }
        log
    }

    async fn both(log: &[u64]) -> (Option<Head>, Option<Head>, Option<Head>) {
        let (device, map) = journal(u32::try_from(log.len()).unwrap());
        for (position, sequence) in (0..).zip(log) {
            let block = if *sequence == 0 { vec![0x55; 512] } else { header(position, *sequence) };
            device.write(u64::from(position) * 512, IoBuf::copied_from(&block), Durability::Cached).await.unwrap();
        }
        let reach = Reach { whole: 8, probe: 2, probe_max: 8 };
        (
            shortcut(&device, &map, reach).await.unwrap(),
            scan(&device, &map).await.unwrap(),
            find(&device, &map).await.ok(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_shortcut_finds_what_reading_everything_finds(
            blocks in 8_usize..300,
            formatted in proptest::bool::ANY,
            start in 0_usize..300,
            flushes in proptest::collection::vec(prop_oneof![6 => 0_usize..4, 2 => 4_usize..20, 1 => 20_usize..150], 0..200),
            lost in proptest::collection::vec((0_usize..300, 1_usize..40), 0..6),
        ) {
            let mut log = written(blocks, formatted, start % blocks, &flushes);
            for (from, count) in lost {
                for at in from..from + count {
                    log[at % blocks] = 0;
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (shortcut, scan, found) = runtime.block_on(both(&log));
            prop_assert!(shortcut.is_none() || shortcut == scan, "{:?} {:?}", shortcut, scan);
            prop_assert_eq!(found, scan);
        }

        /// What stood there before, where a write was lost although the device had confirmed it.
        #[test]
        fn the_shortcut_is_never_behind_on_a_device_that_lost_writes(
            blocks in 8_usize..300,
            formatted in proptest::bool::ANY,
            start in 0_usize..300,
            flushes in proptest::collection::vec(prop_oneof![6 => 0_usize..4, 2 => 4_usize..20], 1..200),
            later in 1_usize..100,
            stale in (0_usize..300, 1_usize..40),
        ) {
            let start = start % blocks;
            let mut log = written(blocks, formatted, start, &flushes);
            // What was there before the last flushes.
            let old = written(blocks, formatted, start, &flushes[..flushes.len().saturating_sub(later)]);
            let (from, count) = (stale.0 % blocks, stale.1);
            let to = (from + count).min(blocks);
            log[from..to].copy_from_slice(&old[from..to]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (shortcut, scan, _) = runtime.block_on(both(&log));
            let number = |head: Option<Head>| head.map_or(0, |head| head.header.sequence);
            prop_assert!(shortcut.is_none() || number(shortcut) >= number(scan), "{:?} {:?}", shortcut, scan);
        }
    }

    #[tokio::test]
    async fn little_of_a_long_journal_is_read() {
        const BLOCKS: u32 = 1 << 16;
        let (device, map) = journal(BLOCKS);
        let log = written(BLOCKS as usize, true, 777, &[20; 2000]);
        for (position, sequence) in (0..).zip(&log).filter(|(_, sequence)| **sequence > 0) {
            let block = IoBuf::copied_from(&header(position, *sequence));
            device.write(u64::from(position) * 512, block, Durability::Cached).await.unwrap();
        }
        let before = device.counts().reads.bytes;
        let head = find(&device, &map).await.unwrap();
        let bytes = device.counts().reads.bytes - before;
        assert_eq!(head.header.blkno, 777 + 2000 * 21 - 1);
        assert!(bytes < 1 << 20, "{bytes} bytes of {}", u64::from(BLOCKS) * 512);
    }
}
