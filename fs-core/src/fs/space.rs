//! Operations on the places of files on the disk.

use super::{Fs, OpFuture};
use crate::addr::InodeNo;
use crate::attr::{Allocation, Caller, Capabilities};
use crate::error::FsError;
use crate::ops;
use crate::ops::allocate::GoOn;
use crate::ops::copy::Spot;

impl Fs {
    /// fallocate(2): does `how` with `len_bytes` from `offset_bytes` on. `go_on` is asked between steps.
    ///
    /// # Errors
    /// As [`ops::allocate::fallocate`].
    pub fn fallocate<'a>(
        &'a self,
        ino: InodeNo,
        offset_bytes: u64,
        len_bytes: u64,
        how: Allocation,
        caller: Caller,
        go_on: GoOn<'a>,
    ) -> OpFuture<'a, ()> {
        Box::pin(async move {
            let end = offset_bytes.checked_add(len_bytes).ok_or(FsError::TooLarge)?;
            self.checked(ops::allocate::fallocate(&self.volume, ino, offset_bytes..end, how, caller, go_on).await)
        })
    }

    /// Discards free ranges of at least `min_bytes`, within `len_bytes` of the device from `start_bytes` on. Returns how
    /// many bytes those were. `go_on` is asked between steps.
    ///
    /// # Errors
    /// As [`ops::trim::trim`].
    pub fn trim<'a>(
        &'a self,
        start_bytes: u64,
        len_bytes: u64,
        min_bytes: u64,
        capabilities: Capabilities,
        go_on: GoOn<'a>,
    ) -> OpFuture<'a, u64> {
        let range = start_bytes..start_bytes.saturating_add(len_bytes);
        Box::pin(
            async move { self.checked(ops::trim::trim(&self.volume, range, min_bytes, capabilities, go_on).await) },
        )
    }

    /// copy_file_range(2): copies up to `len_bytes` from `source` to `target`, and returns how many; fewer where the source
    /// ends, or where it would take long. `go_on` is asked between steps.
    ///
    /// # Errors
    /// As [`ops::copy::copy`].
    pub fn copy_range<'a>(
        &'a self,
        source: Spot,
        target: Spot,
        len_bytes: u64,
        caller: Caller,
        go_on: GoOn<'a>,
    ) -> OpFuture<'a, u64> {
        Box::pin(
            async move { self.changing(ops::copy::copy(&self.volume, source, target, len_bytes, caller, go_on)).await },
        )
    }
}
