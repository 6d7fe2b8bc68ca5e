//! Reading for the checker: many blocks at once, neighbours in one transfer, and no block that cannot be read stops it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::device::{BlockDevice, DeviceError, IoBuf};
use futures_util::StreamExt;

use crate::addr::BlockAddr;
use crate::blocks::{BlockImage, Blocks};
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::meta::{self, BlockKind};
use crate::format::superblock::Superblock;

/// Largest transfer, in bytes.
const TRANSFER_BYTES_MAX: u64 = 256 << 10;
/// Blocks between two wanted ones that are read with them, in bytes: cheaper than a request of its own.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// Transfers under way for one list of blocks.
const TRANSFERS_MAX: usize = 8;
/// Blocks that callers ask for at once. With [`GAP_BYTES_MAX`] it bounds the memory of a list.
pub(super) const BATCH_BLOCKS: usize = 64;

/// A block that was read.
#[derive(Clone)]
pub(super) struct Image {
    buf: Arc<IoBuf>,
    at: usize,
    len: usize,
}

impl Deref for Image {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.buf.get(self.at..self.at.saturating_add(self.len)).unwrap_or_default()
    }
}

/// The device in blocks.
pub(super) struct Reader {
    device: Arc<dyn BlockDevice>,
    block_size: BlockSize,
    block_count: u64,
    /// Block checksums are believed.
    checksums: AtomicBool,
}

impl Reader {
    pub(super) fn new(device: Arc<dyn BlockDevice>, block_size: BlockSize) -> Self {
        let block_count = device.geometry().size_bytes >> block_size.shift();
        Self { device, block_size, block_count, checksums: AtomicBool::new(false) }
    }

    pub(super) fn device(&self) -> &dyn BlockDevice {
        &*self.device
    }

    pub(super) fn size(&self) -> BlockSize {
        self.block_size
    }

    pub(super) fn block_count(&self) -> u64 {
        self.block_count
    }

    pub(super) fn set_checksums(&self, on: bool) {
        self.checksums.store(on, Ordering::Relaxed);
    }

    /// A pointer may lead here: behind the superblock, and on the device.
    pub(super) fn is_inside(&self, addr: BlockAddr) -> bool {
        addr > Superblock::addr(self.block_size) && addr.0 < self.block_count
    }

    /// Checks what every metadata block has: magic number, type, checksum.
    pub(super) fn check(&self, addr: BlockAddr, block: &[u8], kind: BlockKind) -> Result<(), CorruptKind> {
        let checked = meta::check(addr, block, kind)
            .and_then(|()| if self.checksums.load(Ordering::Relaxed) { meta::verify(addr, block) } else { Ok(()) });
        checked.map_err(kind_of)
    }

    /// Reads bytes; the range is widened to the device's sectors. Gives the offset of the first byte in the buffer.
    async fn bytes(&self, start: u64, len: u64) -> Result<(IoBuf, usize), DeviceError> {
        let sector = u64::from(self.device.geometry().logical_sector_bytes.max(1));
        let from = start - start % sector;
        let end = start.saturating_add(len).div_ceil(sector).saturating_mul(sector);
        let wanted = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        let buf = self.device.read(from, IoBuf::zeroed(wanted)).await?;
        Ok((buf, usize::try_from(start - from).unwrap_or(0)))
    }

    /// Reads `count` neighbouring blocks, which are on the device.
    pub(super) async fn run(&self, addr: BlockAddr, count: u64) -> Result<Vec<Image>, DeviceError> {
        let (shift, len) = (self.block_size.shift(), self.block_size.bytes());
        let (buf, at) = self.bytes(addr.0 << shift, count << shift).await?;
        let buf = Arc::new(buf);
        let count = usize::try_from(count).unwrap_or(0);
        Ok((0..count).map(|index| Image { buf: Arc::clone(&buf), at: at + index * len, len }).collect())
    }

    /// One block, if it is on the device and can be read.
    pub(super) async fn one(&self, addr: BlockAddr) -> Option<Image> {
        if addr.0 >= self.block_count {
            return None;
        }
        self.run(addr, 1).await.ok()?.pop()
    }

    /// The blocks at `addrs`, in that order; `None` for what cannot be read.
    pub(super) async fn many(&self, addrs: &[BlockAddr]) -> Vec<Option<Image>> {
        let mut order: Vec<(BlockAddr, usize)> = addrs.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let gap = (GAP_BYTES_MAX >> self.block_size.shift()).max(1);
        let span = (TRANSFER_BYTES_MAX >> self.block_size.shift()).max(1);
        let mut parts: Vec<&[(BlockAddr, usize)]> = Vec::new();
        let mut rest = order.as_slice();
        while let [(first, _), ..] = rest {
            let mut len = 1;
            let mut last = *first;
            while let Some((next, _)) = rest.get(len)
                && next.0.saturating_sub(last.0) <= gap
                && next.0.saturating_sub(first.0) < span
            {
                last = *next;
                len += 1;
            }
            let (part, later) = rest.split_at(len);
            parts.push(part);
            rest = later;
        }
        let mut images: Vec<Option<Image>> = vec![None; addrs.len()];
        let mut reads =
            futures_util::stream::iter(parts.into_iter().map(|part| self.part(part))).buffer_unordered(TRANSFERS_MAX);
        while let Some(read) = reads.next().await {
            for (index, image) in read {
                if let Some(slot) = images.get_mut(index) {
                    *slot = image;
                }
            }
        }
        images
    }

    /// Neighbours in one transfer; one by one when that fails.
    async fn part(&self, part: &[(BlockAddr, usize)]) -> Vec<(usize, Option<Image>)> {
        let ([(first, _), ..], Some((last, _))) = (part, part.last()) else { return Vec::new() };
        if let Ok(images) = self.run(*first, last.0 - first.0 + 1).await {
            let image = |addr: BlockAddr| images.get(usize::try_from(addr.0 - first.0).ok()?).cloned();
            return part.iter().map(|(addr, index)| (*index, image(*addr))).collect();
        }
        let mut found = Vec::new();
        for (addr, index) in part {
            found.push((*index, self.one(*addr).await));
        }
        found
    }
}

/// The rule in an error of parsing.
pub(super) fn kind_of(error: FsError) -> CorruptKind {
    match error {
        FsError::Corrupt { kind, .. } => kind,
        // Parsing bytes has no other errors.
        _ => CorruptKind::ShortBlock,
    }
}

impl Blocks for Reader {
    fn block_size(&self) -> BlockSize {
        self.block_size
    }

    async fn meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        let image = self.data(addr).await?;
        self.check(addr, &image, kind).map_err(|kind| kind.at(addr))?;
        Ok(image)
    }

    async fn data(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        if !self.is_inside(addr) {
            return Err(CorruptKind::PointerRange { target: addr }.at(addr));
        }
        let images = self.run(addr, 1).await?;
        images.first().map(|image| Arc::from(&**image)).ok_or_else(|| CorruptKind::ShortBlock.at(addr))
    }
}
