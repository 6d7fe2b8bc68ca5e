//! The trait that all devices implement, its buffers and its errors.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use aligned_vec::{AVec, ConstAlign};

/// Alignment of every buffer, in bytes: enough for O_DIRECT on all sector sizes in use.
pub const BUFFER_ALIGN_BYTES: usize = 4096;

/// A future that a device returns. Boxed, so that the trait stays usable as `dyn`.
pub type IoFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeviceError>> + Send + 'a>>;

/// An aligned buffer that travels to the device and back.
///
/// A request owns its buffer until it is complete, so a caller that goes away cannot free memory that the kernel
/// still writes to.
#[derive(Debug, Clone)]
pub struct IoBuf(AVec<u8, ConstAlign<BUFFER_ALIGN_BYTES>>);

impl IoBuf {
    /// A buffer of `len_bytes` zeroes.
    pub fn zeroed(len_bytes: usize) -> Self {
        Self(AVec::__from_elem(BUFFER_ALIGN_BYTES, 0, len_bytes))
    }

    /// A buffer with a copy of `bytes`.
    pub fn copied_from(bytes: &[u8]) -> Self {
        Self(AVec::from_slice(BUFFER_ALIGN_BYTES, bytes))
    }

    /// An empty buffer with room for `len_bytes`.
    pub fn with_capacity(len_bytes: usize) -> Self {
        Self(AVec::with_capacity(BUFFER_ALIGN_BYTES, len_bytes))
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends a copy of `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Deref for IoBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for IoBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What a device is like. Constant while it is open, except for `size_bytes` of a device that is grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Usable size, in bytes; a multiple of `logical_sector_bytes`.
    pub size_bytes: u64,
    /// Smallest unit the device reads and writes, in bytes. Offsets and lengths of requests are multiples of it.
    pub logical_sector_bytes: u32,
    /// Smallest unit the medium writes without reading first, in bytes.
    pub physical_sector_bytes: u32,
    /// No write will be accepted.
    pub read_only: bool,
    /// `discard` does something.
    pub discards: bool,
}

/// Why a device request failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The request reaches past the end of the device, or is not a multiple of the logical sector.
    #[error(
        "{operation} of {len_bytes} bytes at byte {offset_bytes}: outside the device or not aligned to its sectors"
    )]
    OutOfRange {
        /// What was asked for.
        operation: Operation,
        /// Where, in bytes from the start of the device.
        offset_bytes: u64,
        /// How much, in bytes.
        len_bytes: u64,
    },
    /// The device was opened for reading only.
    #[error("{operation} at byte {offset_bytes}: the device is open read-only")]
    ReadOnly {
        /// What was asked for.
        operation: Operation,
        /// Where, in bytes from the start of the device.
        offset_bytes: u64,
    },
    /// The operating system reported an error.
    #[error("{operation} of {len_bytes} bytes at byte {offset_bytes} failed")]
    Io {
        /// What was asked for.
        operation: Operation,
        /// Where, in bytes from the start of the device.
        offset_bytes: u64,
        /// How much, in bytes.
        len_bytes: u64,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The threads that serve the device are gone (the device is being closed).
    #[error("{operation}: the device is closed")]
    Closed {
        /// What was asked for.
        operation: Operation,
    },
}

/// Kind of a device request, for messages and fault injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Read.
    Read,
    /// Write, durable or not.
    Write,
    /// Flush of the device's volatile cache.
    Flush,
    /// Discard.
    Discard,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
        })
    }
}

/// How durable a write is when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the device's cache: a power cut may lose it until the next flush.
    Cached,
    /// On stable storage (forced unit access).
    Durable,
}

/// A disk. All methods may be called from any thread, and from any async runtime or none.
pub trait BlockDevice: Send + Sync + 'static {
    /// What the device is like now.
    fn geometry(&self) -> Geometry;

    /// Fills the whole of `buf` from `offset_bytes` on, and gives it back.
    ///
    /// # Errors
    /// `OutOfRange`, `Io`, `Closed`.
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf>;

    /// Writes the whole of `data` at `offset_bytes`, and gives the buffer back for reuse.
    ///
    /// # Errors
    /// `OutOfRange`, `ReadOnly`, `Io`, `Closed`. After an error any part of the range may have been written.
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf>;

    /// Makes durable every write that was complete when this was called.
    ///
    /// # Errors
    /// `Io`, `Closed`.
    fn flush(&self) -> IoFuture<'_, ()>;

    /// Tells the device that a range is not in use any more. Its content is undefined until it is written again.
    /// Does nothing where `Geometry::discards` is false.
    ///
    /// # Errors
    /// `OutOfRange`, `ReadOnly`, `Io`, `Closed`.
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()>;
}

impl Geometry {
    /// Checks a request against size and sectors.
    ///
    /// # Errors
    /// `OutOfRange`, and `ReadOnly` for what changes a read-only device.
    pub fn check(&self, operation: Operation, offset_bytes: u64, len_bytes: u64) -> Result<(), DeviceError> {
        let sector = u64::from(self.logical_sector_bytes.max(1));
        let end = offset_bytes.checked_add(len_bytes);
        if end.is_none_or(|end| end > self.size_bytes)
            || !offset_bytes.is_multiple_of(sector)
            || !len_bytes.is_multiple_of(sector)
        {
            return Err(DeviceError::OutOfRange { operation, offset_bytes, len_bytes });
        }
        if self.read_only && matches!(operation, Operation::Write | Operation::Discard) {
            return Err(DeviceError::ReadOnly { operation, offset_bytes });
        }
        Ok(())
    }
}
