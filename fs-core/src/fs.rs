//! A mounted volume: the operations that a user can ask for.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use block::device::{BlockDevice, IoBuf};
use futures_util::FutureExt;

use crate::addr::InodeNo;
use crate::attr::{Attr, Caller, DirEntry, FileKind, OpenFlags, RenameMode, SeekTarget, SetAttr, Statfs, WriteFlags};
use crate::env::Env;
use crate::error::{FsError, one_line};
use crate::glock::service::{LocalLocks, LockService};
use crate::mount::{self, Searched};
use crate::ops;
use crate::ops::create::New;
use crate::ops::rename::Place;
use crate::ops::shortage::Shortage;
use crate::quota;
use crate::volume::Volume;

mod flags;
mod freeze;
mod quotas;
mod space;
mod xattrs;

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
    /// Freed blocks are discarded once that they are free is durable.
    pub discard: bool,
    /// Access control lists count, and can be set. Without, those on the volume are left alone and mean nothing.
    pub acl: bool,
    /// What is done about quotas.
    pub quota: quota::Mode,
    /// Longest time that changes of quotas stay out of the quota file.
    pub quota_quantum: Duration,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            atime: AtimePolicy::Relatime,
            commit_interval: Duration::from_secs(5),
            cache_bytes: 256 << 20,
            discard: false,
            acl: true,
            quota: quota::Mode::Off,
            quota_quantum: Duration::from_secs(60),
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

/// An operation under way. Boxed: a caller neither moves nor compiles the whole of it.
pub type OpFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, FsError>> + Send + 'a>>;

/// A mounted volume. All operations may run at once, from any thread, on any executor; a future that was started must
/// be driven to its end.
///
/// Inodes that `lookup`, `create`, `mknod`, `mkdir`, `symlink`, `link` and `readdirplus` return count one reference each,
/// which `forget` gives back; an inode without names lives as long as somebody holds such a reference.
pub struct Fs {
    volume: Volume,
    /// Inodes without names have to be searched for, as a crash may have left some; and what follows.
    survey_due: tokio::sync::Mutex<Option<Searched>>,
    /// Held by whoever makes the volume clean: unmounting, or stopping changes.
    settling: tokio::sync::Mutex<()>,
    /// Ends the background work.
    stopped: tokio::sync::Notify,
}

impl Fs {
    /// Mounts the volume on `device`, for this node alone.
    ///
    /// # Errors
    /// `NotMountable` with a reason; `Corrupt`, `Device`.
    pub fn mount(
        device: Arc<dyn BlockDevice>,
        options: MountOptions,
        env: Arc<dyn Env>,
    ) -> OpFuture<'static, Arc<Self>> {
        Box::pin(async move { Self::mount_with(device, options, env, Arc::new(LocalLocks)).await })
    }

    /// The same, with locks from `locks`.
    ///
    /// # Errors
    /// As [`Fs::mount`].
    pub fn mount_with(
        device: Arc<dyn BlockDevice>,
        options: MountOptions,
        env: Arc<dyn Env>,
        locks: Arc<dyn LockService>,
    ) -> OpFuture<'static, Arc<Self>> {
        Box::pin(async move {
            let (volume, orphans_likely) = mount::mount(device, options, env, locks).await?;
            let survey_due = orphans_likely.filter(|_| !volume.options.read_only);
            Ok(Arc::new(Self {
                volume,
                survey_due: tokio::sync::Mutex::new(survey_due),
                settling: tokio::sync::Mutex::new(()),
                stopped: tokio::sync::Notify::new(),
            }))
        })
    }

    /// An error of the device or of the format makes the node withdraw, whichever operation met it.
    fn checked<T>(&self, result: Result<T, FsError>) -> Result<T, FsError> {
        if let Err(error @ (FsError::Corrupt { .. } | FsError::Device(_))) = &result {
            self.volume.disk.health.withdraw(error);
        }
        if let Err(FsError::QuotaExceeded { id }) = &result {
            self.volume.quotas.refused(*id);
        }
        result
    }

    /// Runs an operation; where room is short, once more after everything has been reclaimed that can be.
    async fn with_room<T, F: Future<Output = Result<T, FsError>>>(
        &self,
        operation: impl Fn() -> F,
    ) -> Result<T, FsError> {
        let _passage = self.volume.gate.pass().await;
        let mut shortage = Shortage::new(&self.volume);
        loop {
            match operation().await {
                Ok(done) => return Ok(done),
                Err(error) => shortage.relieve(error, &mut 1).await?,
            }
        }
    }

    /// Runs an operation that changes the volume, and needs no room that could be made.
    async fn changing<T>(&self, operation: impl Future<Output = Result<T, FsError>>) -> Result<T, FsError> {
        let _passage = self.volume.gate.pass().await;
        self.checked(operation.await)
    }

    /// Runs the periodic work (commits, deletion of orphans, checkpoints) until the volume is unmounted. The host spawns
    /// it once.
    pub fn background(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
                // Nobody commits any more, so nothing may look as if it had been.
                self.volume.disk.health.withdraw(&FsError::Bug("the background work has panicked"));
            }
        })
    }

    async fn work(&self) {
        if self.volume.options.read_only || !self.goes_on(self.survey().await) {
            return;
        }
        let interval = self.volume.options.commit_interval;
        // Kept across the other events, which may come faster than it ends.
        let mut sleep = self.volume.env.sleep(interval);
        let mut quantum = self.quota_quantum();
        loop {
            let journal = &self.volume.journal;
            let woken = wait(
                &mut sleep,
                &mut quantum,
                self.volume.refs.wake.notified(),
                journal.pressure.notified(),
                self.stopped.notified(),
            )
            .await;
            let done = match woken {
                Woken::Interval => {
                    sleep = self.volume.env.sleep(interval);
                    journal.sync().await
                }
                Woken::Quantum => {
                    quantum = self.quota_quantum();
                    self.if_open(quota::sync(&self.volume)).await
                }
                Woken::Orphan => self.if_open(async { self.volume.delete_orphans().await.map(drop) }).await,
                Woken::Pressure => journal.work_ahead().await,
                Woken::Stop => return,
            };
            if !self.goes_on(done) {
                return;
            }
        }
    }

    /// Work that can as well be done later: not while changes are held back or refused. Commits must not wait for it.
    async fn if_open(&self, work: impl Future<Output = Result<(), FsError>>) -> Result<(), FsError> {
        match self.volume.gate.try_pass() {
            Some(_passage) if !self.volume.is_read_only() => work.await,
            _ => Ok(()),
        }
    }

    /// Ready when changes of quotas are due to go into the quota file.
    fn quota_quantum(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        if self.volume.options.quota.accounts() {
            self.volume.env.sleep(self.volume.options.quota_quantum)
        } else {
            Box::pin(std::future::pending())
        }
    }

    /// Only a withdrawal ends the background work; another error is nobody's answer, so it goes to the log.
    fn goes_on(&self, done: Result<(), FsError>) -> bool {
        let done = self.checked(done);
        if self.volume.disk.health.cause().is_some() {
            return false;
        }
        if let Err(error) = done {
            tracing::error!("in the background: {}", one_line(&error));
        }
        true
    }

    /// Finds inodes without names that a crash has left, and frees them, once. A damaged volume may be full of them: so
    /// group by group.
    async fn survey(&self) -> Result<(), FsError> {
        let mut due = self.survey_due.lock().await;
        if due.is_some() && !mistake!(OrphansSkipped) {
            if mistake!(OrphansSettledEarly)
                && let Some(searched) = due.take()
            {
                searched.settle(&self.volume).await?;
                self.volume.journal.close().await?;
            }
            for number in 0..self.volume.rgrps.count() {
                {
                    // Nothing is freed meanwhile: an inode that is found without names has none until it is queued.
                    let _turn = self.volume.deleting.lock().await;
                    for ino in self.volume.rgrps.unlinked(number).await? {
                        self.volume.refs.unlinked(ino);
                    }
                }
                self.volume.delete_orphans().await?;
            }
            if let Some(searched) = due.take() {
                searched.settle(&self.volume).await?;
            }
        }
        Ok(())
    }

    /// Everything on disk, journal clean, no operation afterwards. Idempotent.
    ///
    /// # Errors
    /// Device errors, `Corrupt`, `Withdrawn`: the journal stays dirty then, for the next mount to replay.
    pub fn unmount(&self) -> OpFuture<'_, ()> {
        Box::pin(async move {
            self.volume.gate.open_for_good();
            self.stopped.notify_one();
            let _turn = self.settling.lock().await;
            self.checked(self.survey().await)?;
            self.checked(mount::unmount(&self.volume).await)
        })
    }

    /// The error that made this node withdraw, if it has.
    pub fn withdrawn(&self) -> Option<FsError> {
        self.volume.disk.health.cause().cloned()
    }

    /// The root directory.
    pub const fn root(&self) -> InodeNo {
        self.volume.superblock.root
    }

    /// # Errors
    /// As [`ops::lookup::lookup`].
    pub fn lookup<'a>(&'a self, parent: InodeNo, name: &'a [u8]) -> OpFuture<'a, Attr> {
        Box::pin(async move { self.checked(ops::lookup::lookup(&self.volume, parent, name).await) })
    }

    /// Gives back `count` references. Never blocks; an orphan that nobody holds any more is freed by
    /// [`Fs::background`].
    pub fn forget(&self, ino: InodeNo, count: u64) {
        self.volume.refs.put(ino, count);
    }

    /// # Errors
    /// As [`ops::attrs::getattr`].
    pub fn getattr(&self, ino: InodeNo) -> OpFuture<'_, Attr> {
        Box::pin(async move { self.checked(ops::attrs::getattr(&self.volume, ino).await) })
    }

    /// # Errors
    /// As [`ops::attrs::setattr`].
    pub fn setattr<'a>(&'a self, ino: InodeNo, change: &'a SetAttr, caller: Caller) -> OpFuture<'a, Attr> {
        Box::pin(async move {
            let result = self.with_room(|| ops::attrs::setattr(&self.volume, ino, change, caller)).await;
            self.checked(result)
        })
    }

    /// # Errors
    /// As [`ops::lookup::readlink`].
    pub fn readlink(&self, ino: InodeNo) -> OpFuture<'_, Vec<u8>> {
        Box::pin(async move { self.checked(ops::lookup::readlink(&self.volume, ino).await) })
    }

    async fn create(
        &self,
        parent: InodeNo,
        name: &[u8],
        permissions: u32,
        caller: Caller,
        new: New<'_>,
    ) -> Result<Attr, FsError> {
        let result = self.with_room(|| ops::create::create(&self.volume, parent, name, permissions, caller, new)).await;
        self.checked(result)
    }

    /// Regular files, device nodes, pipes and sockets. `mode` carries the type bits; `rdev` is (major, minor).
    ///
    /// # Errors
    /// `Invalid` for other types; as [`ops::create::create`].
    pub fn mknod<'a>(
        &'a self,
        parent: InodeNo,
        name: &'a [u8],
        mode: u32,
        rdev: (u32, u32),
        caller: Caller,
    ) -> OpFuture<'a, Attr> {
        Box::pin(async move {
            let kind = match FileKind::from_mode(mode) {
                Some(FileKind::Directory | FileKind::Symlink) | None => {
                    return Err(FsError::Invalid("a file type that mknod does not make"));
                }
                Some(kind) => kind,
            };
            self.create(parent, name, mode & 0o7777, caller, New::Node { kind, rdev }).await
        })
    }

    /// # Errors
    /// As [`ops::create::create`].
    pub fn mkdir<'a>(&'a self, parent: InodeNo, name: &'a [u8], mode: u32, caller: Caller) -> OpFuture<'a, Attr> {
        Box::pin(async move { self.create(parent, name, mode & 0o7777, caller, New::Directory).await })
    }

    /// # Errors
    /// As [`ops::create::create`]; `NameTooLong` for a target that does not fit an inode.
    pub fn symlink<'a>(
        &'a self,
        parent: InodeNo,
        name: &'a [u8],
        target: &'a [u8],
        caller: Caller,
    ) -> OpFuture<'a, Attr> {
        Box::pin(async move { self.create(parent, name, 0o777, caller, New::Symlink(target)).await })
    }

    /// # Errors
    /// As [`ops::create::link`].
    pub fn link<'a>(&'a self, ino: InodeNo, parent: InodeNo, name: &'a [u8], caller: Caller) -> OpFuture<'a, Attr> {
        Box::pin(async move {
            let result = self.with_room(|| ops::create::link(&self.volume, ino, parent, name, caller)).await;
            self.checked(result)
        })
    }

    /// # Errors
    /// As [`ops::unlink::unlink`].
    pub fn unlink<'a>(&'a self, parent: InodeNo, name: &'a [u8]) -> OpFuture<'a, ()> {
        Box::pin(async move { self.changing(ops::unlink::unlink(&self.volume, parent, name)).await })
    }

    /// # Errors
    /// As [`ops::unlink::rmdir`].
    pub fn rmdir<'a>(&'a self, parent: InodeNo, name: &'a [u8]) -> OpFuture<'a, ()> {
        Box::pin(async move { self.changing(ops::unlink::rmdir(&self.volume, parent, name)).await })
    }

    /// # Errors
    /// As [`ops::rename::rename`].
    pub fn rename<'a>(
        &'a self,
        parent: InodeNo,
        name: &'a [u8],
        new_parent: InodeNo,
        new_name: &'a [u8],
        mode: RenameMode,
        caller: Caller,
    ) -> OpFuture<'a, ()> {
        Box::pin(async move {
            let (from, to) = (Place { dir: parent, name }, Place { dir: new_parent, name: new_name });
            let result = self.with_room(|| ops::rename::rename(&self.volume, from, to, mode, caller)).await;
            self.checked(result)
        })
    }

    /// Truncates where asked to; there is nothing to release.
    ///
    /// # Errors
    /// As [`ops::attrs::open`].
    pub fn open(&self, ino: InodeNo, flags: OpenFlags, caller: Caller) -> OpFuture<'_, ()> {
        Box::pin(async move {
            let opened = ops::attrs::open(&self.volume, ino, flags, caller);
            if flags.truncate { self.changing(opened).await } else { self.checked(opened.await) }
        })
    }

    /// # Errors
    /// As [`ops::data::read`].
    pub fn read(&self, ino: InodeNo, offset_bytes: u64, len_bytes: u32) -> OpFuture<'_, ReadData> {
        Box::pin(async move { self.checked(ops::data::read(&self.volume, ino, offset_bytes, len_bytes).await) })
    }

    /// Returns how many bytes were written: fewer than given only where space ran out on the way.
    ///
    /// # Errors
    /// As [`ops::data::write`].
    pub fn write(
        &self,
        ino: InodeNo,
        offset_bytes: u64,
        data: Vec<u8>,
        flags: WriteFlags,
        caller: Caller,
    ) -> OpFuture<'_, u32> {
        Box::pin(
            async move { self.changing(ops::data::write(&self.volume, ino, offset_bytes, &data, flags, caller)).await },
        )
    }

    /// # Errors
    /// As [`ops::data::seek`].
    pub fn seek(&self, ino: InodeNo, offset_bytes: u64, target: SeekTarget) -> OpFuture<'_, u64> {
        Box::pin(async move { self.checked(ops::data::seek(&self.volume, ino, offset_bytes, target).await) })
    }

    /// Files and directories. Returns when everything done to the inode before the call survives a power cut.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub fn fsync(&self, ino: InodeNo) -> OpFuture<'_, ()> {
        Box::pin(async move { self.checked(self.volume.journal.sync_inode(ino).await) })
    }

    /// The same for the whole volume.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub fn sync(&self) -> OpFuture<'_, ()> {
        Box::pin(async move { self.checked(self.volume.journal.sync().await) })
    }

    /// Names after the cookie `after` (0: from the start), in cookie order, `.` and `..` among them, until `emit`
    /// returns false (the entry it refused is not counted as delivered) or the directory ends.
    ///
    /// # Errors
    /// As [`ops::list::readdir`].
    pub fn readdir<'a>(
        &'a self,
        ino: InodeNo,
        after: u64,
        emit: &'a mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> OpFuture<'a, ()> {
        Box::pin(async move { self.checked(ops::list::readdir(&self.volume, ino, after, emit).await) })
    }

    /// The same with attributes. Each entry that `emit` accepts counts one reference, except `.` and `..`.
    ///
    /// # Errors
    /// As [`ops::list::readdirplus`].
    pub fn readdirplus<'a>(
        &'a self,
        ino: InodeNo,
        after: u64,
        emit: &'a mut (dyn FnMut(&DirEntry, &Attr) -> bool + Send),
    ) -> OpFuture<'a, ()> {
        Box::pin(async move { self.checked(ops::list::readdirplus(&self.volume, ino, after, emit).await) })
    }

    /// # Errors
    /// `Withdrawn`.
    pub fn statfs(&self) -> OpFuture<'_, Statfs> {
        Box::pin(async move {
            self.volume.disk.health.check()?;
            let counts = self.volume.counts();
            let number = |count: i64| u64::try_from(count).unwrap_or(0);
            Ok(Statfs {
                block_size_bytes: self.volume.block_size().bytes_u32(),
                blocks_total: number(counts.total),
                blocks_free: number(counts.free),
                inodes_used: number(counts.dinodes),
                name_max_bytes: 255,
            })
        })
    }
}

/// What the background work was woken by.
enum Woken {
    Interval,
    Quantum,
    Orphan,
    Pressure,
    Stop,
}

async fn wait(
    interval: impl Future<Output = ()>,
    quantum: impl Future<Output = ()>,
    orphan: impl Future<Output = ()>,
    pressure: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Woken {
    use futures_util::future::{Either, select};
    futures_util::pin_mut!(interval, quantum, orphan, pressure, stop);
    match select(select(interval, select(quantum, orphan)), select(pressure, stop)).await {
        Either::Left((Either::Left(_), _)) => Woken::Interval,
        Either::Left((Either::Right((Either::Left(_), _)), _)) => Woken::Quantum,
        Either::Left((Either::Right((Either::Right(_), _)), _)) => Woken::Orphan,
        Either::Right((Either::Left(_), _)) => Woken::Pressure,
        Either::Right((Either::Right(_), _)) => Woken::Stop,
    }
}
