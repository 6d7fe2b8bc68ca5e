//! Volumes in memory: made and filled once, copied at no cost, damaged or made to fail, and written to a file for the
//! referee.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture, Operation};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, Timestamp, WriteFlags};
use fs_core::env::Env;
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};
use mkfs::options::{Identity, Options};
use mkfs::plan::Plan;
use parking_lot::Mutex;

use crate::data;

/// Root.
pub const ROOT: Caller = Caller { uid: 0, gid: 0 };
/// Unit of copying.
const CHUNK: usize = 4096;
/// Memory for the cache of these mounts: small, so that it matters.
pub const CACHE_BYTES: u64 = 4 << 20;

/// The clock of the machine.
pub struct HostEnv;

impl Env for HostEnv {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp { sec: now.as_secs() as i64, nsec: now.subsec_nanos() }
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A disk in memory whose copies share what neither has changed.
#[derive(Clone)]
pub struct Overlay {
    base: Arc<Vec<u8>>,
    changed: Arc<Mutex<BTreeMap<usize, Box<[u8]>>>>,
    requests: Arc<Mutex<u64>>,
}

impl Overlay {
    /// A disk of zeroes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        assert!(len.is_multiple_of(CHUNK));
        Self { base: Arc::new(vec![0; len]), changed: Arc::default(), requests: Arc::default() }
    }

    /// Another disk with the same content; what is written to one does not show on the other.
    #[must_use]
    pub fn copy(&self) -> Self {
        let changed = self.changed.lock().clone();
        Self { base: self.base.clone(), changed: Arc::new(Mutex::new(changed)), requests: Arc::default() }
    }

    /// The whole content.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = (*self.base).clone();
        for (index, chunk) in self.changed.lock().iter() {
            all[index * CHUNK..][..CHUNK].copy_from_slice(chunk);
        }
        all
    }

    /// The same content as a fresh base, of which copies cost nothing.
    #[must_use]
    pub fn flattened(&self) -> Self {
        Self { base: Arc::new(self.bytes()), changed: Arc::default(), requests: Arc::default() }
    }

    /// Bytes at `at`.
    #[must_use]
    pub fn get(&self, at: usize, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let changed = self.changed.lock();
        for (index, byte) in out.iter_mut().enumerate() {
            let at = at + index;
            *byte = changed.get(&(at / CHUNK)).map_or_else(|| self.base[at], |chunk| chunk[at % CHUNK]);
        }
        out
    }

    /// Changes bytes at `at`.
    pub fn put(&self, at: usize, mut bytes: &[u8]) {
        let mut changed = self.changed.lock();
        let mut at = at;
        while !bytes.is_empty() {
            let (index, within) = (at / CHUNK, at % CHUNK);
            let take = bytes.len().min(CHUNK - within);
            let chunk = changed.entry(index).or_insert_with(|| self.base[index * CHUNK..][..CHUNK].into());
            chunk[within..within + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            at += take;
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.base.len()
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        *self.requests.lock()
    }

    /// Writes it to a sparse file.
    pub fn save(&self, path: &Path) {
        let bytes = self.bytes();
        let mut file = std::fs::File::create(path).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start((index * CHUNK) as u64)).unwrap();
                file.write_all(chunk).unwrap();
            }
        }
    }

    fn counted(&self, operation: Operation, offset: u64, len: usize) -> Result<(), block::device::DeviceError> {
        *self.requests.lock() += 1;
        self.geometry().check(operation, offset, len as u64)
    }
}

impl BlockDevice for Overlay {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.base.len() as u64,
            logical_sector_bytes: 512,
            physical_sector_bytes: 512,
            read_only: false,
            discards: false,
        }
    }
    fn read(&self, offset_bytes: u64, mut buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.counted(Operation::Read, offset_bytes, buf.len())?;
            let changed = self.changed.lock();
            let mut at = offset_bytes as usize;
            let mut rest: &mut [u8] = &mut buf;
            while !rest.is_empty() {
                let (index, within) = (at / CHUNK, at % CHUNK);
                let take = rest.len().min(CHUNK - within);
                let source = changed.get(&index).map_or(&self.base[index * CHUNK..][..CHUNK], |chunk| chunk);
                rest[..take].copy_from_slice(&source[within..within + take]);
                rest = &mut rest[take..];
                at += take;
            }
            drop(changed);
            Ok(buf)
        })
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, _durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.counted(Operation::Write, offset_bytes, data.len())?;
            self.put(offset_bytes as usize, &data);
            Ok(data)
        })
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move { self.counted(Operation::Flush, 0, 0) })
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move { self.counted(Operation::Discard, offset_bytes, len_bytes as usize) })
    }
}

/// Runs a future to its end on a runtime of its own; what it has spawned is dropped then.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// An empty volume.
#[must_use]
pub fn format(len: usize, block_bytes: u32) -> Overlay {
    let device = Overlay::zeroed(len);
    let options = Options {
        block_size: BlockSize::new(block_bytes).unwrap(),
        journals: Some(1),
        journal_bytes: Some(8 << 20),
        ..Options::default()
    };
    let plan = Plan::new(len as u64, &device.geometry(), &options).unwrap();
    let identity = Identity::new(None, HostEnv.now());
    run(mkfs::format(&device, &plan, &identity, false, &|_| ())).unwrap();
    device.flattened()
}

/// Mounts.
///
/// # Errors
/// What mounting says.
pub async fn mount(device: Arc<dyn BlockDevice>) -> Result<Arc<Fs>, FsError> {
    let options = MountOptions {
        cache_bytes: CACHE_BYTES,
        commit_interval: Duration::from_millis(20),
        ..MountOptions::default()
    };
    let fs = Fs::mount(device, options, Arc::new(HostEnv)).await?;
    tokio::spawn(Arc::clone(&fs).background());
    Ok(fs)
}

/// Makes a file with `len` bytes of data number `id`.
///
/// # Errors
/// What the filesystem says.
pub async fn make_file(fs: &Fs, dir: InodeNo, name: &str, id: u64, len: u64) -> Result<InodeNo, FsError> {
    let file = fs.mknod(dir, name.as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
    let mut at = 0;
    while at < len {
        let take = (len - at).min(100_000);
        let count = fs.write(file, at, data::bytes(id, at, take as usize), WriteFlags::default(), ROOT).await?;
        if u64::from(count) < take {
            return Err(FsError::NoSpace);
        }
        at += take;
    }
    Ok(file)
}

/// One of everything: what a damaged field can be part of.
///
/// # Errors
/// What the filesystem says.
pub async fn populate(fs: &Fs) -> Result<(), FsError> {
    let root = fs.root();
    for (index, len) in [0, 10, 250, 1000, 4096, 5000, 70_000, 600_000].into_iter().enumerate() {
        make_file(fs, root, &format!("file{index}"), index as u64, len).await?;
    }
    let dir = fs.mkdir(root, b"dir", 0o755, ROOT).await?.ino;
    let deep = fs.mkdir(dir, b"deep", 0o755, ROOT).await?.ino;
    for index in 0..500 {
        make_file(fs, dir, &format!("some longer name of a file {index}"), index, index % 300).await?;
    }
    make_file(fs, deep, "at the bottom", 7, 3000).await?;
    fs.symlink(root, b"link", b"dir/deep/at the bottom", ROOT).await?;
    fs.mknod(root, b"fifo", 0o010_600, (0, 0), ROOT).await?;
    fs.mknod(root, b"device", 0o060_600, (8, 1), ROOT).await?;
    let sparse = fs.mknod(root, b"sparse", 0o100_600, (0, 0), ROOT).await?.ino;
    fs.write(sparse, 1 << 35, data::bytes(8, 0, 5000), WriteFlags::default(), ROOT).await?;
    let hard = fs.lookup(root, b"file3").await?.ino;
    fs.link(hard, deep, b"hard link").await?;
    Ok(())
}
