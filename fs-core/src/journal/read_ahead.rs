//! Reads a part of a log from its start to its end, a few requests ahead of who looks at it.

use std::future::Future;
use std::pin::Pin;

use block::device::{BlockDevice, IoBuf};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::extents::JournalMap;
use crate::error::FsError;

/// Size of a request: large enough that a disk streams, small enough that a head near the start is found soon.
const CHUNK_BYTES: u32 = 1 << 20;
/// Requests in flight.
const DEPTH: usize = 4;

type Chunk<'a> = Pin<Box<dyn Future<Output = Result<(u32, IoBuf), FsError>> + Send + 'a>>;

/// The chunks of a part of the log, in order.
pub(super) struct ReadAhead<'a> {
    device: &'a dyn BlockDevice,
    map: &'a JournalMap,
    position: u32,
    left: u32,
    in_flight: FuturesOrdered<Chunk<'a>>,
}

impl<'a> ReadAhead<'a> {
    /// Of `count` blocks from `position` on, around the end of the journal if need be.
    pub(super) fn new(device: &'a dyn BlockDevice, map: &'a JournalMap, position: u32, count: u32) -> Self {
        Self { device, map, position, left: count.min(map.blocks()), in_flight: FuturesOrdered::new() }
    }

    /// The next chunk: the position of its first block, and whole blocks.
    pub(super) async fn next(&mut self) -> Option<Result<(u32, IoBuf), FsError>> {
        while self.left > 0 && self.in_flight.len() < DEPTH {
            let (device, map, position) = (self.device, self.map, self.position);
            let count = self.left.min(CHUNK_BYTES >> map.block_size().shift());
            self.in_flight.push_back(Box::pin(async move { Ok((position, map.read(device, position, count).await?)) }));
            self.position = map.advance(position, count);
            self.left -= count;
        }
        self.in_flight.next().await
    }
}
