//! Blocks of a journal: headers that commit, descriptors that say what the blocks behind them are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::meta::{self, BlockKind, RawMetaHeader};
use super::{I64, U32, U64};
use crate::attr::Timestamp;

/// Size of [`RawLogDescriptor`], in bytes; block numbers follow.
pub const DESCRIPTOR_BYTES: usize = size_of::<RawLogDescriptor>();
/// Size of [`RawLogHeader`], in bytes.
pub const HEADER_BYTES: usize = size_of::<RawLogHeader>();
/// Where `lh_hash` ends: a header of the old kind ends there as well.
const HASHED_BYTES: usize = 48;
/// Where the part that `lh_crc` covers starts.
const CRC_FROM: usize = 52;

/// Bits of `lh_flags`.
pub mod flags {
    /// The journal is clean at this point.
    pub const UNMOUNT: u32 = 0x1;
    /// An ordinary flush.
    pub const FLUSH_NORMAL: u32 = 0x2;
    /// A flush that somebody waits for.
    pub const FLUSH_SYNC: u32 = 0x4;
    /// The last flush before unmounting.
    pub const FLUSH_SHUTDOWN: u32 = 0x8;
    /// Written by recovery.
    pub const RECOVERY: u32 = 0x20;
    /// Written by a tool.
    pub const USERSPACE: u32 = 0x8000_0000;
}

/// Kinds of log descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorKind(pub u32);

impl DescriptorKind {
    /// Images of metadata blocks follow.
    pub const METADATA: Self = Self(300);
    /// Numbers of revoked blocks.
    pub const REVOKE: Self = Self(301);
    /// Images of journaled data blocks follow.
    pub const JDATA: Self = Self(302);
}

/// A log header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawLogHeader {
    /// Type 8; `jid` is the writing node's.
    pub meta: RawMetaHeader,
    /// One more than that of the header before it.
    pub sequence: U64,
    /// [`flags`].
    pub flags: U32,
    /// Journal block where replay starts.
    pub tail: U32,
    /// This block, counted in the journal.
    pub blkno: U32,
    /// CRC-32 of the bytes up to here with this field zero.
    pub hash: U32,
    /// CRC-32C, without its final inversion, from `nsec` to the end of the block; zero: not set.
    pub crc: U32,
    /// Nanoseconds of the time of writing.
    pub nsec: U32,
    /// Seconds of the time of writing.
    pub sec: I64,
    /// This block, counted on the device.
    pub addr: U64,
    /// The journal's dinode.
    pub jinode: U64,
    /// The node's statfs_change dinode.
    pub statfs_addr: U64,
    /// The node's quota_change dinode.
    pub quota_addr: U64,
    /// What the node has changed and not added to the statfs file yet: blocks.
    pub local_total: I64,
    /// Free blocks.
    pub local_free: I64,
    /// Dinodes.
    pub local_dinodes: I64,
}

/// Header of a log descriptor.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawLogDescriptor {
    /// Type 9.
    pub meta: RawMetaHeader,
    /// A [`DescriptorKind`].
    pub kind: U32,
    /// Blocks of the log that belong to it, itself included.
    pub length: U32,
    /// Number of entries.
    pub data1: U32,
    /// Zero.
    pub data2: U32,
    /// Zero.
    pub reserved: [u8; 32],
}

/// What lunfs puts into the last bytes of a log header, under `crc`: it tells a journal that lunfs wrote last from one
/// that another implementation wrote, which keeps the fields of block checksums but not their truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawStamp {
    /// [`STAMP_MAGIC`].
    pub magic: [u8; 8],
    /// 1.
    pub version: U32,
    /// [`STAMP_OWNERS_INCOMPLETE`].
    pub flags: U32,
}

/// Starts a [`RawStamp`].
pub const STAMP_MAGIC: [u8; 8] = *b"lunfslog";
/// The descriptors of this flush do not name all owners: whoever recovers it has to assume every lock.
pub const STAMP_OWNERS_INCOMPLETE: u32 = 1;

const _: () = {
    assert!(size_of::<RawLogHeader>() == 120);
    assert!(core::mem::offset_of!(RawLogHeader, hash) == 44);
    assert!(core::mem::offset_of!(RawLogHeader, nsec) == CRC_FROM);
    assert!(core::mem::offset_of!(RawLogHeader, local_total) == 96);
    assert!(size_of::<RawLogDescriptor>() == 72);
    assert!(size_of::<RawStamp>() == 16);
};

/// Signed changes of the volume's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatfsDelta {
    /// Blocks.
    pub total: i64,
    /// Free blocks.
    pub free: i64,
    /// Dinodes.
    pub dinodes: i64,
}

/// A log header that passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHeader {
    /// Sequence number.
    pub sequence: u64,
    /// [`flags`].
    pub flags: u32,
    /// Journal block where replay starts.
    pub tail: u32,
    /// This block, counted in the journal.
    pub blkno: u32,
    /// The node's changes that are not in the statfs file yet.
    pub local: StatfsDelta,
    /// lunfs wrote it.
    pub stamped: bool,
}

impl LogHeader {
    /// The journal is clean at this point.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.flags & flags::UNMOUNT != 0
    }
}

fn hash_of(bytes: &[u8; HASHED_BYTES]) -> u32 {
    let mut copy = *bytes;
    copy[HASHED_BYTES - 4..].fill(0);
    crc32fast::hash(&copy)
}

/// CRC-32C without its final inversion.
fn crc_of(block: &[u8]) -> u32 {
    !crc32c::crc32c(block.get(CRC_FROM..).unwrap_or_default())
}

/// The log header in `block`, which is block `position` of the journal; `None` when there is no valid one: a torn or
/// foreign block is no error, it is where the log ends.
#[must_use]
pub fn parse_header(block: &[u8], position: u32) -> Option<LogHeader> {
    meta::header(block).filter(|header| header.kind.get() == BlockKind::LOG_HEADER.0)?;
    let (raw, _) = RawLogHeader::ref_from_prefix(block).ok()?;
    let hash_is_wrong = raw.hash.get() != hash_of(block.first_chunk()?) && !mistake!(HeaderHashIgnored);
    if hash_is_wrong || raw.blkno.get() != position {
        return None;
    }
    if raw.crc.get() != 0 && raw.crc.get() != crc_of(block) && !mistake!(HeaderHashIgnored) {
        return None;
    }
    Some(LogHeader {
        sequence: raw.sequence.get(),
        flags: raw.flags.get(),
        tail: raw.tail.get(),
        blkno: raw.blkno.get(),
        local: StatfsDelta {
            total: raw.local_total.get(),
            free: raw.local_free.get(),
            dinodes: raw.local_dinodes.get(),
        },
        stamped: raw.crc.get() != 0 && stamp(block).is_some(),
    })
}

/// The stamp of lunfs in the log header `block`.
#[must_use]
pub fn stamp(block: &[u8]) -> Option<&RawStamp> {
    let (_, stamp) = RawStamp::ref_from_suffix(block).ok()?;
    (stamp.magic == STAMP_MAGIC).then_some(stamp)
}

/// What goes into a log header besides what the block's own place says.
#[derive(Debug, Clone, Copy)]
pub struct NewHeader {
    /// The journal that writes.
    pub jid: u32,
    /// Sequence number.
    pub sequence: u64,
    /// [`flags`].
    pub flags: u32,
    /// Journal block where replay starts.
    pub tail: u32,
    /// This block, counted in the journal.
    pub blkno: u32,
    /// This block, counted on the device.
    pub addr: u64,
    /// When.
    pub time: Timestamp,
    /// The journal's dinode.
    pub jinode: u64,
    /// The node's statfs_change dinode, or zero.
    pub statfs_addr: u64,
    /// The node's quota_change dinode, or zero.
    pub quota_addr: u64,
    /// The node's changes that are not in the statfs file yet.
    pub local: StatfsDelta,
}

/// Fills `block` with a log header and its stamp.
pub fn write_header(block: &mut [u8], new: &NewHeader) {
    fill_header(block, new, true);
}

/// As [`write_header`], but without the stamp: who replays the log of another implementation must not make its blocks
/// look like blocks of lunfs.
pub fn write_header_unstamped(block: &mut [u8], new: &NewHeader) {
    fill_header(block, new, false);
}

fn fill_header(block: &mut [u8], new: &NewHeader, stamped: bool) {
    block.fill(0);
    let mut meta = RawMetaHeader::new(BlockKind::LOG_HEADER);
    meta.jid = new.jid.into();
    let raw = RawLogHeader {
        meta,
        sequence: new.sequence.into(),
        flags: new.flags.into(),
        tail: new.tail.into(),
        blkno: new.blkno.into(),
        hash: 0.into(),
        crc: 0.into(),
        nsec: new.time.nsec.into(),
        sec: new.time.sec.into(),
        addr: new.addr.into(),
        jinode: new.jinode.into(),
        statfs_addr: new.statfs_addr.into(),
        quota_addr: new.quota_addr.into(),
        local_total: new.local.total.into(),
        local_free: new.local.free.into(),
        local_dinodes: new.local.dinodes.into(),
    };
    let stamp = RawStamp { magic: STAMP_MAGIC, version: 1.into(), flags: 0.into() };
    // Both writes fit: a block has at least 512 bytes.
    let _ = raw.write_to_prefix(block);
    if stamped {
        let _ = stamp.write_to_suffix(block);
    }
    if let Some(head) = block.first_chunk::<HASHED_BYTES>() {
        let hash = hash_of(head);
        let crc = crc_of(block);
        if let Ok((raw, _)) = RawLogHeader::mut_from_prefix(block) {
            raw.hash = hash.into();
            raw.crc = crc.into();
        }
    }
}

/// Fills `block` with a descriptor; entries follow at [`DESCRIPTOR_BYTES`].
pub fn write_descriptor(block: &mut [u8], jid: u32, kind: DescriptorKind, length: u32, entries: u32) {
    block.fill(0);
    let mut meta = RawMetaHeader::new(BlockKind::LOG_DESCRIPTOR);
    meta.jid = jid.into();
    let raw = RawLogDescriptor {
        meta,
        kind: kind.0.into(),
        length: length.into(),
        data1: entries.into(),
        data2: 0.into(),
        reserved: [0; 32],
    };
    let _ = raw.write_to_prefix(block);
}

/// The descriptor in `block`: kind, length in blocks, number of entries. `None` when it is none.
#[must_use]
pub fn parse_descriptor(block: &[u8]) -> Option<(DescriptorKind, u32, u32)> {
    meta::header(block).filter(|header| header.kind.get() == BlockKind::LOG_DESCRIPTOR.0)?;
    let (raw, _) = RawLogDescriptor::ref_from_prefix(block).ok()?;
    Some((DescriptorKind(raw.kind.get()), raw.length.get(), raw.data1.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_written_parses_and_a_torn_one_does_not() {
        let new = NewHeader {
            jid: 2,
            sequence: 77,
            flags: flags::FLUSH_NORMAL,
            tail: 3,
            blkno: 5,
            addr: 1005,
            time: Timestamp { sec: 1, nsec: 2 },
            jinode: 9,
            statfs_addr: 10,
            quota_addr: 11,
            local: StatfsDelta { total: 0, free: -4, dinodes: 1 },
        };
        let mut block = vec![0xff; 1024];
        write_header(&mut block, &new);
        let parsed = parse_header(&block, 5).unwrap();
        assert!(parsed.stamped && parsed.sequence == 77 && parsed.local.free == -4);
        assert!(parse_header(&block, 6).is_none());
        for byte in [30, 60, 200, 1020] {
            let mut torn = block.clone();
            torn[byte] ^= 1;
            assert!(parse_header(&torn, 5).is_none(), "byte {byte}");
        }
        write_header_unstamped(&mut block, &new);
        assert!(parse_header(&block, 5).is_some_and(|header| !header.stamped));
    }
}
