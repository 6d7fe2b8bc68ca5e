//! What a transport serves: one method for each request that a filesystem can answer.

use std::future::Future;
use std::ops::Deref;

use fs_core::attr::{Allocation, Caller, DirEntry, OpenFlags, RenameMode, SeekTarget, SetAttr, SetXattr, WriteFlags};

use super::interruption::Interruption;
use super::ioctl::{Asker, Ioctl, IoctlAnswer};
use super::lock::Lock;
use super::native::Notifier;
use super::{Attributes, Entry, Errno, Found, NodeId, Opened, StatfsAnswer};

/// A filesystem as the kernel asks for it. Every method answers one request; what it returns is the answer.
///
/// A method is polled on a thread that takes requests from the kernel, and may wait. Its future is never dropped before
/// it has ended, also if nobody waits for it any more. Those with a body here need not be there.
#[allow(clippy::missing_errors_doc)] // All return what the process that asked gets to see.
pub trait Service: Send + Sync + 'static {
    /// What READ returns.
    type Data: Deref<Target = [u8]> + Send;

    /// How the kernel can be told something without being asked. Called once, before the first request. What waits for
    /// requests in flight must not be told by a method that answers one ([`Notifier`]).
    fn tell_by(&self, _notifier: Notifier) {}

    /// The mount is gone. What is under way is waited for after this call, so it must not wait for a user any more.
    fn ending(&self) {}

    /// LOOKUP.
    fn lookup(&self, parent: NodeId, name: &[u8]) -> impl Future<Output = Result<Found, Errno>> + Send;
    /// FORGET: `count` references are given back.
    fn forget(&self, node: NodeId, count: u64);
    /// GETATTR.
    fn getattr(&self, node: NodeId) -> impl Future<Output = Result<Attributes, Errno>> + Send;
    /// SETATTR.
    fn setattr(
        &self,
        node: NodeId,
        change: &SetAttr,
        caller: Caller,
    ) -> impl Future<Output = Result<Attributes, Errno>> + Send;
    /// READLINK.
    fn readlink(&self, node: NodeId) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send;
    /// MKNOD.
    fn mknod(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        rdev: (u32, u32),
        caller: Caller,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send;
    /// CREATE.
    fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        exclusive: bool,
        flags: OpenFlags,
        caller: Caller,
    ) -> impl Future<Output = Result<(Entry, Opened), Errno>> + Send;
    /// MKDIR.
    fn mkdir(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send;
    /// SYMLINK.
    fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send;
    /// LINK.
    fn link(
        &self,
        node: NodeId,
        parent: NodeId,
        name: &[u8],
        caller: Caller,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send;
    /// UNLINK.
    fn unlink(&self, parent: NodeId, name: &[u8]) -> impl Future<Output = Result<(), Errno>> + Send;
    /// RMDIR.
    fn rmdir(&self, parent: NodeId, name: &[u8]) -> impl Future<Output = Result<(), Errno>> + Send;
    /// RENAME and RENAME2: `source` and `target` are directory and name.
    fn rename(
        &self,
        source: (NodeId, &[u8]),
        target: (NodeId, &[u8]),
        mode: RenameMode,
        caller: Caller,
    ) -> impl Future<Output = Result<(), Errno>> + Send;
    /// OPEN.
    fn open(
        &self,
        node: NodeId,
        flags: OpenFlags,
        caller: Caller,
    ) -> impl Future<Output = Result<Opened, Errno>> + Send;
    /// READ.
    fn read(
        &self,
        node: NodeId,
        offset_bytes: u64,
        len_bytes: u32,
    ) -> impl Future<Output = Result<Self::Data, Errno>> + Send;
    /// WRITE: how many bytes were written.
    fn write(
        &self,
        node: NodeId,
        offset_bytes: u64,
        data: Vec<u8>,
        flags: WriteFlags,
        caller: Caller,
    ) -> impl Future<Output = Result<u32, Errno>> + Send;
    /// LSEEK for data or a hole.
    fn seek(
        &self,
        node: NodeId,
        offset_bytes: i64,
        target: SeekTarget,
    ) -> impl Future<Output = Result<i64, Errno>> + Send;
    /// FSYNC and FSYNCDIR.
    fn fsync(&self, node: NodeId) -> impl Future<Output = Result<(), Errno>> + Send;
    /// SYNCFS: everything that was written is on disk.
    fn syncfs(&self) -> impl Future<Output = Result<(), Errno>> + Send;
    /// READDIR: gives names to `add` until it returns false.
    fn readdir(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> impl Future<Output = Result<(), Errno>> + Send;
    /// READDIRPLUS: the same with attributes.
    fn readdirplus(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry, &Entry) -> bool + Send),
    ) -> impl Future<Output = Result<(), Errno>> + Send;
    /// STATFS.
    fn statfs(&self) -> impl Future<Output = Result<StatfsAnswer, Errno>> + Send;

    /// SETXATTR. [`Errno::NOSYS`]: the kernel does not ask again.
    fn setxattr(
        &self,
        _node: NodeId,
        _name: &[u8],
        _value: &[u8],
        _how: &SetXattr,
        _caller: Caller,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }
    /// GETXATTR: the whole value, however much of it was asked for.
    fn getxattr(&self, _node: NodeId, _name: &[u8]) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }
    /// LISTXATTR: the names, each ended by a zero byte.
    fn listxattr(&self, _node: NodeId, _caller: Caller) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }
    /// REMOVEXATTR.
    fn removexattr(&self, _node: NodeId, _name: &[u8]) -> impl Future<Output = Result<(), Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// FALLOCATE. An interruption ends it with [`Errno::INTR`]; what has been done stays. [`Errno::NOSYS`]: the kernel does
    /// not ask again.
    fn fallocate(
        &self,
        _node: NodeId,
        _offset_bytes: u64,
        _len_bytes: u64,
        _how: Allocation,
        _caller: Caller,
        _interruption: Interruption,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// COPY_FILE_RANGE: from node and offset to node and offset; how many bytes were copied. An interruption ends it early.
    /// [`Errno::NOSYS`]: the kernel copies by itself, and does not ask again.
    fn copy_file_range(
        &self,
        _source: (NodeId, u64),
        _target: (NodeId, u64),
        _len_bytes: u64,
        _caller: Caller,
        _interruption: Interruption,
    ) -> impl Future<Output = Result<u64, Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }

    /// IOCTL.
    fn ioctl(
        &self,
        _node: NodeId,
        _request: Ioctl,
        _asker: Asker,
        _interruption: Interruption,
    ) -> impl Future<Output = Result<IoctlAnswer, Errno>> + Send {
        async { Err(Errno::NOTTY) }
    }

    /// Whether locks are asked for here. Else the kernel keeps them itself, which is right on one node.
    fn has_locks(&self) -> bool {
        false
    }
    /// GETLK: a lock that stands in the way of this one.
    fn getlk(&self, _node: NodeId, _lock: Lock) -> impl Future<Output = Result<Option<Lock>, Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }
    /// SETLK, and SETLKW with an interruption: it ends the waiting, which then fails with [`Errno::INTR`].
    fn setlk(
        &self,
        _node: NodeId,
        _lock: Lock,
        _wait: Option<Interruption>,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        async { Err(Errno::NOSYS) }
    }
}
