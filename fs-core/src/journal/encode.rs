//! Turns what one flush commits into blocks of the log. Pure: where they go, and the header that commits them, are the
//! caller's.
//!
//! Order of a flush, as the kernel has it: journaled data, metadata, revokes. Each descriptor names the blocks behind
//! it. lunfs adds to each entry the lock that it belongs to (its [`Owner`]), behind the entries, where other
//! implementations leave zeroes; so a descriptor of lunfs takes fewer entries than the format allows.

use std::ops::Range;

use block::device::IoBuf;

use super::owner::Owner;
use crate::addr::BlockAddr;
use crate::blocks::BlockImage;
use crate::format::block_size::BlockSize;
use crate::format::log::{self, DESCRIPTOR_BYTES, DescriptorKind};
use crate::format::meta::{self, BlockKind};

/// A block as a flush commits it.
#[derive(Debug, Clone)]
pub struct LogImage {
    /// Where the block stands in place.
    pub addr: BlockAddr,
    /// Its content: one block, sealed.
    pub image: BlockImage,
    /// The lock that covers it.
    pub owner: Owner,
}

/// Bytes that one entry of a metadata descriptor takes: block number and owner.
const METADATA_ENTRY_BYTES: usize = 16;
/// Bytes that one entry of a journaled data descriptor takes: block number, escape and owner.
const JDATA_ENTRY_BYTES: usize = 24;

/// Metadata blocks that one descriptor of lunfs names.
#[must_use]
pub const fn metadata_per_descriptor(block_size: BlockSize) -> usize {
    (block_size.bytes() - DESCRIPTOR_BYTES) / METADATA_ENTRY_BYTES
}

/// Journaled data blocks that one descriptor of lunfs names.
#[must_use]
pub const fn jdata_per_descriptor(block_size: BlockSize) -> usize {
    (block_size.bytes() - DESCRIPTOR_BYTES) / JDATA_ENTRY_BYTES
}

/// Log blocks that the images and revokes of a flush take, without its header.
#[must_use]
pub const fn blocks_needed(block_size: BlockSize, metadata: usize, jdata: usize, revokes: usize) -> usize {
    let revoke_blocks = if revokes == 0 {
        0
    } else {
        let beyond = revokes.saturating_sub(block_size.descriptor_pointers());
        1 + beyond.div_ceil(block_size.indirect_pointers())
    };
    jdata
        + jdata.div_ceil(jdata_per_descriptor(block_size))
        + metadata
        + metadata.div_ceil(metadata_per_descriptor(block_size))
        + revoke_blocks
}

/// One block of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LogBlock {
    JdataDescriptor(Range<usize>),
    Jdata(usize),
    MetadataDescriptor(Range<usize>),
    Metadata(usize),
    /// The first block of all revokes, `length` blocks in total.
    RevokeDescriptor {
        revokes: Range<usize>,
        length: usize,
    },
    RevokeContinuation(Range<usize>),
}

/// The blocks of one flush, which can be had in pieces.
#[derive(Debug)]
pub struct Encoder<'a> {
    jid: u32,
    block_size: BlockSize,
    metadata: Vec<&'a LogImage>,
    jdata: &'a [LogImage],
    revokes: &'a [BlockAddr],
    blocks: Vec<LogBlock>,
}

impl<'a> Encoder<'a> {
    /// Plans a flush of journal `jid`. No block may be twice in `metadata`, or twice in `jdata`.
    #[must_use]
    pub fn new(
        jid: u32,
        block_size: BlockSize,
        metadata: &'a [LogImage],
        jdata: &'a [LogImage],
        revokes: &'a [BlockAddr],
    ) -> Self {
        // Ascending, as the kernel sorts them: replay then writes in one direction.
        let mut sorted: Vec<&LogImage> = metadata.iter().collect();
        sorted.sort_by_key(|image| image.addr);

        let mut blocks = Vec::with_capacity(blocks_needed(block_size, metadata.len(), jdata.len(), revokes.len()));
        for chunk in chunks(jdata.len(), jdata_per_descriptor(block_size)) {
            blocks.push(LogBlock::JdataDescriptor(chunk.clone()));
            blocks.extend(chunk.map(LogBlock::Jdata));
        }
        for chunk in chunks(sorted.len(), metadata_per_descriptor(block_size)) {
            blocks.push(LogBlock::MetadataDescriptor(chunk.clone()));
            blocks.extend(chunk.map(LogBlock::Metadata));
        }
        if !revokes.is_empty() {
            let first = revokes.len().min(block_size.descriptor_pointers());
            let length = blocks_needed(block_size, 0, 0, revokes.len());
            blocks.push(LogBlock::RevokeDescriptor { revokes: 0..first, length });
            let further = chunks(revokes.len() - first, block_size.indirect_pointers());
            blocks.extend(further.map(|chunk| LogBlock::RevokeContinuation(chunk.start + first..chunk.end + first)));
        }
        Self { jid, block_size, metadata: sorted, jdata, revokes, blocks }
    }

    /// How many log blocks these are; equal to [`blocks_needed`] for the same amounts.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Appends the blocks of `range`, counted from the start of the flush, to `out`.
    pub fn append(&self, range: Range<usize>, out: &mut IoBuf) {
        const ZEROES: [u8; BlockSize::MAX.bytes()] = [0; BlockSize::MAX.bytes()];
        for block in self.blocks.get(range).unwrap_or_default() {
            let start = out.len();
            match block {
                LogBlock::Metadata(index) => out.extend_from_slice(&self.metadata[*index].image),
                LogBlock::Jdata(index) => out.extend_from_slice(&self.jdata[*index].image),
                _ => out.extend_from_slice(&ZEROES[..self.block_size.bytes()]),
            }
            assert!(out.len() - start == self.block_size.bytes(), "an image is not one block");
            self.render(block, &mut out[start..]);
        }
    }

    /// Completes `target`, which holds the image, or zeroes.
    fn render(&self, block: &LogBlock, target: &mut [u8]) {
        match block {
            LogBlock::Metadata(_) => {}
            LogBlock::Jdata(_) => {
                // Whoever looks for log blocks must not take a file's content for one.
                if needs_escape(target) {
                    target[..4].fill(0);
                }
            }
            LogBlock::MetadataDescriptor(range) => {
                self.descriptor(target, DescriptorKind::METADATA, range.len() + 1, range.len());
                let images = &self.metadata[range.clone()];
                let (entries, owners) = target[DESCRIPTOR_BYTES..].split_at_mut(8 * images.len());
                put_numbers(entries, images.iter().map(|image| image.addr.0));
                put_numbers(owners, images.iter().map(|image| image.owner.bits()));
            }
            LogBlock::JdataDescriptor(range) => {
                self.descriptor(target, DescriptorKind::JDATA, range.len() + 1, range.len());
                let images = &self.jdata[range.clone()];
                let (entries, owners) = target[DESCRIPTOR_BYTES..].split_at_mut(16 * images.len());
                put_numbers(
                    entries,
                    images.iter().flat_map(|image| [image.addr.0, u64::from(needs_escape(&image.image))]),
                );
                put_numbers(owners, images.iter().map(|image| image.owner.bits()));
            }
            LogBlock::RevokeDescriptor { revokes, length } => {
                self.descriptor(target, DescriptorKind::REVOKE, *length, self.revokes.len());
                put_numbers(&mut target[DESCRIPTOR_BYTES..], self.revokes[revokes.clone()].iter().map(|addr| addr.0));
            }
            LogBlock::RevokeContinuation(range) => {
                meta::start(target, BlockKind::LOG_CONTINUATION);
                put_numbers(&mut target[meta::HEADER_BYTES..], self.revokes[range.clone()].iter().map(|addr| addr.0));
            }
        }
    }

    fn descriptor(&self, target: &mut [u8], kind: DescriptorKind, length: usize, entries: usize) {
        // A journal has less than 2³² blocks, and a flush fits into it.
        let [length, entries] = [length, entries].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        log::write_descriptor(target, self.jid, kind, length, entries);
    }
}

/// The content starts like a metadata block, so the log must not hold it as it is.
fn needs_escape(image: &[u8]) -> bool {
    image.first_chunk::<4>().is_some_and(|start| u32::from_be_bytes(*start) == meta::MAGIC)
}

fn put_numbers(target: &mut [u8], numbers: impl Iterator<Item = u64>) {
    for (field, number) in target.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *field = number.to_be_bytes();
    }
}

/// `0..count` in ranges of at most `each`.
fn chunks(count: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(each).map(move |start| start..count.min(start + each))
}

#[cfg(test)]
#[path = "encode_test.rs"]
mod tests;
