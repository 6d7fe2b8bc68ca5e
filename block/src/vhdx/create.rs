//! New `.vhdx` files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use crate::vhdx::bat::entry_at;
use crate::vhdx::error::{VhdxError, io};
use crate::vhdx::format::{
    BAT_ENTRY_BYTES, DISK_MAX_BYTES, Guid, HEADER_OFFSETS, HEADER_SIGNATURE, METADATA_DISK, METADATA_REQUIRED,
    METADATA_SIGNATURE, MIB, PARAMETER_FIXED, REGION_SIGNATURE, REGION_TABLE_OFFSETS, RawFileParameters, RawHeader,
    RawMetadata, RawMetadataTable, RawRegion, RawRegionTable, SIGNATURE, TABLE_BYTES, checksum,
};
use crate::vhdx::header::seal;
use crate::vhdx::tables::Disk;

/// Where the log is, and how long it is, in bytes.
const LOG_OFFSET_BYTES: u64 = MIB;
const LOG_LEN_BYTES: u32 = 1 << 20;
/// Where the metadata are, and how long they are, in bytes.
const METADATA_OFFSET_BYTES: u64 = 2 * MIB;
const METADATA_LEN_BYTES: u32 = 1 << 20;
/// Where the block table is, in bytes.
const BAT_OFFSET_BYTES: u64 = 3 * MIB;
/// Block size of disks of at least `LARGE_DISK_BYTES`: each first write to a block costs two flushes.
const LARGE_BLOCK_BYTES: u64 = 32 * MIB;
/// Block size of smaller disks, whose files would otherwise be mostly empty blocks.
const SMALL_BLOCK_BYTES: u64 = 2 * MIB;
const LARGE_DISK_BYTES: u64 = 4 << 30;
/// Where the first metadata item is, in bytes from the start of the metadata region.
const ITEMS_OFFSET_BYTES: u32 = 64 << 10;

/// How a new disk takes its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All at once.
    Fixed,
    /// Block by block, when it is written.
    Dynamic,
}

/// Makes a new `.vhdx` file with a disk of zeroes. A file that exists is not touched.
///
/// # Errors
/// `CannotCreate` for a size or sector that the format does not have, `Io`.
pub fn create(path: &Path, size_bytes: u64, kind: Kind, sector_bytes: u32) -> Result<(), VhdxError> {
    let fits = size_bytes > 0 && size_bytes <= DISK_MAX_BYTES && matches!(sector_bytes, 512 | 4096);
    if !fits || !size_bytes.is_multiple_of(sector_bytes.into()) {
        return Err(VhdxError::CannotCreate { size_bytes, sector_bytes });
    }
    let block_bytes = if size_bytes < LARGE_DISK_BYTES { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES };
    let disk = Disk { size_bytes, block_bytes, logical_sector_bytes: sector_bytes, physical_sector_bytes: 4096 };
    let file = File::create_new(path).map_err(io("creating the file"))?;
    let written = write_all(&file, disk, kind);
    if written.is_err() {
        // Half a disk is of no use to anybody; that it is still there says less than the error.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn write_all(file: &File, disk: Disk, kind: Kind) -> Result<(), VhdxError> {
    let bat_bytes = disk.bat_bytes().next_multiple_of(MIB);
    let payload_at = BAT_OFFSET_BYTES + bat_bytes;
    file.set_len(payload_at).map_err(io("extending the file"))?;
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).map_err(io("writing the new disk"));

    put(&SIGNATURE, 0)?;
    let creator: Vec<u8> = "lunfs".encode_utf16().flat_map(u16::to_le_bytes).collect();
    put(&creator, SIGNATURE.len() as u64)?;
    let regions = region_table(bat_bytes);
    for at in REGION_TABLE_OFFSETS {
        put(&regions, at)?;
    }
    put(&metadata(disk, kind), METADATA_OFFSET_BYTES)?;
    if kind == Kind::Fixed {
        reserve(file, payload_at, disk.blocks() * disk.block_bytes)?;
        write_full_table(file, disk, payload_at)?;
    }
    // The headers come last and after everything else is durable: without them it is no disk.
    file.sync_all().map_err(io("flushing the new disk"))?;
    for (sequence, at) in (1..).zip(HEADER_OFFSETS) {
        put(header(sequence).as_bytes(), at)?;
    }
    file.sync_all().map_err(io("flushing the new disk"))
}

/// Takes the space of a fixed disk, as far as the filesystem can.
fn reserve(file: &File, at: u64, len_bytes: u64) -> Result<(), VhdxError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), at, len_bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(at + len_bytes).map_err(io("extending the file")),
        other => other.map_err(io("taking the space of the disk")),
    }
}

fn write_full_table(file: &File, disk: Disk, payload_at: u64) -> Result<(), VhdxError> {
    let mut at = std::io::BufWriter::new(TableWriter { file, offset_bytes: BAT_OFFSET_BYTES });
    let mut next_entry = 0;
    for block in 0..disk.blocks() {
        // An entry for a sector bitmap, which this kind of disk does not have.
        if disk.entry_of(block) > next_entry {
            at.write_all(&0_u64.to_le_bytes()).map_err(io("writing the block table"))?;
        }
        next_entry = disk.entry_of(block) + 1;
        let entry = entry_at(payload_at + block * disk.block_bytes);
        at.write_all(&entry.to_le_bytes()).map_err(io("writing the block table"))?;
    }
    debug_assert_eq!(next_entry * BAT_ENTRY_BYTES, disk.bat_bytes());
    at.flush().map_err(io("writing the block table"))
}

struct TableWriter<'a> {
    file: &'a File,
    offset_bytes: u64,
}

impl std::io::Write for TableWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write_at(bytes, self.offset_bytes)?;
        self.offset_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn header(sequence: u64) -> RawHeader {
    let mut header = RawHeader::new_zeroed();
    header.signature = HEADER_SIGNATURE;
    header.sequence.set(sequence);
    header.file_write_id = Guid::random();
    header.data_write_id = Guid::random();
    header.version.set(1);
    header.log_len_bytes.set(LOG_LEN_BYTES);
    header.log_offset_bytes.set(LOG_OFFSET_BYTES);
    seal(&mut header);
    header
}

fn region_table(bat_bytes: u64) -> Vec<u8> {
    let region = |id, offset_bytes: u64, len_bytes: u32| RawRegion {
        id,
        offset_bytes: offset_bytes.into(),
        len_bytes: len_bytes.into(),
        required: U32::new(1),
    };
    // The table of the largest disk is far below 4 GiB.
    let bat_bytes = u32::try_from(bat_bytes).unwrap_or(u32::MAX);
    let mut table = RawRegionTable {
        signature: REGION_SIGNATURE,
        checksum: U32::ZERO,
        entry_count: U32::new(2),
        reserved: U32::ZERO,
    };
    let regions = [
        region(Guid::REGION_BAT, BAT_OFFSET_BYTES, bat_bytes),
        region(Guid::REGION_METADATA, METADATA_OFFSET_BYTES, METADATA_LEN_BYTES),
    ];
    let mut bytes = [table.as_bytes(), regions.as_bytes()].concat();
    bytes.resize(TABLE_BYTES, 0);
    table.checksum.set(checksum(&bytes));
    bytes[..size_of::<RawRegionTable>()].copy_from_slice(table.as_bytes());
    bytes
}

fn metadata(disk: Disk, kind: Kind) -> Vec<u8> {
    let parameters = RawFileParameters {
        // At most 32 MiB.
        block_bytes: U32::new(u32::try_from(disk.block_bytes).unwrap_or(u32::MAX)),
        flags: U32::new(if kind == Kind::Fixed { PARAMETER_FIXED } else { 0 }),
    };
    let (size, id) = (U64::new(disk.size_bytes), Guid::random());
    let (logical, physical) = (U32::new(disk.logical_sector_bytes), U32::new(disk.physical_sector_bytes));
    let items: [(Guid, u32, &[u8]); 5] = [
        (Guid::FILE_PARAMETERS, METADATA_REQUIRED, parameters.as_bytes()),
        (Guid::DISK_SIZE, METADATA_REQUIRED | METADATA_DISK, size.as_bytes()),
        (Guid::DISK_ID, METADATA_REQUIRED | METADATA_DISK, id.as_bytes()),
        (Guid::LOGICAL_SECTOR, METADATA_REQUIRED | METADATA_DISK, logical.as_bytes()),
        (Guid::PHYSICAL_SECTOR, METADATA_REQUIRED | METADATA_DISK, physical.as_bytes()),
    ];
    let table = RawMetadataTable {
        signature: METADATA_SIGNATURE,
        reserved: U16::ZERO,
        entry_count: U16::new(5),
        reserved2: [0; 20],
    };
    let mut bytes = table.as_bytes().to_vec();
    let mut content = Vec::new();
    let mut offset = ITEMS_OFFSET_BYTES;
    for (id, flags, value) in items {
        // All five together are less than 100 bytes.
        let len = u32::try_from(value.len()).unwrap_or(0);
        let entry = RawMetadata {
            id,
            offset_bytes: offset.into(),
            len_bytes: len.into(),
            flags: flags.into(),
            reserved: U32::ZERO,
        };
        bytes.extend_from_slice(entry.as_bytes());
        content.extend_from_slice(value);
        offset += len;
    }
    bytes.resize(TABLE_BYTES, 0);
    bytes.extend_from_slice(&content);
    bytes
}
