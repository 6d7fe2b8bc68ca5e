//! A sparse disk in memory, for tests and tools.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture, Operation};

/// Bytes per chunk of the sparse store.
const CHUNK_BYTES: u64 = 4096;
/// The same as a length in memory.
const CHUNK_LEN: usize = 4096;

/// A disk in memory. Chunks that were never written read as zeroes and take no memory, so it can be very large.
#[derive(Clone)]
pub struct MemDevice {
    geometry: Geometry,
    chunks: Arc<Mutex<BTreeMap<u64, Box<[u8]>>>>,
}

impl MemDevice {
    /// A disk of `size_bytes` zeroes with sectors of 512 bytes.
    pub fn new(size_bytes: u64) -> Self {
        let geometry = Geometry {
            size_bytes,
            logical_sector_bytes: 512,
            physical_sector_bytes: 512,
            read_only: false,
            discards: true,
        };
        Self { geometry, chunks: Arc::default() }
    }

    fn copy_out(&self, mut offset: u64, mut buf: &mut [u8]) {
        let chunks = self.chunks.lock();
        while !buf.is_empty() {
            let (index, within) = (offset / CHUNK_BYTES, usize::try_from(offset % CHUNK_BYTES).unwrap_or(0));
            let take = buf.len().min(CHUNK_LEN - within);
            let (head, rest) = buf.split_at_mut(take);
            match chunks.get(&index) {
                Some(chunk) => head.copy_from_slice(&chunk[within..within + take]),
                None => head.fill(0),
            }
            buf = rest;
            offset += take as u64;
        }
    }

    fn copy_in(&self, mut offset: u64, mut data: &[u8]) {
        let mut chunks = self.chunks.lock();
        while !data.is_empty() {
            let (index, within) = (offset / CHUNK_BYTES, usize::try_from(offset % CHUNK_BYTES).unwrap_or(0));
            let take = data.len().min(CHUNK_LEN - within);
            let (head, rest) = data.split_at(take);
            let chunk = chunks.entry(index).or_insert_with(|| vec![0; CHUNK_LEN].into_boxed_slice());
            chunk[within..within + take].copy_from_slice(head);
            data = rest;
            offset += take as u64;
        }
    }
}

impl BlockDevice for MemDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset_bytes: u64, mut buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry.check(Operation::Read, offset_bytes, buf.len() as u64)?;
            self.copy_out(offset_bytes, &mut buf);
            Ok(buf)
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, _durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry.check(Operation::Write, offset_bytes, data.len() as u64)?;
            self.copy_in(offset_bytes, &data);
            Ok(data)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.geometry.check(Operation::Discard, offset_bytes, len_bytes)?;
            let (first, end) = (offset_bytes.div_ceil(CHUNK_BYTES), (offset_bytes + len_bytes) / CHUNK_BYTES);
            let mut chunks = self.chunks.lock();
            let gone: Vec<u64> = chunks.range(first..end.max(first)).map(|(index, _)| *index).collect();
            for index in gone {
                chunks.remove(&index);
            }
            Ok(())
        })
    }
}
