//! A filesystem with one file, in memory. It counts what the kernel asks, because that shows what the kernel believes.
#![allow(unreachable_pub)] // A part of one test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fs_core::addr::InodeNo;
use fs_core::attr::{
    Attr, Caller, DirEntry, FileKind, OpenFlags, RenameMode, SeekTarget, SetAttr, Timestamp, WriteFlags,
};
use fuse_mount::kernel::{
    Attributes, Entry, Errno, Found, Interruption, Lock, LockKind, NodeId, Opened, Service, StatfsAnswer,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The file.
pub const FILE: NodeId = NodeId(2);
/// Its name.
pub const NAME: &[u8] = b"file";

const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The filesystem.
#[derive(Default)]
pub struct Shelf {
    /// What the file contains; `None` if there is no such name.
    pub content: Mutex<Option<Vec<u8>>>,
    /// How often the file was looked up.
    pub lookups: AtomicU64,
    /// How often its attributes were asked for.
    pub getattrs: AtomicU64,
    /// How often it was read.
    pub reads: AtomicU64,
    /// References on the file that were given back.
    pub forgotten: AtomicU64,
    /// How often somebody wanted to wait for a lock.
    pub locks: AtomicU64,
    /// How often the waiting was interrupted.
    pub interrupted: AtomicU64,
    /// Ends the waiting for locks.
    pub unlock: Notify,
}

impl Shelf {
    fn attr(&self, node: NodeId) -> Option<Attr> {
        let content = self.content.lock();
        let (kind, permissions, size_bytes) = match node {
            NodeId::ROOT => (FileKind::Directory, 0o755, 0),
            FILE => (FileKind::Regular, 0o644, content.as_ref().map_or(0, Vec::len) as u64),
            _ => return None,
        };
        let time = Timestamp { sec: 1_700_000_000, nsec: 0 };
        Some(Attr {
            ino: InodeNo::new(node.0)?,
            generation: 0,
            kind,
            permissions,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            size_bytes,
            sectors: 8,
            block_size_bytes: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        })
    }
}

const ABSENT: Errno = Errno::OPNOTSUPP;

impl Service for Shelf {
    type Data = Vec<u8>;

    async fn lookup(&self, _parent: NodeId, name: &[u8]) -> Result<Found, Errno> {
        if name != NAME {
            return Ok(Found::Nothing { valid: Duration::ZERO });
        }
        self.lookups.fetch_add(1, Ordering::SeqCst);
        if self.content.lock().is_none() {
            return Ok(Found::Nothing { valid: Duration::ZERO });
        }
        let attr = self.attr(FILE).ok_or(Errno::STALE)?;
        Ok(Found::Entry(Entry { node: FILE, attr, valid: FOREVER }))
    }

    fn forget(&self, node: NodeId, count: u64) {
        if node == FILE {
            self.forgotten.fetch_add(count, Ordering::SeqCst);
        }
    }

    async fn getattr(&self, node: NodeId) -> Result<Attributes, Errno> {
        if node == FILE {
            self.getattrs.fetch_add(1, Ordering::SeqCst);
        }
        Ok(Attributes { attr: self.attr(node).ok_or(Errno::STALE)?, valid: FOREVER })
    }

    async fn open(&self, _node: NodeId, _flags: OpenFlags, _caller: Caller) -> Result<Opened, Errno> {
        Ok(Opened { keep_cache: true })
    }

    async fn read(&self, _node: NodeId, offset_bytes: u64, len_bytes: u32) -> Result<Vec<u8>, Errno> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let content = self.content.lock().clone().unwrap_or_default();
        let rest = content.get(offset_bytes as usize..).unwrap_or_default();
        Ok(rest[..rest.len().min(len_bytes as usize)].to_vec())
    }

    fn has_locks(&self) -> bool {
        true
    }

    async fn getlk(&self, _node: NodeId, lock: Lock) -> Result<Option<Lock>, Errno> {
        Ok(Some(Lock { pid: 1, ..lock }))
    }

    /// Every lock is held by somebody else, until the test lets go.
    async fn setlk(&self, _node: NodeId, lock: Lock, wait: Option<Interruption>) -> Result<(), Errno> {
        if lock.kind == LockKind::Unlock {
            return Ok(());
        }
        let Some(interruption) = wait else { return Err(Errno::AGAIN) };
        let unlocked = self.unlock.notified();
        self.locks.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            () = unlocked => Ok(()),
            () = interruption.wait() => {
                assert!(interruption.has_come());
                self.interrupted.fetch_add(1, Ordering::SeqCst);
                Err(Errno::INTR)
            }
        }
    }

    async fn statfs(&self) -> Result<StatfsAnswer, Errno> {
        Ok(StatfsAnswer {
            block_size_bytes: 4096,
            blocks_total: 1,
            blocks_free: 1,
            blocks_available: 1,
            inodes_total: 1,
            inodes_free: 1,
            name_max_bytes: 255,
        })
    }

    async fn fsync(&self, _node: NodeId) -> Result<(), Errno> {
        Ok(())
    }
    async fn syncfs(&self) -> Result<(), Errno> {
        Ok(())
    }
    async fn setattr(&self, _node: NodeId, _change: &SetAttr, _caller: Caller) -> Result<Attributes, Errno> {
        Err(ABSENT)
    }
    async fn readlink(&self, _node: NodeId) -> Result<Vec<u8>, Errno> {
        Err(ABSENT)
    }
    async fn mknod(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _mode: u32,
        _rdev: (u32, u32),
        _caller: Caller,
    ) -> Result<Entry, Errno> {
        Err(ABSENT)
    }
    async fn create(
        &self,
        _parent: NodeId,
        _name: &[u8],
        _mode: u32,
        _exclusive: bool,
        _flags: OpenFlags,
        _caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        Err(ABSENT)
    }
    async fn mkdir(&self, _parent: NodeId, _name: &[u8], _mode: u32, _caller: Caller) -> Result<Entry, Errno> {
        Err(ABSENT)
    }
    async fn symlink(&self, _parent: NodeId, _name: &[u8], _target: &[u8], _: Caller) -> Result<Entry, Errno> {
        Err(ABSENT)
    }
    async fn link(&self, _node: NodeId, _parent: NodeId, _name: &[u8], _caller: Caller) -> Result<Entry, Errno> {
        Err(ABSENT)
    }
    async fn unlink(&self, _parent: NodeId, _name: &[u8]) -> Result<(), Errno> {
        Err(ABSENT)
    }
    async fn rmdir(&self, _parent: NodeId, _name: &[u8]) -> Result<(), Errno> {
        Err(ABSENT)
    }
    async fn rename(
        &self,
        _: (NodeId, &[u8]),
        _: (NodeId, &[u8]),
        _mode: RenameMode,
        _caller: Caller,
    ) -> Result<(), Errno> {
        Err(ABSENT)
    }
    async fn write(
        &self,
        _node: NodeId,
        _offset_bytes: u64,
        _data: Vec<u8>,
        _flags: WriteFlags,
        _caller: Caller,
    ) -> Result<u32, Errno> {
        Err(ABSENT)
    }
    async fn seek(&self, _node: NodeId, _offset_bytes: i64, _target: SeekTarget) -> Result<i64, Errno> {
        Err(ABSENT)
    }
    async fn readdir(
        &self,
        _node: NodeId,
        _after: u64,
        _add: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> Result<(), Errno> {
        Ok(())
    }
    async fn readdirplus(
        &self,
        _node: NodeId,
        _after: u64,
        _add: &mut (dyn FnMut(&DirEntry, &Entry) -> bool + Send),
    ) -> Result<(), Errno> {
        Ok(())
    }
}
