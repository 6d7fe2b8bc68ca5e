//! Errors: each names the rule that broke, keeps its cause, and chooses its errno in one place.

use block::device::DeviceError;

use crate::addr::BlockAddr;
use crate::format::meta::BlockKind;
use crate::format::rgrp::BlockState;
use crate::quota::QuotaId;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FsError {
    /// No such name.
    #[error("no such file or directory")]
    NotFound,
    /// The inode is gone, or its number belongs to another inode now.
    #[error("the inode does not exist any more")]
    Stale,
    /// The name exists.
    #[error("the name exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The request makes no sense for this file.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// The name is longer than 255 bytes, or a symbolic link does not fit its inode.
    #[error("the name is too long")]
    NameTooLong,
    /// No free block left.
    #[error("no space left on the volume")]
    NoSpace,
    /// A user or group would have more than it may have.
    #[error("the quota of {id} is exceeded")]
    QuotaExceeded {
        /// Who.
        id: QuotaId,
    },
    /// Past the largest file size.
    #[error("the file would be too large")]
    TooLarge,
    /// No more names can be given to the inode, or no more entries to the directory.
    #[error("too many links")]
    TooManyLinks,
    /// Flags of the inode, or its kind, forbid it.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// No data or hole after the offset.
    #[error("nothing to be found after the offset")]
    NoSuchRange,
    /// The volume is mounted read-only.
    #[error("the volume is mounted read-only")]
    ReadOnly,
    /// The inode has no such attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// A value or a list is longer than the limit.
    #[error("the list is too long: {0}")]
    ListTooLong(&'static str),
    /// A name or value that the format has no room for.
    #[error("out of range: {0}")]
    OutOfRange(&'static str),
    /// Permissions forbid it.
    #[error("permission denied: {0}")]
    Denied(&'static str),
    /// Not available here.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// A rule of the format is broken.
    #[error("block {addr}: {kind}")]
    Corrupt {
        /// Where.
        addr: BlockAddr,
        /// Which rule.
        kind: CorruptKind,
    },
    /// A device request failed.
    #[error("device error: {0}")]
    Device(#[source] std::sync::Arc<DeviceError>),
    /// The device did not discard free blocks, which does no harm.
    #[error("the device does not discard free blocks: {0}")]
    DiscardFailed(#[source] std::sync::Arc<DeviceError>),
    /// The volume cannot be mounted, and why.
    #[error("{0}")]
    NotMountable(String),
    /// What cannot be, if lunfs is right.
    #[error("an error in lunfs itself: {0}")]
    Bug(&'static str),
    /// The volume is frozen, so it cannot be frozen once more or mounted differently.
    #[error("the volume is frozen: thaw it first")]
    Frozen,
    /// The volume is being unmounted.
    #[error("the volume is being unmounted")]
    Unmounting,
    /// Whoever asked has been interrupted, and part of it is done.
    #[error("interrupted")]
    Interrupted,
    /// An earlier error made this node leave the volume; only unmounting can follow.
    #[error("this node has withdrawn from the volume after an earlier error")]
    Withdrawn,
}

impl From<DeviceError> for FsError {
    fn from(source: DeviceError) -> Self {
        Self::Device(std::sync::Arc::new(source))
    }
}

impl FsError {
    /// The errno that a caller of the system interface gets. Exhaustive on purpose: a new variant has to choose.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        // Numbers of Linux (asm-generic/errno*.h), named by their comments.
        match self {
            Self::NotFound => 2,                            // ENOENT
            Self::Stale => 116,                             // ESTALE
            Self::Exists => 17,                             // EEXIST
            Self::NotDirectory => 20,                       // ENOTDIR
            Self::IsDirectory => 21,                        // EISDIR
            Self::NotEmpty => 39,                           // ENOTEMPTY
            Self::Invalid(_) | Self::NotMountable(_) => 22, // EINVAL
            Self::NameTooLong => 36,                        // ENAMETOOLONG
            Self::NoSpace => 28,                            // ENOSPC
            Self::QuotaExceeded { .. } => 122,              // EDQUOT
            Self::TooLarge => 27,                           // EFBIG
            Self::TooManyLinks => 31,                       // EMLINK
            Self::NotPermitted(_) => 1,                     // EPERM
            Self::NoSuchRange => 6,                         // ENXIO
            Self::ReadOnly => 30,                           // EROFS
            Self::NoAttribute => 61,                        // ENODATA
            Self::ListTooLong(_) => 7,                      // E2BIG
            Self::OutOfRange(_) => 34,                      // ERANGE
            Self::Denied(_) => 13,                          // EACCES
            Self::Unsupported(_) => 95,                     // EOPNOTSUPP
            Self::Frozen | Self::Unmounting => 16,          // EBUSY
            Self::Interrupted => 4,                         // EINTR
            Self::Corrupt { .. } | Self::Device(_) | Self::DiscardFailed(_) | Self::Bug(_) | Self::Withdrawn => 5, // EIO
        }
    }
}

/// A rule of the on-disk format, one variant each. Checks of mount, operations and fsck report the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptKind {
    /// The block does not start with the GFS2 magic number.
    #[error("not a metadata block (magic number {found:#010x})")]
    BadMagic {
        /// What stands there.
        found: u32,
    },
    /// The block is metadata of another type.
    #[error("expected a {wanted}, found a {found}")]
    WrongKind {
        /// What was expected.
        wanted: BlockKind,
        /// What stands there.
        found: BlockKind,
    },
    /// The checksum that lunfs keeps in the block does not fit its content.
    #[error("block checksum is {found:#010x}, should be {wanted:#010x}")]
    BadChecksum {
        /// What stands there.
        found: u32,
        /// What the content asks for.
        wanted: u32,
    },
    /// The block is too short for the structure in it.
    #[error("the block is too short for its structure")]
    ShortBlock,
    /// The filesystem format is not known.
    #[error("filesystem format {found} is not supported (1801 and 1802 are)")]
    FsFormat {
        /// What stands there.
        found: u32,
    },
    /// The multihost format is not known.
    #[error("multihost format {found} is not supported (1900 is)")]
    MultihostFormat {
        /// What stands there.
        found: u32,
    },
    /// The block size is not possible, or its two fields disagree.
    #[error("impossible block size {found}")]
    BlockSize {
        /// What stands there.
        found: u32,
    },
    /// A pointer to an inode is zero.
    #[error("the superblock points to no master or root directory")]
    NullInode,
    /// A pointer leads outside the volume, or onto the superblock.
    #[error("pointer to block {target}, which is outside the volume's data")]
    PointerRange {
        /// Where it leads.
        target: BlockAddr,
    },
    /// Pointers lead in a circle, or a structure is deeper than the format allows.
    #[error("pointers lead in a circle")]
    PointerCircle,
    /// An rindex entry contradicts itself.
    #[error("impossible geometry of the resource group at block {rgrp} in the resource index")]
    RindexGeometry {
        /// The group's address, as the entry has it.
        rgrp: u64,
    },
    /// Entries of the rindex are not in order, or overlap, or leave the device.
    #[error("the resource index is not in order at the resource group at block {rgrp}")]
    RindexOrder {
        /// The group that breaks the order.
        rgrp: BlockAddr,
    },
    /// The resource index has no entries, half a one, or more than the device has room for.
    #[error("the resource index has {size} bytes, which is not a number of entries that the device has room for")]
    RindexSize {
        /// Size of the file.
        size: u64,
    },
    /// A resource group's own checksum is wrong.
    #[error("resource group checksum is {found:#010x}, should be {wanted:#010x}")]
    RgrpCrc {
        /// What stands there.
        found: u32,
        /// What the content asks for.
        wanted: u32,
    },
    /// A resource group counts more blocks than it has.
    #[error("the resource group counts {free} free blocks and {dinodes} dinodes, but has {data} blocks")]
    RgrpCounts {
        /// Free blocks.
        free: u32,
        /// Dinodes.
        dinodes: u32,
        /// Blocks of the group.
        data: u32,
    },
    /// A resource group's count of free blocks differs from its bitmap.
    #[error("the resource group counts {counted} free blocks, its bitmap {found}")]
    RgrpFreeCount {
        /// What the header says.
        counted: u32,
        /// What the bitmap says.
        found: u32,
    },
    /// A block changes to a state that cannot follow the one it has.
    #[error("block {block} is {from:?} in the bitmap and was to become {to:?}")]
    BitmapTransition {
        /// Which block.
        block: BlockAddr,
        /// Its state.
        from: BlockState,
        /// The state it was to get.
        to: BlockState,
    },
    /// A dinode says that it stands elsewhere.
    #[error("the dinode says that it stands at block {found}")]
    DinodeAddress {
        /// What it says.
        found: u64,
    },
    /// A dinode's mode has no valid file type.
    #[error("the dinode has mode {mode:#o}, which is no file type")]
    DinodeMode {
        /// Its mode.
        mode: u32,
    },
    /// A pointer tree is higher than the format allows, or there must be none.
    #[error("the dinode has height {height}, which is not possible for it")]
    DinodeHeight {
        /// Its height.
        height: u16,
    },
    /// A size beyond what files can have.
    #[error("the dinode has size {size}")]
    DinodeSize {
        /// Its size.
        size: u64,
    },
    /// More content than fits into the dinode, but no pointer tree.
    #[error("the dinode holds its content itself, but says that it is {size} bytes long")]
    StuffedSize {
        /// Its size.
        size: u64,
    },
    /// A symbolic link must be in its dinode.
    #[error("the symbolic link has {size} bytes and height {height}")]
    SymlinkShape {
        /// Its size.
        size: u64,
        /// Its height.
        height: u16,
    },
    /// The count of an inode's blocks cannot be right.
    #[error("the dinode counts {blocks} blocks, which cannot be right")]
    DinodeBlocks {
        /// What it counts.
        blocks: u64,
    },
    /// The count of an inode's names cannot be right.
    #[error("the dinode counts {nlink} names, which cannot be right")]
    DinodeLinks {
        /// What it counts.
        nlink: u32,
    },
    /// A hash table has an impossible depth.
    #[error("the directory's hash table has depth {depth}")]
    DirectoryDepth {
        /// Its depth.
        depth: u16,
    },
    /// A hash table's size does not fit its depth.
    #[error("the directory has size {size}, which does not fit a hash table of depth {depth}")]
    DirectorySize {
        /// The directory's size.
        size: u64,
        /// Its depth.
        depth: u16,
    },
    /// The count of a directory's entries cannot be right.
    #[error("the directory counts {entries} entries, which cannot be right")]
    DirectoryEntries {
        /// What it counts.
        entries: u32,
    },
    /// A hash table has a hole.
    #[error("slot {slot} of the directory's hash table is empty")]
    HashTableHole {
        /// Which slot.
        slot: u32,
    },
    /// A slot does not point to the leaf that fills the aligned range around it.
    #[error("slot {slot} of the directory's hash table does not belong to the leaf of its range")]
    HashTableRange {
        /// Which slot.
        slot: u32,
    },
    /// A leaf is deeper than its table.
    #[error("the directory leaf has depth {depth}, which its table does not have")]
    LeafDepth {
        /// The leaf's depth.
        depth: u16,
    },
    /// The count of a leaf's entries cannot be right.
    #[error("the directory leaf counts {entries} entries, which cannot be right")]
    LeafEntries {
        /// What it counts.
        entries: u16,
    },
    /// A leaf has a chain, though it could be split.
    #[error("the directory leaf of depth {depth} has a chain, which only the deepest may have")]
    LeafChain {
        /// The leaf's depth.
        depth: u16,
    },
    /// Directory entries do not chain to the end of their area.
    #[error("the directory entry at byte {offset} does not chain to the next")]
    DirentChain {
        /// Offset in the area of entries.
        offset: usize,
    },
    /// A free entry stands where none may.
    #[error("free directory entry at byte {offset}, which only the first may be")]
    DirentFreeInMiddle {
        /// Offset in the area of entries.
        offset: usize,
    },
    /// A name has no bytes, too many, or ones that names cannot have.
    #[error("impossible name in the directory entry at byte {offset}")]
    DirentName {
        /// Offset in the area of entries.
        offset: usize,
    },
    /// An entry's hash is not that of its name.
    #[error("wrong hash in the directory entry at byte {offset}")]
    DirentHash {
        /// Offset in the area of entries.
        offset: usize,
    },
    /// An entry stands in a leaf to which its hash does not lead.
    #[error("the directory entry at byte {offset} is not in the leaf of its hash")]
    DirentLeaf {
        /// Offset in the area of entries.
        offset: usize,
    },
    /// An entry's type is none.
    #[error("directory entry at byte {offset} has type {kind}")]
    DirentKind {
        /// Offset in the area of entries.
        offset: usize,
        /// What stands there.
        kind: u16,
    },
    /// An entry and the inode it names disagree.
    #[error("the directory entry and the inode it names disagree on number or type")]
    DirentTarget,
    /// Records of extended attributes do not chain to the end of their block.
    #[error("extended attribute record at byte {offset} does not chain to the next")]
    XattrChain {
        /// Offset in the block.
        offset: usize,
    },
    /// The mark of the last record is missing, or stands on another one.
    #[error("extended attribute record at byte {offset} is wrong about being the last one")]
    XattrLast {
        /// Offset in the block.
        offset: usize,
    },
    /// A record belongs to a namespace that does not exist, or not in this fs format.
    #[error("extended attribute record at byte {offset} has type {kind}")]
    XattrNamespace {
        /// Offset in the block.
        offset: usize,
        /// What stands there.
        kind: u8,
    },
    /// A record in use has no name, or one with a zero in it.
    #[error("extended attribute record at byte {offset} has no name, or one with a zero byte")]
    XattrName {
        /// Offset in the block.
        offset: usize,
    },
    /// A value is longer than the format allows.
    #[error("extended attribute record at byte {offset} has a value of more than 64 KiB")]
    XattrValue {
        /// Offset in the block.
        offset: usize,
    },
    /// Name, value or pointers reach beyond the record.
    #[error("extended attribute record at byte {offset} holds more than its length allows")]
    XattrFit {
        /// Offset in the block.
        offset: usize,
    },
    /// A value that is not in its record has fewer blocks than it needs, or one twice.
    #[error("extended attribute record at byte {offset} has too few different blocks for its value")]
    XattrBlocks {
        /// Offset in the block.
        offset: usize,
    },
    /// An access control list on the disk is none.
    #[error("the inode's access control list makes no sense")]
    AccessList,
    /// A system file is missing.
    #[error("system file {name} is missing")]
    SystemFileMissing {
        /// Its name.
        name: &'static str,
    },
    /// A system file has an impossible size or shape.
    #[error("system file {name} has an impossible size or shape")]
    SystemFileShape {
        /// Its name.
        name: &'static str,
    },
    /// A journal is too small, too large, or has a hole.
    #[error("journal {jid} has an impossible size or a hole")]
    JournalShape {
        /// Number of the journal.
        jid: u32,
    },
    /// A journal has no valid log header at all.
    #[error("journal {jid} has no valid log header")]
    JournalNoHead {
        /// Number of the journal.
        jid: u32,
    },
    /// Descriptors of a journal do not chain from its tail to its head.
    #[error("the log of journal {jid} is broken at its block {position}")]
    JournalChain {
        /// Number of the journal.
        jid: u32,
        /// Where, counted in the journal.
        position: u32,
    },
    /// A journal holds an image of a block that must not be replayed there.
    #[error("journal {jid} holds an image for block {target}, which no image may go to")]
    JournalTarget {
        /// Number of the journal.
        jid: u32,
        /// Where the image was to go.
        target: BlockAddr,
    },
}

impl CorruptKind {
    /// The error that reports this rule as broken by block `addr`.
    #[must_use]
    pub const fn at(self, addr: BlockAddr) -> FsError {
        FsError::Corrupt { addr, kind: self }
    }
}

/// What can be done about an error that made a node withdraw, after everything has been unmounted.
#[must_use]
pub fn remedy(error: &FsError) -> &'static str {
    match error {
        FsError::Corrupt { .. } => "the volume is damaged: repair it with fsck.gfs2",
        _ => "check the device; the next mount repairs the volume from its journal",
    }
}

/// An error and its causes in one line. A cause that the line contains already is not repeated.
#[must_use]
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}
