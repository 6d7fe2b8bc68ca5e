//! The file below a `.vhdx` disk, as those see it who read its tables.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::device::IoBuf;
use crate::sys;
use crate::vhdx::error::{VhdxError, io};
use crate::vhdx::format::LOG_SECTOR_BYTES;

/// The file, with the changes of a log on top that could not be written because the file is read-only.
pub(crate) struct TableFile {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) size_bytes: u64,
    /// Log sectors that hide what is in the file, by their number in the file.
    pub(crate) overlay: BTreeMap<u64, Box<[u8; LOG_SECTOR_BYTES]>>,
}

impl TableFile {
    pub(crate) fn new(fd: Arc<OwnedFd>) -> Result<Self, VhdxError> {
        let size_bytes = sys::file_size(&fd).map_err(io("asking for the file's size"))?;
        Ok(Self { fd, size_bytes, overlay: BTreeMap::new() })
    }

    /// Reads a range that begins and ends on a multiple of 4 KiB.
    pub(crate) fn read(&self, what: &'static str, offset_bytes: u64, len: usize) -> Result<IoBuf, VhdxError> {
        self.contains(what, offset_bytes, len as u64)?;
        let mut buf = IoBuf::zeroed(len);
        sys::read_full(&self.fd, &mut buf, offset_bytes).map_err(io("reading"))?;
        let first = offset_bytes / LOG_SECTOR_BYTES as u64;
        for (number, sector) in (first..).zip(buf.chunks_mut(LOG_SECTOR_BYTES)) {
            if let Some(newer) = self.overlay.get(&number) {
                sector.copy_from_slice(&newer[..sector.len()]);
            }
        }
        Ok(buf)
    }

    /// Checks that the file is long enough.
    pub(crate) fn contains(&self, what: &'static str, offset_bytes: u64, len_bytes: u64) -> Result<(), VhdxError> {
        let end_bytes = offset_bytes.saturating_add(len_bytes);
        if end_bytes > self.size_bytes {
            return Err(VhdxError::Truncated { what, end_bytes, size_bytes: self.size_bytes });
        }
        Ok(())
    }
}
