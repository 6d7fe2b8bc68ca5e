//! The transport that speaks through fuser 0.18: callbacks in, reply objects out.
//!
//! Every callback copies what the request borrows, starts one handler, and sends its result.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fs_core::attr::SetAttr;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::super::drive::Driver;
use super::super::interruption::Interruption;
use super::super::ioctl::Ioctl;
use super::super::service::Service;
use super::super::{Errno, Found, TransportOptions, linux};
use super::answer::{open_flags, send_attributes, send_entry, send_nothing, send_sized};
use super::convert;

/// Handles of files mean nothing here: an inode's number says all.
const NO_HANDLE: FileHandle = FileHandle(0);

/// What is asked of the kernel, where it offers it. Left out on purpose:
/// the writeback cache (the kernel would own sizes and times), opens without a request (O_TRUNC and the last close get
/// lost), locks (on one node the kernel's own are right and can be interrupted), and extended setxattr requests (fuser
/// accepts the flag and then misreads every one of them). Nor that the daemon takes setuid away (the kernel would
/// go on believing the mode that it knows), nor that O_TRUNC comes with the open (the kernel would send it before it has
/// found out that the file is being executed).
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_EXPLICIT_INVAL_DATA);

/// The same for access control lists. One does not go without the other: with the umask applied by the kernel, what a
/// directory hands down would come out wrong.
const WANTED_FOR_ACLS: InitFlags = InitFlags::FUSE_POSIX_ACL.union(InitFlags::FUSE_DONT_MASK);

pub(super) struct FuserTransport<S> {
    service: Arc<S>,
    driver: Driver,
    options: TransportOptions,
}

impl<S: Service> FuserTransport<S> {
    pub(super) fn new(service: Arc<S>, driver: Driver, options: TransportOptions) -> Self {
        Self { service, driver, options }
    }

    /// Starts what `start` makes of the service.
    fn drive<F: Future<Output = ()> + Send + 'static>(&self, start: impl FnOnce(Arc<S>) -> F) {
        self.driver.drive(start(Arc::clone(&self.service)));
    }
}

impl<S: Service> Filesystem for FuserTransport<S> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let wanted = if self.options.acl { WANTED | WANTED_FOR_ACLS } else { WANTED };
        if let Err(missing) = config.add_capabilities(wanted & offered) {
            tracing::debug!(?missing, "capabilities that the kernel offered and then did not");
        }
        if let Err(nearest) = config.set_max_write(self.options.write_max_bytes) {
            tracing::debug!(nearest, "the largest write was not accepted");
        }
        if let Err(nearest) = config.set_max_background(self.options.background_max) {
            tracing::debug!(nearest, "the number of background requests was not accepted");
        }
        tracing::debug!(abi = ?config.kernel_abi(), missing = ?(wanted - offered), "connected to the kernel");
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.drive(|service| async move {
            match service.lookup(parent.into(), &name).await {
                Ok(Found::Entry(entry)) => send_entry(reply, Ok(entry)),
                // Inode 0 says that the name does not exist, and for how long the kernel may believe it.
                Ok(Found::Nothing { valid }) => reply.entry(&valid, &convert::no_attr(), Generation(0)),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.service.forget(ino.into(), count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.drive(|service| async move { send_attributes(reply, service.getattr(ino.into()).await) });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let caller = convert::caller(request);
        let change = SetAttr {
            permissions: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size_bytes: size,
            atime: atime.map(convert::new_time),
            mtime: mtime.map(convert::new_time),
        };
        self.drive(|service| async move { send_attributes(reply, service.setattr(ino.into(), &change, caller).await) });
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        self.drive(|service| async move {
            match service.readlink(ino.into()).await {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (name, caller) = (name.as_bytes().to_vec(), convert::maker(request, umask));
        let rdev = linux::device_parts(rdev);
        self.drive(|service| async move {
            send_entry(reply, service.mknod(parent.into(), &name, mode, rdev, caller).await);
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (name, caller) = (name.as_bytes().to_vec(), convert::maker(request, umask));
        self.drive(|service| async move {
            send_entry(reply, service.mkdir(parent.into(), &name, mode, caller).await);
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.drive(|service| async move { send_nothing(reply, service.unlink(parent.into(), &name).await) });
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.drive(|service| async move { send_nothing(reply, service.rmdir(parent.into(), &name).await) });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, caller) = (name.as_bytes().to_vec(), convert::caller(request));
        let target = target.as_os_str().as_bytes().to_vec();
        self.drive(|service| async move {
            send_entry(reply, service.symlink(parent.into(), &name, &target, caller).await);
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match linux::rename_mode(flags.bits()) {
            Ok(mode) => mode,
            Err(errno) => return reply.error(errno.into()),
        };
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        let caller = convert::caller(request);
        self.drive(|service| async move {
            let (source, target) = ((parent.into(), &*name), (new_parent.into(), &*new_name));
            send_nothing(reply, service.rename(source, target, mode, caller).await);
        });
    }

    fn link(&self, request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (name, caller) = (name.as_bytes().to_vec(), convert::caller(request));
        self.drive(|service| async move {
            send_entry(reply, service.link(ino.into(), parent.into(), &name, caller).await);
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (flags, caller) = (linux::open_flags(flags.0.cast_unsigned()), convert::caller(request));
        self.drive(|service| async move {
            match service.open(ino.into(), flags, caller).await {
                Ok(opened) => reply.opened(NO_HANDLE, open_flags(opened)),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, caller) = (name.as_bytes().to_vec(), convert::maker(request, umask));
        let (exclusive, flags) = (linux::is_exclusive(flags.cast_unsigned()), linux::open_flags(flags.cast_unsigned()));
        self.drive(|service| async move {
            match service.create(parent.into(), &name, mode, exclusive, flags, caller).await {
                Ok((entry, opened)) => reply.created(
                    &entry.valid,
                    &convert::file_attr(&entry.attr, entry.node.0),
                    Generation(entry.attr.generation),
                    NO_HANDLE,
                    open_flags(opened),
                ),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.drive(|service| async move {
            match service.read(ino.into(), offset, size).await {
                Ok(data) => reply.data(&data),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (data, caller) = (data.to_vec(), convert::caller(request));
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let flags = linux::write_flags(flags.0.cast_unsigned(), from_cache);
        self.drive(|service| async move {
            match service.write(ino.into(), offset, data, flags, caller).await {
                Ok(written) => reply.written(written),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    // RELEASE and RELEASEDIR: fuser's answer is right, there is nothing to give back.

    /// Nothing is kept back until a file is closed, so the kernel need not announce it.
    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::NOSYS.into());
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.drive(|service| async move { send_nothing(reply, service.fsync(ino.into()).await) });
    }

    /// An open directory has no state here; the kernel keeps its entries until it changes the directory itself.
    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::NOSYS.into());
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, after: u64, mut reply: ReplyDirectory) {
        self.drive(|service| async move {
            let listed = service
                .readdir(ino.into(), after, &mut |entry| {
                    let (ino, kind) = (INodeNo(entry.ino.get()), convert::file_type(entry.kind));
                    !reply.add(ino, entry.cookie, kind, OsStr::from_bytes(&entry.name))
                })
                .await;
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        after: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.drive(|service| async move {
            let listed = service
                .readdirplus(ino.into(), after, &mut |name, entry| {
                    let attr = convert::file_attr(&entry.attr, entry.attr.ino.get());
                    let generation = Generation(entry.attr.generation);
                    let text = OsStr::from_bytes(&name.name);
                    !reply.add(attr.ino, name.cookie, text, &entry.valid, &attr, generation)
                })
                .await;
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn fsyncdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.drive(|service| async move { send_nothing(reply, service.fsync(ino.into()).await) });
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.drive(|service| async move {
            match service.statfs().await {
                Ok(statfs) => reply.statfs(
                    statfs.blocks_total,
                    statfs.blocks_free,
                    statfs.blocks_available,
                    statfs.inodes_total,
                    statfs.inodes_free,
                    statfs.block_size_bytes,
                    statfs.name_max_bytes,
                    statfs.block_size_bytes,
                ),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let target = match linux::seek_target(whence.cast_unsigned()) {
            Ok(target) => target,
            Err(errno) => return reply.error(errno.into()),
        };
        self.drive(|service| async move {
            match service.seek(ino.into(), offset, target).await {
                Ok(found) => reply.offset(found),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value, caller) = (name.as_bytes().to_vec(), value.to_vec(), convert::caller(request));
        let how = match convert::set_xattr(request, &name, flags) {
            Ok(how) => how,
            Err(errno) => return reply.error(errno.into()),
        };
        self.drive(|service| async move {
            send_nothing(reply, service.setxattr(ino.into(), &name, &value, &how, caller).await);
        });
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.drive(|service| async move { send_sized(reply, size, service.getxattr(ino.into(), &name).await) });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let caller = convert::caller(request);
        self.drive(|service| async move { send_sized(reply, size, service.listxattr(ino.into(), caller).await) });
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.drive(|service| async move { send_nothing(reply, service.removexattr(ino.into(), &name).await) });
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (caller, how) = (convert::caller(request), linux::allocation(mode.cast_unsigned()));
        let how = match how {
            Ok(how) => how,
            Err(errno) => return reply.error(errno.into()),
        };
        self.drive(|service| async move {
            let never = Interruption::never();
            send_nothing(reply, service.fallocate(ino.into(), offset, length, how, caller, never).await);
        });
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let wanted = match Ioctl::parse(command, data) {
            Ok(wanted) => wanted,
            Err(errno) => return reply.error(errno.into()),
        };
        let asker = convert::asker(request, &wanted);
        self.drive(|service| async move {
            match service.ioctl(ino.into(), wanted, asker, Interruption::never()).await {
                Ok(answer) => reply.ioctl(0, &answer.bytes(usize::try_from(out_size).unwrap_or(usize::MAX))),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }

    // What follows is left to the kernel, which does it by itself after the first refusal. ACCESS, locks and BMAP are not
    // sent to a mount like ours; fuser refuses them as well.

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::NOSYS.into());
    }

    fn copy_file_range(
        &self,
        request: &Request,
        source: INodeNo,
        _source_handle: FileHandle,
        source_offset: u64,
        target: INodeNo,
        _target_handle: FileHandle,
        target_offset: u64,
        length: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::INVAL.into());
        }
        let caller = convert::caller(request);
        // The answer has 32 bits; the form with more is not known to fuser, and the kernel then uses this one.
        let length = length.min(u64::from(u32::MAX));
        self.drive(|service| async move {
            let (source, target) = ((source.into(), source_offset), (target.into(), target_offset));
            match service.copy_file_range(source, target, length, caller, Interruption::never()).await {
                Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno.into()),
            }
        });
    }
}
