//! What is done with each request: decode, call one operation of the filesystem, encode.
//!
//! One file per group of requests. Nothing here knows how requests arrive.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fs_core::addr::InodeNo;
use fs_core::attr::Attr;
use fs_core::error::FsError;
use fs_core::fs::Fs;

use crate::kernel::{Attributes, Entry, Errno, NodeId};

mod attrs;
mod data;
mod dirs;
mod entries;
mod ioctl;
mod quotas;
mod service;
mod space;
mod statfs;
mod xattrs;

/// How long the kernel may believe names and attributes while no other node can change them: for ever. The kernel
/// itself forgets what its own requests change.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Makes the kernel forget what it knows of an inode's attributes.
type Forget = Box<dyn Fn(NodeId) + Send + Sync>;

/// All handlers of one mounted volume.
pub struct Handlers {
    fs: Arc<Fs>,
    forget_attributes: OnceLock<Forget>,
}

impl Handlers {
    /// Handlers for `fs`.
    #[must_use]
    pub fn new(fs: Arc<Fs>) -> Self {
        Self { fs, forget_attributes: OnceLock::new() }
    }

    /// Nothing waits for a thaw any more.
    fn end_freezing(&self) {
        self.fs.end_freezing();
    }

    /// How the kernel is told; only the first call counts.
    fn forget_by(&self, forget_attributes: Forget) {
        self.forget_attributes.set(forget_attributes).ok();
    }

    /// To be called where a request changes attributes and the kernel does not know that it does.
    fn changed(&self, node: NodeId) {
        if let Some(forget) = self.forget_attributes.get() {
            forget(node);
        }
    }

    fn inode(&self, node: NodeId) -> Result<InodeNo, Errno> {
        if node == NodeId::ROOT { Ok(self.fs.root()) } else { InodeNo::new(node.0).ok_or(Errno::STALE) }
    }

    fn entry(&self, attr: Attr) -> Entry {
        let node = if attr.ino == self.fs.root() { NodeId::ROOT } else { NodeId(attr.ino.get()) };
        Entry { node, attr, valid: FOREVER }
    }

    fn attributes(attr: Attr) -> Attributes {
        Attributes { attr, valid: FOREVER }
    }
}

/// Chooses the errno. What made the node withdraw has been logged where it happened.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn refused(error: FsError) -> Errno {
    tracing::trace!(%error, "refused");
    Errno(error.errno())
}
