//! The log: changes of the tables that were under way when the file was last closed.
//!
//! Laws
//! * An entry counts only whole: its structure, its checksum and its identifier are right.
//! * What is replayed is the newest unbroken run of entries, from the tail that its last entry names.
//! * Replay may be repeated: the header forgets the log only after everything is durable.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use crate::device::IoBuf;
use crate::sys;
use crate::vhdx::error::{VhdxError, io};
use crate::vhdx::file::TableFile;
use crate::vhdx::format::{
    DATA_SECTOR_SIGNATURE, DATA_SIGNATURE, DISK_MAX_BYTES, Guid, LOG_SECTOR_BYTES, LOG_SIGNATURE, REGION_TABLE_OFFSETS,
    RawDataSector, RawDescriptor, RawLogEntry, ZERO_SIGNATURE, checksum,
};
use crate::vhdx::header::Headers;

/// Largest log that is replayed, in bytes. Programs make them 1 MiB long; the whole log is held in memory.
const LOG_MAX_BYTES: u64 = 64 << 20;
/// Largest file that a log may ask for, in bytes: the largest disk and as much again for everything else.
const FILE_MAX_BYTES: u64 = 2 * DISK_MAX_BYTES;
/// Most bytes that all zero descriptors of a read-only file may cover: they are kept in memory.
const OVERLAY_ZEROES_MAX_BYTES: u64 = LOG_MAX_BYTES;
const SECTOR: u64 = LOG_SECTOR_BYTES as u64;
const DESCRIPTOR_BYTES: usize = size_of::<RawDescriptor>();

/// One change that the log makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A range becomes zero.
    Zero { offset_bytes: u64, len_bytes: u64 },
    /// A sector is written.
    Data { offset_bytes: u64, sector: Box<[u8; LOG_SECTOR_BYTES]> },
}

/// Everything that is to be done to replay a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In this order.
    pub(crate) changes: Vec<Change>,
    /// The file has to be at least this long afterwards, in bytes.
    pub(crate) file_bytes: u64,
}

/// An entry that is whole.
#[derive(Debug)]
struct Entry {
    header: RawLogEntry,
    sectors: usize,
    changes: Vec<Change>,
}

/// Replays the log that the header names: into the file, or over it if the file may not be written.
pub(crate) fn replay(file: &mut TableFile, headers: &mut Headers, read_only: bool) -> Result<(), VhdxError> {
    if !headers.log_is_dirty() {
        return Ok(());
    }
    let version = headers.current.log_version.get();
    if version != 0 {
        return Err(VhdxError::LogVersion { version });
    }
    let (offset_bytes, len_bytes) = headers.log_place()?;
    file.contains("log", offset_bytes, len_bytes)?;
    let len = match usize::try_from(len_bytes) {
        Ok(len) if len_bytes <= LOG_MAX_BYTES => len,
        _ => return Err(VhdxError::LogPlace { offset_bytes, len_bytes }),
    };
    let log = file.read("log", offset_bytes, len)?;
    let plan = plan(&log, headers.current.log_id, file.size_bytes)?;
    for change in &plan.changes {
        change.check(offset_bytes, len_bytes)?;
    }
    if read_only {
        return overlay(file, plan);
    }
    apply(file, &plan)?;
    headers.replace(&file.fd, |header| {
        header.log_id = Guid::NIL;
        header.file_write_id = Guid::random();
    })
}

impl Change {
    /// A log changes neither the headers nor itself, and nothing outside of a file of a possible size.
    fn check(&self, log_offset_bytes: u64, log_len_bytes: u64) -> Result<(), VhdxError> {
        let (offset_bytes, len_bytes) = match self {
            Self::Zero { offset_bytes, len_bytes } => (*offset_bytes, *len_bytes),
            Self::Data { offset_bytes, .. } => (*offset_bytes, SECTOR),
        };
        let end = offset_bytes.checked_add(len_bytes).filter(|end| *end <= FILE_MAX_BYTES);
        let log_end = log_offset_bytes.saturating_add(log_len_bytes);
        let aligned = offset_bytes.is_multiple_of(SECTOR) && len_bytes.is_multiple_of(SECTOR);
        match end {
            Some(end)
                if aligned
                    && offset_bytes >= REGION_TABLE_OFFSETS[0]
                    && (end <= log_offset_bytes || offset_bytes >= log_end) =>
            {
                Ok(())
            }
            _ => Err(VhdxError::LogTarget { offset_bytes, len_bytes }),
        }
    }
}

/// Finds what is to be replayed.
pub(crate) fn plan(log: &[u8], id: Guid, file_bytes: u64) -> Result<Plan, VhdxError> {
    let sectors = log.len() / LOG_SECTOR_BYTES;
    // Reading an entry stops at the first sector that cannot belong to it, and no sector can belong to two: the whole
    // log is looked at once, whatever it contains.
    let mut entries: BTreeMap<usize, Entry> =
        (0..sectors).filter_map(|at| read_entry(log, at, id).map(|entry| (at, entry))).collect();
    let run = newest_run(&entries, sectors).ok_or(VhdxError::LogEmpty)?;
    let mut plan = Plan::default();
    for at in run {
        let Some(entry) = entries.remove(&at) else { continue };
        let flushed_bytes = entry.header.flushed_bytes.get();
        if flushed_bytes > file_bytes {
            return Err(VhdxError::LogNewerThanFile { flushed_bytes, size_bytes: file_bytes });
        }
        let wanted = entry.header.file_bytes.get();
        if wanted > FILE_MAX_BYTES {
            return Err(VhdxError::LogTarget { offset_bytes: wanted, len_bytes: 0 });
        }
        plan.file_bytes = plan.file_bytes.max(wanted);
        plan.changes.extend(entry.changes);
    }
    Ok(plan)
}

/// The places of the entries to replay, oldest first: of all unbroken runs whose last entry names a tail within the
/// run, the one that ends with the greatest number.
fn newest_run(entries: &BTreeMap<usize, Entry>, sectors: usize) -> Option<Vec<usize>> {
    let follower = |at: &usize| {
        let entry = entries.get(at)?;
        let next = (at + entry.sectors) % sectors;
        let wanted = entry.header.sequence.get().checked_add(1)?;
        (entries.get(&next)?.header.sequence.get() == wanted).then_some(next)
    };
    let mut is_first: BTreeMap<usize, bool> = entries.keys().map(|at| (*at, true)).collect();
    for at in entries.keys() {
        if let Some(next) = follower(at) {
            is_first.insert(next, false);
        }
    }
    let mut best: Option<(u64, Vec<usize>)> = None;
    for (first, _) in is_first.into_iter().filter(|(_, is_first)| *is_first) {
        // Ends: the numbers rise by one with every step.
        let run: Vec<usize> = std::iter::successors(Some(first), follower).collect();
        let Some(last) = run.last().and_then(|at| entries.get(at)) else { continue };
        let tail = usize::try_from(last.header.tail_bytes.get()).unwrap_or(usize::MAX);
        let Some(start) = run.iter().position(|at| at.checked_mul(LOG_SECTOR_BYTES) == Some(tail)) else { continue };
        let sequence = last.header.sequence.get();
        if best.as_ref().is_none_or(|(other, _)| *other < sequence) {
            best = Some((sequence, run[start..].to_vec()));
        }
    }
    best.map(|(_, run)| run)
}

/// Reads the entry that begins at a sector of the log, if there is a whole one.
fn read_entry(log: &[u8], at: usize, id: Guid) -> Option<Entry> {
    let all = log.len() / LOG_SECTOR_BYTES;
    // The log is a ring: an entry may go on at its start.
    let sector = |index: usize| {
        let start = (at + index) % all * LOG_SECTOR_BYTES;
        &log[start..start + LOG_SECTOR_BYTES]
    };
    let (header, _) = RawLogEntry::read_from_prefix(sector(0)).ok()?;
    if header.signature != LOG_SIGNATURE || header.log_id != id || header.sequence.get() == 0 {
        return None;
    }
    let len = usize::try_from(header.len_bytes.get()).ok()?;
    let sectors = len / LOG_SECTOR_BYTES;
    if len % LOG_SECTOR_BYTES != 0 || sectors == 0 || sectors > all {
        return None;
    }
    let count = usize::try_from(header.descriptor_count.get()).ok()?;
    let head_bytes = count.checked_mul(DESCRIPTOR_BYTES)?.checked_add(size_of::<RawLogEntry>())?;
    let mut data_at = head_bytes.div_ceil(LOG_SECTOR_BYTES);
    if data_at > sectors {
        return None;
    }

    let mut changes = Vec::new();
    for index in 0..count {
        let byte = size_of::<RawLogEntry>() + index * DESCRIPTOR_BYTES;
        let within = &sector(byte / LOG_SECTOR_BYTES)[byte % LOG_SECTOR_BYTES..];
        let (descriptor, _) = RawDescriptor::read_from_prefix(within).ok()?;
        if descriptor.sequence != header.sequence {
            return None;
        }
        let offset_bytes = descriptor.offset_bytes.get();
        if descriptor.signature == ZERO_SIGNATURE {
            changes.push(Change::Zero { offset_bytes, len_bytes: u64::from_le_bytes(descriptor.leading) });
        } else if descriptor.signature == DATA_SIGNATURE && data_at < sectors {
            let data = RawDataSector::read_from_bytes(sector(data_at)).ok()?;
            changes.push(Change::Data { offset_bytes, sector: assemble(&descriptor, &data, &header)? });
            data_at += 1;
        } else {
            return None;
        }
    }
    let whole = data_at == sectors && checksum_of_ring(sectors, sector) == header.checksum.get();
    whole.then_some(Entry { header, sectors, changes })
}

/// Puts a sector together from its descriptor and its data.
fn assemble(
    descriptor: &RawDescriptor,
    data: &RawDataSector,
    header: &RawLogEntry,
) -> Option<Box<[u8; LOG_SECTOR_BYTES]>> {
    let sequence = u64::from(data.sequence_high.get()) << 32 | u64::from(data.sequence_low.get());
    if data.signature != DATA_SECTOR_SIGNATURE || sequence != header.sequence.get() {
        return None;
    }
    let mut sector = Box::new([0; LOG_SECTOR_BYTES]);
    sector[..8].copy_from_slice(&descriptor.leading);
    sector[8..LOG_SECTOR_BYTES - 4].copy_from_slice(&data.middle);
    sector[LOG_SECTOR_BYTES - 4..].copy_from_slice(&descriptor.trailing);
    Some(sector)
}

fn checksum_of_ring<'a>(sectors: usize, sector: impl Fn(usize) -> &'a [u8]) -> u32 {
    let mut first = [0; LOG_SECTOR_BYTES];
    first.copy_from_slice(sector(0));
    (1..sectors).fold(checksum(&first), |crc, index| crc32c::crc32c_append(crc, sector(index)))
}

fn apply(file: &mut TableFile, plan: &Plan) -> Result<(), VhdxError> {
    if plan.file_bytes > file.size_bytes {
        rustix::fs::ftruncate(&file.fd, plan.file_bytes).map_err(io("extending the file"))?;
        file.size_bytes = plan.file_bytes;
    }
    for change in &plan.changes {
        match change {
            Change::Zero { offset_bytes, len_bytes } => sys::zero_range(&file.fd, *offset_bytes, *len_bytes),
            Change::Data { offset_bytes, sector } => {
                sys::write_full(&file.fd, &IoBuf::copied_from(&sector[..]), *offset_bytes)
            }
        }
        .map_err(io("replaying the log"))?;
    }
    sys::flush(&file.fd).map_err(io("replaying the log"))?;
    file.size_bytes = sys::file_size(&file.fd).map_err(io("asking for the file's size"))?;
    Ok(())
}

fn overlay(file: &mut TableFile, plan: Plan) -> Result<(), VhdxError> {
    if plan.file_bytes > file.size_bytes {
        return Err(VhdxError::LogNeedsWriting);
    }
    let mut zeroes_bytes: u64 = 0;
    for change in plan.changes {
        match change {
            Change::Zero { offset_bytes, len_bytes } => {
                zeroes_bytes = zeroes_bytes.saturating_add(len_bytes);
                if zeroes_bytes > OVERLAY_ZEROES_MAX_BYTES {
                    return Err(VhdxError::LogNeedsWriting);
                }
                for number in offset_bytes / SECTOR..(offset_bytes + len_bytes) / SECTOR {
                    file.overlay.insert(number, Box::new([0; LOG_SECTOR_BYTES]));
                }
            }
            Change::Data { offset_bytes, sector } => {
                file.overlay.insert(offset_bytes / SECTOR, sector);
            }
        }
    }
    Ok(())
}
