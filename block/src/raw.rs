//! Block devices and image files.
//!
//! Laws
//! * A block device is never read or written through the page cache: another machine may change it at any time.
//! * Reads go through io_uring where it is to be had, else through threads. Writes, flushes and discards are
//!   synchronous calls on threads of this process.
//! * When the device is dropped, none of its requests is on its way any more.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::device::{BlockDevice, DeviceError, Durability, Geometry, IoBuf, IoFuture, Operation};
use crate::pool::{Gone, Pool};
use crate::sys;
use crate::uring::Ring;

/// Threads that write, flush and discard. Enough to keep a disk busy; a disk that hangs holds no more than these.
const WRITERS_MAX: usize = 16;
/// Threads that read where io_uring is refused.
const READERS_MAX: usize = 16;
/// Shortest write, in bytes, that does not go through the page cache where others do.
const DIRECT_FROM_BYTES: u64 = 512 << 10;

/// What a raw device is kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// A block device.
    Device,
    /// A regular file.
    File,
}

/// An open block device or image file.
pub struct RawDevice {
    file: Arc<RawFile>,
    reads: Reads,
    writers: Arc<Pool>,
}

enum Reads {
    Ring(Ring),
    Threads(Pool),
    /// The device is being dropped.
    Ended,
}

/// The descriptor and what is known about it; shared with the threads.
pub(crate) struct RawFile {
    pub(crate) fd: Arc<OwnedFd>,
    /// The same file past its page cache, for long writes, where `fd` goes through it.
    direct: Option<Arc<OwnedFd>>,
    medium: Medium,
    /// Everything but the size, which `size_bytes` holds.
    fixed: Geometry,
    size_bytes: AtomicU64,
    /// The medium took no discard although it should; it is not asked again.
    discard_refused: AtomicBool,
}

impl RawFile {
    pub(crate) fn new(fd: OwnedFd, medium: Medium, geometry: Geometry) -> Self {
        Self {
            fd: Arc::new(fd),
            direct: None,
            medium,
            fixed: geometry,
            size_bytes: AtomicU64::new(geometry.size_bytes),
            discard_refused: AtomicBool::new(false),
        }
    }

    /// Makes long writes go through `direct`, which is the same file past the page cache.
    pub(crate) fn write_long_through(mut self, direct: OwnedFd) -> Self {
        self.direct = Some(Arc::new(direct));
        self
    }

    /// The descriptor for a write. One that is long enough gains nothing from the page cache and need not be copied to
    /// it. Whole pages only: a page never has a part of each kind, so that neither can undo the other.
    fn fd_to_write(&self, offset_bytes: u64, len_bytes: u64) -> Arc<OwnedFd> {
        let page = rustix::param::page_size() as u64;
        let is_long =
            len_bytes >= DIRECT_FROM_BYTES && offset_bytes.is_multiple_of(page) && len_bytes.is_multiple_of(page);
        Arc::clone(self.direct.as_ref().filter(|_| is_long).unwrap_or(&self.fd))
    }

    /// The geometry with the size that was seen last.
    fn geometry_seen(&self) -> Geometry {
        Geometry {
            size_bytes: self.size_bytes.load(Ordering::Relaxed),
            discards: self.fixed.discards && !self.discard_refused.load(Ordering::Relaxed),
            ..self.fixed
        }
    }

    /// The geometry now: the medium may have been grown.
    fn geometry_now(&self) -> Geometry {
        let size = match self.medium {
            Medium::Device => sys::device_size(&self.fd),
            Medium::File => sys::file_size(&self.fd),
        };
        if let Ok(size) = size {
            let sector = u64::from(self.fixed.logical_sector_bytes);
            self.size_bytes.store(size - size % sector, Ordering::Relaxed);
        }
        self.geometry_seen()
    }

    fn check(&self, operation: Operation, offset_bytes: u64, len_bytes: u64) -> Result<(), DeviceError> {
        match self.geometry_seen().check(operation, offset_bytes, len_bytes) {
            Err(DeviceError::OutOfRange { .. }) => self.geometry_now().check(operation, offset_bytes, len_bytes),
            other => other,
        }
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> Result<(), Errno> {
        if len_bytes == 0 || !self.geometry_seen().discards {
            return Ok(());
        }
        let discarded = match self.medium {
            Medium::Device => sys::discard_device(&self.fd, offset_bytes, len_bytes),
            Medium::File => sys::punch_hole(&self.fd, offset_bytes, len_bytes),
        };
        match discarded {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.discard_refused.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }
}

impl RawDevice {
    /// Starts the threads (and the ring) of an open medium.
    pub(crate) fn start(file: RawFile, io_uring: bool) -> io::Result<Self> {
        let writers = Arc::new(Pool::start("lunfs-writes", WRITERS_MAX)?);
        let ring =
            if io_uring { Ring::start(Arc::clone(&file.fd), Arc::clone(&writers)) } else { Err(Errno::NOSYS.into()) };
        let reads = match ring {
            Ok(ring) => Reads::Ring(ring),
            Err(error) => {
                if io_uring {
                    tracing::warn!(%error, "io_uring is refused on this machine: reads go through threads, which is slower");
                } else {
                    tracing::info!("io_uring is switched off: reads go through threads");
                }
                Reads::Threads(Pool::start("lunfs-reads", READERS_MAX)?)
            }
        };
        Ok(Self { file: Arc::new(file), reads, writers })
    }

    /// The descriptor, for synchronous calls on the writer threads.
    pub(crate) fn fd(&self) -> &Arc<OwnedFd> {
        &self.file.fd
    }

    /// The threads for synchronous calls.
    pub(crate) fn writers(&self) -> &Arc<Pool> {
        &self.writers
    }

    /// Fills `buf` without looking at the size of the medium.
    pub(crate) async fn read_unchecked(&self, offset_bytes: u64, mut buf: IoBuf) -> Result<IoBuf, DeviceError> {
        let len_bytes = buf.len() as u64;
        let answer = match &self.reads {
            Reads::Ring(ring) => ring.read(offset_bytes, buf).await.map_err(|_| Gone),
            Reads::Ended => Err(Gone),
            Reads::Threads(pool) => {
                let fd = Arc::clone(&self.file.fd);
                pool.call(move || sys::read_full(&fd, &mut buf, offset_bytes).map(|()| buf).map_err(io::Error::from))
                    .await
            }
        };
        finish(answer, Operation::Read, offset_bytes, len_bytes)
    }
}

/// Turns the answer of a thread into that of the device.
pub(crate) fn finish<T, E: Into<io::Error>>(
    answer: Result<Result<T, E>, Gone>,
    operation: Operation,
    offset_bytes: u64,
    len_bytes: u64,
) -> Result<T, DeviceError> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(DeviceError::Io { operation, offset_bytes, len_bytes, source: error.into() }),
        Err(Gone) => Err(DeviceError::Closed { operation }),
    }
}

impl Drop for RawDevice {
    fn drop(&mut self) {
        // The ring hands what it leaves unfinished to the writers, so it ends before them.
        match std::mem::replace(&mut self.reads, Reads::Ended) {
            Reads::Ring(ring) => drop(ring),
            Reads::Threads(pool) => drop(pool),
            Reads::Ended => {}
        }
        self.writers.close();
    }
}

impl BlockDevice for RawDevice {
    fn geometry(&self) -> Geometry {
        self.file.geometry_now()
    }

    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.file.check(Operation::Read, offset_bytes, buf.len() as u64)?;
            if buf.is_empty() {
                return Ok(buf);
            }
            self.read_unchecked(offset_bytes, buf).await
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            let len_bytes = data.len() as u64;
            self.file.check(Operation::Write, offset_bytes, len_bytes)?;
            let fd = self.file.fd_to_write(offset_bytes, len_bytes);
            let write = move || match durability {
                Durability::Cached => sys::write_full(&fd, &data, offset_bytes).map(|()| data),
                Durability::Durable => sys::write_durable(&fd, &data, offset_bytes).map(|()| data),
            };
            finish(self.writers.call(write).await, Operation::Write, offset_bytes, len_bytes)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let fd = Arc::clone(&self.file.fd);
            finish(self.writers.call(move || sys::flush(&fd)).await, Operation::Flush, 0, 0)
        })
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.file.check(Operation::Discard, offset_bytes, len_bytes)?;
            let file = Arc::clone(&self.file);
            let discard = move || file.discard(offset_bytes, len_bytes);
            finish(self.writers.call(discard).await, Operation::Discard, offset_bytes, len_bytes)
        })
    }
}
