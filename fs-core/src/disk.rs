//! The device in units of filesystem blocks. Every error here makes the node withdraw, and a node that has withdrawn
//! writes nothing: there is no other way to the device once a volume is mounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use block::device::{BlockDevice, DeviceError, Durability, IoBuf};

use crate::addr::BlockAddr;
use crate::blocks::BlockImage;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::meta::{self, BlockKind};
use crate::format::superblock::Superblock;
use crate::health::Health;

/// Largest transfer, in bytes.
pub const TRANSFER_BYTES_MAX: usize = 1 << 20;

/// A device, cut into blocks.
pub struct Disk {
    device: Arc<dyn BlockDevice>,
    block_size: BlockSize,
    block_count: u64,
    /// Health of the volume on it.
    pub health: Health,
    /// Block checksums of this volume are kept and believed.
    checksums: AtomicBool,
    /// The highest block version that this node has seen; the next write uses one above it.
    version: AtomicU32,
}

impl Disk {
    /// The device of a volume with blocks of `block_size`.
    #[must_use]
    pub fn new(device: Arc<dyn BlockDevice>, block_size: BlockSize) -> Self {
        let block_count = device.geometry().size_bytes >> block_size.shift();
        Self {
            device,
            block_size,
            block_count,
            health: Health::default(),
            checksums: AtomicBool::new(false),
            version: AtomicU32::new(0),
        }
    }

    /// The same device once more, with a health and a memory of versions of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::new(Arc::clone(&self.device), self.block_size)
    }

    /// The device itself, for those who speak in bytes (replay).
    #[must_use]
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Block size of the volume.
    #[must_use]
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Whole blocks of the device.
    #[must_use]
    pub const fn block_count(&self) -> u64 {
        self.block_count
    }

    /// Block checksums are kept and believed.
    #[must_use]
    pub fn checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }

    /// Says whether block checksums are kept and believed.
    pub fn set_checksums(&self, on: bool) {
        self.checksums.store(on, Ordering::Relaxed);
    }

    /// The version for the next write of a block: above every version that was read, and never zero, which means "no
    /// checksum". Versions wrap from the largest to 1 and compare as serial numbers, so a wrap is a step forward.
    #[must_use]
    pub fn next_version(&self) -> u32 {
        if !self.checksums() {
            return 0;
        }
        loop {
            let version = self.version.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if version != 0 {
                return version;
            }
        }
    }

    fn saw_version(&self, version: u32) {
        let newer = |current: u32| {
            let ahead = version.wrapping_sub(current);
            ahead != 0 && ahead < 1 << 31
        };
        // A failed exchange only means that somebody else raised it meanwhile: look again.
        let _ = self
            .version
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |current| newer(current).then_some(version));
    }

    /// # Errors
    /// `PointerRange` for a block that nothing may point to.
    pub fn check_pointer(&self, addr: BlockAddr) -> Result<(), FsError> {
        if addr > Superblock::addr(self.block_size) && addr.0 < self.block_count {
            Ok(())
        } else {
            Err(CorruptKind::PointerRange { target: addr }.at(addr))
        }
    }

    fn offset(&self, addr: BlockAddr) -> u64 {
        // A block past the end of the device may overflow here; the device then refuses the request.
        addr.0.saturating_mul(self.block_size.bytes_u64())
    }

    fn fail(&self, error: DeviceError) -> FsError {
        let error = FsError::from(error);
        self.health.withdraw(&error);
        error
    }

    /// Reads `count` blocks from `addr` on.
    ///
    /// # Errors
    /// `Device`, `Withdrawn`.
    pub async fn read(&self, addr: BlockAddr, count: usize) -> Result<IoBuf, FsError> {
        self.health.check()?;
        let buf = IoBuf::zeroed(count * self.block_size.bytes());
        self.device.read(self.offset(addr), buf).await.map_err(|error| self.fail(error))
    }

    /// Reads the metadata block at `addr` and checks pointer, type and checksum.
    ///
    /// # Errors
    /// `Corrupt`, `Device`, `Withdrawn`.
    pub async fn read_meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        self.check_pointer(addr)?;
        let block = self.read(addr, 1).await?;
        self.check_meta(addr, &block, kind)?;
        Ok(Arc::from(&block[..]))
    }

    /// Checks type and checksum of a block that was just read.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn check_meta(&self, addr: BlockAddr, block: &[u8], kind: BlockKind) -> Result<(), FsError> {
        meta::check(addr, block, kind)?;
        if self.checksums() {
            meta::verify(addr, block)?;
            self.saw_version(meta::header(block).map_or(0, |header| header.version.get()));
        }
        Ok(())
    }

    /// Writes whole blocks from `addr` on.
    ///
    /// # Errors
    /// `Device`, `Withdrawn`.
    pub async fn write(&self, addr: BlockAddr, data: IoBuf, durability: Durability) -> Result<(), FsError> {
        self.health.check()?;
        self.device.write(self.offset(addr), data, durability).await.map(drop).map_err(|error| self.fail(error))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// `Device`, `Withdrawn`.
    pub async fn flush(&self) -> Result<(), FsError> {
        self.health.check()?;
        self.device.flush().await.map_err(|error| self.fail(error))
    }

    /// Tells the device that nobody needs the content of `count` blocks from `addr` on.
    ///
    /// # Errors
    /// `DiscardFailed`, after which the node goes on: what is free is as free as before. `Withdrawn`.
    pub async fn discard(&self, addr: BlockAddr, count: u64) -> Result<(), FsError> {
        self.health.check()?;
        let len_bytes = count.saturating_mul(self.block_size.bytes_u64());
        let discarded = self.device.discard(self.offset(addr), len_bytes).await;
        discarded.map_err(|error| FsError::DiscardFailed(Arc::new(error)))
    }

    /// Writes blocks in place, neighbours in one transfer. `blocks` is sorted by address.
    ///
    /// # Errors
    /// `Device`, `Withdrawn`. Any part may have been written then, but no write is under way any more.
    pub async fn write_sorted(&self, blocks: &[(BlockAddr, BlockImage)]) -> Result<(), FsError> {
        let mut transfers = futures_util::stream::FuturesUnordered::new();
        let limit = (TRANSFER_BYTES_MAX / self.block_size.bytes()).max(1);
        let mut rest = blocks;
        let mut result = Ok(());
        while result.is_ok()
            && let [(first, _), ..] = rest
        {
            let run =
                rest.iter().zip(first.0..).take(limit).take_while(|((addr, _), expected)| addr.0 == *expected).count();
            let (now, later) = rest.split_at(run.max(1));
            let mut data = IoBuf::with_capacity(now.len() * self.block_size.bytes());
            for (_, image) in now {
                data.extend_from_slice(image);
            }
            transfers.push(self.write(*first, data, Durability::Cached));
            rest = later;
            // A bound on the memory of transfers under way.
            if transfers.len() >= 8 {
                result = next(&mut transfers).await;
            }
        }
        while !transfers.is_empty() {
            result = result.and(next(&mut transfers).await);
        }
        result
    }
}

async fn next<F: Future<Output = Result<(), FsError>>>(
    transfers: &mut futures_util::stream::FuturesUnordered<F>,
) -> Result<(), FsError> {
    use futures_util::StreamExt;
    transfers.next().await.unwrap_or(Ok(()))
}
