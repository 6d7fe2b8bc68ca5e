//! A filesystem that does nothing: names and sizes are kept in memory, data is thrown away and reads as zeroes.
//!
//! It is the floor for benchmarks: what FUSE and a transport cost when the filesystem behind them costs nothing. It asks
//! the kernel for the same as a mount of lunfs does.
//!
//! `null_fs DIR [native|fuser]` mounts it, and ends when DIR is unmounted.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fs_core::addr::InodeNo;
use fs_core::attr::{
    Attr, Caller, DirEntry, FileKind, OpenFlags, RenameMode, SeekTarget, SetAttr, Timestamp, WriteFlags,
};
use fuse_mount::kernel::{
    Attributes, Entry, Errno, Found, NodeId, Opened, Service, Session, StatfsAnswer, Transport, TransportOptions,
};
use fuse_mount::mount::options::Options;
use fuse_mount::mount::syscall::{self, FsType, Source};

const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const BLOCK_BYTES: u32 = 4096;
const EXISTS: Errno = Errno(17);
const NOT_FOUND: Errno = Errno(2);

/// Inodes and the names in directories. Inodes are never freed: a benchmark ends before that matters.
struct Tree {
    inodes: HashMap<u64, Attr>,
    names: HashMap<(u64, Vec<u8>), u64>,
    next: u64,
}

struct NullFs {
    tree: Mutex<Tree>,
    zeroes: Arc<[u8]>,
}

/// So many zeroes.
struct Zeroes {
    all: Arc<[u8]>,
    len: usize,
}

impl Deref for Zeroes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.all.get(..self.len).unwrap_or_default()
    }
}

impl NullFs {
    fn new(options: &TransportOptions) -> Self {
        let root = attr(NodeId::ROOT.0, FileKind::Directory, 0o755);
        let inodes = root.map(|root| (root.ino.get(), root)).into_iter().collect();
        let tree = Tree { inodes, names: HashMap::new(), next: 2 };
        let zeroes = vec![0; usize::try_from(options.write_max_bytes).unwrap_or_default()].into();
        Self { tree: Mutex::new(tree), zeroes }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, parent: NodeId, name: &[u8], kind: FileKind, mode: u32) -> Result<Entry, Errno> {
        let mut tree = self.tree();
        let name = (parent.0, name.to_vec());
        if tree.names.contains_key(&name) {
            return Err(EXISTS);
        }
        let number = tree.next;
        let attr = attr(number, kind, mode & 0o7777).ok_or(Errno::IO)?;
        tree.next += 1;
        tree.inodes.insert(number, attr);
        tree.names.insert(name, number);
        Ok(entry(attr))
    }

    fn remove(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.tree().names.remove(&(parent.0, name.to_vec())).map(drop).ok_or(NOT_FOUND)
    }

    /// By ascending inode number, which is stable while names come and go.
    fn names_of(&self, dir: NodeId, after: u64) -> Vec<(DirEntry, Attr)> {
        let tree = self.tree();
        let mut names: Vec<_> =
            tree.names.iter().filter(|((parent, _), number)| *parent == dir.0 && **number > after).collect();
        names.sort_unstable_by_key(|(_, number)| **number);
        let found = names.into_iter().filter_map(|((_, name), number)| {
            let attr = *tree.inodes.get(number)?;
            Some((DirEntry { ino: attr.ino, kind: attr.kind, name: name.clone(), cookie: *number }, attr))
        });
        found.collect()
    }
}

fn attr(number: u64, kind: FileKind, permissions: u32) -> Option<Attr> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() };
    Some(Attr {
        ino: InodeNo::new(number)?,
        generation: 0,
        kind,
        permissions,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: (0, 0),
        size_bytes: 0,
        sectors: 0,
        block_size_bytes: BLOCK_BYTES,
        atime: now,
        mtime: now,
        ctime: now,
    })
}

fn entry(attr: Attr) -> Entry {
    Entry { node: NodeId(attr.ino.get()), attr, valid: FOREVER }
}

impl Service for NullFs {
    type Data = Zeroes;

    async fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Found, Errno> {
        let tree = self.tree();
        let found = tree.names.get(&(parent.0, name.to_vec())).and_then(|number| tree.inodes.get(number));
        Ok(found.map_or(Found::Nothing { valid: FOREVER }, |attr| Found::Entry(entry(*attr))))
    }

    fn forget(&self, _node: NodeId, _count: u64) {}

    async fn getattr(&self, node: NodeId) -> Result<Attributes, Errno> {
        let attr = *self.tree().inodes.get(&node.0).ok_or(Errno::STALE)?;
        Ok(Attributes { attr, valid: FOREVER })
    }

    async fn setattr(&self, node: NodeId, change: &SetAttr, _caller: Caller) -> Result<Attributes, Errno> {
        let mut tree = self.tree();
        let attr = tree.inodes.get_mut(&node.0).ok_or(Errno::STALE)?;
        attr.permissions = change.permissions.unwrap_or(attr.permissions);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.size_bytes = change.size_bytes.unwrap_or(attr.size_bytes);
        Ok(Attributes { attr: *attr, valid: FOREVER })
    }

    async fn readlink(&self, _node: NodeId) -> Result<Vec<u8>, Errno> {
        Err(Errno::NOSYS)
    }

    async fn mknod(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        _rdev: (u32, u32),
        _caller: Caller,
    ) -> Result<Entry, Errno> {
        self.make(parent, name, FileKind::from_mode(mode).unwrap_or(FileKind::Regular), mode)
    }

    async fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        _exclusive: bool,
        _flags: OpenFlags,
        _caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        Ok((self.make(parent, name, FileKind::Regular, mode)?, Opened { keep_cache: true }))
    }

    async fn mkdir(&self, parent: NodeId, name: &[u8], mode: u32, _caller: Caller) -> Result<Entry, Errno> {
        self.make(parent, name, FileKind::Directory, mode)
    }

    async fn symlink(&self, parent: NodeId, name: &[u8], _target: &[u8], _caller: Caller) -> Result<Entry, Errno> {
        self.make(parent, name, FileKind::Symlink, 0o777)
    }

    async fn link(&self, _node: NodeId, _parent: NodeId, _name: &[u8], _caller: Caller) -> Result<Entry, Errno> {
        Err(Errno::NOSYS)
    }

    async fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name)
    }

    async fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name)
    }

    async fn rename(
        &self,
        source: (NodeId, &[u8]),
        target: (NodeId, &[u8]),
        _mode: RenameMode,
        _caller: Caller,
    ) -> Result<(), Errno> {
        let mut tree = self.tree();
        let number = tree.names.remove(&(source.0.0, source.1.to_vec())).ok_or(NOT_FOUND)?;
        tree.names.insert((target.0.0, target.1.to_vec()), number);
        Ok(())
    }

    async fn open(&self, _node: NodeId, _flags: OpenFlags, _caller: Caller) -> Result<Opened, Errno> {
        Ok(Opened { keep_cache: true })
    }

    async fn read(&self, node: NodeId, offset_bytes: u64, len_bytes: u32) -> Result<Zeroes, Errno> {
        let size = self.tree().inodes.get(&node.0).map_or(0, |attr| attr.size_bytes);
        let left = size.saturating_sub(offset_bytes).min(len_bytes.into());
        Ok(Zeroes { all: Arc::clone(&self.zeroes), len: usize::try_from(left).unwrap_or_default() })
    }

    async fn write(
        &self,
        node: NodeId,
        offset_bytes: u64,
        data: Vec<u8>,
        _flags: WriteFlags,
        _caller: Caller,
    ) -> Result<u32, Errno> {
        let mut tree = self.tree();
        let attr = tree.inodes.get_mut(&node.0).ok_or(Errno::STALE)?;
        attr.size_bytes = attr.size_bytes.max(offset_bytes.saturating_add(data.len() as u64));
        attr.sectors = attr.size_bytes.div_ceil(512);
        u32::try_from(data.len()).map_err(|_| Errno::INVAL)
    }

    async fn seek(&self, _node: NodeId, _offset_bytes: i64, _target: SeekTarget) -> Result<i64, Errno> {
        Err(Errno::NOSYS)
    }

    async fn fsync(&self, _node: NodeId) -> Result<(), Errno> {
        Ok(())
    }

    async fn syncfs(&self) -> Result<(), Errno> {
        Ok(())
    }

    async fn readdir(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry) -> bool + Send),
    ) -> Result<(), Errno> {
        for (name, _) in self.names_of(node, after) {
            if !add(&name) {
                break;
            }
        }
        Ok(())
    }

    async fn readdirplus(
        &self,
        node: NodeId,
        after: u64,
        add: &mut (dyn FnMut(&DirEntry, &Entry) -> bool + Send),
    ) -> Result<(), Errno> {
        for (name, attr) in self.names_of(node, after) {
            if !add(&name, &entry(attr)) {
                break;
            }
        }
        Ok(())
    }

    async fn statfs(&self) -> Result<StatfsAnswer, Errno> {
        let blocks = 1 << 30;
        Ok(StatfsAnswer {
            block_size_bytes: BLOCK_BYTES,
            blocks_total: blocks,
            blocks_free: blocks,
            blocks_available: blocks,
            inodes_total: blocks,
            inodes_free: blocks,
            name_max_bytes: 255,
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = std::fs::canonicalize(arguments.next().ok_or("usage: null_fs DIR [native|fuser]")?)?;
    let transport = match arguments.next().as_deref().and_then(|name| name.to_str()) {
        None | Some("native") => Transport::Native,
        Some("fuser") => Transport::Fuser,
        Some(other) => return Err(format!("{other}: no such transport").into()),
    };
    let options = TransportOptions { transport, ..TransportOptions::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let fuse = syscall::open_fuse()?;
    let source = Source { kind: FsType::Fuse, device: Path::new("null"), sector_bytes: 0 };
    syscall::mount(&fuse, source, &dir, &Options::default())?;
    let service = Arc::new(NullFs::new(&options));
    let session = Session::open(fuse, service, runtime.handle().clone(), options)?;
    syscall::set_readahead(syscall::mounted_at(&dir)?, options.write_max_bytes);
    drop(session.run()?);
    Ok(())
}
