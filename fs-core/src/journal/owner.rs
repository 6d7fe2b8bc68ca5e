//! Which lock a logged block belongs to, so that recovery knows which locks a dead node's journal concerns.

use std::collections::BTreeSet;
use std::fmt;

use crate::addr::BlockAddr;

/// A lock, as log descriptors name it: the lock's type in the top byte, its number in the 56 bits below.
///
/// Zero means "not known", which no type is. Numbers are block numbers, which the format keeps below 2⁵⁶.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u64);

/// Bits of the number.
const NUMBER_BITS: u32 = 56;
/// Largest number.
const NUMBER_MAX: u64 = (1 << NUMBER_BITS) - 1;

/// Type of the lock in an [`Owner`]; the numbers are those of GFS2's lock types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerKind(pub u8);

impl OwnerKind {
    /// An inode; the number is its dinode's block.
    pub const INODE: Self = Self(2);
    /// A resource group; the number is its header's block.
    pub const RGRP: Self = Self(3);
}

impl Owner {
    /// The lock is not known: whoever recovers the block has to assume every lock.
    pub const UNKNOWN: Self = Self(0);

    /// The lock of `kind` with `number`; [`Self::UNKNOWN`] for a number that does not fit.
    #[must_use]
    pub const fn new(kind: OwnerKind, number: BlockAddr) -> Self {
        if number.0 > NUMBER_MAX || kind.0 == 0 {
            return Self::UNKNOWN;
        }
        Self((kind.0 as u64) << NUMBER_BITS | number.0)
    }

    /// As a descriptor has it. Of a type that this version does not know as well: it is compared, not understood.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        if bits >> NUMBER_BITS == 0 { Self::UNKNOWN } else { Self(bits) }
    }

    /// As it stands in a descriptor.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The lock's type; zero when it is not known.
    #[must_use]
    pub const fn kind(self) -> OwnerKind {
        OwnerKind(self.0.to_be_bytes()[0])
    }

    /// The lock's number.
    #[must_use]
    pub const fn number(self) -> BlockAddr {
        BlockAddr(self.0 & NUMBER_MAX)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind().0, self.number())
    }
}

/// The locks that a log concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// No others than these.
    These(BTreeSet<Owner>),
    /// Any lock may be concerned: the log does not say, or names too many.
    All,
}

/// Most locks that are listed one by one. Whoever gets more treats them like all: a list is only worth its memory
/// while it leaves most locks of a volume out.
pub const OWNERS_MAX: usize = 1 << 16;

impl Owners {
    /// Adds one; an unknown one, or one too many, makes it [`Self::All`].
    pub fn insert(&mut self, owner: Owner) {
        if let Self::These(owners) = self {
            owners.insert(owner);
            if owner == Owner::UNKNOWN || owners.len() > OWNERS_MAX {
                *self = Self::All;
            }
        }
    }

    /// `owner`'s lock may be concerned.
    #[must_use]
    pub fn concerns(&self, owner: Owner) -> bool {
        match self {
            Self::These(owners) => owners.contains(&owner),
            Self::All => true,
        }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_keeps_type_and_number() {
        let owner = Owner::new(OwnerKind::RGRP, BlockAddr(NUMBER_MAX));
        assert_eq!((owner.kind(), owner.number()), (OwnerKind::RGRP, BlockAddr(NUMBER_MAX)));
        assert_eq!(Owner::from_bits(owner.bits()), owner);
        assert_eq!(Owner::new(OwnerKind::RGRP, BlockAddr(NUMBER_MAX + 1)), Owner::UNKNOWN);
        assert_eq!(Owner::from_bits(77), Owner::UNKNOWN);
    }

    #[test]
    fn an_unknown_owner_or_too_many_concern_every_lock() {
        let other = Owner::new(OwnerKind::INODE, BlockAddr(1));
        let mut owners = Owners::default();
        owners.insert(Owner::new(OwnerKind::INODE, BlockAddr(2)));
        assert!(!owners.concerns(other));
        owners.insert(Owner::UNKNOWN);
        assert!(owners.concerns(other));

        let mut owners = Owners::default();
        for number in 0..=OWNERS_MAX as u64 {
            owners.insert(Owner::new(OwnerKind::RGRP, BlockAddr(number)));
        }
        assert_eq!(owners, Owners::All);
    }
}
