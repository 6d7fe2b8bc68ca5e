//! Builds `.vhdx` files byte by byte from the published specification.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the tests' configuration does not reach functions beside the tests"
)]

#[path = "../../src/vhdx/format.rs"]
#[allow(unreachable_pub, reason = "the crate's own declarations; the other implementation judges them")]
pub(crate) mod format;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use block::vhdx::VhdxError;
use block::{OpenError, OpenOptions, open};
use zerocopy::{FromZeros, IntoBytes};

use crate::common::{Numbers, Scratch};
use format::*;

pub(crate) const WRITE: OpenOptions = OpenOptions { read_only: false, io_uring: true };
pub(crate) const READ_ONLY: OpenOptions = OpenOptions { read_only: true, io_uring: true };
/// Length of the metadata table, in bytes.
pub(crate) const TABLE_LEN: u32 = 64 << 10;
pub(crate) const LOG_ID: Guid = Guid([7; 16]);
pub(crate) const LOG_AT: u64 = MIB;
pub(crate) const LOG_LEN: u64 = MIB;
pub(crate) const METADATA_AT: u64 = 2 * MIB;
pub(crate) const BAT_AT: u64 = 3 * MIB;
pub(crate) const BLOCKS_AT: u64 = 4 * MIB;

/// A disk to be built: as the specification wants it, unless a test changes a part.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) headers: [RawHeader; 2],
    pub(crate) regions: Vec<RawRegion>,
    pub(crate) items: Vec<(RawMetadata, Vec<u8>)>,
    /// Entries of the block table.
    pub(crate) bat: Vec<u64>,
    /// Content of the blocks in the file, one after the other.
    pub(crate) blocks: Vec<u8>,
    pub(crate) log: Vec<u8>,
}

pub(crate) fn item(id: Guid, value: &[u8]) -> (RawMetadata, Vec<u8>) {
    let mut entry = RawMetadata::new_zeroed();
    entry.id = id;
    entry.len_bytes.set(u32::try_from(value.len()).unwrap());
    entry.flags.set(METADATA_REQUIRED);
    (entry, value.to_vec())
}

pub(crate) fn region(id: Guid, at: u64, len: u64) -> RawRegion {
    let mut region = RawRegion::new_zeroed();
    region.id = id;
    region.offset_bytes.set(at);
    region.len_bytes.set(u32::try_from(len).unwrap());
    region.required.set(1);
    region
}

pub(crate) fn present(block_in_file: u64) -> u64 {
    (BLOCKS_AT / MIB + block_in_file) << 20 | 6
}

impl Disk {
    /// Four blocks of 1 MiB, of which the second and the third have content, in the other order.
    pub(crate) fn new(sector_bytes: u32) -> Self {
        let mut header = RawHeader::new_zeroed();
        header.signature = HEADER_SIGNATURE;
        header.sequence.set(10);
        header.version.set(1);
        header.log_len_bytes.set(u32::try_from(LOG_LEN).unwrap());
        header.log_offset_bytes.set(LOG_AT);
        let mut older = header;
        older.sequence.set(9);
        Self {
            headers: [header, older],
            regions: vec![region(Guid::REGION_BAT, BAT_AT, MIB), region(Guid::REGION_METADATA, METADATA_AT, MIB)],
            items: vec![
                item(Guid::FILE_PARAMETERS, &[0, 0, 16, 0, 0, 0, 0, 0]),
                item(Guid::DISK_SIZE, &(4 * MIB).to_le_bytes()),
                item(Guid::DISK_ID, &[9; 16]),
                item(Guid::LOGICAL_SECTOR, &sector_bytes.to_le_bytes()),
                item(Guid::PHYSICAL_SECTOR, &4096_u32.to_le_bytes()),
            ],
            bat: vec![0, present(1), present(0), 2],
            blocks: Numbers::new(1).bytes(usize::try_from(2 * MIB).unwrap()),
            log: vec![0; usize::try_from(LOG_LEN).unwrap()],
        }
    }

    /// What is on the disk.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mib = usize::try_from(MIB).unwrap();
        let mut content = vec![0; 4 * mib];
        content[mib..2 * mib].copy_from_slice(&self.blocks[mib..]);
        content[2 * mib..3 * mib].copy_from_slice(&self.blocks[..mib]);
        content
    }

    pub(crate) fn build(&self, path: &Path) {
        let file = std::fs::File::create(path).unwrap();
        let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).unwrap();
        put(&SIGNATURE, 0);
        for (header, at) in self.headers.iter().zip(HEADER_OFFSETS) {
            let mut header = *header;
            // A test that wants a wrong checksum gives one.
            if header.checksum.get() == 0 {
                header.checksum.set(checksum(header.as_bytes()));
            }
            put(header.as_bytes(), at);
        }
        for at in REGION_TABLE_OFFSETS {
            put(&self.region_table(), at);
        }
        put(&self.log, LOG_AT);
        put(&self.metadata(), METADATA_AT);
        put(self.bat.as_bytes(), BAT_AT);
        put(&self.blocks, BLOCKS_AT);
    }

    pub(crate) fn region_table(&self) -> Vec<u8> {
        let mut table = RawRegionTable::new_zeroed();
        table.signature = REGION_SIGNATURE;
        table.entry_count.set(u32::try_from(self.regions.len()).unwrap());
        let mut bytes = [table.as_bytes(), self.regions.as_bytes()].concat();
        bytes.resize(TABLE_BYTES, 0);
        let sum = checksum(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn metadata(&self) -> Vec<u8> {
        let mut table = RawMetadataTable::new_zeroed();
        table.signature = METADATA_SIGNATURE;
        table.entry_count.set(u16::try_from(self.items.len()).unwrap());
        let (mut bytes, mut values) = (table.as_bytes().to_vec(), Vec::new());
        for (entry, value) in &self.items {
            let mut entry = *entry;
            if entry.offset_bytes.get() == 0 {
                entry.offset_bytes.set(u32::try_from(TABLE_BYTES + values.len()).unwrap());
            }
            bytes.extend_from_slice(entry.as_bytes());
            values.extend_from_slice(value);
        }
        bytes.resize(TABLE_BYTES, 0);
        bytes.extend_from_slice(&values);
        bytes
    }

    pub(crate) fn set_item(&mut self, id: Guid, value: &[u8]) {
        let item = self.items.iter_mut().find(|(entry, _)| entry.id == id).unwrap();
        item.1 = value.to_vec();
    }

    /// Puts a log entry at a sector of the log, and marks the log as needed. Gives the sector behind it.
    pub(crate) fn log_entry(&mut self, at: usize, sequence: u64, tail: usize, changes: &[(u64, Write)]) -> usize {
        self.log_entry_of(at, changes, |header| {
            header.sequence.set(sequence);
            header.tail_bytes.set(u32::try_from(tail * LOG_SECTOR_BYTES).unwrap());
        })
    }

    pub(crate) fn log_entry_of(
        &mut self,
        at: usize,
        changes: &[(u64, Write)],
        change_header: impl Fn(&mut RawLogEntry),
    ) -> usize {
        self.headers[0].log_id = LOG_ID;
        let mut header = RawLogEntry::new_zeroed();
        header.signature = LOG_SIGNATURE;
        header.log_id = LOG_ID;
        header.descriptor_count.set(u32::try_from(changes.len()).unwrap());
        header.flushed_bytes.set(BLOCKS_AT + 2 * MIB);
        header.file_bytes.set(BLOCKS_AT + 2 * MIB);
        change_header(&mut header);
        let (mut descriptors, mut data) = (Vec::new(), Vec::new());
        for (offset, write) in changes {
            let mut descriptor = RawDescriptor::new_zeroed();
            descriptor.offset_bytes.set(*offset);
            descriptor.sequence = header.sequence;
            match write {
                Write::Zero(len) => {
                    descriptor.signature = ZERO_SIGNATURE;
                    descriptor.leading = len.to_le_bytes();
                }
                Write::Sector(bytes) => {
                    descriptor.signature = DATA_SIGNATURE;
                    descriptor.leading.copy_from_slice(&bytes[..8]);
                    descriptor.trailing.copy_from_slice(&bytes[4092..]);
                    let mut sector = RawDataSector::new_zeroed();
                    sector.signature = DATA_SECTOR_SIGNATURE;
                    sector.sequence_high.set(u32::try_from(header.sequence.get() >> 32).unwrap());
                    sector.sequence_low.set(u32::try_from(header.sequence.get() & 0xFFFF_FFFF).unwrap());
                    sector.middle.copy_from_slice(&bytes[8..4092]);
                    data.extend_from_slice(sector.as_bytes());
                }
            }
            descriptors.extend_from_slice(descriptor.as_bytes());
        }
        let head_len = (size_of::<RawLogEntry>() + descriptors.len()).next_multiple_of(LOG_SECTOR_BYTES);
        header.len_bytes.set(u32::try_from(head_len + data.len()).unwrap());
        let mut bytes = [header.as_bytes(), &descriptors].concat();
        bytes.resize(head_len, 0);
        bytes.extend_from_slice(&data);
        let sum = checksum(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        let sectors = self.log.len() / LOG_SECTOR_BYTES;
        for (index, sector) in bytes.chunks(LOG_SECTOR_BYTES).enumerate() {
            let place = (at + index) % sectors * LOG_SECTOR_BYTES;
            self.log[place..place + LOG_SECTOR_BYTES].copy_from_slice(sector);
        }
        (at + bytes.len() / LOG_SECTOR_BYTES) % sectors
    }
}

/// A change in a log entry.
#[derive(Clone)]
pub(crate) enum Write {
    Zero(u64),
    Sector(Vec<u8>),
}

/// The first sector of a block table.
pub(crate) fn bat_sector(entries: &[u64]) -> Write {
    let mut bytes = entries.as_bytes().to_vec();
    bytes.resize(LOG_SECTOR_BYTES, 0);
    Write::Sector(bytes)
}

pub(crate) fn built(scratch: &Scratch, disk: &Disk) -> PathBuf {
    let path = scratch.path("disk.vhdx");
    disk.build(&path);
    path
}

pub(crate) fn refused(scratch: &Scratch, disk: &Disk) -> VhdxError {
    refused_file(&built(scratch, disk), WRITE)
}

pub(crate) fn refused_file(path: &Path, options: OpenOptions) -> VhdxError {
    match open(path, options).err().expect("the file is refused") {
        OpenError::Vhdx { source, .. } => source,
        other => panic!("refused for another reason: {other:?}"),
    }
}

macro_rules! assert_refused {
    ($scratch:expr, $disk:expr, $pattern:pat) => {
        let error = $crate::vhdx_disk::refused(&$scratch, &$disk);
        assert!(matches!(error, $pattern), "{error:?}");
    };
}
pub(crate) use assert_refused;

/// What `qemu-img` sees. It knows no disks with sectors of 4096 bytes.
pub(crate) fn converted_by_qemu(scratch: &Scratch, path: &Path) -> Option<Vec<u8>> {
    let raw = scratch.path("raw");
    let output = std::process::Command::new("qemu-img")
        .args(["convert", "-f", "vhdx", "-O", "raw", path.to_str()?, raw.to_str()?])
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(raw).ok()
}

/// A log of three entries that change the block table: the second replaces the first, the third zeroes block data.
pub(crate) fn with_dirty_log(start: usize) -> (Disk, Vec<u8>) {
    let mut disk = Disk::new(512);
    let mib = usize::try_from(MIB).unwrap();
    let sector = Numbers::new(5).bytes(LOG_SECTOR_BYTES);
    let next = disk.log_entry(start, 100, start, &[(BAT_AT, bat_sector(&[present(0), 0, 0, 0]))]);
    let next = disk.log_entry(
        next,
        101,
        start,
        &[(BAT_AT, bat_sector(&[present(1), 0, 0, present(0)])), (BLOCKS_AT + MIB, Write::Sector(sector.clone()))],
    );
    disk.log_entry(next, 102, start, &[(BLOCKS_AT, Write::Zero(8192))]);
    let mut content = vec![0; 4 * mib];
    content[..mib].copy_from_slice(&disk.blocks[mib..]);
    content[..LOG_SECTOR_BYTES].copy_from_slice(&sector);
    content[3 * mib..].copy_from_slice(&disk.blocks[..mib]);
    content[3 * mib..3 * mib + 8192].fill(0);
    (disk, content)
}
