//! Errors: each names the rule that broke, keeps its cause, and chooses its errno in one place.

use block::device::DeviceError;

use crate::addr::BlockAddr;

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
            Self::NotFound => 2,                                           // ENOENT
            Self::Stale => 116,                                            // ESTALE
            Self::Exists => 17,                                            // EEXIST
            Self::NotDirectory => 20,                                      // ENOTDIR
            Self::IsDirectory => 21,                                       // EISDIR
            Self::NotEmpty => 39,                                          // ENOTEMPTY
            Self::Invalid(_) => 22,                                        // EINVAL
            Self::NameTooLong => 36,                                       // ENAMETOOLONG
            Self::NoSpace => 28,                                           // ENOSPC
            Self::TooLarge => 27,                                          // EFBIG
            Self::TooManyLinks => 31,                                      // EMLINK
            Self::NotPermitted(_) => 1,                                    // EPERM
            Self::NoSuchRange => 6,                                        // ENXIO
            Self::ReadOnly => 30,                                          // EROFS
            Self::Unsupported(_) => 95,                                    // EOPNOTSUPP
            Self::Corrupt { .. } | Self::Device(_) | Self::Withdrawn => 5, // EIO
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
}
