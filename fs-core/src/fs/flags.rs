//! Operations on flags, and on the label.

use super::{Fs, OpFuture};
use crate::addr::InodeNo;
use crate::attr::{Caller, Capabilities, InodeFlags};
use crate::ops;

impl Fs {
    /// The flags of a file or directory, as chattr(1) sets them.
    ///
    /// # Errors
    /// As [`ops::flags::get`].
    pub fn flags(&self, ino: InodeNo) -> OpFuture<'_, InodeFlags> {
        Box::pin(async move { self.checked(ops::flags::get(&self.volume, ino).await) })
    }

    /// Sets those flags of `within` that are in `wanted`, and takes the others of `within` away.
    ///
    /// # Errors
    /// As [`ops::flags::set`].
    pub fn set_flags(
        &self,
        ino: InodeNo,
        wanted: InodeFlags,
        within: InodeFlags,
        caller: Caller,
        capabilities: Capabilities,
    ) -> OpFuture<'_, ()> {
        let set = ops::flags::set(&self.volume, ino, wanted, within, caller, capabilities);
        Box::pin(async move { self.changing(set).await })
    }

    /// The volume's label; may be empty.
    pub fn label(&self) -> String {
        self.volume.label.lock().clone()
    }

    /// # Errors
    /// As [`ops::label::set`].
    pub fn set_label<'a>(&'a self, label: &'a [u8], capabilities: Capabilities) -> OpFuture<'a, ()> {
        Box::pin(async move { self.changing(ops::label::set(&self.volume, label, capabilities)).await })
    }
}
