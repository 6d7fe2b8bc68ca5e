//! Units: every number that means a place or an amount has its own type.

use std::fmt;
use std::num::NonZeroU64;

/// Block number, counted from the start of the device. Block 0 exists, so this is not `NonZero`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockAddr(pub u64);

impl BlockAddr {
    /// The block `count` blocks further on; `None` past the end of the address space.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(block) => Some(Self(block)),
            None => None,
        }
    }
}

impl fmt::Display for BlockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Address of a dinode, which is also the inode's number. Zero on disk is "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNo(NonZeroU64);

impl InodeNo {
    /// Stands for "the root" before a volume is known.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The inode at `block`; `None` for 0.
    #[must_use]
    pub const fn new(block: u64) -> Option<Self> {
        match NonZeroU64::new(block) {
            Some(block) => Some(Self(block)),
            None => None,
        }
    }

    /// The block that holds the dinode.
    #[must_use]
    pub const fn addr(self) -> BlockAddr {
        BlockAddr(self.0.get())
    }

    /// The inode's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
