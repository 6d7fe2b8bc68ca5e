//! Rules of journals: their shape, that they were closed, and that their blocks can be told apart.

use super::Checker;
use super::rule::Rule;
use super::system;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::Timestamp;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::format::log;
use crate::format::meta::{self, BlockKind};
use crate::format::superblock::Superblock;
use crate::inode::map;
use crate::journal::chain::Bounds;
use crate::journal::extents::{Extent, JournalMap, SIZE_BYTES_MAX};
use crate::journal::head::{self, Head};
use crate::journal::recover::Recovery;

/// How much of a journal is read at once, in bytes.
const READ_BYTES: u32 = 1 << 20;
/// Fewest headers of a journal that was formatted: what is not in use is full of them.
const HEADERS_MIN: u32 = 2;

/// What the journals say of the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    /// All are closed: what is in place is the truth.
    pub(super) clean: bool,
    /// lunfs wrote all of them last: block checksums are true.
    pub(super) stamped: bool,
}

/// Checks the journals with these inodes, in the order of their numbers.
pub(super) async fn check(checker: &Checker<'_>, journals: &[InodeNo]) -> Verdict {
    let mut verdict = Verdict { clean: true, stamped: true };
    for (jid, ino) in (0..).zip(journals) {
        let Some(head) = check_one(checker, jid, *ino).await else {
            verdict.clean = false;
            continue;
        };
        verdict.clean &= head.header.is_clean();
        verdict.stamped &= head.header.stamped;
    }
    verdict
}

async fn check_one(checker: &Checker<'_>, jid: u32, ino: InodeNo) -> Option<Head> {
    let (dinode, _) = system::inode(checker, ino).await?;
    let map = match journal_map(checker, jid, &dinode).await {
        Ok(map) => map,
        Err(error) => {
            report(checker, ino.addr(), &error);
            return None;
        }
    };
    headers(checker, &map).await;
    match head::find(checker.reader.device(), &map).await {
        Ok(head) => {
            if !head.header.is_clean() {
                dirty(checker, &map, head).await;
            }
            Some(head)
        }
        Err(error) => {
            report(checker, ino.addr(), &error);
            None
        }
    }
}

/// Where the blocks of a journal are: all there, and as many as a journal has.
async fn journal_map(checker: &Checker<'_>, jid: u32, dinode: &Dinode) -> Result<JournalMap, FsError> {
    let shape = || CorruptKind::JournalShape { jid }.at(dinode.ino.addr());
    let size = checker.reader.size();
    if dinode.size > SIZE_BYTES_MAX || !dinode.size.is_multiple_of(size.bytes_u64()) {
        return Err(shape());
    }
    let blocks = dinode.size >> size.shift();
    let extents: Vec<Extent> = map::extents(&checker.reader, dinode, 0, blocks)
        .await?
        .into_iter()
        .filter_map(|extent| Some(Extent { position: extent.first, addr: extent.addr?, count: extent.count }))
        .collect();
    let is_inside = |extent: &Extent| {
        let last = extent.addr.0.saturating_add(extent.count).saturating_sub(1);
        checker.reader.is_inside(extent.addr) && checker.reader.is_inside(BlockAddr(last))
    };
    let mapped: u64 = extents.iter().map(|extent| extent.count).sum();
    if mapped != blocks || !extents.iter().all(is_inside) {
        return Err(shape());
    }
    JournalMap::new(jid, dinode.ino, size, &extents)
}

/// Reads every block of the journal: numbers of headers rise, and fall once where the log goes on.
async fn headers(checker: &Checker<'_>, map: &JournalMap) {
    let mut order = Order::default();
    let step = READ_BYTES >> map.block_size().shift();
    let mut position = 0;
    while position < map.blocks() && !checker.tally.is_cancelled() {
        let count = step.min(map.blocks() - position);
        let Ok(blocks) = map.read(checker.reader.device(), position, count).await else {
            checker.tally.at(map.addr(position).unwrap_or_default(), Rule::Unreadable);
            return;
        };
        for (at, block) in (position..).zip(blocks.chunks_exact(map.block_size().bytes())) {
            header(checker, map, at, block, &mut order);
        }
        position += count;
    }
    if checker.tally.is_cancelled() {
        return;
    }
    let jid = map.jid();
    if order.found < HEADERS_MIN && order.found > 0 {
        checker.tally.at(map.inode().addr(), Rule::JournalUnformatted { jid, found: order.found });
    }
    if order.wrong > 0 {
        checker.tally.at(map.inode().addr(), Rule::JournalSequence { jid, count: order.wrong });
    }
}

/// The numbers of the headers so far.
#[derive(Default)]
struct Order {
    found: u32,
    first: u64,
    last: u64,
    fallen: bool,
    /// Headers whose number does not fit those before.
    wrong: u32,
}

impl Order {
    fn push(&mut self, sequence: u64) {
        if self.found == 0 {
            self.first = sequence;
        } else if sequence < self.last && !self.fallen && sequence < self.first {
            self.fallen = true;
        } else if sequence <= self.last || (self.fallen && sequence >= self.first) {
            self.wrong += 1;
        }
        self.found += 1;
        self.last = sequence;
    }
}

/// A block that looks like a header is one, if it was written as a whole.
fn header(checker: &Checker<'_>, map: &JournalMap, position: u32, block: &[u8], order: &mut Order) {
    match log::parse_header(block, position) {
        Some(header) => order.push(header.sequence),
        None if meta::header(block).is_some_and(|header| header.kind.get() == BlockKind::LOG_HEADER.0) => {
            let addr = map.addr(position).unwrap_or_default();
            checker.tally.at(addr, Rule::JournalHeader { jid: map.jid(), position });
        }
        None => {}
    }
}

/// A log that was not closed: it has to be replayed, and may be damaged besides.
async fn dirty(checker: &Checker<'_>, map: &JournalMap, head: Head) {
    let addr = map.addr(head.header.blkno).unwrap_or_default();
    checker.tally.at(addr, Rule::JournalDirty { jid: map.jid() });
    let recovery = Recovery {
        device: checker.reader.device(),
        journal: map,
        bounds: Bounds {
            first: BlockAddr(Superblock::addr(checker.reader.size()).0 + 1),
            end: BlockAddr(checker.reader.block_count()),
        },
        checksums_hold: false,
        writer_jid: 0,
        now: Timestamp::default(),
    };
    if let Err(error) = recovery.inspect(head).await {
        report(checker, map.inode().addr(), &error);
    }
}

fn report(checker: &Checker<'_>, at: BlockAddr, error: &FsError) {
    match error {
        FsError::Corrupt { addr, kind } => checker.tally.at(*addr, *kind),
        _ => checker.tally.at(at, Rule::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(sequences: &[u64]) -> u32 {
        let mut order = Order::default();
        sequences.iter().for_each(|sequence| order.push(*sequence));
        order.wrong
    }

    #[test]
    fn numbers_rise_and_fall_once() {
        assert_eq!(wrong(&[5, 6, 7, 8]), 0);
        assert_eq!(wrong(&[8, 9, 1, 2, 7]), 0);
        assert_eq!(wrong(&[9, 1, 2]), 0);
        assert_eq!(wrong(&[8, 9, 9, 1]), 1, "the same number twice");
        assert_eq!(wrong(&[8, 9, 1, 0, 2]), 1, "a second fall");
        assert_eq!(wrong(&[8, 9, 1, 2, 8]), 1, "newer than the start behind the fall");
    }
}
