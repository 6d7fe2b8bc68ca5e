//! The region table and the metadata table: what the disk is like, and where its block table is.

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::vhdx::error::VhdxError;
use crate::vhdx::file::TableFile;
use crate::vhdx::format::{
    BAT_ENTRY_BYTES, DISK_MAX_BYTES, Guid, LOG_SECTOR_BYTES, METADATA_REQUIRED, METADATA_SIGNATURE, MIB,
    PARAMETER_HAS_PARENT, REGION_SIGNATURE, REGION_TABLE_OFFSETS, RawFileParameters, RawMetadata, RawMetadataTable,
    RawRegion, RawRegionTable, SECTORS_PER_BITMAP, TABLE_BYTES, TABLE_ENTRIES_MAX, checksum,
};

const BLOCK_TABLE: &str = "block table";
const METADATA: &str = "metadata";

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) what: &'static str,
    pub(crate) offset_bytes: u64,
    pub(crate) len_bytes: u64,
}

/// The regions that every disk has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Regions {
    pub(crate) bat: Extent,
    pub(crate) metadata: Extent,
}

/// What the disk is like. Every value is one that the format allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) size_bytes: u64,
    pub(crate) block_bytes: u64,
    pub(crate) logical_sector_bytes: u32,
    pub(crate) physical_sector_bytes: u32,
}

impl Disk {
    /// Payload blocks of the disk.
    pub(crate) fn blocks(&self) -> u64 {
        self.size_bytes.div_ceil(self.block_bytes)
    }

    /// Payload blocks between two entries for sector bitmaps.
    pub(crate) fn chunk_ratio(&self) -> u64 {
        SECTORS_PER_BITMAP * u64::from(self.logical_sector_bytes) / self.block_bytes
    }

    /// Place of a payload block's entry in the block table, in entries.
    pub(crate) fn entry_of(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// Length of the part of the block table that is in use, in bytes.
    pub(crate) fn bat_bytes(&self) -> u64 {
        (self.entry_of(self.blocks().saturating_sub(1)) + 1) * BAT_ENTRY_BYTES
    }

    /// Bytes of a block that belong to the disk: the last one may be cut.
    pub(crate) fn used_bytes(&self, block: u64) -> u64 {
        self.size_bytes.saturating_sub(block.saturating_mul(self.block_bytes)).min(self.block_bytes)
    }
}

/// Reads the region table.
pub(crate) fn read_regions(file: &TableFile) -> Result<Regions, VhdxError> {
    for offset in REGION_TABLE_OFFSETS {
        let table = file.read("region table", offset, TABLE_BYTES)?;
        if let Some(entries) = region_entries(&table) {
            return regions_of(file, &entries);
        }
    }
    Err(VhdxError::RegionTablesDamaged)
}

fn region_entries(table: &[u8]) -> Option<Vec<RawRegion>> {
    let (header, entries) = RawRegionTable::read_from_prefix(table).ok()?;
    let count = usize::try_from(header.entry_count.get()).ok()?;
    if header.signature != REGION_SIGNATURE || header.checksum.get() != checksum(table) || count > TABLE_ENTRIES_MAX {
        return None;
    }
    entries_of(entries, count)
}

fn entries_of<T: FromBytes + KnownLayout + Immutable>(mut bytes: &[u8], count: usize) -> Option<Vec<T>> {
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (entry, rest) = T::read_from_prefix(bytes).ok()?;
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

fn regions_of(file: &TableFile, entries: &[RawRegion]) -> Result<Regions, VhdxError> {
    let (mut bat, mut metadata) = (None, None);
    for entry in entries {
        let (what, found) = match entry.id {
            Guid::REGION_BAT => (BLOCK_TABLE, &mut bat),
            Guid::REGION_METADATA => (METADATA, &mut metadata),
            id if entry.required.get() & 1 != 0 => return Err(VhdxError::RegionUnknown { id: id.uuid() }),
            _ => continue,
        };
        let extent =
            Extent { what, offset_bytes: entry.offset_bytes.get(), len_bytes: u64::from(entry.len_bytes.get()) };
        if found.replace(extent).is_some() {
            return Err(VhdxError::RegionTwice { what });
        }
        let Extent { offset_bytes, len_bytes, .. } = extent;
        let aligned = offset_bytes.is_multiple_of(MIB) && len_bytes.is_multiple_of(MIB);
        if !aligned || offset_bytes < MIB || len_bytes == 0 {
            return Err(VhdxError::RegionPlace { what, offset_bytes, len_bytes });
        }
        file.contains(what, offset_bytes, len_bytes)?;
    }
    Ok(Regions {
        bat: bat.ok_or(VhdxError::RegionMissing { what: BLOCK_TABLE })?,
        metadata: metadata.ok_or(VhdxError::RegionMissing { what: METADATA })?,
    })
}

/// Reads the metadata.
pub(crate) fn read_metadata(file: &TableFile, region: Extent) -> Result<Disk, VhdxError> {
    let table = file.read("metadata table", region.offset_bytes, TABLE_BYTES)?;
    let (header, entries) = RawMetadataTable::read_from_prefix(&table).map_err(|_| VhdxError::MetadataDamaged)?;
    let count = usize::from(header.entry_count.get());
    if header.signature != METADATA_SIGNATURE || count > TABLE_ENTRIES_MAX {
        return Err(VhdxError::MetadataDamaged);
    }
    let entries: Vec<RawMetadata> = entries_of(entries, count).ok_or(VhdxError::MetadataDamaged)?;

    const KNOWN: [Guid; 6] = [
        Guid::FILE_PARAMETERS,
        Guid::DISK_SIZE,
        Guid::DISK_ID,
        Guid::LOGICAL_SECTOR,
        Guid::PHYSICAL_SECTOR,
        Guid::PARENT_LOCATOR,
    ];
    for entry in &entries {
        if entry.flags.get() & METADATA_REQUIRED != 0 && !KNOWN.contains(&entry.id) {
            return Err(VhdxError::MetadataUnknown { id: Uuid::from_bytes_le(entry.id.0) });
        }
    }
    let items = Items { file, region, entries: &entries };
    let parameters: RawFileParameters = items.get("file parameters", Guid::FILE_PARAMETERS)?;
    if parameters.flags.get() & PARAMETER_HAS_PARENT != 0 {
        return Err(VhdxError::Differencing);
    }
    let size: U64 = items.get("disk size", Guid::DISK_SIZE)?;
    let logical: U32 = items.get("logical sector size", Guid::LOGICAL_SECTOR)?;
    let physical: U32 = items.get("physical sector size", Guid::PHYSICAL_SECTOR)?;
    checked(size.get(), parameters.block_bytes.get(), logical.get(), physical.get())
}

fn checked(size_bytes: u64, block_bytes: u32, logical: u32, physical: u32) -> Result<Disk, VhdxError> {
    let wrong = |what, value| Err(VhdxError::MetadataValue { what, value });
    let block_bytes = u64::from(block_bytes);
    if !block_bytes.is_power_of_two() || !(MIB..=256 * MIB).contains(&block_bytes) {
        return wrong("block size", block_bytes);
    }
    if !matches!(logical, 512 | 4096) {
        return wrong("logical sector size", logical.into());
    }
    if !matches!(physical, 512 | 4096) {
        return wrong("physical sector size", physical.into());
    }
    if size_bytes == 0 || size_bytes > DISK_MAX_BYTES || !size_bytes.is_multiple_of(logical.into()) {
        return wrong("disk size", size_bytes);
    }
    let physical_sector_bytes = physical.max(logical);
    Ok(Disk { size_bytes, block_bytes, logical_sector_bytes: logical, physical_sector_bytes })
}

/// The metadata items of a file.
struct Items<'a> {
    file: &'a TableFile,
    region: Extent,
    entries: &'a [RawMetadata],
}

impl Items<'_> {
    fn get<T: FromBytes + KnownLayout + Immutable>(&self, what: &'static str, id: Guid) -> Result<T, VhdxError> {
        let mut with_id = self.entries.iter().filter(|entry| entry.id == id);
        let entry = with_id.next().ok_or(VhdxError::MetadataMissing { what })?;
        if with_id.next().is_some() {
            return Err(VhdxError::MetadataTwice { what });
        }
        let (offset_bytes, len_bytes) = (u64::from(entry.offset_bytes.get()), u64::from(entry.len_bytes.get()));
        // Items stand after the table and within the region, anywhere: also across two sectors.
        let fits = len_bytes == size_of::<T>() as u64
            && offset_bytes >= TABLE_BYTES as u64
            && offset_bytes + len_bytes <= self.region.len_bytes;
        if !fits {
            return Err(VhdxError::MetadataPlace { what, offset_bytes, len_bytes });
        }
        let place = self.region.offset_bytes + offset_bytes;
        let sector = LOG_SECTOR_BYTES as u64;
        let within = usize::try_from(place % sector).unwrap_or(0);
        // The region ends on a multiple of 1 MiB, so the second sector is read only where there is one.
        let len = if within + size_of::<T>() > LOG_SECTOR_BYTES { 2 * LOG_SECTOR_BYTES } else { LOG_SECTOR_BYTES };
        let buf = self.file.read(what, place - place % sector, len)?;
        let (value, _) = T::read_from_prefix(&buf[within..]).map_err(|_| VhdxError::MetadataDamaged)?;
        Ok(value)
    }
}
