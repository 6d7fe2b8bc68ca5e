//! Names: lookup, creation, removal, renaming.

use fs_core::attr::{Caller, OpenFlags, RenameMode};
use fs_core::error::FsError;

use super::{FOREVER, Handlers, refused};
use crate::kernel::{Entry, Errno, Found, NodeId, Opened};

/// The type bits of a regular file, and all type bits.
const S_IFREG: u32 = 0o100_000;
const S_IFMT: u32 = 0o170_000;

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// LOOKUP.
    pub async fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Found, Errno> {
        match self.fs.lookup(self.inode(parent)?, name).await {
            Ok(attr) => Ok(Found::Entry(self.entry(attr))),
            Err(FsError::NotFound) => Ok(Found::Nothing { valid: FOREVER }),
            Err(error) => Err(refused(error)),
        }
    }

    /// FORGET: `count` references are given back.
    pub fn forget(&self, node: NodeId, count: u64) {
        // The kernel never gives back the reference it holds on the root from the start.
        if let (true, Ok(ino)) = (node != NodeId::ROOT, self.inode(node)) {
            self.fs.forget(ino, count);
        }
    }

    /// MKNOD.
    pub async fn mknod(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        rdev: (u32, u32),
        caller: Caller,
    ) -> Result<Entry, Errno> {
        let made = self.fs.mknod(self.inode(parent)?, name, mode, rdev, caller).await;
        Ok(self.entry(made.map_err(refused)?))
    }

    /// CREATE: makes a regular file and opens it, or opens the one that somebody else has made meanwhile.
    pub async fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        exclusive: bool,
        flags: OpenFlags,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        let dir = self.inode(parent)?;
        let mode = S_IFREG | (mode & !S_IFMT);
        match self.fs.mknod(dir, name, mode, (0, 0), caller).await {
            Ok(attr) => Ok((self.entry(attr), Self::opened())),
            Err(FsError::Exists) if !exclusive => {
                let attr = self.fs.lookup(dir, name).await.map_err(refused)?;
                let entry = self.entry(attr);
                match self.open(entry.node, flags, caller).await {
                    Ok(opened) => Ok((entry, opened)),
                    Err(errno) => {
                        self.forget(entry.node, 1);
                        Err(errno)
                    }
                }
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// MKDIR.
    pub async fn mkdir(&self, parent: NodeId, name: &[u8], mode: u32, caller: Caller) -> Result<Entry, Errno> {
        let made = self.fs.mkdir(self.inode(parent)?, name, mode & 0o7777, caller).await;
        Ok(self.entry(made.map_err(refused)?))
    }

    /// SYMLINK.
    pub async fn symlink(&self, parent: NodeId, name: &[u8], target: &[u8], caller: Caller) -> Result<Entry, Errno> {
        let made = self.fs.symlink(self.inode(parent)?, name, target, caller).await;
        Ok(self.entry(made.map_err(refused)?))
    }

    /// LINK.
    pub async fn link(&self, node: NodeId, parent: NodeId, name: &[u8], caller: Caller) -> Result<Entry, Errno> {
        let linked = self.fs.link(self.inode(node)?, self.inode(parent)?, name, caller).await;
        Ok(self.entry(linked.map_err(refused)?))
    }

    /// UNLINK.
    pub async fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.fs.unlink(self.inode(parent)?, name).await.map_err(refused)
    }

    /// RMDIR.
    pub async fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.fs.rmdir(self.inode(parent)?, name).await.map_err(refused)
    }

    /// RENAME and RENAME2: `source` and `target` are directory and name.
    pub async fn rename(
        &self,
        source: (NodeId, &[u8]),
        target: (NodeId, &[u8]),
        mode: RenameMode,
        caller: Caller,
    ) -> Result<(), Errno> {
        let (from, to) = (self.inode(source.0)?, self.inode(target.0)?);
        self.fs.rename(from, source.1, to, target.1, mode, caller).await.map_err(refused)
    }
}
