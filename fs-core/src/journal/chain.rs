//! Follows a log from its tail to its head, block by block, and says what is in it. Pure: somebody else reads.
//!
//! Every block has to be accounted for: a descriptor, what a descriptor announced, or a header with the next sequence
//! number; and the last one has to end at the head. Anything else means that the log is damaged, and the walk ends.

use super::extents::JournalMap;
use super::head::Head;
use super::owner::Owner;
use super::replay::{Image, Record};
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::log::{self, DESCRIPTOR_BYTES, DescriptorKind, LogHeader};
use crate::format::meta::{self, BlockKind};

/// Where images may go, besides not into the journal itself.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// First block that one may go to: behind the superblock, and behind the gap of a volume that is known to have one.
    pub first: BlockAddr,
    /// First block behind them: the device's end, since a log may hold blocks of a part that the volume has just grown
    /// into.
    pub end: BlockAddr,
}

/// What the next block has to be.
#[derive(Debug)]
enum Expected {
    /// A descriptor or a header.
    Start,
    /// The image of the last of these, which are in reverse order.
    Images { metadata: bool, entries: Vec<Entry> },
    /// A continuation with so many revokes left.
    Revokes { left: usize },
}

/// What a descriptor says about one image.
#[derive(Debug)]
struct Entry {
    home: BlockAddr,
    escaped: bool,
    owner: Owner,
}

/// The walk, as far as it came. It is given the blocks from the tail on, up to and without the head.
#[derive(Debug)]
pub struct Chain<'a> {
    map: &'a JournalMap,
    head: Head,
    bounds: Bounds,
    checksums_hold: bool,
    /// Blocks from the tail to the head.
    length: u32,
    /// Blocks taken so far.
    taken: u32,
    /// Sequence number of the last header.
    sequence: Option<u64>,
    expected: Expected,
}

impl<'a> Chain<'a> {
    /// A walk that ends at `head`. With `checksums_hold`, metadata has to have correct checksums where it has any.
    ///
    /// # Errors
    /// `JournalChain` when the head's tail is outside the journal.
    pub fn new(map: &'a JournalMap, head: Head, bounds: Bounds, checksums_hold: bool) -> Result<Self, FsError> {
        let LogHeader { tail, blkno, .. } = head.header;
        if tail >= map.blocks() || blkno >= map.blocks() {
            return Err(map.chain_error(blkno));
        }
        let length = map.distance(tail, blkno);
        Ok(Self { map, head, bounds, checksums_hold, length, taken: 0, sequence: None, expected: Expected::Start })
    }

    /// Blocks that the walk takes.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// Takes the next block, and appends what it says to `records`.
    ///
    /// # Errors
    /// `JournalChain`, `JournalTarget`.
    pub fn push(&mut self, block: &[u8], records: &mut Vec<Record>) -> Result<(), FsError> {
        if self.taken >= self.length || block.len() != self.size().bytes() {
            return Err(self.broken());
        }
        match std::mem::replace(&mut self.expected, Expected::Start) {
            Expected::Start => self.start(block, records)?,
            Expected::Images { metadata, mut entries } => {
                if let Some(entry) = entries.pop() {
                    self.check_image(metadata, &entry, block)?;
                    let Entry { home, escaped, owner } = entry;
                    records.push(Record::Logged { home, image: Image { at: self.taken, escaped, owner } });
                }
                if !entries.is_empty() {
                    self.expected = Expected::Images { metadata, entries };
                }
            }
            Expected::Revokes { left } => {
                if meta::header(block).is_none_or(|header| header.kind.get() != BlockKind::LOG_CONTINUATION.0) {
                    return Err(self.broken());
                }
                self.take_revokes(block.get(meta::HEADER_BYTES..), left, records);
            }
        }
        self.taken += 1;
        Ok(())
    }

    /// Ends the walk: the head commits what came since the header before it.
    ///
    /// # Errors
    /// `JournalChain` when the walk is not at the head, or the head's sequence number does not follow.
    pub fn finish(self, records: &mut Vec<Record>) -> Result<(), FsError> {
        let follows = self.sequence.is_none_or(|before| before.checked_add(1) == Some(self.head.header.sequence));
        if self.taken != self.length || !matches!(self.expected, Expected::Start) || !follows {
            return Err(self.broken());
        }
        records.push(Record::Committed { owners_named: self.head.owners_named });
        Ok(())
    }

    fn start(&mut self, block: &[u8], records: &mut Vec<Record>) -> Result<(), FsError> {
        let Some((kind, length, count)) = log::parse_descriptor(block) else {
            return self.pass_header(block, records);
        };
        // The log ends at the head, so a descriptor that reaches beyond is not one of this turn.
        if length == 0 || length > self.length - self.taken {
            return Err(self.broken());
        }
        let (length, count) = (length as usize, count as usize);
        let size = self.size();
        let payload = block.get(DESCRIPTOR_BYTES..).unwrap_or_default();
        match kind {
            DescriptorKind::METADATA if count <= size.descriptor_pointers() && length == count + 1 => {
                let numbers = |from: usize| numbers(payload.get(from..).unwrap_or_default());
                self.announce(
                    true,
                    numbers(0).zip(owners(payload, 8, count)).take(count).map(|(home, owner)| Entry {
                        home: BlockAddr(home),
                        escaped: false,
                        owner,
                    }),
                )
            }
            DescriptorKind::JDATA if count <= size.descriptor_pointers() / 2 && length == count + 1 => {
                let (pairs, _) = payload.as_chunks::<16>();
                let entries = pairs.iter().zip(owners(payload, 16, count)).take(count).map(|(pair, owner)| {
                    let mut pair = numbers(pair);
                    let (home, escape) = (pair.next().unwrap_or(0), pair.next().unwrap_or(0));
                    Entry { home: BlockAddr(home), escaped: escape != 0, owner }
                });
                self.announce(false, entries)
            }
            DescriptorKind::REVOKE if length == revoke_blocks(size, count) => {
                self.take_revokes(Some(payload), count, records);
                Ok(())
            }
            // Also kinds that are not known: what they ask for would be left undone.
            _ => Err(self.broken()),
        }
    }

    fn pass_header(&mut self, block: &[u8], records: &mut Vec<Record>) -> Result<(), FsError> {
        let head = Head::parse(block, self.position()).ok_or_else(|| self.broken())?;
        let sequence = head.header.sequence;
        // One of an earlier turn stands where a write of this one was lost.
        let follows = self.sequence.is_none_or(|before| before.checked_add(1) == Some(sequence));
        if !follows || sequence >= self.head.header.sequence {
            return Err(self.broken());
        }
        self.sequence = Some(sequence);
        records.push(Record::Committed { owners_named: head.owners_named });
        Ok(())
    }

    fn announce(&mut self, metadata: bool, entries: impl Iterator<Item = Entry>) -> Result<(), FsError> {
        let mut entries: Vec<Entry> = entries.collect();
        for entry in &entries {
            let within = (self.bounds.first..self.bounds.end).contains(&entry.home);
            if !within || self.map.contains(entry.home) {
                let kind = CorruptKind::JournalTarget { jid: self.map.jid(), target: entry.home };
                return Err(kind.at(self.map.addr(self.position()).unwrap_or(entry.home)));
            }
        }
        entries.reverse();
        if !entries.is_empty() {
            self.expected = Expected::Images { metadata, entries };
        }
        Ok(())
    }

    fn check_image(&self, metadata: bool, entry: &Entry, block: &[u8]) -> Result<(), FsError> {
        let sound = if metadata {
            meta::header(block).is_some() && (!self.checksums_hold || meta::verify(entry.home, block).is_ok())
        } else {
            // The writer took the magic number out, so one that is there is not what was announced.
            !entry.escaped || block.starts_with(&[0; 4])
        };
        if sound { Ok(()) } else { Err(self.broken()) }
    }

    fn take_revokes(&mut self, payload: Option<&[u8]>, left: usize, records: &mut Vec<Record>) {
        let before = records.len();
        let homes = numbers(payload.unwrap_or_default()).take(left);
        records.extend(homes.map(|home| Record::Revoked { home: BlockAddr(home) }));
        let left = left.saturating_sub(records.len() - before);
        if left > 0 {
            self.expected = Expected::Revokes { left };
        }
    }

    fn size(&self) -> BlockSize {
        self.map.block_size()
    }

    fn position(&self) -> u32 {
        self.map.advance(self.head.header.tail, self.taken)
    }

    fn broken(&self) -> FsError {
        self.map.chain_error(self.position())
    }
}

/// Log blocks of a descriptor with `count` revokes.
fn revoke_blocks(size: BlockSize, count: usize) -> usize {
    1 + count.saturating_sub(size.descriptor_pointers()).div_ceil(size.indirect_pointers())
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|number| u64::from_be_bytes(*number))
}

/// The owners behind `count` entries of `entry_bytes`; unknown ones where a descriptor is so full that there is no room
/// for them, as only other implementations fill it.
fn owners(payload: &[u8], entry_bytes: usize, count: usize) -> impl Iterator<Item = Owner> {
    let list = payload.get(entry_bytes * count..).filter(|list| list.len() >= 8 * count).unwrap_or_default();
    numbers(list).take(count).map(Owner::from_bits).chain(std::iter::repeat(Owner::UNKNOWN))
}
