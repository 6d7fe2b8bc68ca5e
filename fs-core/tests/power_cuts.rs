//! Power cuts at random moments, on a disk that loses, keeps or tears whatever it was not told to flush. Afterwards the
//! volume mounts, everything that an fsync acknowledged is there, nothing is older than it may be, what users and groups
//! have is counted right, and neither the checker nor `fsck.gfs2` finds anything to complain about.
//!
//! `LUNFS_POWER_ROUNDS` sets how many volumes are tried, `LUNFS_POWER_SEED` the first seed. A failure names its seed:
//! `LUNFS_POWER_SEED=<seed> LUNFS_POWER_ROUNDS=1 cargo test -p fs-core --test power_cuts` repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)] // a test

#[path = "common/checker.rs"]
mod checker;
#[path = "power_cuts/disk.rs"]
mod disk;
#[path = "power_cuts/model.rs"]
mod model;
#[path = "power_cuts/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use block::device::{BlockDevice, IoBuf};
use block::mem::MemDevice;
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, FileKind, Timestamp, WriteFlags};
use fs_core::env::Env;
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};
use fs_core::quota;
use parking_lot::Mutex;

use disk::PowerDisk;
use model::{Attributes, History, Id};
use work::{Worker, World, attributes, read_all};

const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0 };
const WORKERS: usize = 3;
const MIB: u64 = 1 << 20;

/// Numbers that look random, the same for the same seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len() as u64) as usize;
        &from[index]
    }
    fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// A clock that goes on by itself, and sleeps that end after a number of turns of the executor.
#[derive(Default)]
struct TestEnv {
    now: AtomicI64,
}

impl Env for TestEnv {
    fn now(&self) -> Timestamp {
        let now = self.now.fetch_add(1, Ordering::Relaxed);
        Timestamp { sec: 1_700_000_000 + now / 1000, nsec: (now % 1000) as u32 * 1_000_000 }
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            for _ in 0..400 {
                tokio::task::yield_now().await;
            }
        })
    }
}

/// A new volume of lunfs, with checksums, or one of mkfs.gfs2, without.
async fn format(block_size: BlockSize, foreign: bool, random: &mut Random) -> Vec<u8> {
    let size = 44 * MIB;
    if foreign {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let made = Command::new("mkfs.gfs2")
            .args(["-O", "-q", "-p", "lock_nolock", "-J", "8", "-j", "1", "-b", &block_size.bytes().to_string()])
            .arg(&path)
            .status()
            .expect("mkfs.gfs2 (package gfs2-utils) is needed");
        assert!(made.success());
        return std::fs::read(&path).unwrap();
    }
    let device = MemDevice::new(size);
    let options = mkfs::options::Options {
        block_size,
        journals: Some(1),
        journal_bytes: Some(8 * MIB),
        ..mkfs::options::Options::default()
    };
    let plan = mkfs::plan::Plan::new(size, &device.geometry(), &options).unwrap();
    let identity = mkfs::options::Identity {
        uuid: uuid::Uuid::from_u64_pair(random.next(), random.next()),
        created: Timestamp { sec: 1_700_000_000, nsec: 0 },
        seed: random.next(),
    };
    mkfs::format(&device, &plan, &identity, false, &|_| ()).await.unwrap();
    device.read(0, IoBuf::zeroed(size as usize)).await.unwrap().to_vec()
}

async fn mount(disk: &PowerDisk, cache_bytes: u64) -> Result<Arc<Fs>, FsError> {
    mount_with(disk, cache_bytes, false).await
}

async fn mount_with(disk: &PowerDisk, cache_bytes: u64, discard: bool) -> Result<Arc<Fs>, FsError> {
    let options = MountOptions { cache_bytes, discard, quota: quota::Mode::On, ..MountOptions::default() };
    let fs = Fs::mount(Arc::new(disk.clone()), options, Arc::new(TestEnv::default())).await?;
    Ok(fs)
}

/// Leaves about `free` blocks.
async fn fill(fs: &Fs, free: u64) {
    let ino = fs.mknod(fs.root(), b"ballast", 0o100_600, (0, 0), ROOT).await.unwrap().ino;
    let mut offset = 0;
    loop {
        let statfs = fs.statfs().await.unwrap();
        let left = statfs.blocks_free.saturating_sub(free) * u64::from(statfs.block_size_bytes);
        // Pointers take a little as well.
        let len = (left - left / 32).min(MIB);
        if len < MIB / 8 {
            break;
        }
        fs.write(ino, offset, vec![7; len as usize], WriteFlags::default(), ROOT).await.unwrap();
        offset += len;
    }
}

/// Names and objects of a directory, read from the volume.
async fn list(fs: &Fs, dir: InodeNo) -> BTreeMap<String, (InodeNo, FileKind)> {
    let mut entries = BTreeMap::new();
    let mut seen = Vec::new();
    fs.readdirplus(dir, 0, &mut |entry, attr| {
        if entry.name != b"." && entry.name != b".." {
            assert_eq!(entry.kind, attr.kind);
            seen.push(entry.ino);
            entries.insert(String::from_utf8(entry.name.clone()).unwrap(), (entry.ino, entry.kind));
        }
        true
    })
    .await
    .unwrap();
    seen.iter().for_each(|ino| fs.forget(*ino, 1));
    entries
}

/// What is found below a worker's directory: names by directory, and links, content and attributes of files.
#[derive(Default)]
struct Found {
    dirs: BTreeMap<InodeNo, BTreeMap<String, (InodeNo, FileKind)>>,
    files: BTreeMap<InodeNo, (u32, Vec<u8>, Attributes)>,
}

async fn find(fs: &Fs, root: InodeNo) -> Found {
    let mut found = Found::default();
    let mut left = vec![root];
    while let Some(dir) = left.pop() {
        let entries = list(fs, dir).await;
        for (ino, kind) in entries.values() {
            if *kind == FileKind::Directory {
                left.push(*ino);
            } else if !found.files.contains_key(ino) {
                let content = read_all(fs, *ino).await.unwrap();
                let attr = fs.getattr(*ino).await.unwrap();
                assert_eq!(attr.size_bytes, content.len() as u64);
                found.files.insert(*ino, (attr.nlink, content, attributes(fs, *ino).await.unwrap()));
            }
        }
        found.dirs.insert(dir, entries);
    }
    found
}

/// Why what was found is not the state after `operation`.
fn check(history: &History, operation: usize, found: &Found) -> Result<BTreeMap<Id, InodeNo>, String> {
    let names = &history.states[operation];
    let mut inos: BTreeMap<Id, InodeNo> = BTreeMap::new();
    inos.insert(0, history.objects[0].ino.unwrap());
    let mut links: BTreeMap<InodeNo, u32> = BTreeMap::new();
    let mut left = vec![0];
    while let Some(dir) = left.pop() {
        let dir_ino = inos[&dir];
        let entries = found.dirs.get(&dir_ino).ok_or("a directory is missing")?;
        let expected: BTreeMap<&str, Id> = names
            .range((dir, String::new())..(dir + 1, String::new()))
            .map(|((_, name), id)| (name.as_str(), *id))
            .collect();
        if !entries.keys().eq(expected.keys()) {
            let more: Vec<_> = entries.keys().filter(|name| !expected.contains_key(name.as_str())).collect();
            let less: Vec<_> = expected.keys().filter(|name| !entries.contains_key(**name)).collect();
            return Err(format!("directory {dir} has {more:?} more and {less:?} less"));
        }
        for (name, id) in expected {
            let (ino, kind) = entries[name];
            let object = &history.objects[id];
            // An operation that was cut off has not told its number.
            if object.ino.is_some_and(|known| known != ino) || object.directory != (kind == FileKind::Directory) {
                return Err(format!("{name} is another object"));
            }
            if inos.insert(id, ino).is_some_and(|other| other != ino) {
                return Err(format!("{name}: two names of one file name two"));
            }
            if object.directory {
                left.push(id);
            } else {
                *links.entry(ino).or_default() += 1;
            }
        }
    }
    for (id, ino) in &inos {
        if let Some((nlink, content, attributes)) = found.files.get(ino) {
            if links[ino] != *nlink {
                return Err(format!("{nlink} links instead of {}", links[ino]));
            }
            if history.attributes_at(*id, operation) != *attributes {
                return Err(format!("object {id} has other attributes: {:?}", attributes.keys()));
            }
            history.check_content(*id, operation, content).map_err(|error| format!("object {id}: {error}"))?;
        }
    }
    Ok(inos)
}

/// Finds the state that the volume is in.
fn judge(history: &History, found: &Found) -> Result<(), String> {
    let mut reasons = Vec::new();
    for operation in (history.durable..history.states.len()).rev() {
        match check(history, operation, found) {
            Ok(_) => return Ok(()),
            Err(reason) => reasons.push(format!("state {operation}: {reason}")),
        }
    }
    reasons.truncate(12);
    Err(format!("no state fits; durable {}, done {}:\n{}", history.durable, history.done, reasons.join("\n")))
}

/// The history after a crash starts with what is there.
fn continued(root: InodeNo, found: &Found) -> History {
    let mut history = History::new(root);
    let mut ids: BTreeMap<InodeNo, Id> = BTreeMap::from([(root, 0)]);
    for (ino, kind) in found.dirs.values().flat_map(BTreeMap::values) {
        ids.entry(*ino).or_insert_with(|| {
            let (_, content, attributes) = found.files.get(ino).cloned().unwrap_or_default();
            history.objects.push(model::Object {
                ino: Some(*ino),
                directory: *kind == FileKind::Directory,
                versions: vec![(0, content)],
                attributes: vec![(0, attributes)],
                touched: 0,
                synced: 0,
            });
            history.objects.len() - 1
        });
    }
    for (dir, entries) in &found.dirs {
        for (name, (ino, _)) in entries {
            history.states[0].insert((ids[dir], name.clone()), ids[ino]);
        }
    }
    history
}

fn fsck(image: &[u8], what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, image).unwrap();
    let out = Command::new("fsck.gfs2").arg("-n").arg(&path).output().expect("fsck.gfs2 is needed");
    if !out.status.success() {
        let kept = dir.keep();
        panic!("{what}: fsck.gfs2 on {}: {}", kept.display(), String::from_utf8_lossy(&out.stdout));
    }
}

/// The checker finds no error in the volume, and that what users and groups have is counted right. Gives it back.
async fn assert_sound(image: Vec<u8>, what: &str) -> Vec<u8> {
    let disk = PowerDisk::new(image, u64::MAX, Random(1));
    let errors = checker::errors_with_quotas(Arc::new(disk.clone())).await;
    assert!(errors.is_empty(), "{what}: {errors:#?}");
    disk.cut_power();
    disk.into_image()
}

/// One volume, and some power cuts.
async fn round(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9));
    let block_size = BlockSize::new(*random.pick(&[512, 1024, 2048, 4096])).unwrap();
    let foreign = random.below(4) == 0;
    let mut image = format(block_size, foreign, &mut random).await;

    // The workers' directories, durable.
    let disk = PowerDisk::new(image, u64::MAX, random.fork());
    let fs = mount(&disk, 8 * MIB).await.unwrap();
    let mut roots = Vec::new();
    for worker in 0..WORKERS {
        roots.push(fs.mkdir(fs.root(), format!("worker {worker}").as_bytes(), 0o755, ROOT).await.unwrap().ino);
    }
    let full = random.below(5) == 0;
    if full {
        fill(&fs, 100).await;
    }
    fs.unmount().await.unwrap();
    drop(fs);
    disk.cut_power();
    image = assert_sound(disk.into_image(), "before the first cut").await;
    let mut world: World = Arc::new(Mutex::new(roots.iter().map(|root| History::new(*root)).collect()));

    for cut in 0..4 {
        let what =
            format!("seed {seed}, cut {cut}, blocks of {}, foreign: {foreign}, full: {full}", block_size.bytes());
        let cache_bytes = *random.pick(&[1, MIB, 16 * MIB]);
        // The last one fills the log several times over.
        let (most, operations) =
            *random.pick(&[(50, 250), (400, 250), (400, 250), (3000, 250), (3000, 250), (20_000, 3000)]);
        // Without it, whoever needs room has to make it.
        let with_background = random.below(4) > 0;
        let disk = PowerDisk::new(image, 1 + random.below(most), random.fork());
        let discard = random.below(2) == 0;
        if let Ok(fs) = mount_with(&disk, cache_bytes, discard).await {
            let background = with_background.then(|| tokio::spawn(Arc::clone(&fs).background()));
            let workers: Vec<_> = (0..WORKERS)
                .map(|number| {
                    let worker = Worker {
                        fs: Arc::clone(&fs),
                        world: Arc::clone(&world),
                        number,
                        random: random.fork(),
                        file_bytes: (60 * block_size.bytes_u64()).min(128 << 10),
                        block_bytes: block_size.bytes_u64(),
                        full,
                    };
                    tokio::spawn(worker.run(operations))
                })
                .collect();
            for worker in workers {
                worker.await.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            // Sometimes the power goes in the middle of unmounting, or after it.
            if random.below(3) == 0 && fs.unmount().await.is_ok() {
                for history in world.lock().iter_mut() {
                    history.synced(history.done);
                }
            }
            disk.cut_power();
            if let Some(background) = background {
                background.abort();
                let _ = background.await;
            }
        }
        disk.cut_power();
        image = disk.into_image();

        // Recovery may be cut off as well.
        while random.below(4) == 0 {
            let disk = PowerDisk::new(image, 1 + random.below(60), random.fork());
            let mounted = mount(&disk, 8 * MIB).await;
            assert!(mounted.is_ok() || disk.is_off(), "{what}: mount fails with {:?}", mounted.err());
            if let Ok(fs) = mounted {
                let _ = fs.unmount().await;
            }
            disk.cut_power();
            image = disk.into_image();
        }

        let disk = PowerDisk::new(image, u64::MAX, random.fork());
        let fs = mount(&disk, 8 * MIB).await.unwrap_or_else(|error| panic!("{what}: mount fails with {error}"));
        let mut histories = Vec::new();
        for (number, root) in roots.iter().enumerate() {
            let found = find(&fs, *root).await;
            if let Err(reason) = judge(&world.lock()[number], &found) {
                panic!("{what}, worker {number}: {reason}");
            }
            histories.push(continued(*root, &found));
        }
        fs.unmount().await.unwrap_or_else(|error| panic!("{what}: unmount fails with {error}"));
        drop(fs);
        world = Arc::new(Mutex::new(histories));
        disk.cut_power();
        image = assert_sound(disk.into_image(), &what).await;
        if cut == 3 || random.below(6) == 0 {
            fsck(&image, &what);
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn power_cuts_lose_nothing_that_was_promised() {
    let first = setting("LUNFS_POWER_SEED", 1);
    for seed in first..first + setting("LUNFS_POWER_ROUNDS", 12) {
        println!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(round(seed));
    }
}

#[tokio::test]
async fn orphans_are_freed_after_a_mount_that_was_cut_off() {
    let mut random = Random(1);
    let image = format(BlockSize::MAX, false, &mut random).await;
    // A file that is open and has no name any more, when the power goes.
    let disk = PowerDisk::new(image, u64::MAX, random.fork());
    let fs = mount(&disk, MIB).await.unwrap();
    let ino = fs.mknod(fs.root(), b"name", 0o100_600, (0, 0), ROOT).await.unwrap().ino;
    fs.write(ino, 0, vec![1; 100_000], WriteFlags::default(), ROOT).await.unwrap();
    fs.unlink(fs.root(), b"name").await.unwrap();
    fs.sync().await.unwrap();
    disk.cut_power();
    // It goes again when the journal has been replayed, and nothing else has happened.
    let disk = PowerDisk::new(disk.into_image(), u64::MAX, random.fork());
    mount(&disk, MIB).await.unwrap();
    disk.cut_power();
    let disk = PowerDisk::new(disk.into_image(), u64::MAX, random.fork());
    let fs = mount(&disk, MIB).await.unwrap();
    fs.unmount().await.unwrap();
    disk.cut_power();
    let image = assert_sound(disk.into_image(), "after two cuts").await;
    fsck(&image, "after two cuts");
}
