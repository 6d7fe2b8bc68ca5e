//! Decides what of a log goes to its place. Pure: it is given records in the order of the log, and yields a plan.
//!
//! Law
//! * The last image of a block wins, unless a revoke of that block comes behind it. Nothing else decides: neither what
//!   stands in place, nor a version in the image.
//!
//! A revoke voids all images before it and none behind it, so one pass suffices, and what it has to remember is at most
//! one entry for each image, which itself takes a block of the log.

use std::collections::BTreeMap;

use super::owner::{Owner, Owners};
use crate::addr::BlockAddr;

/// An image in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Where in the log it is, in blocks from the tail.
    pub at: u32,
    /// The magic number was taken out of its first bytes, and has to be put back.
    pub escaped: bool,
    /// The lock that covers the block, as the descriptor says.
    pub owner: Owner,
}

/// What a log says, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The block `home` was changed to this.
    Logged {
        /// Where the image belongs.
        home: BlockAddr,
        /// The image.
        image: Image,
    },
    /// Images of the block `home` before this are void.
    Revoked {
        /// The block.
        home: BlockAddr,
    },
    /// All before this is committed.
    Committed {
        /// The owners of the images since the last commit can be believed.
        owners_named: bool,
    },
}

/// The decision, as far as the log was seen.
#[derive(Debug, Default)]
pub struct Replay {
    latest: BTreeMap<BlockAddr, Image>,
    revoked: u64,
    skipped: u64,
    /// Images since the last commit.
    uncommitted: bool,
    owners: Owners,
}

/// What has to be copied home.
#[derive(Debug)]
pub struct Plan {
    /// Where each image belongs, and which it is. By position in the log; no home is twice here.
    pub images: Vec<(BlockAddr, Image)>,
    /// Images that a revoke voided.
    pub revoked: u64,
    /// Images that a later one replaces.
    pub skipped: u64,
    /// The locks that cover what is copied.
    pub owners: Owners,
}

impl Replay {
    /// Takes the next record.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Logged { home, image } => {
                self.uncommitted = true;
                if self.latest.insert(home, image).is_some() {
                    self.skipped += 1;
                }
            }
            Record::Revoked { home } => {
                if !mistake!(ReplayIgnoresRevokes) && self.latest.remove(&home).is_some() {
                    self.revoked += 1;
                }
            }
            Record::Committed { owners_named } => {
                if self.uncommitted && !owners_named {
                    self.owners = Owners::All;
                }
                self.uncommitted = false;
            }
        }
    }

    /// The decision about all that was taken. The last record has to be a commit: what none commits is not to be
    /// given to this.
    #[must_use]
    pub fn finish(self) -> Plan {
        let mut owners = self.owners;
        for image in self.latest.values() {
            owners.insert(image.owner);
        }
        let mut images: Vec<(BlockAddr, Image)> = self.latest.into_iter().collect();
        images.sort_unstable_by_key(|(_, image)| image.at);
        if mistake!(ReplayForgetsBlock) {
            images.pop();
        }
        Plan { images, revoked: self.revoked, skipped: self.skipped, owners }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::owner::OwnerKind;

    const COMMITTED: Record = Record::Committed { owners_named: true };

    fn logged(home: u64, at: u32) -> Record {
        let owner = Owner::new(OwnerKind::INODE, BlockAddr(home));
        Record::Logged { home: BlockAddr(home), image: Image { at, escaped: false, owner } }
    }

    fn revoked(home: u64) -> Record {
        Record::Revoked { home: BlockAddr(home) }
    }

    fn plan(records: &[Record]) -> Plan {
        let mut replay = Replay::default();
        for record in records {
            replay.push(*record);
        }
        replay.finish()
    }

    fn homes(plan: &Plan) -> Vec<(u64, u32)> {
        plan.images.iter().map(|(home, image)| (home.0, image.at)).collect()
    }

    #[test]
    fn a_revoke_voids_older_images_but_not_newer_ones() {
        let plan = plan(&[logged(1, 1), logged(2, 2), revoked(1), revoked(2), revoked(3), logged(2, 6), COMMITTED]);
        assert_eq!(homes(&plan), [(2, 6)]);
        assert_eq!((plan.revoked, plan.skipped), (2, 0));
        let inode = |number| Owner::new(OwnerKind::INODE, BlockAddr(number));
        assert!(plan.owners.concerns(inode(2)) && !plan.owners.concerns(inode(1)));
    }

    #[test]
    fn the_last_image_of_a_block_wins() {
        let plan = plan(&[logged(9, 1), logged(1, 2), COMMITTED, logged(9, 5), COMMITTED]);
        assert_eq!(homes(&plan), [(1, 2), (9, 5)]);
        assert_eq!((plan.revoked, plan.skipped), (0, 1));
    }

    #[test]
    fn a_flush_that_does_not_name_its_owners_concerns_every_lock() {
        let unnamed = Record::Committed { owners_named: false };
        assert_eq!(plan(&[logged(1, 1), unnamed, logged(2, 4), COMMITTED]).owners, Owners::All);
        // A bare header has no blocks whose owners it could hide.
        assert_ne!(plan(&[logged(1, 1), COMMITTED, unnamed]).owners, Owners::All);
    }
}
