//! Operations on extended attributes.

use super::{Fs, OpFuture};
use crate::addr::InodeNo;
use crate::attr::{Caller, SetXattr};
use crate::ops;

impl Fs {
    /// The value of an attribute; `name` with its prefix.
    ///
    /// # Errors
    /// As [`ops::xattrs::getxattr`].
    pub fn getxattr<'a>(&'a self, ino: InodeNo, name: &'a [u8]) -> OpFuture<'a, Vec<u8>> {
        Box::pin(async move { self.checked(ops::xattrs::getxattr(&self.volume, ino, name).await) })
    }

    /// All names that the caller may see, each ended by a zero.
    ///
    /// # Errors
    /// As [`ops::xattrs::listxattr`].
    pub fn listxattr(&self, ino: InodeNo, caller: Caller) -> OpFuture<'_, Vec<u8>> {
        Box::pin(async move { self.checked(ops::xattrs::listxattr(&self.volume, ino, caller).await) })
    }

    /// Sets an attribute, atomically also where it replaces another value.
    ///
    /// # Errors
    /// As [`ops::xattrs::setxattr`].
    pub fn setxattr<'a>(
        &'a self,
        ino: InodeNo,
        name: &'a [u8],
        value: &'a [u8],
        how: &'a SetXattr,
        caller: Caller,
    ) -> OpFuture<'a, ()> {
        Box::pin(async move {
            let result = self.with_room(|| ops::xattrs::setxattr(&self.volume, ino, name, value, how, caller)).await;
            self.checked(result)
        })
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// As [`ops::xattrs::removexattr`].
    pub fn removexattr<'a>(&'a self, ino: InodeNo, name: &'a [u8]) -> OpFuture<'a, ()> {
        Box::pin(async move { self.changing(ops::xattrs::removexattr(&self.volume, ino, name)).await })
    }
}
