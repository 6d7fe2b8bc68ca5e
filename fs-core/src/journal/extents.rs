//! Where a journal's blocks are on the device.

use std::sync::Arc;

use block::device::{BlockDevice, IoBuf};

use crate::addr::{BlockAddr, InodeNo};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;

/// Smallest journal of a volume, in bytes.
pub const SIZE_BYTES_MIN: u64 = 8 << 20;
/// Largest journal of a volume, in bytes.
pub const SIZE_BYTES_MAX: u64 = 1 << 30;
/// Fewest blocks that a flush and its headers can be written into: only tests make such journals.
const BLOCKS_MIN: u32 = 8;

/// A part of the journal's file that is contiguous on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First block, counted in the file.
    pub position: u64,
    /// The same on the device.
    pub addr: BlockAddr,
    /// Blocks.
    pub count: u64,
}

/// Part of the log that is contiguous on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First block, counted in the journal.
    pub position: u32,
    /// The same on the device.
    pub addr: BlockAddr,
    /// Blocks.
    pub count: u32,
}

/// The place of every block of a journal. The journal is circular: behind the last block comes the first.
#[derive(Debug, Clone)]
pub struct JournalMap {
    jid: u32,
    inode: InodeNo,
    block_size: BlockSize,
    blocks: u32,
    /// By position, without a gap.
    runs: Arc<[Run]>,
    /// First and last block of each run on the device, by address.
    occupied: Arc<[(BlockAddr, BlockAddr)]>,
}

impl JournalMap {
    /// The map of journal `jid`, whose file is `inode` and consists of `extents` in the order of the file.
    ///
    /// # Errors
    /// `JournalShape` when there is a hole, when the size is not a journal's, or when extents overlap on the device.
    pub fn new(jid: u32, inode: InodeNo, block_size: BlockSize, extents: &[Extent]) -> Result<Self, FsError> {
        #[cfg(mistakes)]
        if let Some(extents) = crate::mistakes::shortened(extents) {
            return Self::with_any_size(jid, inode, block_size, &extents);
        }
        let map = Self::with_any_size(jid, inode, block_size, extents)?;
        let size = u64::from(map.blocks) << block_size.shift();
        if (SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size) { Ok(map) } else { Err(shape(jid, inode)) }
    }

    /// As [`Self::new`], but a handful of blocks is enough: for tests of wrapping.
    ///
    /// # Errors
    /// `JournalShape`.
    pub fn with_any_size(jid: u32, inode: InodeNo, block_size: BlockSize, extents: &[Extent]) -> Result<Self, FsError> {
        let mut runs: Vec<Run> = Vec::with_capacity(extents.len());
        let mut blocks = 0_u32;
        for extent in extents {
            let run = next_run(blocks, extent).ok_or_else(|| shape(jid, inode))?;
            blocks = blocks.checked_add(run.count).ok_or_else(|| shape(jid, inode))?;
            match runs.last_mut() {
                Some(last) if last.addr.checked_add(u64::from(last.count)) == Some(run.addr) => last.count += run.count,
                _ => runs.push(run),
            }
        }
        let mut occupied: Vec<_> =
            runs.iter().map(|run| (run.addr, BlockAddr(run.addr.0 + u64::from(run.count - 1)))).collect();
        occupied.sort_unstable();
        let overlapping = occupied.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if last >= first));
        if overlapping || blocks < BLOCKS_MIN {
            return Err(shape(jid, inode));
        }
        Ok(Self { jid, inode, block_size, blocks, runs: runs.into(), occupied: occupied.into() })
    }

    /// Number of the journal.
    #[must_use]
    pub const fn jid(&self) -> u32 {
        self.jid
    }

    /// The journal's file.
    #[must_use]
    pub const fn inode(&self) -> InodeNo {
        self.inode
    }

    /// Block size of the volume.
    #[must_use]
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Blocks of the journal.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// `position` and `count` blocks on.
    #[must_use]
    pub const fn advance(&self, position: u32, count: u32) -> u32 {
        let sum = position as u64 + count as u64;
        // The remainder is below `blocks`, which is a u32.
        #[allow(clippy::cast_possible_truncation)]
        let position = (sum % self.blocks as u64) as u32;
        position
    }

    /// Blocks from `from` forward to `to`; both are positions.
    #[must_use]
    pub const fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.blocks - from + to }
    }

    /// Where block `position` is on the device; `None` past the end of the journal.
    #[must_use]
    pub fn addr(&self, position: u32) -> Option<BlockAddr> {
        let run = self.runs[..self.runs.partition_point(|run| run.position <= position)].last()?;
        let within = position - run.position;
        (within < run.count).then(|| BlockAddr(run.addr.0 + u64::from(within)))
    }

    /// The block `addr` of the device belongs to the journal.
    #[must_use]
    pub fn contains(&self, addr: BlockAddr) -> bool {
        let before = self.occupied.partition_point(|(first, _)| *first <= addr);
        self.occupied[..before].last().is_some_and(|(_, last)| addr <= *last)
    }

    /// The `count` blocks from `position` on, around the end of the journal if need be, in parts that are contiguous
    /// on the device. At most one turn; nothing for a position past the end.
    pub fn runs(&self, position: u32, count: u32) -> impl Iterator<Item = Run> + '_ {
        let mut position = position;
        let mut left = if position < self.blocks { count.min(self.blocks) } else { 0 };
        let mut index = self.runs.partition_point(|run| run.position <= position).saturating_sub(1);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let run = self.runs.get(index)?;
            let within = position - run.position;
            let part =
                Run { position, addr: BlockAddr(run.addr.0 + u64::from(within)), count: left.min(run.count - within) };
            left -= part.count;
            index = (index + 1) % self.runs.len();
            position = self.advance(position, part.count);
            Some(part)
        })
    }

    /// Reads `count` blocks from `position` on, around the end of the journal if need be.
    ///
    /// # Errors
    /// `Device`.
    pub async fn read(&self, device: &dyn BlockDevice, position: u32, count: u32) -> Result<IoBuf, FsError> {
        let size = self.block_size;
        let len = |blocks: u32| (blocks as usize) << size.shift();
        let mut whole: Option<IoBuf> = None;
        for run in self.runs(position, count) {
            let part = device.read(run.addr.0 << size.shift(), IoBuf::zeroed(len(run.count))).await?;
            match &mut whole {
                // Nearly always there is one part, which needs no copy.
                None => whole = Some(part),
                Some(whole) => whole.extend_from_slice(&part),
            }
        }
        Ok(whole.unwrap_or_else(|| IoBuf::zeroed(0)))
    }

    /// The error for a broken rule at block `position` of the log.
    pub(crate) fn chain_error(&self, position: u32) -> FsError {
        let addr = self.addr(position).unwrap_or_else(|| self.inode.addr());
        CorruptKind::JournalChain { jid: self.jid, position }.at(addr)
    }
}

fn shape(jid: u32, inode: InodeNo) -> FsError {
    CorruptKind::JournalShape { jid }.at(inode.addr())
}

/// `extent` as the run that starts at block `position`; `None` when it does not, or is impossible.
fn next_run(position: u32, extent: &Extent) -> Option<Run> {
    let count = u32::try_from(extent.count).ok().filter(|count| *count > 0)?;
    // Byte offsets on the device stay below 2⁶⁴.
    extent.addr.checked_add(extent.count).filter(|end| end.0 < 1 << 52)?;
    (extent.position == u64::from(position)).then_some(Run { position, addr: extent.addr, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(position: u64, addr: u64, count: u64) -> Extent {
        Extent { position, addr: BlockAddr(addr), count }
    }

    fn map(extents: &[Extent]) -> Result<JournalMap, FsError> {
        JournalMap::with_any_size(3, InodeNo::FIRST, BlockSize::MAX, extents)
    }

    #[test]
    fn a_circular_range_splits_where_the_device_is_not_contiguous() {
        let map = map(&[extent(0, 100, 4), extent(4, 104, 2), extent(6, 50, 5)]).unwrap();
        let runs = |position, count| map.runs(position, count).map(|run| (run.addr.0, run.count)).collect::<Vec<_>>();
        assert_eq!(map.blocks(), 11);
        assert_eq!(runs(0, 6), [(100, 6)]);
        assert_eq!(runs(5, 4), [(105, 1), (50, 3)]);
        assert_eq!(runs(9, 5), [(53, 2), (100, 3)]);
        assert_eq!(runs(3, 99), [(103, 3), (50, 5), (100, 3)]);
        assert_eq!(runs(11, 1), []);
        for position in 0..11 {
            let addr = map.addr(position).unwrap();
            assert_eq!(map.runs(position, 1).next().map(|run| run.addr), Some(addr));
            assert!(map.contains(addr));
        }
        assert_eq!(map.addr(11), None);
        assert!([49, 55, 99, 106].iter().all(|addr| !map.contains(BlockAddr(*addr))));
        assert_eq!((map.advance(10, 3), map.distance(10, 2), map.distance(2, 2)), (2, 3, 0));
    }

    #[test]
    fn holes_overlaps_and_impossible_sizes_are_refused() {
        for extents in [
            &[][..],
            &[extent(0, 100, 3)],
            &[extent(1, 100, 30)],
            &[extent(0, 100, 30), extent(31, 200, 3)],
            &[extent(0, 100, 30), extent(30, 90, 11)],
            &[extent(0, 100, 30), extent(30, 200, 0)],
            &[extent(0, 100, 1 << 40)],
            &[extent(0, u64::MAX - 3, 30)],
        ] {
            let error = map(extents).unwrap_err();
            assert!(matches!(error, FsError::Corrupt { kind: CorruptKind::JournalShape { jid: 3 }, .. }));
        }
        let sized = |count| JournalMap::new(0, InodeNo::FIRST, BlockSize::MAX, &[extent(0, 100, count)]);
        assert!(sized(2047).is_err() && sized(2048).is_ok() && sized(262_144).is_ok() && sized(262_145).is_err());
    }
}
