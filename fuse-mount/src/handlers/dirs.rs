//! Listing directories.

use fs_core::attr::DirEntry;
use fs_core::error::FsError;

use super::{Handlers, refused};
use crate::kernel::{Entry, Errno, NodeId};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// READDIR: gives names to `add` until it returns false.
    pub async fn readdir(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> Result<(), Errno> {
        let mut added = false;
        let listed = self.fs.readdir(self.inode(node)?, after, &mut |entry| keep(&mut added, add(entry))).await;
        Self::listed(listed, added)
    }

    /// READDIRPLUS: the same with attributes.
    pub async fn readdirplus(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry, &Entry) -> bool + Send),
    ) -> Result<(), Errno> {
        let mut added = false;
        let ino = self.inode(node)?;
        let mut emit = |name: &DirEntry, attr: &_| keep(&mut added, add(name, &self.entry(*attr)));
        let listed = self.fs.readdirplus(ino, after, &mut emit).await;
        Self::listed(listed, added)
    }

    /// An error after the first entry is left to the next request: the entries must arrive, because the kernel has to
    /// give back the references they count.
    fn listed(result: Result<(), FsError>, added: bool) -> Result<(), Errno> {
        match result {
            Err(error) if added => {
                tracing::debug!(%error, "a listing stopped in the middle");
                Ok(())
            }
            result => result.map_err(refused),
        }
    }
}

/// Notes that an entry was accepted.
fn keep(added: &mut bool, accepted: bool) -> bool {
    *added |= accepted;
    accepted
}
