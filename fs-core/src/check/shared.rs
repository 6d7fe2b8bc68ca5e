//! Blocks that are used twice, and by whom. That a block has a second user is found out with the second one; to know the
//! first one as well, all inodes are looked at once more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Checker;
use super::rule::{Finding, Rule};
use crate::addr::{BlockAddr, InodeNo};

/// Blocks whose users are searched for: about 100 bytes each.
const BLOCKS_MAX: usize = 10_000;
/// Users of one block that are remembered.
const USERS_MAX: usize = 16;

/// Blocks that are used twice.
#[derive(Default)]
pub(super) struct Shared {
    /// Users by block; empty until the second look.
    blocks: Mutex<BTreeMap<BlockAddr, Vec<InodeNo>>>,
    second_look: AtomicBool,
}

impl Shared {
    /// Inode `ino` refers to `addr`, which is `taken` already, or not. True when nothing has to be reported now.
    pub(super) fn refer(&self, addr: BlockAddr, ino: InodeNo, taken: bool) -> bool {
        if self.second_look.load(Ordering::Relaxed) {
            if let Some(users) = self.blocks.lock().get_mut(&addr)
                && users.len() < USERS_MAX
            {
                users.push(ino);
            }
            return taken;
        }
        if !taken {
            return false;
        }
        let mut blocks = self.blocks.lock();
        let known = blocks.contains_key(&addr) || blocks.len() < BLOCKS_MAX;
        if known {
            blocks.entry(addr).or_default();
        }
        known
    }
}

/// Finds out who uses the blocks that are used twice, and reports them. The last thing that is done with the map: it
/// begins anew.
pub(super) async fn check(checker: &Checker<'_>) {
    if checker.shared.blocks.lock().is_empty() {
        return;
    }
    checker.map.forget_claims();
    checker.shared.second_look.store(true, Ordering::Relaxed);
    checker.tally.mute(true);
    checker.inodes().await;
    checker.tally.mute(false);
    let blocks = std::mem::take(&mut *checker.shared.blocks.lock());
    for (addr, users) in blocks {
        let [first, others @ ..] = users.as_slice() else { continue };
        for user in others {
            let rule = Rule::ReferencedTwice { other: Some(*first) };
            checker.tally.report(&Finding::new(rule, addr).of(*user));
        }
    }
}
