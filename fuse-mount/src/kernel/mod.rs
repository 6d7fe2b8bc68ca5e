//! The seam between the kernel's FUSE protocol and the handlers.
//!
//! Everything outside of this folder speaks in the types of this file and of `fs-core`. One transport turns the
//! protocol into calls of [`Handlers`](crate::handlers::Handlers) and the results into answers; another transport can
//! stand beside it without a change to any handler.

use std::time::Duration;

use fs_core::attr::Attr;

mod answer;
mod convert;
mod drive;
mod fuser_transport;
mod groups;
mod session;
mod time;

pub use session::Session;

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

/// What a transport is started with.
#[derive(Debug, Clone, Copy)]
pub struct TransportOptions {
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
        Self { threads: processors.clamp(2, 8), write_max_bytes: 1 << 20, background_max: u16::MAX, acl: true }
    }
}
