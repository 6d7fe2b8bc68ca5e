//! Where the content of an inode stands: its pointer tree, from the first block to the last.

use std::collections::HashSet;

use fs_core::addr::BlockAddr;
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::dinode::{self, Dinode};
use fs_core::format::indirect::{self, FIRST_IN_DINODE, FIRST_IN_INDIRECT};
use fs_core::format::meta::BlockKind;
use fs_core::journal::extents::Extent;

/// Walks a pointer tree. Ends on any disk: no indirect block is entered twice.
pub(super) struct Tree<'a, B> {
    blocks: &'a B,
    stack: Vec<Level>,
    entered: HashSet<BlockAddr>,
}

/// An array of pointers on the way.
struct Level {
    addr: BlockAddr,
    image: BlockImage,
    /// Byte of the first pointer.
    first: usize,
    /// The next pointer to look at.
    index: usize,
    /// Logical block of that pointer.
    logical: u64,
    /// Logical blocks that one pointer stands for.
    span: u64,
}

/// What a pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// An indirect block.
    Indirect(BlockAddr),
    /// A block of content.
    Content {
        /// Its place in the content.
        logical: u64,
        /// Its place on the device.
        addr: BlockAddr,
    },
}

impl<'a, B: Blocks> Tree<'a, B> {
    /// The tree of `dinode`, which stands in `image`.
    pub(super) fn new(blocks: &'a B, dinode: &Dinode, image: BlockImage) -> Self {
        let pointers = blocks.block_size().indirect_pointers() as u64;
        let mut stack = Vec::new();
        if let Some(below) = u32::from(dinode.height).checked_sub(1) {
            let span = pointers.saturating_pow(below);
            stack.push(Level { addr: dinode.ino.addr(), image, first: FIRST_IN_DINODE, index: 0, logical: 0, span });
        }
        Self { blocks, stack, entered: HashSet::new() }
    }

    /// The next block of the tree; indirect blocks come before what is below them.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, FsError> {
        let pointers = self.blocks.block_size().indirect_pointers() as u64;
        loop {
            let Some(level) = self.stack.last_mut() else { return Ok(None) };
            if level.index >= indirect::count(&level.image, level.first) {
                self.stack.pop();
                continue;
            }
            let (parent, logical, span) = (level.addr, level.logical, level.span);
            let target = indirect::pointer(&level.image, level.first, level.index);
            level.index += 1;
            level.logical = level.logical.saturating_add(span);
            let Some(addr) = target else { continue };
            if span == 1 {
                return Ok(Some(Found::Content { logical, addr }));
            }
            if !self.entered.insert(addr) {
                return Err(CorruptKind::PointerCircle.at(parent));
            }
            let image = self.blocks.meta(addr, BlockKind::INDIRECT).await?;
            let span = span.checked_div(pointers).unwrap_or(1).max(1);
            self.stack.push(Level { addr, image, first: FIRST_IN_INDIRECT, index: 0, logical, span });
            return Ok(Some(Found::Indirect(addr)));
        }
    }

    /// The next run of content that is contiguous on the device.
    pub(super) async fn next_extent(&mut self, pending: &mut Option<Extent>) -> Result<Option<Extent>, FsError> {
        while let Some(found) = self.next().await? {
            let Found::Content { logical, addr } = found else { continue };
            match pending {
                Some(extent)
                    if extent.position.checked_add(extent.count) == Some(logical)
                        && extent.addr.checked_add(extent.count) == Some(addr) =>
                {
                    extent.count += 1;
                }
                _ => {
                    if let Some(extent) = pending.replace(Extent { position: logical, addr, count: 1 }) {
                        return Ok(Some(extent));
                    }
                }
            }
        }
        Ok(pending.take())
    }
}

/// All runs of an inode's content; at most `max`, of which a regular file of a volume has fewer.
pub(super) async fn extents<B: Blocks>(
    blocks: &B,
    dinode: &Dinode,
    image: BlockImage,
    max: usize,
) -> Result<Vec<Extent>, FsError> {
    let mut tree = Tree::new(blocks, dinode, image);
    let (mut extents, mut pending) = (Vec::new(), None);
    while extents.len() < max
        && let Some(extent) = tree.next_extent(&mut pending).await?
    {
        extents.push(extent);
    }
    Ok(extents)
}

/// The content of a small file, holes as zeroes; at most `max` bytes of it.
pub(super) async fn content<B: Blocks>(
    blocks: &B,
    dinode: &Dinode,
    image: &BlockImage,
    max: usize,
) -> Result<Vec<u8>, FsError> {
    let size = usize::try_from(dinode.size).unwrap_or(usize::MAX).min(max);
    if dinode.is_stuffed() {
        let bytes = image.get(dinode::HEADER_BYTES..).unwrap_or_default();
        return Ok(bytes.iter().take(size).copied().collect());
    }
    let block_bytes = blocks.block_size().bytes();
    let mut bytes = Vec::new();
    let mut tree = Tree::new(blocks, dinode, BlockImage::clone(image));
    while let Some(found) = tree.next().await? {
        let Found::Content { logical, addr } = found else { continue };
        let Some(at) = usize::try_from(logical).ok().and_then(|logical| logical.checked_mul(block_bytes)) else {
            break;
        };
        if at >= size {
            break;
        }
        bytes.resize(at, 0);
        bytes.extend_from_slice(&blocks.data(addr).await?);
    }
    bytes.resize(size, 0);
    Ok(bytes)
}
