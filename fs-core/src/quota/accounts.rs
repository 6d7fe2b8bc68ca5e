//! What is known of users and groups while the volume is mounted.

use std::collections::{BTreeMap, BTreeSet};

use super::charge::Postings;
use super::{Quota, QuotaId, Quotas, Record, file};
use crate::addr::BlockAddr;
use crate::alloc::avail::Avail;
use crate::error::FsError;
use crate::glock::service::{Mode as LockMode, Name};
use crate::volume::Volume;

/// Accounts that are kept although nobody needs them.
const IDLE_MAX: usize = 4096;

/// One user or group.
#[derive(Debug, Default)]
struct Account {
    /// As the quota file has it.
    record: Record,
    /// As the change file has it.
    change: i64,
    /// What transactions that are not applied yet will take at most.
    promised: i64,
    /// The slot of the change file.
    slot: Option<u32>,
    /// Operations that have the account in their hands.
    users: u32,
    told_exceeded: bool,
    told_warning: bool,
}

impl Account {
    /// Nobody has it in his hands, and the quota file says all there is.
    const fn is_idle(&self) -> bool {
        self.users == 0 && self.change == 0
    }

    /// In use, in blocks, without promises.
    fn used(&self) -> i64 {
        self.record.value_blocks.saturating_add(self.change).max(0)
    }

    fn quota(&self, id: QuotaId) -> Quota {
        Quota {
            id,
            limit_blocks: self.record.limit_blocks,
            warn_blocks: self.record.warn_blocks,
            used_blocks: self.used().unsigned_abs(),
        }
    }

    /// The limit leaves room for `change` more blocks.
    fn allows(&self, change: i64) -> bool {
        // A limit beyond all numbers is none.
        let limit = i64::try_from(self.record.limit_blocks).unwrap_or(0);
        limit == 0 || change <= 0 || self.used().saturating_add(self.promised).saturating_add(change) <= limit
    }

    fn is_over_warning(&self) -> bool {
        self.record.warn_blocks != 0 && self.used().unsigned_abs() > self.record.warn_blocks
    }
}

/// All that are in memory, and the slots of the change file.
pub(super) struct Accounts {
    table: BTreeMap<QuotaId, Account>,
    free_slots: Avail,
    /// Blocks of the change file that stay in memory.
    pinned: BTreeSet<BlockAddr>,
    /// Size of the table at which idle accounts are looked for.
    sweep_at: usize,
}

impl Accounts {
    pub(super) fn new(slots: u32) -> Self {
        let mut free_slots = Avail::none(slots);
        (0..slots).for_each(|slot| free_slots.insert(slot));
        Self { table: BTreeMap::new(), free_slots, pinned: BTreeSet::new(), sweep_at: IDLE_MAX }
    }

    /// One more user of the account, if it is in memory.
    fn take(&mut self, id: QuotaId) -> bool {
        let account = self.table.get_mut(&id);
        account.map(|account| account.users += 1).is_some()
    }

    /// One more user of the account; `record` is what the quota file says, unless that is known.
    fn insert(&mut self, id: QuotaId, record: Record) {
        if self.table.len() >= self.sweep_at {
            self.forget_idle();
            // Whoever is left is in use: so this is not done for each one that comes.
            self.sweep_at = IDLE_MAX.max(self.table.len().saturating_mul(2));
        }
        self.table.entry(id).or_insert_with(|| Account { record, ..Account::default() }).users += 1;
    }

    /// One user less.
    fn put(&mut self, id: QuotaId) {
        if let Some(account) = self.table.get_mut(&id) {
            account.users = account.users.saturating_sub(1);
            if account.is_idle()
                && let Some(slot) = account.slot.take()
            {
                self.free_slots.insert(slot);
            }
        }
    }

    /// Lets go of accounts about which the quota file says everything.
    fn forget_idle(&mut self) {
        self.table.retain(|_, account| !account.is_idle());
    }

    /// What was found in the change file at `slot`, or, on a volume that is only read, anywhere.
    pub(super) fn found(&mut self, id: QuotaId, record: Record, change: i64, slot: Option<u32>) {
        let account = self.table.entry(id).or_insert_with(|| Account { record, ..Account::default() });
        account.change = account.change.saturating_add(change);
        if let Some(slot) = slot {
            self.free_slots.remove(slot);
            account.slot = Some(slot);
        }
    }

    pub(super) fn knows(&self, id: QuotaId) -> bool {
        self.table.contains_key(&id)
    }

    pub(super) fn quota(&self, id: QuotaId) -> Option<Quota> {
        self.table.get(&id).map(|account| account.quota(id))
    }

    /// What the quota file says, and what is pending.
    pub(super) fn record(&self, id: QuotaId) -> Option<(Record, i64)> {
        self.table.get(&id).map(|account| (account.record, account.change))
    }

    /// All with something pending, in order.
    pub(super) fn changed(&self) -> Vec<QuotaId> {
        self.table.iter().filter(|(_, account)| account.change != 0).map(|(id, _)| *id).collect()
    }

    /// The first of the kind from `from` on with something pending.
    pub(super) fn next_changed(&self, from: QuotaId) -> Option<QuotaId> {
        let last = QuotaId { id: u32::MAX, ..from };
        self.table.range(from..=last).find(|(_, account)| account.change != 0).map(|(id, _)| *id)
    }

    /// Promises all of it, or nothing. Returns the slots; `None` when there are not enough of them. All accounts are held.
    pub(super) fn promise(
        &mut self,
        postings: &Postings,
        enforce: bool,
    ) -> Result<Option<Vec<(QuotaId, u32)>>, FsError> {
        let mut slots_needed = 0;
        for (id, posting) in postings {
            let account = self.table.get(id).ok_or(FsError::Bug("an account that is not held"))?;
            if enforce && posting.record.is_none() && !account.allows(posting.change) {
                return Err(FsError::QuotaExceeded { id: *id });
            }
            slots_needed += u32::from(posting.change != 0 && account.slot.is_none());
        }
        if slots_needed > self.free_slots.count() {
            return Ok(None);
        }
        let mut slots = Vec::with_capacity(postings.len());
        for (id, posting) in postings {
            let Some(account) = self.table.get_mut(id) else { continue };
            if posting.change == 0 {
                continue;
            }
            account.promised = account.promised.saturating_add(posting.change.max(0));
            if account.slot.is_none() {
                account.slot = self.free_slots.next(0);
                account.slot.iter().for_each(|slot| self.free_slots.remove(*slot));
            }
            slots.extend(account.slot.map(|slot| (*id, slot)));
        }
        Ok(Some(slots))
    }

    /// Takes promises back.
    pub(super) fn withdraw(&mut self, postings: &Postings) {
        for (id, posting) in postings {
            if let Some(account) = self.table.get_mut(id) {
                account.promised = account.promised.saturating_sub(posting.change.max(0));
            }
        }
    }

    /// What was promised has happened. Returns who has to be warned now.
    pub(super) fn applied(&mut self, postings: &Postings) -> Vec<Quota> {
        self.withdraw(postings);
        let mut warned = Vec::new();
        for (id, posting) in postings {
            let Some(account) = self.table.get_mut(id) else { continue };
            account.change = account.change.saturating_add(posting.change);
            account.record = posting.record.unwrap_or(account.record);
            if account.is_over_warning() {
                if !std::mem::replace(&mut account.told_warning, true) {
                    warned.push(account.quota(*id));
                }
            } else {
                account.told_warning = false;
            }
            // What was refused would be granted now, if it was not for much.
            if posting.record.is_some() || posting.change < 0 {
                account.told_exceeded &= !account.allows(1);
            }
        }
        warned
    }

    /// The account, if nobody has been told yet that it is exhausted.
    pub(super) fn tell_exceeded(&mut self, id: QuotaId) -> Option<Quota> {
        let account = self.table.get_mut(&id)?;
        let told = std::mem::replace(&mut account.told_exceeded, true);
        (!told).then(|| account.quota(id))
    }

    pub(super) fn is_pinned(&self, block: BlockAddr) -> bool {
        self.pinned.contains(&block)
    }

    /// The block is pinned from now on; false if it was before.
    pub(super) fn pinned(&mut self, block: BlockAddr) -> bool {
        self.pinned.insert(block)
    }
}

/// Accounts that stay in memory as long as this exists.
pub(super) struct Held<'v> {
    quotas: &'v Quotas,
    ids: Vec<QuotaId>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut accounts = self.quotas.accounts.lock();
        self.ids.iter().for_each(|id| accounts.put(*id));
    }
}

/// Brings accounts into memory, and keeps them there. The lock of the quota file is not held.
///
/// # Errors
/// `Unsupported` without a quota file; errors of reading.
pub(super) async fn hold<'v>(volume: &'v Volume, ids: &[QuotaId]) -> Result<Held<'v>, FsError> {
    let quotas = &volume.quotas;
    let mut held = Held { quotas, ids: Vec::with_capacity(ids.len()) };
    for id in ids {
        if !quotas.accounts.lock().take(*id) {
            // What the file says, and what is known of it, agree while its lock is held.
            let _lock = volume.glocks.lock(Name::QUOTAS, LockMode::Shared).await?;
            let dinode = volume.dinode(quotas.file()?).await?;
            let record = file::read(&*volume.cache, &dinode, *id).await?;
            quotas.accounts.lock().insert(*id, record);
        }
        held.ids.push(*id);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::super::charge::Posting;
    use super::*;

    fn accounts(limit_blocks: u64) -> (Accounts, QuotaId) {
        let mut accounts = Accounts::new(8);
        let id = QuotaId::user(7);
        accounts.insert(id, Record { limit_blocks, warn_blocks: 5, value_blocks: 2 });
        (accounts, id)
    }

    fn postings(id: QuotaId, change: i64) -> Postings {
        Postings::from([(id, Posting { change, record: None })])
    }

    #[test]
    fn promises_count_until_they_are_applied_or_taken_back() {
        let (mut accounts, id) = accounts(10);
        let six = postings(id, 6);
        assert_eq!(accounts.promise(&six, true).unwrap(), Some(vec![(id, 0)]));
        let three = postings(id, 3);
        assert!(matches!(accounts.promise(&three, true), Err(FsError::QuotaExceeded { .. })));
        accounts.withdraw(&six);
        assert!(accounts.promise(&three, true).unwrap().is_some());
        accounts.applied(&three);
        // Exactly up to the limit, and root beyond it.
        assert!(accounts.promise(&six, true).is_err());
        assert!(accounts.promise(&postings(id, 5), true).unwrap().is_some());
        accounts.applied(&postings(id, 5));
        assert!(accounts.promise(&postings(id, 1), true).is_err());
        assert!(accounts.promise(&postings(id, 1), false).unwrap().is_some());
        accounts.applied(&postings(id, 1));
        // Nothing that takes less is ever refused.
        assert!(accounts.promise(&postings(id, -1), true).unwrap().is_some());
    }

    #[test]
    fn warnings_are_given_once_until_there_is_room_again() {
        let (mut accounts, id) = accounts(10);
        let mut change = |change| accounts.applied(&postings(id, change)).len();
        assert_eq!([change(3), change(1), change(1), change(-1), change(-1), change(2)], [0, 1, 0, 0, 0, 1]);
        assert!(accounts.tell_exceeded(id).is_some() && accounts.tell_exceeded(id).is_none());
        accounts.applied(&postings(id, 3));
        assert!(accounts.tell_exceeded(id).is_none());
        accounts.applied(&postings(id, -1));
        assert!(accounts.tell_exceeded(id).is_some());
    }

    #[test]
    fn a_slot_is_free_again_when_nothing_is_pending_and_nobody_is_about_to_use_it() {
        let (mut accounts, id) = accounts(0);
        accounts.promise(&postings(id, 4), true).unwrap();
        accounts.applied(&postings(id, 4));
        accounts.put(id);
        assert_eq!(accounts.free_slots.count(), 7);
        assert!(accounts.take(id));
        accounts.promise(&postings(id, -4), true).unwrap();
        accounts.applied(&postings(id, -4));
        assert_eq!(accounts.free_slots.count(), 7);
        accounts.put(id);
        assert_eq!(accounts.free_slots.count(), 8);
    }

    #[test]
    fn when_slots_run_out_nothing_is_promised() {
        let mut accounts = Accounts::new(2);
        let mut all = Postings::new();
        for id in 0..3 {
            accounts.insert(QuotaId::user(id), Record::default());
            all.insert(QuotaId::user(id), Posting { change: 1, record: None });
        }
        assert_eq!(accounts.promise(&all, true).unwrap(), None);
        assert_eq!(accounts.free_slots.count(), 2);
        assert!(accounts.table.values().all(|account| account.promised == 0 && account.slot.is_none()));
    }

    #[test]
    fn idle_accounts_are_limited_in_number() {
        let mut accounts = Accounts::new(8);
        for id in 0..100_000 {
            accounts.insert(QuotaId::group(id), Record::default());
            accounts.put(QuotaId::group(id));
        }
        assert!(accounts.table.len() <= IDLE_MAX);
    }
}
