//! A filesystem that does nothing: names and sizes are kept in memory, data is thrown away and reads as zeroes.
//!
//! It is the floor for benchmarks: what FUSE and fuser cost when the filesystem behind them costs nothing. It asks the
//! kernel for the same as a mount of lunfs does.
//!
//! `null_fs DIR` mounts it, and ends when DIR is unmounted.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuse_mount::kernel::TransportOptions;
use fuse_mount::mount::options::Options;
use fuse_mount::mount::syscall;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};

const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const BLOCK_BYTES: u32 = 4096;

const WANTED: InitFlags = InitFlags::FUSE_ATOMIC_O_TRUNC
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    .union(InitFlags::FUSE_EXPLICIT_INVAL_DATA);

/// Inodes and the names in directories. Inodes are never freed: a benchmark ends before that matters.
struct Tree {
    inodes: HashMap<u64, FileAttr>,
    names: HashMap<(u64, OsString), u64>,
    next: u64,
    zeroes: Vec<u8>,
}

struct NullFs {
    tree: Mutex<Tree>,
    options: TransportOptions,
}

impl NullFs {
    fn new(options: TransportOptions) -> Self {
        let root = attributes(INodeNo::ROOT, FileType::Directory, 0o755);
        let zeroes = vec![0; options.write_max_bytes as usize];
        let tree = Tree { inodes: HashMap::from([(1, root)]), names: HashMap::new(), next: 2, zeroes };
        Self { tree: Mutex::new(tree), options }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32) -> Result<FileAttr, Errno> {
        let mut tree = self.tree();
        let name = (parent.0, name.to_owned());
        if tree.names.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        let ino = tree.next;
        tree.next += 1;
        let attr = attributes(INodeNo(ino), kind, u16::try_from(mode & 0o7777).unwrap_or_default());
        tree.inodes.insert(ino, attr);
        tree.names.insert(name, ino);
        Ok(attr)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.tree().names.remove(&(parent.0, name.to_owned())) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }
}

fn attributes(ino: INodeNo, kind: FileType, perm: u16) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn send_entry(reply: ReplyEntry, made: Result<FileAttr, Errno>) {
    match made {
        Ok(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for NullFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = WANTED & config.capabilities();
        config.add_capabilities(wanted).map_err(|missing| io::Error::other(format!("{missing:?}")))?;
        config.set_max_write(self.options.write_max_bytes).ok();
        config.set_max_background(self.options.background_max).ok();
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.tree();
        match tree.names.get(&(parent.0, name.to_owned())).and_then(|ino| tree.inodes.get(ino)) {
            Some(attr) => reply.entry(&FOREVER, attr, Generation(0)),
            None => reply.entry(&FOREVER, &attributes(INodeNo(0), FileType::RegularFile, 0), Generation(0)),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree().inodes.get(&ino.0) {
            Some(attr) => reply.attr(&FOREVER, attr),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.tree().inodes.get_mut(&ino.0) {
            Some(attr) => {
                attr.perm = mode.and_then(|mode| u16::try_from(mode & 0o7777).ok()).unwrap_or(attr.perm);
                attr.uid = uid.unwrap_or(attr.uid);
                attr.gid = gid.unwrap_or(attr.gid);
                attr.size = size.unwrap_or(attr.size);
                reply.attr(&FOREVER, attr);
            }
            None => reply.error(Errno::ESTALE),
        }
    }

    fn mknod(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        send_entry(reply, self.make(parent, name, FileType::RegularFile, mode));
    }

    fn mkdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        send_entry(reply, self.make(parent, name, FileType::Directory, mode));
    }

    fn symlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, _target: &Path, reply: ReplyEntry) {
        send_entry(reply, self.make(parent, name, FileType::Symlink, 0o777));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut tree = self.tree();
        match tree.names.remove(&(parent.0, name.to_owned())) {
            Some(ino) => {
                tree.names.insert((new_parent.0, new_name.to_owned()), ino);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, FileType::RegularFile, mode) {
            Ok(attr) => {
                reply.created(&FOREVER, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
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
        let tree = self.tree();
        let left = tree.inodes.get(&ino.0).map_or(0, |attr| attr.size.saturating_sub(offset));
        let len = usize::try_from(left.min(size.into())).unwrap_or_default();
        reply.data(tree.zeroes.get(..len).unwrap_or_default());
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree().inodes.get_mut(&ino.0) {
            Some(attr) => {
                attr.size = attr.size.max(offset.saturating_add(data.len() as u64));
                attr.blocks = attr.size.div_ceil(512);
                reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            None => reply.error(Errno::ESTALE),
        }
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    /// Lists by ascending inode number, which is stable while names come and go.
    fn readdir(&self, _request: &Request, dir: INodeNo, _handle: FileHandle, after: u64, mut reply: ReplyDirectory) {
        let tree = self.tree();
        let mut names: Vec<_> =
            tree.names.iter().filter(|((parent, _), ino)| *parent == dir.0 && **ino > after).collect();
        names.sort_unstable_by_key(|(_, ino)| **ino);
        for ((_, name), ino) in names {
            let kind = tree.inodes.get(ino).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(*ino), *ino, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (total, name_max) = (1 << 30, 255);
        reply.statfs(total, total, total, total, total, BLOCK_BYTES, name_max, BLOCK_BYTES);
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: null_fs DIR")?;
    let dir = std::fs::canonicalize(dir)?;
    let options = TransportOptions::default();
    let fuse = syscall::open_fuse()?;
    syscall::mount(&fuse, Path::new("null"), &dir, &Options::default())?;
    let mut config = fuser::Config::default();
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    let session = Session::from_fd(NullFs::new(options), fuse, SessionACL::All, config)?;
    syscall::set_readahead(syscall::mounted_at(&dir)?, options.write_max_bytes);
    Ok(session.run()?)
}
