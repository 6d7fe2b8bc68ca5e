//! What every user and group has, counted, and what the quota file and the change files say of it.
//!
//! Nobody but lunfs has to be right here: the kernel's driver does not charge root for what it allocates, and a mount
//! without quotas counts nothing. So this is looked at only when it is asked for.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Checker;
use super::rule::{Finding, Rule};
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::quota::QuotaId;
use crate::quota::charge::{self, Charged, Postings};
use crate::quota::file::Scan;

/// Blocks of one user or group.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks {
    /// What the inodes count.
    found: i64,
    /// What quota file and change files say.
    said: i64,
}

/// Blocks of everybody.
pub(super) struct Usage(Mutex<State>);

#[derive(Default)]
struct State {
    ids: BTreeMap<QuotaId, Blocks>,
    ids_max: usize,
    /// There were more than can be counted.
    overflow: bool,
}

impl State {
    fn of(&mut self, id: QuotaId) -> Option<&mut Blocks> {
        if self.ids.len() >= self.ids_max && !self.ids.contains_key(&id) {
            self.overflow = true;
            return None;
        }
        Some(self.ids.entry(id).or_default())
    }
}

impl Usage {
    /// Counts for `ids_max` users and groups at most.
    pub(super) fn new(ids_max: usize) -> Self {
        Self(Mutex::new(State { ids_max, ..State::default() }))
    }

    /// An inode, with the block it stands in.
    pub(super) fn add_inode(&self, image: &[u8]) {
        let mut postings = Postings::new();
        charge::post(&mut postings, None, Charged::of(image));
        let mut state = self.0.lock();
        for (id, posting) in postings {
            if let Some(blocks) = state.of(id) {
                blocks.found = blocks.found.saturating_add(posting.change);
            }
        }
    }

    /// A slot of a change file.
    pub(super) fn add_pending(&self, id: QuotaId, change: i64) {
        if let Some(blocks) = self.0.lock().of(id) {
            blocks.said = blocks.said.saturating_add(change);
        }
    }

    async fn add_file(&self, checker: &Checker<'_>, dinode: &Dinode) -> Result<(), FsError> {
        let mut scan = Scan::new(&checker.reader, dinode, 0, checker.reader.block_count());
        while let Some((id, record)) = scan.next().await? {
            self.add_pending(id, record.value_blocks);
        }
        Ok(())
    }
}

/// Compares what was counted with the quota file `dinode`, when all else has been added.
pub(super) async fn check(checker: &Checker<'_>, dinode: &Dinode) {
    let Some(usage) = &checker.usage else { return };
    let addr = dinode.ino.addr();
    let report = |rule| checker.tally.report(&Finding::new(rule, addr).of(dinode.ino));
    match usage.add_file(checker, dinode).await {
        Ok(()) => {}
        Err(FsError::Corrupt { kind, .. }) => return report(kind.into()),
        Err(_) => return report(Rule::Unreadable),
    }
    let state = std::mem::take(&mut *usage.0.lock());
    if state.overflow {
        return report(Rule::QuotaIds { counted: state.ids_max as u64 });
    }
    for (id, Blocks { found, said }) in state.ids {
        if found != said {
            report(Rule::QuotaUsage { id, counted: said, found });
        }
    }
}
