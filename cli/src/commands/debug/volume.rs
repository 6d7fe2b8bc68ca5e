//! A volume without its filesystem: blocks read straight from the disk.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use block::device::{BlockDevice, IoBuf};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::format::dinode::Dinode;
use fs_core::format::marker::{self, RawMarker};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::superblock::{self, Superblock};

/// How often a block whose checksum is wrong is read: on a mounted volume it may have been read half written.
const READS: u32 = 4;
/// How often that is done in all: a wreck is not waited for.
const REREADS_MAX: u32 = 50;
/// Time between two of these reads.
const BETWEEN_READS: Duration = Duration::from_millis(20);
/// Most problems that are remembered.
const PROBLEMS_MAX: usize = 1000;

/// The blocks of a device, checked as the filesystem checks them, except that a wrong checksum is only noted: people who
/// look at a damaged volume want to see what is there.
pub(super) struct DeviceBlocks {
    device: Arc<dyn BlockDevice>,
    block_size: BlockSize,
    /// Blocks of the device.
    count: u64,
    problems: Mutex<Vec<String>>,
    /// How often a block may still be read again.
    rereads: AtomicU32,
}

/// A volume as its superblock describes it.
pub(super) struct Volume {
    pub(super) blocks: DeviceBlocks,
    pub(super) superblock: Superblock,
    pub(super) marker: Option<RawMarker>,
}

impl Volume {
    /// Reads the superblock.
    pub(super) async fn open(device: Arc<dyn BlockDevice>) -> anyhow::Result<Self> {
        let bytes = superblock_bytes(&*device).await?;
        let superblock = match Superblock::parse(&bytes) {
            Ok(superblock) => superblock,
            Err(error) => return Err(not_a_volume(&*device, error).await),
        };
        let marker = device.read(marker::OFFSET_BYTES, IoBuf::zeroed(marker::SIZE_BYTES)).await?;
        let marker = RawMarker::parse(&marker, superblock.uuid);
        let block_size = superblock.block_size;
        let count = device.geometry().size_bytes >> block_size.shift();
        let blocks =
            DeviceBlocks { device, block_size, count, problems: Mutex::default(), rereads: REREADS_MAX.into() };
        Ok(Self { blocks, superblock, marker })
    }

    /// Reads and checks a dinode.
    pub(super) async fn dinode(&self, ino: InodeNo) -> Result<(Dinode, BlockImage), FsError> {
        let image = self.blocks.meta(ino.addr(), BlockKind::DINODE).await?;
        Ok((Dinode::parse(ino, &image, self.superblock.block_size)?, image))
    }

    /// What was found broken so far; forgets it.
    pub(super) fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut *self.blocks.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The error for a superblock that breaks a rule, with what else the device holds.
async fn not_a_volume(device: &dyn BlockDevice, error: FsError) -> anyhow::Error {
    let is_other = matches!(error, FsError::Corrupt { kind: CorruptKind::BadMagic { .. }, .. });
    let found = if is_other { mkfs::signature::find(device).await.unwrap_or_default() } else { Vec::new() };
    let names: Vec<_> = found.iter().map(|signature| signature.name).collect();
    let context = match (is_other, names.is_empty()) {
        (false, _) => "the superblock (at byte 65536) is not usable".to_owned(),
        (true, true) => "no volume of lunfs or GFS2 (its superblock would be at byte 65536)".to_owned(),
        (true, false) => format!("no volume of lunfs or GFS2, but {}", names.join(", ")),
    };
    anyhow::Error::from(error).context(context)
}

/// The sector of the superblock.
async fn superblock_bytes(device: &dyn BlockDevice) -> anyhow::Result<IoBuf> {
    let wanted = superblock::OFFSET_BYTES + BlockSize::MAX.bytes_u64();
    let size = device.geometry().size_bytes;
    if size < wanted {
        bail!("has {size} bytes, too few for a volume: the superblock is at byte {}", superblock::OFFSET_BYTES);
    }
    Ok(device.read(superblock::OFFSET_BYTES, IoBuf::zeroed(BlockSize::MAX.bytes())).await?)
}

impl DeviceBlocks {
    /// Blocks of the device.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The device.
    pub(super) fn device(&self) -> &dyn BlockDevice {
        &*self.device
    }

    /// Remembers that a rule is broken.
    pub(super) fn note(&self, problem: impl std::fmt::Display) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = problem.to_string();
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// The block at `addr`, whatever it is.
    pub(super) async fn raw(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        if addr.0 >= self.count {
            return Err(CorruptKind::PointerRange { target: addr }.at(addr));
        }
        let sector = u64::from(self.device.geometry().logical_sector_bytes.max(1));
        let (offset, len) = (addr.0 << self.block_size.shift(), self.block_size.bytes_u64());
        // A block may be less than a sector, on a device that the volume was not made for.
        let start = offset - offset % sector;
        let end = (offset + len).next_multiple_of(sector);
        let in_memory = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let sectors = self.device.read(start, IoBuf::zeroed(in_memory(end - start))).await?;
        let from = in_memory(offset - start);
        let block = sectors.get(from..from + self.block_size.bytes());
        block.map(Into::into).ok_or_else(|| CorruptKind::ShortBlock.at(addr))
    }

    /// The block at `addr`, read again while its checksum is wrong; the verdict on it comes along.
    pub(super) async fn verified(&self, addr: BlockAddr) -> Result<(BlockImage, Result<(), FsError>), FsError> {
        let mut image = self.raw(addr).await?;
        let mut verdict = meta::verify(addr, &image);
        for _ in 1..READS {
            let spend = |left: u32| left.checked_sub(1);
            if verdict.is_ok() || self.rereads.fetch_update(Relaxed, Relaxed, spend).is_err() {
                break;
            }
            tokio::time::sleep(BETWEEN_READS).await;
            image = self.raw(addr).await?;
            verdict = meta::verify(addr, &image);
        }
        Ok((image, verdict))
    }
}

impl Blocks for DeviceBlocks {
    fn block_size(&self) -> BlockSize {
        self.block_size
    }

    async fn meta(&self, addr: BlockAddr, kind: BlockKind) -> Result<BlockImage, FsError> {
        let (image, verdict) = self.verified(addr).await?;
        meta::check(addr, &image, kind)?;
        if let Err(problem) = verdict {
            self.note(problem);
        }
        Ok(image)
    }

    async fn data(&self, addr: BlockAddr) -> Result<BlockImage, FsError> {
        self.raw(addr).await
    }
}
