//! Virtual disks in `.vhdx` files, after Microsoft's published specification (MS-VHDX). Fixed and dynamic disks;
//! differencing disks are refused by name.
//!
//! Laws
//! * Nothing in the file is believed before it was checked; a damaged file is an error that names the rule it breaks.
//! * A log left by somebody else is replayed before any table is read. We leave none: the only table that changes is
//!   the block table, entry by entry, each after what it points to is durable.
//! * A block without content reads as zeroes.

mod bat;
mod create;
mod error;
mod file;
mod format;
mod header;
mod log;
mod tables;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::device::{BlockDevice, DeviceError, Durability, Geometry, IoBuf, IoFuture, Operation};
use crate::raw::{RawDevice, finish};
use crate::sys;

use bat::Bat;
use file::TableFile;
use format::{Guid, MIB};
use header::Headers;
use tables::{Disk, Extent};

pub use create::{Kind, create};
pub use error::VhdxError;
pub(crate) use format::SIGNATURE;

/// An open `.vhdx` file.
pub struct VhdxDevice {
    raw: RawDevice,
    disk: Arc<OpenDisk>,
    geometry: Geometry,
}

/// What the writer threads share.
struct OpenDisk {
    fd: Arc<OwnedFd>,
    disk: Disk,
    bat: Bat,
    /// The header says already that this session writes.
    announced: AtomicBool,
    /// Held while a block gets its place, and while the header changes.
    growing: Mutex<Growing>,
}

struct Growing {
    headers: Headers,
    /// Where the next block goes, in bytes; a multiple of 1 MiB.
    end_bytes: u64,
}

/// A part of a request that is within one block.
struct Piece {
    block: u64,
    within_bytes: u64,
    range: Range<usize>,
}

impl VhdxDevice {
    /// Reads and checks the tables of a file; replays its log.
    pub(crate) fn open(raw: RawDevice) -> Result<Self, VhdxError> {
        let below = raw.geometry();
        let mut file = TableFile::new(Arc::clone(raw.fd()))?;
        let mut headers = Headers::read(&file)?;
        log::replay(&mut file, &mut headers, below.read_only)?;

        let regions = tables::read_regions(&file)?;
        let (log_offset_bytes, log_len_bytes) = headers.log_place()?;
        let others = [
            Extent { what: "the header", offset_bytes: 0, len_bytes: MIB },
            Extent { what: "the log", offset_bytes: log_offset_bytes, len_bytes: log_len_bytes },
            regions.bat,
            regions.metadata,
        ];
        bat::refuse_overlaps(others.to_vec())?;
        let disk = tables::read_metadata(&file, regions.metadata)?;
        let bat = Bat::read(&file, disk, regions.bat, &others)?;
        let hides_content = |sector: &u64| bat.touches(sector * format::LOG_SECTOR_BYTES as u64, 1);
        if file.overlay.keys().any(hides_content) {
            return Err(VhdxError::LogNeedsWriting);
        }

        let geometry = Geometry {
            size_bytes: disk.size_bytes,
            logical_sector_bytes: disk.logical_sector_bytes,
            physical_sector_bytes: disk.physical_sector_bytes,
            ..below
        };
        let growing = Mutex::new(Growing { headers, end_bytes: bat::end_of_file(&file)? });
        let disk = OpenDisk { fd: file.fd, disk, bat, announced: AtomicBool::new(false), growing };
        Ok(Self { raw, disk: Arc::new(disk), geometry })
    }

    async fn read_pieces(&self, offset_bytes: u64, mut buf: IoBuf) -> Result<IoBuf, DeviceError> {
        for Piece { block, within_bytes, range } in self.disk.pieces(offset_bytes, buf.len()) {
            match self.disk.bat.place(block) {
                Some(place) => {
                    let part = self.raw.read_unchecked(place + within_bytes, IoBuf::zeroed(range.len())).await?;
                    buf[range].copy_from_slice(&part);
                }
                None => buf[range].fill(0),
            }
        }
        Ok(buf)
    }
}

impl OpenDisk {
    /// Where a range is in the file if it is within one block that has content.
    fn place_of_all(&self, offset_bytes: u64, len_bytes: u64) -> Option<u64> {
        let (block, within_bytes) = (offset_bytes / self.disk.block_bytes, offset_bytes % self.disk.block_bytes);
        if within_bytes + len_bytes > self.disk.block_bytes {
            return None;
        }
        self.bat.place(block).map(|place| place + within_bytes)
    }

    /// Cuts a range at the borders of blocks.
    fn pieces(&self, offset_bytes: u64, len: usize) -> impl Iterator<Item = Piece> + use<> {
        let block_bytes = self.disk.block_bytes;
        let mut start: usize = 0;
        std::iter::from_fn(move || {
            let at = offset_bytes + start as u64;
            let (block, within_bytes) = (at / block_bytes, at % block_bytes);
            let room = usize::try_from(block_bytes - within_bytes).unwrap_or(usize::MAX);
            let end = len.min(start.saturating_add(room));
            let range = start..end;
            start = end;
            (!range.is_empty()).then_some(Piece { block, within_bytes, range })
        })
    }

    /// Says in the header, once, that the file and the content of the disk are about to change.
    fn announce(&self) -> io::Result<()> {
        if self.announced.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut growing = self.growing.lock();
        if !self.announced.load(Ordering::Acquire) {
            let announced = growing.headers.replace(&self.fd, |header| {
                header.file_write_id = Guid::random();
                header.data_write_id = Guid::random();
            });
            announced.map_err(io::Error::other)?;
            self.announced.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn write(&self, offset_bytes: u64, data: &IoBuf, durability: Durability) -> io::Result<()> {
        self.announce()?;
        for Piece { block, within_bytes, range } in self.pieces(offset_bytes, data.len()) {
            if range.len() == data.len() {
                self.write_piece(block, within_bytes, data, durability)?;
            } else {
                // A part may begin where direct I/O cannot: the copy is aligned.
                self.write_piece(block, within_bytes, &IoBuf::copied_from(&data[range]), durability)?;
            }
        }
        Ok(())
    }

    fn write_piece(&self, block: u64, within_bytes: u64, data: &IoBuf, durability: Durability) -> io::Result<()> {
        let place = match self.bat.place(block) {
            Some(place) => place,
            None => match self.write_new(block, within_bytes, data)? {
                Some(place) => place,
                None => return Ok(()),
            },
        };
        match durability {
            Durability::Cached => sys::write_full(&self.fd, data, place + within_bytes)?,
            Durability::Durable => sys::write_durable(&self.fd, data, place + within_bytes)?,
        }
        Ok(())
    }

    /// Gives a block its place at the end of the file and writes to it, all durably. If somebody else gave it one
    /// meanwhile, that place is returned and nothing is written.
    fn write_new(&self, block: u64, within_bytes: u64, data: &IoBuf) -> io::Result<Option<u64>> {
        let mut growing = self.growing.lock();
        if let Some(place) = self.bat.place(block) {
            return Ok(Some(place));
        }
        let place = growing.end_bytes;
        let end = place.checked_add(self.disk.block_bytes).ok_or(Errno::FBIG)?;
        // After a failure this place is not used again: nobody knows what is there, or whether the entry was written.
        growing.end_bytes = end;
        // A file that is extended reads as zeroes there, which is what the rest of the block has to be.
        rustix::fs::ftruncate(&self.fd, end)?;
        sys::write_full(&self.fd, data, place + within_bytes)?;
        sys::flush(&self.fd)?;
        self.bat.set_place(&self.fd, block, place)?;
        Ok(None)
    }

    /// Gives the space of a range back to the filesystem. Blocks keep their places.
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> io::Result<()> {
        self.announce()?;
        let (mut at, end) = (offset_bytes, offset_bytes + len_bytes);
        while at < end {
            let within_bytes = at % self.disk.block_bytes;
            let len_bytes = (end - at).min(self.disk.block_bytes - within_bytes);
            if let Some(place) = self.bat.place(at / self.disk.block_bytes) {
                match sys::punch_hole(&self.fd, place + within_bytes, len_bytes) {
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            at += len_bytes;
        }
        Ok(())
    }
}

impl BlockDevice for VhdxDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            let len_bytes = buf.len() as u64;
            self.geometry.check(Operation::Read, offset_bytes, len_bytes)?;
            match self.disk.place_of_all(offset_bytes, len_bytes) {
                Some(place) if len_bytes > 0 => self.raw.read_unchecked(place, buf).await,
                _ => self.read_pieces(offset_bytes, buf).await,
            }
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            let len_bytes = data.len() as u64;
            self.geometry.check(Operation::Write, offset_bytes, len_bytes)?;
            let disk = Arc::clone(&self.disk);
            let write = move || disk.write(offset_bytes, &data, durability).map(|()| data);
            finish(self.raw.writers().call(write).await, Operation::Write, offset_bytes, len_bytes)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        self.raw.flush()
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.geometry.check(Operation::Discard, offset_bytes, len_bytes)?;
            if !self.geometry.discards || len_bytes == 0 {
                return Ok(());
            }
            let disk = Arc::clone(&self.disk);
            let discard = move || disk.discard(offset_bytes, len_bytes);
            finish(self.raw.writers().call(discard).await, Operation::Discard, offset_bytes, len_bytes)
        })
    }
}
