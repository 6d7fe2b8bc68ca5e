//! Bytes on disk and nothing else: each structure of GFS2 format 1801/1802 once, as raw big-endian fields, and the
//! checked form that the rest of the crate works with.
//!
//! | block type | file |
//! | --- | --- |
//! | 1 superblock | [`superblock`] |
//! | 2 resource group header, 3 bitmap continuation | [`rgrp`] |
//! | 4 dinode | [`dinode`] |
//! | 5 indirect, 7 journaled data (directory hash tables) | [`indirect`] |
//! | 6 directory leaf, and the entries in it | [`dirent`] |
//! | 8 log header, 9 log descriptor, 12 log continuation | [`log`] |
//! | 10 extended attributes, 11 their values | [`xattr`] |
//! | 14 quota changes, and the small system files | [`system_files`] |
//! | lunfs's own marker before the superblock | [`marker`] |
//!
//! Numbers follow `linux/gfs2_ondisk.h`, names follow its fields without their prefix.

pub mod block_size;
pub mod dinode;
pub mod dirent;
pub mod indirect;
pub mod log;
pub mod marker;
pub mod meta;
pub mod rgrp;
pub mod superblock;
pub mod system_files;
pub mod xattr;

/// Big-endian integers of the format.
pub type U16 = zerocopy::byteorder::U16<zerocopy::byteorder::BigEndian>;
/// Big-endian integers of the format.
pub type U32 = zerocopy::byteorder::U32<zerocopy::byteorder::BigEndian>;
/// Big-endian integers of the format.
pub type U64 = zerocopy::byteorder::U64<zerocopy::byteorder::BigEndian>;
/// Big-endian integers of the format.
pub type I64 = zerocopy::byteorder::I64<zerocopy::byteorder::BigEndian>;
