//! The handlers as a transport calls them: each request has one.

use fs_core::attr::{Allocation, Caller, DirEntry, OpenFlags, RenameMode, SeekTarget, SetAttr, SetXattr, WriteFlags};
use fs_core::fs::ReadData;

use super::Handlers;
use crate::kernel::{
    Asker, Attributes, Entry, Errno, Found, Interruption, Ioctl, IoctlAnswer, NodeId, Notifier, Opened, Service,
    StatfsAnswer,
};

impl Service for Handlers {
    type Data = ReadData;

    fn tell_by(&self, notifier: Notifier) {
        // Attributes only: that waits for nothing.
        self.forget_by(Box::new(move |node| {
            if let Err(error) = notifier.invalidate_attributes(node) {
                tracing::trace!(%error, "the kernel does not know the inode any more");
            }
        }));
    }

    fn ending(&self) {
        self.end_freezing();
    }

    fn forget(&self, node: NodeId, count: u64) {
        Self::forget(self, node, count);
    }

    async fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Found, Errno> {
        Self::lookup(self, parent, name).await
    }

    async fn getattr(&self, node: NodeId) -> Result<Attributes, Errno> {
        Self::getattr(self, node).await
    }

    async fn setattr(&self, node: NodeId, change: &SetAttr, caller: Caller) -> Result<Attributes, Errno> {
        Self::setattr(self, node, change, caller).await
    }

    async fn readlink(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        Self::readlink(self, node).await
    }

    async fn mknod(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        rdev: (u32, u32),
        caller: Caller,
    ) -> Result<Entry, Errno> {
        Self::mknod(self, parent, name, mode, rdev, caller).await
    }

    async fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        exclusive: bool,
        flags: OpenFlags,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        Self::create(self, parent, name, mode, exclusive, flags, caller).await
    }

    async fn mkdir(&self, parent: NodeId, name: &[u8], mode: u32, caller: Caller) -> Result<Entry, Errno> {
        Self::mkdir(self, parent, name, mode, caller).await
    }

    async fn symlink(&self, parent: NodeId, name: &[u8], target: &[u8], caller: Caller) -> Result<Entry, Errno> {
        Self::symlink(self, parent, name, target, caller).await
    }

    async fn link(&self, node: NodeId, parent: NodeId, name: &[u8], caller: Caller) -> Result<Entry, Errno> {
        Self::link(self, node, parent, name, caller).await
    }

    async fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        Self::unlink(self, parent, name).await
    }

    async fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        Self::rmdir(self, parent, name).await
    }

    async fn rename(
        &self,
        source: (NodeId, &[u8]),
        target: (NodeId, &[u8]),
        mode: RenameMode,
        caller: Caller,
    ) -> Result<(), Errno> {
        Self::rename(self, source, target, mode, caller).await
    }

    async fn open(&self, node: NodeId, flags: OpenFlags, caller: Caller) -> Result<Opened, Errno> {
        Self::open(self, node, flags, caller).await
    }

    async fn read(&self, node: NodeId, offset_bytes: u64, len_bytes: u32) -> Result<ReadData, Errno> {
        Self::read(self, node, offset_bytes, len_bytes).await
    }

    async fn write(
        &self,
        node: NodeId,
        offset_bytes: u64,
        data: Vec<u8>,
        flags: WriteFlags,
        caller: Caller,
    ) -> Result<u32, Errno> {
        Self::write(self, node, offset_bytes, data, flags, caller).await
    }

    async fn seek(&self, node: NodeId, offset_bytes: i64, target: SeekTarget) -> Result<i64, Errno> {
        Self::seek(self, node, offset_bytes, target).await
    }

    async fn fsync(&self, node: NodeId) -> Result<(), Errno> {
        Self::fsync(self, node).await
    }

    async fn syncfs(&self) -> Result<(), Errno> {
        Self::syncfs(self).await
    }

    async fn readdir(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> Result<(), Errno> {
        Self::readdir(self, node, after, add).await
    }

    async fn readdirplus(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry, &Entry) -> bool + Send),
    ) -> Result<(), Errno> {
        Self::readdirplus(self, node, after, add).await
    }

    async fn statfs(&self) -> Result<StatfsAnswer, Errno> {
        Self::statfs(self).await
    }

    async fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: &SetXattr,
        caller: Caller,
    ) -> Result<(), Errno> {
        Self::setxattr(self, node, name, value, how, caller).await
    }

    async fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Self::getxattr(self, node, name).await
    }

    async fn listxattr(&self, node: NodeId, caller: Caller) -> Result<Vec<u8>, Errno> {
        Self::listxattr(self, node, caller).await
    }

    async fn removexattr(&self, node: NodeId, name: &[u8]) -> Result<(), Errno> {
        Self::removexattr(self, node, name).await
    }

    async fn fallocate(
        &self,
        node: NodeId,
        offset_bytes: u64,
        len_bytes: u64,
        how: Allocation,
        caller: Caller,
        interruption: Interruption,
    ) -> Result<(), Errno> {
        Self::fallocate(self, node, offset_bytes, len_bytes, how, caller, interruption).await
    }

    async fn copy_file_range(
        &self,
        source: (NodeId, u64),
        target: (NodeId, u64),
        len_bytes: u64,
        caller: Caller,
        interruption: Interruption,
    ) -> Result<u64, Errno> {
        Self::copy_file_range(self, source, target, len_bytes, caller, interruption).await
    }

    async fn ioctl(
        &self,
        node: NodeId,
        request: Ioctl,
        asker: Asker,
        interruption: Interruption,
    ) -> Result<IoctlAnswer, Errno> {
        Self::ioctl(self, node, request, asker, interruption).await
    }
}
