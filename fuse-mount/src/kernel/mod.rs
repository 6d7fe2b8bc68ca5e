//! The seam between the kernel's FUSE protocol and the handlers.
//!
//! Everything outside of this folder speaks in the types of this file and of `fs-core`. A transport turns the protocol
//! into calls of a [`Service`], and the results into answers. There are two, and no handler knows which one is in use.

use std::time::Duration;

use fs_core::attr::{Attr, Caller};

mod capabilities;
mod drive;
mod fuser;
mod groups;
mod interruption;
mod ioctl;
mod linux;
mod lock;
mod native;
mod service;
mod session;

pub use interruption::Interruption;
pub use ioctl::{Asker, Ioctl, IoctlAnswer, Trim};
pub use lock::{Lock, LockKind};
pub use native::{Notifier, Pages};
pub use service::Service;
pub use session::{Ended, Session};

/// How the kernel names an inode: [`NodeId::ROOT`] for the root of the mount, else the inode's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount, fixed by the protocol.
    pub const ROOT: Self = Self(1);
}

/// An error number of the system interface, greater than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Only root may do that, or those whom it concerns.
    pub const PERM: Self = Self(1);
    /// There is nothing of that name or number.
    pub const NOENT: Self = Self(2);
    /// Given back for an inode that does not exist any more.
    pub const STALE: Self = Self(116);
    /// The arguments make no sense.
    pub const INVAL: Self = Self(22);
    /// There is nothing at the given place.
    pub const NXIO: Self = Self(6);
    /// The kernel shall do without, and not ask again.
    pub const NOSYS: Self = Self(38);
    /// No such ioctl.
    pub const NOTTY: Self = Self(25);
    /// What was asked for does not fit.
    pub const RANGE: Self = Self(34);
    /// The filesystem does not have this.
    pub const OPNOTSUPP: Self = Self(95);
    /// The request failed for a reason that its sender cannot mend.
    pub const IO: Self = Self(5);
    /// The process that asked has been interrupted.
    pub const INTR: Self = Self(4);
    /// Not now.
    pub const AGAIN: Self = Self(11);
    /// The other side speaks another protocol.
    pub const PROTO: Self = Self(71);
}

/// A process that asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Whose it is.
    pub caller: Caller,
    /// Its number; 0 where the kernel itself asks.
    pub pid: u32,
}

impl Process {
    /// It belongs to the group, as far as that can be found out.
    #[must_use]
    pub fn is_member(&self, gid: u32) -> bool {
        self.caller.gid == gid || groups::of_process(self.pid).contains(&gid)
    }
}

/// A name that leads to an inode. The kernel then holds one reference on the inode.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The inode's name towards the kernel.
    pub node: NodeId,
    /// What `stat` says.
    pub attr: Attr,
    /// How long the kernel may believe name and attributes.
    pub valid: Duration,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// An inode.
    Entry(Entry),
    /// Nothing.
    Nothing {
        /// How long the kernel may believe that.
        valid: Duration,
    },
}

/// Attributes of an inode that the kernel knows.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// What `stat` says.
    pub attr: Attr,
    /// How long the kernel may believe it.
    pub valid: Duration,
}

/// How an opened file may be cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Pages from earlier opens stay valid.
    pub keep_cache: bool,
}

/// What STATFS answers, in blocks of the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatfsAnswer {
    /// Block size, in bytes.
    pub block_size_bytes: u32,
    /// Blocks that can hold files.
    pub blocks_total: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Blocks that ordinary users can have.
    pub blocks_available: u64,
    /// Inodes in use and inodes that could be made.
    pub inodes_total: u64,
    /// Inodes that could be made: every free block can become one.
    pub inodes_free: u64,
    /// Longest name, in bytes.
    pub name_max_bytes: u32,
}

/// Who speaks with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// This program itself.
    #[default]
    Native,
    /// The library fuser.
    Fuser,
}

/// What a transport is started with.
#[derive(Debug, Clone, Copy)]
pub struct TransportOptions {
    /// Which one.
    pub transport: Transport,
    /// Threads that take requests from the kernel.
    pub threads: usize,
    /// Largest write that arrives in one request, in bytes.
    pub write_max_bytes: u32,
    /// Requests without a waiter (readahead, releases) that may be under way at once. The kernel's own default of 12
    /// lets a few that wait for something stop all others.
    pub background_max: u16,
    /// The kernel honours access control lists, and leaves the umask to the handlers, which know the default lists.
    pub acl: bool,
}

impl Default for TransportOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        // Two at least, so that an operation that computes for long does not stop the others; more than eight only
        // fight over the kernel's queue.
        Self {
            transport: Transport::default(),
            threads: processors.clamp(2, 8),
            write_max_bytes: 1 << 20,
            background_max: u16::MAX,
            acl: true,
        }
    }
}
