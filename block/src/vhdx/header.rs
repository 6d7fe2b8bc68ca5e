//! The two headers: which is in force, and how they are replaced so that one always is.

use std::os::fd::OwnedFd;

use zerocopy::{FromBytes, IntoBytes};

use crate::device::IoBuf;
use crate::sys;
use crate::vhdx::error::{VhdxError, io};
use crate::vhdx::file::TableFile;
use crate::vhdx::format::{Guid, HEADER_OFFSETS, HEADER_SIGNATURE, LOG_SECTOR_BYTES, MIB, RawHeader, checksum};

/// The header in force, and which of the two places it has.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    pub(crate) current: RawHeader,
    place: usize,
}

impl Headers {
    /// Finds the header in force.
    pub(crate) fn read(file: &TableFile) -> Result<Self, VhdxError> {
        let mut found: Option<Self> = None;
        for (place, offset) in HEADER_OFFSETS.into_iter().enumerate() {
            let buf = file.read("header", offset, LOG_SECTOR_BYTES)?;
            let Some(header) = parse(&buf) else { continue };
            match &found {
                Some(other) if other.current.sequence == header.sequence => {
                    if other.current != header {
                        return Err(VhdxError::HeadersContradict);
                    }
                }
                Some(other) if other.current.sequence > header.sequence => {}
                _ => found = Some(Self { current: header, place }),
            }
        }
        let found = found.ok_or(VhdxError::HeadersDamaged)?;
        if found.current.version.get() != 1 {
            return Err(VhdxError::Version { version: found.current.version.get() });
        }
        Ok(found)
    }

    /// Where the log is, in bytes: offset and length.
    pub(crate) fn log_place(&self) -> Result<(u64, u64), VhdxError> {
        let (offset_bytes, len_bytes) =
            (self.current.log_offset_bytes.get(), u64::from(self.current.log_len_bytes.get()));
        let aligned = offset_bytes.is_multiple_of(MIB) && len_bytes.is_multiple_of(MIB);
        if !aligned || offset_bytes < MIB || len_bytes == 0 || offset_bytes.checked_add(len_bytes).is_none() {
            return Err(VhdxError::LogPlace { offset_bytes, len_bytes });
        }
        Ok((offset_bytes, len_bytes))
    }

    /// Whether the log has to be replayed before anything else is believed.
    pub(crate) fn log_is_dirty(&self) -> bool {
        self.current.log_id != Guid::NIL
    }

    /// Puts a changed header in force, durably. The other place is written first, so that one of the two is intact at
    /// any moment; then the same is done again, so that both say the same.
    pub(crate) fn replace(&mut self, fd: &OwnedFd, change: impl FnOnce(&mut RawHeader)) -> Result<(), VhdxError> {
        let mut next = self.current;
        change(&mut next);
        for _ in 0..2 {
            next.sequence.set(self.current.sequence.get().saturating_add(1));
            seal(&mut next);
            let place = 1 - self.place;
            let buf = IoBuf::copied_from(next.as_bytes());
            sys::write_durable(fd, &buf, HEADER_OFFSETS[place]).map_err(io("writing a header"))?;
            *self = Self { current: next, place };
        }
        Ok(())
    }
}

/// Fills in the checksum.
pub(crate) fn seal(header: &mut RawHeader) {
    header.checksum.set(checksum(header.as_bytes()));
}

fn parse(bytes: &[u8]) -> Option<RawHeader> {
    let header = RawHeader::read_from_bytes(bytes).ok()?;
    (header.signature == HEADER_SIGNATURE && header.checksum.get() == checksum(bytes)).then_some(header)
}
