//! Why a `.vhdx` file cannot be used: one variant for each rule that it breaks.

use std::io;

use uuid::Uuid;

/// Why a `.vhdx` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VhdxError {
    /// The operating system reported an error.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file ends before something that it says it contains.
    #[error(
        "the file is truncated: its {what} ends at byte {end_bytes}, the file at byte {size_bytes}; copy it again, whole"
    )]
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Where it ends, in bytes from the start of the file.
        end_bytes: u64,
        /// Where the file ends, in bytes.
        size_bytes: u64,
    },
    /// Neither copy of the header has the right checksum.
    #[error("both headers are damaged; restore the file from a copy")]
    HeadersDamaged,
    /// Two different headers claim to be the newest.
    #[error("the two headers have the same sequence number and differ; restore the file from a copy")]
    HeadersContradict,
    /// A newer version of the format.
    #[error("version {version} of the format; only version 1 is known; convert it (qemu-img convert)")]
    Version {
        /// The version that the header names.
        version: u16,
    },
    /// A newer version of the log.
    #[error("version {version} of the log; only version 0 is known; open it once where it was last used")]
    LogVersion {
        /// The version that the header names.
        version: u16,
    },
    /// The log is at a place that the format does not allow.
    #[error("the header puts the log at byte {offset_bytes}, {len_bytes} bytes long, which the format does not allow")]
    LogPlace {
        /// Where, in bytes from the start of the file.
        offset_bytes: u64,
        /// How long, in bytes.
        len_bytes: u64,
    },
    /// The log is marked as needed and holds nothing that can be replayed.
    #[error("the log has to be replayed, but holds no complete sequence of entries; restore the file from a copy")]
    LogEmpty,
    /// The log says that more of the file was durable than there is.
    #[error(
        "the log was written when the file had {flushed_bytes} bytes; now it has {size_bytes}: copy it again, whole"
    )]
    LogNewerThanFile {
        /// Size of the file at that time, in bytes.
        flushed_bytes: u64,
        /// Size now, in bytes.
        size_bytes: u64,
    },
    /// The log has to be replayed into a file that is open for reading only.
    #[error("the log has to be replayed into the file first; open it once for writing, or run qemu-img check -r all")]
    LogNeedsWriting,
    /// An entry of the log changes what a log may not change.
    #[error("an entry of the log changes {len_bytes} bytes at byte {offset_bytes}, where no log may write")]
    LogTarget {
        /// Where, in bytes from the start of the file.
        offset_bytes: u64,
        /// How much, in bytes.
        len_bytes: u64,
    },
    /// Neither copy of the region table is intact.
    #[error("both region tables are damaged; restore the file from a copy")]
    RegionTablesDamaged,
    /// A region that has to be understood and is not.
    #[error("it needs the unknown region {id}; convert it with the program that made it")]
    RegionUnknown {
        /// The region's identifier.
        id: Uuid,
    },
    /// A region is not there.
    #[error("it has no {what}; restore the file from a copy")]
    RegionMissing {
        /// Which region.
        what: &'static str,
    },
    /// A region is there more than once.
    #[error("it has more than one {what}; restore the file from a copy")]
    RegionTwice {
        /// Which region.
        what: &'static str,
    },
    /// A region is at a place that the format does not allow.
    #[error("its {what} is at byte {offset_bytes}, {len_bytes} bytes long, which the format does not allow")]
    RegionPlace {
        /// Which region.
        what: &'static str,
        /// Where, in bytes from the start of the file.
        offset_bytes: u64,
        /// How long, in bytes.
        len_bytes: u64,
    },
    /// Two parts of the file overlap.
    #[error("{first} and {second} overlap at byte {offset_bytes}; restore the file from a copy")]
    Overlap {
        /// One part.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Where the other begins, in bytes from the start of the file.
        offset_bytes: u64,
    },
    /// The metadata table is damaged.
    #[error("its metadata table is damaged; restore the file from a copy")]
    MetadataDamaged,
    /// A metadata item that has to be understood and is not.
    #[error("it needs the unknown metadata item {id}; convert it with the program that made it")]
    MetadataUnknown {
        /// The item's identifier.
        id: Uuid,
    },
    /// A metadata item is not there.
    #[error("its metadata has no {what}; restore the file from a copy")]
    MetadataMissing {
        /// Which item.
        what: &'static str,
    },
    /// A metadata item is there more than once.
    #[error("its metadata has more than one {what}; restore the file from a copy")]
    MetadataTwice {
        /// Which item.
        what: &'static str,
    },
    /// A metadata item has a length or place that it cannot have.
    #[error("its {what} is {len_bytes} bytes at byte {offset_bytes} of the metadata, which the format does not allow")]
    MetadataPlace {
        /// Which item.
        what: &'static str,
        /// Where, in bytes from the start of the metadata region.
        offset_bytes: u64,
        /// How long, in bytes.
        len_bytes: u64,
    },
    /// A metadata item has a value that it cannot have.
    #[error("its {what} is {value}, which the format does not allow")]
    MetadataValue {
        /// Which item.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// The content depends on another file.
    #[error("it is a differencing disk, whose content depends on another file; merge it into its parent first")]
    Differencing,
    /// The block table has fewer entries than the disk has blocks.
    #[error("its block table has {len_bytes} bytes; the disk needs {needed_bytes}; restore the file from a copy")]
    BlockTableShort {
        /// What there is, in bytes.
        len_bytes: u64,
        /// What is needed, in bytes.
        needed_bytes: u64,
    },
    /// A block is in a state that this kind of disk does not have.
    #[error("block {block} of the disk is in state {state}, which a disk without parent does not have")]
    BlockState {
        /// Number of the block, counted from 0.
        block: u64,
        /// State in its entry.
        state: u64,
    },
    /// A block is at a place where there can be none.
    #[error("block {block} of the disk is at byte {offset_bytes}, where no block can be; restore the file from a copy")]
    BlockPlace {
        /// Number of the block, counted from 0.
        block: u64,
        /// Where, in bytes from the start of the file.
        offset_bytes: u64,
    },
    /// A new disk cannot have this size or these sectors.
    #[error(
        "a disk of {size_bytes} bytes with sectors of {sector_bytes} cannot be made: sectors have 512 or 4096 bytes, and the size is a multiple of them, at most 64 TiB"
    )]
    CannotCreate {
        /// Size, in bytes.
        size_bytes: u64,
        /// Size of a sector, in bytes.
        sector_bytes: u32,
    },
}

/// Names what was being done when the operating system reported an error.
pub(crate) fn io<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> VhdxError {
    move |source| VhdxError::Io { doing, source: source.into() }
}
