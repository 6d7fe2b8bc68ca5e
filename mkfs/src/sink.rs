//! Blocks in rising order become large writes, several of which are on their way at a time.

use block::device::{BlockDevice, DeviceError, Durability, IoBuf, IoFuture};
use fs_core::addr::BlockAddr;
use fs_core::format::block_size::BlockSize;
use futures_util::future::poll_immediate;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Longest write, in bytes.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Writes on their way: with their buffers this is most of the memory that a format takes.
const IN_FLIGHT_MAX: usize = 8;

/// Collects blocks and writes them.
pub(crate) struct Sink<'a> {
    device: &'a dyn BlockDevice,
    block_bytes: u64,
    in_flight: FuturesUnordered<IoFuture<'a, IoBuf>>,
    /// Buffers for reuse.
    spare: Vec<IoBuf>,
    buffer: IoBuf,
    /// Where `buffer` belongs, in bytes.
    offset: u64,
    written_bytes: u64,
    writes: u64,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(device: &'a dyn BlockDevice, block_size: BlockSize) -> Self {
        Self {
            device,
            block_bytes: block_size.bytes_u64(),
            in_flight: FuturesUnordered::new(),
            spare: Vec::new(),
            buffer: IoBuf::with_capacity(WRITE_BYTES_MAX),
            offset: 0,
            written_bytes: 0,
            writes: 0,
        }
    }

    /// Adds whole blocks that belong at `addr`.
    pub(crate) async fn push(&mut self, addr: BlockAddr, blocks: &[u8]) -> Result<(), DeviceError> {
        let offset = addr.0 * self.block_bytes;
        let follows = self.offset + self.buffer.len() as u64 == offset;
        if !follows || self.buffer.len() + blocks.len() > WRITE_BYTES_MAX {
            self.submit().await?;
            self.offset = offset;
        }
        self.buffer.extend_from_slice(blocks);
        Ok(())
    }

    /// Bytes handed to the device until now.
    pub(crate) const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes handed to the device until now.
    pub(crate) const fn writes(&self) -> u64 {
        self.writes
    }

    async fn submit(&mut self) -> Result<(), DeviceError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            if let Some(done) = self.in_flight.next().await {
                self.keep(done?);
            }
        }
        let next = self.spare.pop().unwrap_or_else(|| IoBuf::with_capacity(WRITE_BYTES_MAX));
        let full = std::mem::replace(&mut self.buffer, next);
        self.written_bytes += full.len() as u64;
        self.writes += 1;
        self.in_flight.push(self.device.write(self.offset, full, Durability::Cached));
        // A write starts when it is polled for the first time; the next blocks are made while it runs.
        while let Some(Some(done)) = poll_immediate(self.in_flight.next()).await {
            self.keep(done?);
        }
        Ok(())
    }

    fn keep(&mut self, mut buffer: IoBuf) {
        buffer.clear();
        self.spare.push(buffer);
    }

    /// Waits until everything is written and durable.
    pub(crate) async fn finish(&mut self) -> Result<(), DeviceError> {
        self.submit().await?;
        while let Some(done) = self.in_flight.next().await {
            self.keep(done?);
        }
        self.device.flush().await
    }
}
