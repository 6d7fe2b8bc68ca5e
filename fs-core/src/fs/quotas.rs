//! Quotas, for whoever administers them. Who may ask is the host's to decide.

use super::{Fs, OpFuture};
use crate::quota::{self, Quota, QuotaId, SetQuota};

impl Fs {
    /// What the mount does about quotas.
    #[must_use]
    pub const fn quota_mode(&self) -> quota::Mode {
        self.volume.quotas.mode()
    }

    /// What somebody may have, and has.
    ///
    /// # Errors
    /// As [`quota::get`].
    pub fn quota(&self, id: QuotaId) -> OpFuture<'_, Quota> {
        Box::pin(async move { self.checked(quota::get(&self.volume, id).await) })
    }

    /// The same for the first of the kind, from `from` on, who has anything or a limit.
    ///
    /// # Errors
    /// As [`quota::next`].
    pub fn quota_next(&self, from: QuotaId) -> OpFuture<'_, Option<Quota>> {
        Box::pin(async move { self.checked(quota::next(&self.volume, from).await) })
    }

    /// Changes limits, or sets what is in use.
    ///
    /// # Errors
    /// As [`quota::set`].
    pub fn set_quota<'a>(&'a self, id: QuotaId, change: &'a SetQuota) -> OpFuture<'a, Quota> {
        Box::pin(async move {
            let result = self.with_room(|| quota::set(&self.volume, id, change)).await;
            self.checked(result)
        })
    }

    /// Brings the quota file up to date, and makes that durable.
    ///
    /// # Errors
    /// As [`quota::sync`].
    pub fn sync_quotas(&self) -> OpFuture<'_, ()> {
        Box::pin(async move {
            self.changing(quota::sync(&self.volume)).await?;
            self.checked(self.volume.journal.sync().await)
        })
    }
}
