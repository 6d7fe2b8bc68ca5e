//! What a transaction does to quotas: found out from its dinodes, promised before it is applied, and booked after.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use super::accounts::{self, Held};
use super::{QuotaId, Quotas, Record, fold};
use crate::error::FsError;
use crate::format::dinode::{RawDinode, flags};
use crate::format::meta::BlockKind;
use crate::journal::change::SlotChange;
use crate::volume::Volume;

/// Whom the blocks of a dinode are charged to, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) blocks: i64,
}

impl Charged {
    /// What the dinode in `block` says; `None` for a system file, which belongs to nobody.
    pub(crate) fn of(block: &[u8]) -> Option<Self> {
        let (raw, _) = RawDinode::ref_from_prefix(block).ok()?;
        let blocks = i64::try_from(raw.blocks.get()).unwrap_or(i64::MAX);
        let is_system = raw.flags.get() & flags::SYSTEM != 0;
        (!is_system).then_some(Self { uid: raw.uid.get(), gid: raw.gid.get(), blocks })
    }

    fn ids(self) -> [QuotaId; 2] {
        [QuotaId::user(self.uid), QuotaId::group(self.gid)]
    }
}

/// What happens to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Posting {
    /// Blocks gained or lost, for the change file.
    pub(crate) change: i64,
    /// What the quota file says of it from this transaction on.
    pub(crate) record: Option<Record>,
}

/// What happens to all accounts.
pub(crate) type Postings = BTreeMap<QuotaId, Posting>;

/// Adds what it means that a dinode changes from `before` to `after`.
pub(crate) fn post(postings: &mut Postings, before: Option<Charged>, after: Option<Charged>) {
    if before == after {
        return;
    }
    let mut add = |charged: Charged, blocks: i64| {
        for id in charged.ids() {
            let posting = postings.entry(id).or_default();
            posting.change = posting.change.saturating_add(blocks);
        }
    };
    if let Some(before) = before {
        add(before, before.blocks.saturating_neg());
    }
    if let Some(after) = after {
        add(after, after.blocks);
    }
    postings.retain(|_, posting| posting.change != 0 || posting.record.is_some());
}

/// A transaction's claim on the accounts. Dropped before it is [`Charge::applied`], it never was.
#[must_use]
pub(crate) struct Charge<'v> {
    quotas: &'v Quotas,
    postings: Postings,
    slots: Vec<SlotChange>,
    /// Promised and not applied.
    open: bool,
    _held: Held<'v>,
}

impl<'v> Charge<'v> {
    /// Promises what `postings` ask for. With `enforce`, nobody gets more than the limit.
    ///
    /// # Errors
    /// `QuotaExceeded`; `NoSpace` when the change file is full, and cannot be emptied; errors of reading.
    pub(crate) async fn promise(volume: &'v Volume, postings: Postings, enforce: bool) -> Result<Self, FsError> {
        let quotas = &volume.quotas;
        let ids: Vec<QuotaId> = postings.keys().copied().collect();
        let held = accounts::hold(volume, &ids).await?;
        let enforce = enforce && quotas.mode.enforces();
        let mut promised = quotas.accounts.lock().promise(&postings, enforce)?;
        if promised.is_none() {
            // The change file is full of what could be in the quota file.
            Box::pin(fold::fold(volume)).await?;
            promised = quotas.accounts.lock().promise(&postings, enforce)?;
        }
        let slots = promised.ok_or(FsError::NoSpace)?;
        let mut charge = Self { quotas, postings, slots: Vec::with_capacity(slots.len()), open: true, _held: held };
        for (id, slot) in slots {
            let place = quotas.changes.place(slot).ok_or(FsError::Bug("a slot behind the end of the change file"))?;
            if !quotas.accounts.lock().is_pinned(place.block) {
                volume.cache.meta_pinned(place.block, BlockKind::QUOTA_CHANGE).await?;
                if !quotas.accounts.lock().pinned(place.block) {
                    // Somebody else was faster: one pin is enough.
                    volume.cache.unpin(place.block);
                }
            }
            let change = charge.postings.get(&id).map_or(0, |posting| posting.change);
            let file = quotas.changes.ino;
            charge.slots.push(SlotChange { file, addr: place.block, offset: place.offset, id, change });
        }
        Ok(charge)
    }

    /// What the transaction does to the change file.
    pub(crate) fn slots(&self) -> Vec<SlotChange> {
        self.slots.clone()
    }

    /// The transaction is applied.
    pub(crate) fn applied(mut self) {
        self.open = false;
        let warned = self.quotas.accounts.lock().applied(&self.postings);
        warned.iter().for_each(|quota| self.quotas.warn(quota));
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if self.open {
            self.quotas.accounts.lock().withdraw(&self.postings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(uid: u32, gid: u32, blocks: i64) -> Option<Charged> {
        Some(Charged { uid, gid, blocks })
    }

    fn changes(before: Option<Charged>, after: Option<Charged>) -> Vec<(QuotaId, i64)> {
        let mut postings = Postings::new();
        post(&mut postings, before, after);
        postings.into_iter().map(|(id, posting)| (id, posting.change)).collect()
    }

    #[test]
    fn growth_is_charged_to_the_owner_and_a_new_owner_takes_over_everything() {
        let (user, group) = (QuotaId::user, QuotaId::group);
        assert_eq!(changes(None, of(5, 6, 1)), [(user(5), 1), (group(6), 1)]);
        assert_eq!(changes(of(5, 6, 3), of(5, 6, 10)), [(user(5), 7), (group(6), 7)]);
        assert_eq!(changes(of(5, 6, 3), of(8, 6, 3)), [(user(5), -3), (user(8), 3)]);
        assert_eq!(changes(of(5, 6, 3), of(8, 9, 4)), [(user(5), -3), (user(8), 4), (group(6), -3), (group(9), 4)]);
        assert_eq!(changes(of(5, 6, 3), None), [(user(5), -3), (group(6), -3)]);
        assert_eq!(changes(of(5, 6, 3), of(5, 6, 3)), []);
        assert_eq!(changes(None, None), []);
    }
}
