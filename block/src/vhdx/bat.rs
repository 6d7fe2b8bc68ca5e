//! The block table: where in the file each block of the disk is.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::IoBuf;
use crate::sys;
use crate::vhdx::error::{VhdxError, io};
use crate::vhdx::file::TableFile;
use crate::vhdx::format::{BAT_ENTRY_BYTES, LOG_SECTOR_BYTES, MIB};
use crate::vhdx::tables::{Disk, Extent};

/// How much of the table is read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Bits of an entry that hold the state.
const STATE_MASK: u64 = 7;
/// Bits of an entry that hold the place, in units of 1 MiB; below them are the state and unused bits.
const PLACE_SHIFT: u32 = 20;

/// State of a block: its content is in the file.
const FULLY_PRESENT: u64 = 6;
/// State of a block: part of its content is in the parent.
const PARTIALLY_PRESENT: u64 = 7;
/// States of a block without content: never written, undefined, zeroes, unmapped. All read as zeroes here.
const WITHOUT_CONTENT: std::ops::RangeInclusive<u64> = 0..=3;

/// An entry for a block that is in the file at a multiple of 1 MiB.
pub(crate) fn entry_at(offset_bytes: u64) -> u64 {
    (offset_bytes / MIB) << PLACE_SHIFT | FULLY_PRESENT
}

/// The block table of an open disk.
pub(crate) struct Bat {
    /// For each payload block its place in bytes; zero, where the header is, for a block without content.
    places: Vec<AtomicU64>,
    region: Extent,
    disk: Disk,
}

impl Bat {
    /// Reads and checks the table. `others` are the parts of the file where no block can be.
    pub(crate) fn read(file: &TableFile, disk: Disk, region: Extent, others: &[Extent]) -> Result<Self, VhdxError> {
        let needed_bytes = disk.bat_bytes();
        if needed_bytes > region.len_bytes {
            return Err(VhdxError::BlockTableShort { len_bytes: region.len_bytes, needed_bytes });
        }
        let mut places = Vec::new();
        let mut extents = others.to_vec();
        let mut entry: u64 = 0;
        let mut piece_at = 0;
        let between_bitmaps = disk.chunk_ratio() + 1;
        while piece_at < needed_bytes {
            // The region is a multiple of 1 MiB long.
            let piece = file.read("block table", region.offset_bytes + piece_at, PIECE_BYTES)?;
            piece_at += PIECE_BYTES as u64;
            for raw in piece.as_chunks().0 {
                if entry == needed_bytes / BAT_ENTRY_BYTES {
                    break;
                }
                entry += 1;
                // The last of each chunk is for a sector bitmap, which only differencing disks have.
                if entry.is_multiple_of(between_bitmaps) {
                    continue;
                }
                let block = places.len() as u64;
                let place = checked_place(file, disk, block, u64::from_le_bytes(*raw))?;
                if place != 0 {
                    let len_bytes = disk.used_bytes(block);
                    extents.push(Extent { what: "a block of the disk", offset_bytes: place, len_bytes });
                }
                places.push(AtomicU64::new(place));
            }
        }
        refuse_overlaps(extents)?;
        Ok(Self { places, region, disk })
    }

    /// Where a block is, in bytes from the start of the file. `None` if it has no content.
    pub(crate) fn place(&self, block: u64) -> Option<u64> {
        let place = self.places.get(usize::try_from(block).ok()?)?.load(Ordering::Acquire);
        (place != 0).then_some(place)
    }

    /// Whether any of the blocks that have content touches a range of the file.
    pub(crate) fn touches(&self, offset_bytes: u64, len_bytes: u64) -> bool {
        let end = offset_bytes.saturating_add(len_bytes);
        self.places.iter().any(|place| {
            let place = place.load(Ordering::Relaxed);
            place != 0 && place < end && offset_bytes < place.saturating_add(self.disk.block_bytes)
        })
    }

    /// Gives a block its place, durably. What is there has to be durable already.
    ///
    /// The entry is 8 bytes within one sector, and the rest of the sector is written as it was: whatever part of the
    /// write a power cut leaves, the table is the old or the new one. So this needs no log. One caller at a time.
    pub(crate) fn set_place(&self, fd: &OwnedFd, block: u64, place: u64) -> Result<(), std::io::Error> {
        let at = self.region.offset_bytes + self.disk.entry_of(block) * BAT_ENTRY_BYTES;
        let sector = LOG_SECTOR_BYTES as u64;
        let within = usize::try_from(at % sector).unwrap_or(0);
        let mut buf = IoBuf::zeroed(LOG_SECTOR_BYTES);
        sys::read_full(fd, &mut buf, at - at % sector)?;
        buf[within..within + 8].copy_from_slice(&entry_at(place).to_le_bytes());
        sys::write_durable(fd, &buf, at - at % sector)?;
        if let Some(known) = usize::try_from(block).ok().and_then(|index| self.places.get(index)) {
            known.store(place, Ordering::Release);
        }
        Ok(())
    }
}

fn checked_place(file: &TableFile, disk: Disk, block: u64, entry: u64) -> Result<u64, VhdxError> {
    let state = entry & STATE_MASK;
    if WITHOUT_CONTENT.contains(&state) {
        return Ok(0);
    }
    if state == PARTIALLY_PRESENT || state != FULLY_PRESENT {
        return Err(VhdxError::BlockState { block, state });
    }
    let offset_bytes = (entry >> PLACE_SHIFT).checked_mul(MIB).unwrap_or(0);
    if offset_bytes == 0 {
        return Err(VhdxError::BlockPlace { block, offset_bytes });
    }
    file.contains("content", offset_bytes, disk.used_bytes(block))?;
    Ok(offset_bytes)
}

/// Two blocks in one place would overwrite each other.
pub(crate) fn refuse_overlaps(mut extents: Vec<Extent>) -> Result<(), VhdxError> {
    extents.sort_unstable_by_key(|extent| extent.offset_bytes);
    for pair in extents.windows(2) {
        let [first, second] = pair else { continue };
        if first.offset_bytes.saturating_add(first.len_bytes) > second.offset_bytes {
            return Err(VhdxError::Overlap {
                first: first.what,
                second: second.what,
                offset_bytes: second.offset_bytes,
            });
        }
    }
    Ok(())
}

/// The first multiple of 1 MiB at or behind the end of the file: new blocks go there.
///
/// # Errors
/// `FileTooLarge` when there is no such number.
pub(crate) fn end_of_file(file: &TableFile) -> Result<u64, VhdxError> {
    file.size_bytes
        .checked_next_multiple_of(MIB)
        .ok_or_else(|| io("finding the end of the file")(std::io::Error::from(std::io::ErrorKind::FileTooLarge)))
}
