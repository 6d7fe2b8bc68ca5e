//! What a node needs from a lock manager. Alone on a volume, everything is granted.

use std::future::Future;
use std::pin::Pin;

use crate::addr::InodeNo;
use crate::error::FsError;

/// What a glock protects; the numbers are those of the format's lock types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Not a thing on the disk: freeze, rename.
    NonDisk = 1,
    /// An inode with its data, metadata and entries; the number is its block.
    Inode = 2,
    /// A resource group; the number is its header block.
    Rgrp = 3,
    /// Use of an inode, by all who have it in memory.
    Iopen = 5,
    /// Quotas; the number is twice that of a user, one more for a group.
    Quota = 8,
    /// A journal.
    Journal = 9,
}

/// Name of a glock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it protects.
    pub kind: Kind,
    /// Which one.
    pub number: u64,
}

impl Name {
    /// Held exclusively by whoever moves an inode to another directory.
    pub const RENAME: Self = Self { kind: Kind::NonDisk, number: 3 };

    /// The content of the quota file: all users and groups at once. It is not that inode's lock, so that a directory on a
    /// damaged volume which names the quota file makes nobody wait for himself.
    pub const QUOTAS: Self = Self { kind: Kind::Quota, number: u64::MAX };

    /// The lock of an inode.
    #[must_use]
    pub const fn inode(ino: InodeNo) -> Self {
        Self { kind: Kind::Inode, number: ino.get() }
    }

    /// The lock of the resource group whose header is block `number`.
    #[must_use]
    pub const fn rgrp(number: u64) -> Self {
        Self { kind: Kind::Rgrp, number }
    }
}

/// Modes of a glock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not held.
    Unlocked,
    /// To read.
    Shared,
    /// To read and write data that nobody caches.
    Deferred,
    /// To change.
    Exclusive,
}

impl Mode {
    /// Holding this mode allows what `other` allows.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match self {
            Self::Unlocked => matches!(other, Self::Unlocked),
            Self::Shared => matches!(other, Self::Unlocked | Self::Shared),
            Self::Deferred => matches!(other, Self::Unlocked | Self::Deferred),
            Self::Exclusive => true,
        }
    }
}

/// A lock manager.
pub trait LockService: Send + Sync + 'static {
    /// Returns when this node holds `name` in `mode`, converting what it held before.
    fn acquire(&self, name: Name, mode: Mode) -> Pin<Box<dyn Future<Output = Result<(), FsError>> + Send + '_>>;

    /// Gives the lock back.
    fn release(&self, name: Name);
}

/// The lock manager of a node that is alone on its volume.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalLocks;

impl LockService for LocalLocks {
    fn acquire(&self, _: Name, _: Mode) -> Pin<Box<dyn Future<Output = Result<(), FsError>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(&self, _: Name) {}
}

#[cfg(test)]
mod tests {
    use super::Mode::{Deferred, Exclusive, Shared, Unlocked};

    #[test]
    fn modes_cover_as_the_table_says() {
        let modes = [Unlocked, Shared, Deferred, Exclusive];
        let table = ["+---", "++--", "+-+-", "++++"];
        for (mode, row) in modes.iter().zip(table) {
            for (other, cell) in modes.iter().zip(row.chars()) {
                assert_eq!(mode.covers(*other), cell == '+', "{mode:?} covers {other:?}");
            }
        }
    }
}
