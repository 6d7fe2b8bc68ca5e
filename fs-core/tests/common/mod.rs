//! What the tests on damaged volumes and failing devices share: a disk in memory that can be copied for nothing, a
//! clock without surprises, random numbers, a watchdog.

#![allow(dead_code)] // each test uses a part of it

pub(crate) mod checker;
pub(crate) mod damage;
pub(crate) mod differences;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture, Operation};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, Timestamp, WriteFlags};
use fs_core::env::Env;
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};
use parking_lot::Mutex;

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0 };

const CHUNK: usize = 4096;

/// A disk in memory. A fork costs one pointer for each 4 KiB, and shares what neither side has written since.
pub(crate) struct ForkDisk {
    geometry: Geometry,
    chunks: Mutex<Vec<Option<Arc<[u8]>>>>,
}

impl ForkDisk {
    pub(crate) fn new(size_bytes: u64) -> Self {
        let geometry = Geometry {
            size_bytes,
            logical_sector_bytes: 512,
            physical_sector_bytes: 512,
            read_only: false,
            discards: true,
        };
        Self { geometry, chunks: Mutex::new(vec![None; size_bytes as usize / CHUNK]) }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let disk = Self::new(bytes.len() as u64);
        for (chunk, content) in disk.chunks.lock().iter_mut().zip(bytes.chunks(CHUNK)) {
            *chunk = content.iter().any(|byte| *byte != 0).then(|| content.into());
        }
        disk
    }

    pub(crate) fn fork(&self) -> Self {
        Self { geometry: self.geometry, chunks: Mutex::new(self.chunks.lock().clone()) }
    }

    /// A fork that takes no write.
    pub(crate) fn write_protected(&self) -> Self {
        let mut fork = self.fork();
        fork.geometry.read_only = true;
        fork
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.geometry.size_bytes
    }

    pub(crate) fn peek(&self, offset: u64, buf: &mut [u8]) {
        let chunks = self.chunks.lock();
        let mut at = offset as usize;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = at % CHUNK;
            let (part, later) = rest.split_at_mut((CHUNK - within).min(rest.len()));
            match &chunks[at / CHUNK] {
                Some(chunk) => part.copy_from_slice(&chunk[within..within + part.len()]),
                None => part.fill(0),
            }
            at += part.len();
            rest = later;
        }
    }

    pub(crate) fn poke(&self, offset: u64, data: &[u8]) {
        let mut chunks = self.chunks.lock();
        let mut at = offset as usize;
        let mut rest = data;
        while !rest.is_empty() {
            let within = at % CHUNK;
            let (part, later) = rest.split_at((CHUNK - within).min(rest.len()));
            let chunk = chunks[at / CHUNK].get_or_insert_with(|| Arc::from([0; CHUNK].as_slice()));
            Arc::make_mut(chunk)[within..within + part.len()].copy_from_slice(part);
            at += part.len();
            rest = later;
        }
    }

    pub(crate) fn block(&self, addr: u64, size: BlockSize) -> Vec<u8> {
        let mut block = vec![0; size.bytes()];
        self.peek(addr << size.shift(), &mut block);
        block
    }

    pub(crate) fn blocks(&self, size: BlockSize) -> u64 {
        self.size_bytes() >> size.shift()
    }

    /// Parts that are not the same as in `other`, of which this is a fork: where, and what `other` has there.
    pub(crate) fn differing(&self, other: &Self) -> Vec<(u64, Vec<u8>)> {
        let (own, others) = (self.chunks.lock(), other.chunks.lock());
        let address = |chunk: &Option<Arc<[u8]>>| chunk.as_ref().map(|chunk| chunk.as_ptr());
        let pairs = own.iter().zip(others.iter()).enumerate().filter(|(_, (a, b))| address(a) != address(b));
        pairs
            .map(|(index, (_, b))| ((index * CHUNK) as u64, b.as_ref().map_or(vec![0; CHUNK], |b| b.to_vec())))
            .collect()
    }

    /// Writes the disk into a sparse file.
    pub(crate) fn save(&self, path: &Path) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(path).unwrap();
        file.set_len(self.size_bytes()).unwrap();
        for (index, chunk) in self.chunks.lock().iter().enumerate() {
            if let Some(chunk) = chunk {
                file.write_all_at(chunk, (index * CHUNK) as u64).unwrap();
            }
        }
    }
}

impl BlockDevice for ForkDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, offset_bytes: u64, mut buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry.check(Operation::Read, offset_bytes, buf.len() as u64)?;
            self.peek(offset_bytes, &mut buf);
            Ok(buf)
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, _durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry.check(Operation::Write, offset_bytes, data.len() as u64)?;
            self.poke(offset_bytes, &data);
            Ok(data)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// What is discarded has any content afterwards.
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.geometry.check(Operation::Discard, offset_bytes, len_bytes)?;
            let garbage: Arc<[u8]> = Arc::from([0xDB; CHUNK].as_slice());
            let mut at = offset_bytes;
            while at < offset_bytes + len_bytes {
                let len = (CHUNK as u64 - at % CHUNK as u64).min(offset_bytes + len_bytes - at) as usize;
                if len == CHUNK {
                    self.chunks.lock()[at as usize / CHUNK] = Some(Arc::clone(&garbage));
                } else {
                    self.poke(at, &garbage[..len]);
                }
                at += len as u64;
            }
            Ok(())
        })
    }
}

/// A clock that ticks with every look at it.
#[derive(Default)]
pub(crate) struct TickingEnv(AtomicI64);

impl Env for TickingEnv {
    fn now(&self) -> Timestamp {
        Timestamp { sec: 1_700_000_000 + self.0.fetch_add(1, Ordering::Relaxed), nsec: 1 }
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Bytes that follow from a seed.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).take(len).collect()
}

/// Who makes a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// The crate mkfs: with checksums.
    Lunfs,
    /// mkfs.gfs2: without.
    Gfs2,
}

/// An empty volume with one journal.
pub(crate) async fn new_volume(maker: Maker, size: BlockSize) -> ForkDisk {
    new_volume_with(maker, size, 1).await
}

/// An empty volume of the crate mkfs.
pub(crate) async fn new_volume_of(size_bytes: u64, size: BlockSize, journals: u32) -> ForkDisk {
    let disk = ForkDisk::new(size_bytes);
    let options = mkfs::options::Options {
        block_size: size,
        journals: Some(journals),
        journal_bytes: Some(8 << 20),
        ..Default::default()
    };
    let plan = mkfs::plan::Plan::new(size_bytes, &disk.geometry(), &options).unwrap();
    let created = Timestamp { sec: 1_600_000_000, nsec: 0 };
    // The same volume each time, so that a seed leads to the same variant of it.
    let identity = mkfs::options::Identity { uuid: uuid::Uuid::from_u128(0x1f5), created, seed: 5 };
    mkfs::format(&disk, &plan, &identity, false, &|_| ()).await.unwrap();
    disk
}

/// An empty volume.
pub(crate) async fn new_volume_with(maker: Maker, size: BlockSize, journals: u32) -> ForkDisk {
    const SIZE_BYTES: u64 = 32 << 20;
    match maker {
        Maker::Lunfs => new_volume_of(SIZE_BYTES, size, journals).await,
        Maker::Gfs2 => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("image");
            std::fs::File::create(&path).unwrap().set_len(SIZE_BYTES).unwrap();
            let made = std::process::Command::new("mkfs.gfs2")
                .args(["-O", "-q", "-K", "-p", "lock_nolock", "-J", "8", "-b"])
                .args([&size.bytes().to_string(), "-j", &journals.to_string()])
                .arg(&path)
                .status()
                .expect("mkfs.gfs2 (package gfs2-utils) is needed");
            assert!(made.success());
            ForkDisk::from_bytes(&std::fs::read(&path).unwrap())
        }
    }
}

/// A volume that the Linux kernel wrote: from the folder `LUNFS_FIXTURES`, or from the repository.
pub(crate) fn fixture(name: &str) -> ForkDisk {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let packed = std::env::var_os("LUNFS_FIXTURES").map_or_else(own, Into::into).join(format!("{name}.img.zst"));
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut zstd = std::process::Command::new("zstd");
    let unpacked = zstd.args(["-q", "-d", "--long=27"]).arg(packed).arg("-o").arg(&image).status();
    assert!(unpacked.expect("zstd is needed").success());
    ForkDisk::from_bytes(&std::fs::read(&image).unwrap())
}

/// What `fsck.gfs2 -n` objects to; `None` for a clean volume.
pub(crate) fn fsck_objects(disk: &ForkDisk) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    disk.save(&path);
    let (status, text) = fsck(&path);
    (status != Some(0)).then_some(text)
}

/// `fsck.gfs2 -n` on an image: its exit status, `None` when it crashed or ran in circles, and what it printed.
pub(crate) fn fsck(image: &Path) -> (Option<i32>, String) {
    let out = std::process::Command::new("timeout").args(["-k", "1", "10", "fsck.gfs2", "-n"]).arg(image).output();
    let out = out.expect("fsck.gfs2 (package gfs2-utils) is needed");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().filter(|code| *code < 100), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) async fn mount(device: Arc<dyn BlockDevice>, cache_bytes: u64, read_only: bool) -> Result<Arc<Fs>, FsError> {
    let options = MountOptions { cache_bytes, read_only, ..MountOptions::default() };
    Fs::mount(device, options, Arc::new(TickingEnv::default())).await
}

pub(crate) async fn write_all(fs: &Fs, ino: InodeNo, offset: u64, data: &[u8]) -> Result<(), FsError> {
    let written = fs.write(ino, offset, data.to_vec(), WriteFlags::default(), ROOT).await?;
    assert_eq!(written as usize, data.len());
    Ok(())
}

pub(crate) async fn read_whole(fs: &Fs, ino: InodeNo) -> Result<Vec<u8>, FsError> {
    let mut content = Vec::new();
    loop {
        let piece = fs.read(ino, content.len() as u64, 1 << 20).await?;
        if piece.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&piece);
    }
}

/// Names of the attributes that `caller` sees.
pub(crate) async fn names(fs: &Fs, ino: InodeNo, caller: Caller) -> Vec<Vec<u8>> {
    let list = fs.listxattr(ino, caller).await.unwrap();
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

pub(crate) fn assert_sound(disk: &ForkDisk, story: &str) {
    if let Some(complaint) = fsck_objects(disk) {
        panic!("{story}:\n{complaint}");
    }
}

/// Names of the two access control lists.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Runs a future on this thread alone.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

static STEPS: Mutex<BTreeMap<u64, (String, Instant)>> = Mutex::new(BTreeMap::new());

/// Something that must end within [`STEP_MAX`]; ends when dropped.
pub(crate) struct Step(u64);

/// Many times what a step takes on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(60);

impl Step {
    pub(crate) fn new(what: String) -> Self {
        static WATCHDOG: std::sync::Once = std::sync::Once::new();
        WATCHDOG.call_once(|| drop(std::thread::spawn(watch)));
        let mut steps = STEPS.lock();
        let key = steps.last_key_value().map_or(0, |(key, _)| key + 1);
        steps.insert(key, (what, Instant::now()));
        Self(key)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        STEPS.lock().remove(&self.0);
    }
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        if let Some((what, _)) = STEPS.lock().values().find(|(_, since)| since.elapsed() > STEP_MAX) {
            eprintln!("hangs: {what}");
            std::process::exit(101);
        }
    }
}
