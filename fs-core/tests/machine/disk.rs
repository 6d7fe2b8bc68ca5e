//! Disks in memory, and the log of one.
//!
//! A disk of a workload yields at random within each request, so that requests overlap in all orders; a read that meets
//! a write under way sees any mixture of old and new sectors. Two writes of one sector at the same time are nobody's
//! right, and end the test.

use std::sync::Arc;

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture, Operation};
use parking_lot::Mutex;
use posix_model::rng::Rng;

pub(crate) const SECTOR: usize = 512;
const CHUNK: usize = 4096;
/// What stands where nobody has written: no metadata, no content, not zero.
pub(crate) const FILL: u8 = 0xdb;

/// The content of a disk. A clone costs one pointer for each 4 KiB, and shares what neither side has changed.
#[derive(Clone)]
pub(crate) struct Image {
    chunks: Vec<Option<Arc<[u8; CHUNK]>>>,
}

impl Image {
    /// A disk on which nobody has written.
    pub(crate) fn new(size_bytes: u64) -> Self {
        Self { chunks: vec![None; size_bytes as usize / CHUNK] }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK) as u64
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        let mut at = offset as usize;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = at % CHUNK;
            let (part, later) = rest.split_at_mut((CHUNK - within).min(rest.len()));
            match &self.chunks[at / CHUNK] {
                Some(chunk) => part.copy_from_slice(&chunk[within..within + part.len()]),
                None => part.fill(FILL),
            }
            at += part.len();
            rest = later;
        }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset as usize;
        let mut rest = data;
        while !rest.is_empty() {
            let within = at % CHUNK;
            let (part, later) = rest.split_at((CHUNK - within).min(rest.len()));
            let chunk = self.chunks[at / CHUNK].get_or_insert_with(|| Arc::new([FILL; CHUNK]));
            Arc::make_mut(chunk)[within..within + part.len()].copy_from_slice(part);
            at += part.len();
            rest = later;
        }
    }

    pub(crate) fn save(&self, path: &std::path::Path) {
        let mut bytes = vec![0; self.size_bytes() as usize];
        self.read(0, &mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

/// A write as it was asked for.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) offset: u64,
    pub(crate) data: IoBuf,
    pub(crate) durable: bool,
}

/// What happened at a disk. Numbers count writes, or flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Issued(usize),
    Done(usize),
    FlushBegun(usize),
    FlushDone(usize),
}

/// All that happened at a disk, in order.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) writes: Vec<Write>,
    pub(crate) events: Vec<Event>,
    flushes: usize,
}

struct State {
    image: Image,
    log: Log,
    under_way: Vec<(u64, u64)>,
    rng: Rng,
    /// So many requests out of a hundred take so many turns: as long as many others together.
    slow: (u64, u64),
}

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    size_bytes: u64,
    /// Requests are logged, and overlap.
    recording: bool,
}

impl Disk {
    /// A disk whose requests are logged, and overlap.
    pub(crate) fn recording(image: Image, rng: Rng) -> Self {
        Self::with(image, rng, true)
    }

    /// A disk that does at once what it is asked for.
    pub(crate) fn plain(image: Image) -> Self {
        Self::with(image, Rng::new(0), false)
    }

    fn with(image: Image, mut rng: Rng, recording: bool) -> Self {
        let slow = *rng.pick(&[(4, 600), (4, 600), (15, 4000)]);
        let size_bytes = image.size_bytes();
        let state = State { image, log: Log::default(), under_way: Vec::new(), rng, slow };
        Self { state: Arc::new(Mutex::new(state)), size_bytes, recording }
    }

    /// How many events there were so far.
    pub(crate) fn position(&self) -> usize {
        self.state.lock().log.events.len()
    }

    pub(crate) fn take_log(&self) -> Log {
        std::mem::take(&mut self.state.lock().log)
    }

    pub(crate) fn image(&self) -> Image {
        self.state.lock().image.clone()
    }

    /// Lets others run for a while.
    async fn wait(&self) {
        if !self.recording {
            return;
        }
        let turns = {
            let State { rng, slow, .. } = &mut *self.state.lock();
            match rng.below(100) {
                die if die < slow.0 => rng.below(slow.1),
                0..35 => rng.below(12),
                _ => 0,
            }
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.size_bytes,
            logical_sector_bytes: SECTOR as u32,
            physical_sector_bytes: SECTOR as u32,
            read_only: false,
            discards: false,
        }
    }

    fn read(&self, offset_bytes: u64, mut buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry().check(Operation::Read, offset_bytes, buf.len() as u64)?;
            self.wait().await;
            self.state.lock().image.read(offset_bytes, &mut buf);
            self.wait().await;
            Ok(buf)
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry().check(Operation::Write, offset_bytes, data.len() as u64)?;
            if !self.recording {
                self.state.lock().image.write(offset_bytes, &data);
                return Ok(data);
            }
            let range = (offset_bytes, offset_bytes + data.len() as u64);
            let number = {
                let mut state = self.state.lock();
                let State { image, log, under_way, rng, .. } = &mut *state;
                let overlaps = under_way.iter().any(|(start, end)| *start < range.1 && range.0 < *end);
                assert!(!overlaps, "two writes of bytes {range:?} at once: {under_way:?}");
                under_way.push(range);
                for (sector, piece) in data.chunks(SECTOR).enumerate() {
                    if rng.chance(50) {
                        image.write(offset_bytes + (sector * SECTOR) as u64, piece);
                    }
                }
                let number = log.writes.len();
                log.writes.push(Write {
                    offset: offset_bytes,
                    data: data.clone(),
                    durable: durability == Durability::Durable,
                });
                log.events.push(Event::Issued(number));
                number
            };
            self.wait().await;
            let mut state = self.state.lock();
            state.image.write(offset_bytes, &data);
            state.under_way.retain(|other| *other != range);
            state.log.events.push(Event::Done(number));
            Ok(data)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            if !self.recording {
                return Ok(());
            }
            let number = {
                let log = &mut self.state.lock().log;
                log.flushes += 1;
                log.events.push(Event::FlushBegun(log.flushes));
                log.flushes
            };
            self.wait().await;
            self.state.lock().log.events.push(Event::FlushDone(number));
            Ok(())
        })
    }

    fn discard(&self, _: u64, _: u64) -> IoFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
