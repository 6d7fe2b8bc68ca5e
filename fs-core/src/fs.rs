//! A mounted volume: the operations that a user can ask for.

use std::sync::Arc;
use std::time::Duration;

use block::device::{BlockDevice, IoBuf};

use crate::addr::InodeNo;
use crate::attr::{Attr, Caller, DirEntry, OpenFlags, RenameMode, SeekTarget, SetAttr, Statfs, WriteFlags};
use crate::env::Env;
use crate::error::FsError;

/// How a volume is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Nothing is written but the replay of journals, and not even that on a read-only device.
    pub read_only: bool,
    /// When reads change the time of last access.
    pub atime: AtimePolicy,
    /// Longest time that dirty state stays in memory.
    pub commit_interval: Duration,
    /// Memory for cached blocks, in bytes.
    pub cache_bytes: u64,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            atime: AtimePolicy::Relatime,
            commit_interval: Duration::from_secs(5),
            cache_bytes: 256 << 20,
        }
    }
}

/// When a read changes the time of last access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtimePolicy {
    /// When it is not newer than the last change, or a day old.
    Relatime,
    /// Never.
    Noatime,
    /// At every read.
    Strictatime,
}

/// What a read returns: bytes `start..start + len` of an aligned buffer. Dereferences to them.
#[derive(Debug)]
pub struct ReadData {
    buf: IoBuf,
    start: usize,
    len: usize,
}

impl ReadData {
    /// `len` bytes of `buf` from `start` on; both are clamped to the buffer.
    #[must_use]
    pub fn new(buf: IoBuf, start: usize, len: usize) -> Self {
        let start = start.min(buf.len());
        let len = len.min(buf.len() - start);
        Self { buf, start, len }
    }
}

impl std::ops::Deref for ReadData {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.buf.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

/// A mounted volume. All operations may run at once, from any thread, on any executor; a future that was started must
/// be driven to its end.
///
/// Inodes that `lookup`, `create`, `mknod`, `mkdir`, `symlink`, `link` and `readdirplus` return count one reference each, which
/// `forget` gives back; an inode without names lives as long as somebody holds such a reference.
pub struct Fs {}

#[allow(clippy::unused_async, unused_variables, missing_docs, clippy::missing_errors_doc)]
impl Fs {
    pub async fn mount(
        device: Arc<dyn BlockDevice>,
        options: MountOptions,
        env: Arc<dyn Env>,
    ) -> Result<Arc<Self>, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Runs the periodic work (commit every `commit_interval`, deletion of forgotten orphans, checkpoints) until the
    /// volume is unmounted. The host spawns it once.
    pub async fn background(self: Arc<Self>) {}
    /// Everything on disk, journal clean, no operation afterwards. Idempotent.
    pub async fn unmount(&self) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// The error that made this node withdraw, if it has.
    pub fn withdrawn(&self) -> Option<FsError> {
        None
    }
    pub fn root(&self) -> InodeNo {
        InodeNo::FIRST
    }
    pub fn label(&self) -> String {
        String::new()
    }
    pub async fn lookup(&self, parent: InodeNo, name: &[u8]) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Gives back `count` references. Never blocks; an orphan that nobody holds any more is freed by `background`.
    pub fn forget(&self, ino: InodeNo, count: u64) {}
    pub async fn getattr(&self, ino: InodeNo) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn setattr(&self, ino: InodeNo, change: &SetAttr, caller: Caller) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn readlink(&self, ino: InodeNo) -> Result<Vec<u8>, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// `mode` carries the type bits; `rdev` is (major, minor).
    pub async fn mknod(
        &self,
        parent: InodeNo,
        name: &[u8],
        mode: u32,
        rdev: (u32, u32),
        caller: Caller,
    ) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn mkdir(&self, parent: InodeNo, name: &[u8], mode: u32, caller: Caller) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn symlink(&self, parent: InodeNo, name: &[u8], target: &[u8], caller: Caller) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn link(&self, ino: InodeNo, parent: InodeNo, name: &[u8]) -> Result<Attr, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn unlink(&self, parent: InodeNo, name: &[u8]) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn rmdir(&self, parent: InodeNo, name: &[u8]) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn rename(
        &self,
        parent: InodeNo,
        name: &[u8],
        new_parent: InodeNo,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Truncates where asked to; there is nothing to release.
    pub async fn open(&self, ino: InodeNo, flags: OpenFlags, caller: Caller) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn read(&self, ino: InodeNo, offset_bytes: u64, len_bytes: u32) -> Result<ReadData, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Returns how many bytes were written: fewer than given only where space ran out on the way.
    pub async fn write(
        &self,
        ino: InodeNo,
        offset_bytes: u64,
        data: Vec<u8>,
        flags: WriteFlags,
        caller: Caller,
    ) -> Result<u32, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn seek(&self, ino: InodeNo, offset_bytes: u64, target: SeekTarget) -> Result<u64, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Files and directories. Returns when everything done to the inode before the call survives a power cut.
    pub async fn fsync(&self, ino: InodeNo) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// The same for the whole volume.
    pub async fn sync(&self) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// Names after the cookie `after` (0: from the start), in cookie order, `.` and `..` among them, until `emit`
    /// returns false (the entry it refused is not counted as delivered) or the directory ends.
    pub async fn readdir(
        &self,
        ino: InodeNo,
        after: u64,
        emit: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    /// The same with attributes. Each entry that `emit` accepts counts one reference, except `.` and `..`.
    pub async fn readdirplus(
        &self,
        ino: InodeNo,
        after: u64,
        emit: &mut (dyn FnMut(&DirEntry, &Attr) -> bool + Send),
    ) -> Result<(), FsError> {
        Err(FsError::Unsupported("not yet"))
    }
    pub async fn statfs(&self) -> Result<Statfs, FsError> {
        Err(FsError::Unsupported("not yet"))
    }
}
