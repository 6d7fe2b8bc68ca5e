//! Extended attributes: the records of a block.
//!
//! Records follow each other from byte 24 to the end of the block. Each has a header, a name without its prefix, and the
//! value right behind the name; or, where that would be longer than a block, pointers to blocks that hold the value, from
//! the next multiple of 8 on. A record may be longer than what it holds: the rest is free.

use std::collections::BTreeSet;
use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::block_size::BlockSize;
use super::meta::{self, BlockKind};
use super::{U32, U64};
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};

/// Size of [`RawXattrHeader`], in bytes: the name starts there.
pub const HEADER_BYTES: usize = size_of::<RawXattrHeader>();
/// Longest name without its prefix, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 65536;
/// The first fs format that knows the namespace `trusted`.
pub const FORMAT_WITH_TRUSTED: u32 = 1802;
/// `kind` of a record that holds nothing.
pub const KIND_FREE: u8 = 0;
/// `flags` of the last record of a block.
pub const FLAG_LAST: u8 = 1;

/// Header of a record.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawXattrHeader {
    /// Bytes to the next record.
    pub rec_len: U32,
    /// Length of the value, in bytes.
    pub data_len: U32,
    /// Length of the name without its prefix, in bytes.
    pub name_len: u8,
    /// [`KIND_FREE`], or the number of a [`Namespace`].
    pub kind: u8,
    /// [`FLAG_LAST`], or zero.
    pub flags: u8,
    /// Blocks that hold the value; zero: it follows the name.
    pub num_ptrs: u8,
    /// Zero.
    pub pad: U32,
}

const _: () = assert!(size_of::<RawXattrHeader>() == 16);

/// The first part of a name, which decides who may use the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `user.`: whoever may read or write the file.
    User,
    /// `system.`: access control lists.
    System,
    /// `security.`: security modules and capabilities.
    Security,
    /// `trusted.`: the administrator. Not before [`FORMAT_WITH_TRUSTED`].
    Trusted,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::System, Self::Security, Self::Trusted];

    /// `kind` of its records.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::User => 1,
            Self::System => 2,
            Self::Security => 3,
            Self::Trusted => 4,
        }
    }

    /// The prefix that names have outside of the disk.
    #[must_use]
    pub const fn prefix(self) -> &'static [u8] {
        match self {
            Self::User => b"user.",
            Self::System => b"system.",
            Self::Security => b"security.",
            Self::Trusted => b"trusted.",
        }
    }

    /// From `kind` of a record.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|namespace| namespace.number() == number)
    }

    /// Takes a name apart; `None` for a prefix that the format does not know.
    #[must_use]
    pub fn split(name: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL.into_iter().find_map(|namespace| Some((namespace, name.strip_prefix(namespace.prefix())?)))
    }
}

/// A record that passed every check: where its parts are in the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub offset: usize,
    /// Bytes to the next one.
    pub len: usize,
    /// What it belongs to; `None` for a free one.
    pub namespace: Option<Namespace>,
    name: Range<usize>,
    /// Length of the value, in bytes.
    pub value_bytes: usize,
    /// The value, if it is in the record; else empty.
    value: Range<usize>,
    /// Pointers to the blocks of the value. A free record may have some as well: the kernel's driver frees what a value
    /// took only after it has replaced it.
    pointers: Range<usize>,
}

impl Record {
    /// The name without its prefix.
    #[must_use]
    pub fn name<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        block.get(self.name.clone()).unwrap_or_default()
    }

    /// The value, if it is in the record.
    #[must_use]
    pub fn value<'a>(&self, block: &'a [u8]) -> Option<&'a [u8]> {
        if self.pointers.is_empty() { block.get(self.value.clone()) } else { None }
    }

    /// Blocks that belong to the record.
    #[must_use]
    pub fn blocks(&self, block: &[u8]) -> Vec<BlockAddr> {
        let (pointers, _) = block.get(self.pointers.clone()).unwrap_or_default().as_chunks::<8>();
        pointers.iter().map(|bytes| BlockAddr(u64::from_be_bytes(*bytes))).filter(|addr| addr.0 != 0).collect()
    }

    /// Bytes that another record could have: all of a free one, else what is behind the value or the pointers.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.namespace.is_none() { self.len } else { self.len.saturating_sub(self.used()) }
    }

    /// Bytes up to the end of the value or the pointers, and on to the next multiple of 8.
    #[must_use]
    pub fn used(&self) -> usize {
        self.name.end.max(self.value.end).max(self.pointers.end).saturating_sub(self.offset).next_multiple_of(8)
    }

    fn parse(rest: &[u8], offset: usize, format: u32) -> Result<Self, CorruptKind> {
        let chain = CorruptKind::XattrChain { offset };
        let (raw, _) = RawXattrHeader::ref_from_prefix(rest).map_err(|_| chain)?;
        let len = usize::try_from(raw.rec_len.get()).map_err(|_| chain)?;
        if len < HEADER_BYTES || len > rest.len() {
            return Err(chain);
        }
        if (raw.flags & FLAG_LAST != 0) != (len == rest.len()) {
            return Err(CorruptKind::XattrLast { offset });
        }
        let namespace = Namespace::from_number(raw.kind);
        let known = raw.kind == KIND_FREE || namespace.is_some();
        if !known || (namespace == Some(Namespace::Trusted) && format < FORMAT_WITH_TRUSTED) {
            return Err(CorruptKind::XattrNamespace { offset, kind: raw.kind });
        }
        let value_bytes = usize::try_from(raw.data_len.get()).map_err(|_| chain)?;
        let (start, name_bytes, count) = (offset + HEADER_BYTES, usize::from(raw.name_len), usize::from(raw.num_ptrs));
        let pointers = start + name_bytes.next_multiple_of(8);
        let mut record =
            Self { offset, len, namespace, name: start..start + name_bytes, value_bytes, value: 0..0, pointers: 0..0 };
        if count > 0 {
            record.pointers = pointers..pointers + 8 * count;
        }
        match namespace {
            None => (record.name, record.value_bytes) = (0..0, 0),
            Some(_) if name_bytes == 0 => return Err(CorruptKind::XattrName { offset }),
            Some(_) if value_bytes > VALUE_BYTES_MAX => return Err(CorruptKind::XattrValue { offset }),
            Some(_) if count == 0 => record.value = record.name.end..record.name.end + value_bytes,
            Some(_) => {}
        }
        if record.name.end.max(record.value.end).max(record.pointers.end) > offset + len {
            return Err(CorruptKind::XattrFit { offset });
        }
        // Names are listed one behind the other with a zero between them: one inside makes two of a name.
        if rest.iter().skip(HEADER_BYTES).take(record.name.len()).any(|byte| *byte == 0) {
            return Err(CorruptKind::XattrName { offset });
        }
        Ok(record)
    }

    /// As many different blocks as the value needs.
    fn check_blocks(&self, block: &[u8]) -> Result<(), CorruptKind> {
        if self.namespace.is_none() || self.pointers.is_empty() {
            return Ok(());
        }
        let payload = block.len().saturating_sub(meta::HEADER_BYTES);
        let found: BTreeSet<BlockAddr> = self.blocks(block).into_iter().collect();
        // More than enough of them harm nobody, but none may be missing.
        if 8 * found.len() == self.pointers.len() && found.len() >= self.value_bytes.div_ceil(payload.max(1)) {
            Ok(())
        } else {
            Err(CorruptKind::XattrBlocks { offset: self.offset })
        }
    }
}

/// The records of the block at `addr`, on a volume of fs format `format`.
///
/// # Errors
/// The first rule that is broken.
pub fn records(addr: BlockAddr, block: &[u8], format: u32) -> Result<Vec<Record>, FsError> {
    let records = records_to_free(addr, block, format)?;
    records.iter().try_for_each(|record| record.check_blocks(block)).map_err(|kind| kind.at(addr))?;
    Ok(records)
}

/// The same, but pointers may be missing: whoever frees an inode takes them away step by step.
///
/// # Errors
/// As [`records`].
pub fn records_to_free(addr: BlockAddr, block: &[u8], format: u32) -> Result<Vec<Record>, FsError> {
    meta::check(addr, block, BlockKind::XATTR)?;
    let mut records = Vec::new();
    let mut offset = meta::HEADER_BYTES;
    while offset < block.len() {
        let rest = block.get(offset..).unwrap_or_default();
        let record = Record::parse(rest, offset, format).map_err(|kind| kind.at(addr))?;
        offset += record.len;
        records.push(record);
    }
    Ok(records)
}

/// What a record for a name of `name_bytes` and a value of `value_bytes` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Length of the record, in bytes.
    pub record_bytes: usize,
    /// Blocks of its own that the value needs; zero: it is in the record.
    pub blocks: usize,
}

impl Shape {
    /// `None` where a record would be longer than a block, which happens with blocks of 512 bytes only.
    #[must_use]
    pub const fn of(size: BlockSize, name_bytes: usize, value_bytes: usize) -> Option<Self> {
        let payload = size.payload_bytes();
        let within = (HEADER_BYTES + name_bytes + value_bytes).next_multiple_of(8);
        if within <= payload {
            return Some(Self { record_bytes: within, blocks: 0 });
        }
        let blocks = value_bytes.div_ceil(payload);
        let record_bytes = HEADER_BYTES + name_bytes.next_multiple_of(8) + 8 * blocks;
        if record_bytes <= payload && blocks <= u8::MAX as usize { Some(Self { record_bytes, blocks }) } else { None }
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it belongs to.
    pub namespace: Namespace,
    /// Its name without the prefix.
    pub name: &'a [u8],
    /// Its value. It is written only where there are no `blocks`.
    pub value: &'a [u8],
    /// Blocks that hold the value.
    pub blocks: &'a [BlockAddr],
}

/// Writes a header at `offset`; name, value and pointers are written by [`write_record`].
fn write_header(block: &mut [u8], offset: usize, raw: RawXattrHeader) {
    if let Some(to) = block.get_mut(offset..offset + HEADER_BYTES) {
        to.copy_from_slice(raw.as_bytes());
    }
}

/// Writes the `len` bytes long record at `offset`, which is the block's last one if it reaches the end.
pub fn write_record(block: &mut [u8], offset: usize, len: usize, new: &NewRecord<'_>) {
    let number = |value: usize| U32::new(u32::try_from(value).unwrap_or(u32::MAX));
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    let raw = RawXattrHeader {
        rec_len: number(len),
        data_len: number(new.value.len()),
        name_len: byte(new.name.len()),
        kind: new.namespace.number(),
        flags: if offset + len == block.len() { FLAG_LAST } else { 0 },
        num_ptrs: byte(new.blocks.len()),
        pad: U32::ZERO,
    };
    write_header(block, offset, raw);
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = block.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    let start = offset + HEADER_BYTES;
    put(start, new.name);
    if new.blocks.is_empty() {
        put(start + new.name.len(), new.value);
    }
    for (index, addr) in new.blocks.iter().enumerate() {
        put(start + new.name.len().next_multiple_of(8) + 8 * index, U64::new(addr.0).as_bytes());
    }
}

/// Makes the `len` bytes at `offset` a free record.
pub fn write_free(block: &mut [u8], offset: usize, len: usize) {
    let rec_len = U32::new(u32::try_from(len).unwrap_or(u32::MAX));
    let flags = if offset + len == block.len() { FLAG_LAST } else { 0 };
    let (data_len, pad) = (U32::ZERO, U32::ZERO);
    write_header(
        block,
        offset,
        RawXattrHeader { rec_len, data_len, name_len: 0, kind: KIND_FREE, flags, num_ptrs: 0, pad },
    );
}

/// Changes the length of the record at `offset`.
pub fn set_len(block: &mut [u8], offset: usize, len: usize) {
    let last = offset + len == block.len();
    let Some((raw, _)) = block.get_mut(offset..).and_then(|rest| RawXattrHeader::mut_from_prefix(rest).ok()) else {
        return;
    };
    raw.rec_len = U32::new(u32::try_from(len).unwrap_or(u32::MAX));
    raw.flags = (raw.flags & !FLAG_LAST) | if last { FLAG_LAST } else { 0 };
}
