//! Damaged volumes: whatever a disk says, there is no panic, no endless loop, no memory without bound and no request
//! outside the device, and each error names the rule that is broken and the block.
//!
//! A few volumes are made once; each variant is a copy of one of them with a little damage, which is opened, walked,
//! written to and closed; the checker looks at some of them first. `LUNFS_DAMAGED=20000` tries so many variants,
//! `LUNFS_DAMAGED_SEED=77` one of them again. mkfs.gfs2 makes another volume each time, so the image of a variant of its
//! volumes that fails is kept, and `LUNFS_DAMAGED_IMAGE` puts it in the place of what the seed would make.

// A test. Unsafe: an allocator that counts.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem::Discriminant;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::damage::{ACL, Base, attribute, damage, make_bases};
use common::{ACCESS, DEFAULT, ForkDisk, Maker, ROOT, Rng, Step, checker, mount, pattern, read_whole, run};
use fs_core::attr::{
    Allocation, Attr, Capabilities, DirEntry, FileKind, InodeFlags, OpenFlags, RenameMode, SeekTarget, SetAttr,
    SetXattr, WriteFlags,
};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::fs::Fs;
use fs_core::ops::copy::Spot;
use parking_lot::Mutex;

/// Cache of each mount, in bytes.
const CACHE_BYTES: u64 = 1 << 20;
/// Memory that a variant may have at once, in bytes: caches, the log that is read ahead, what was written to the disk.
const MEMORY_MAX: i64 = 48 << 20;

thread_local! {
    static USED: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// Counts what each thread has.
struct Counting;

fn count(bytes: i64) {
    let used = USED.get() + bytes;
    USED.set(used);
    PEAK.set(PEAK.get().max(used));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What may be answered on a damaged volume: never that the device failed.
fn judge<T>(fs: &Fs, what: &str, result: Result<T, FsError>) -> Option<T> {
    match result {
        Ok(value) => return Some(value),
        Err(error @ FsError::Corrupt { .. }) => {
            assert!(fs.withdrawn().is_some(), "{what}: {error}, and nothing follows from it");
            assert!(error.to_string().starts_with("block "), "{what}: {error}");
        }
        Err(FsError::Withdrawn) => assert!(fs.withdrawn().is_some(), "{what}"),
        Err(error @ (FsError::Device(_) | FsError::Unsupported(_) | FsError::NotMountable(_))) => {
            panic!("{what}: {error:?}")
        }
        Err(_) => {}
    }
    None
}

/// Looks at everything, within reason.
async fn walk(fs: &Fs, model: Option<&BTreeMap<Vec<u8>, Vec<u8>>>) {
    let mut todo = VecDeque::from([(Vec::new(), fs.root())]);
    let mut budget = 600;
    while let Some((path, dir)) = todo.pop_front() {
        let mut names = Vec::new();
        let mut emit = |entry: &DirEntry| {
            names.push(entry.name.clone());
            names.len() < 1000
        };
        judge(fs, "readdir", fs.readdir(dir, 0, &mut emit).await);
        let mut seen = 0;
        let mut emit = |_: &DirEntry, _: &Attr| {
            seen += 1;
            seen < 1000
        };
        judge(fs, "readdirplus", fs.readdirplus(dir, 0, &mut emit).await);
        for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let Some(attr) = judge(fs, "lookup", fs.lookup(dir, name).await) else { continue };
            let path = [&*path, b"/", name].concat();
            look(fs, attr, model.and_then(|model| model.get(&path))).await;
            if attr.kind == FileKind::Directory && path.len() < 200 {
                todo.push_back((path, attr.ino));
            }
        }
    }
}

async fn look(fs: &Fs, attr: Attr, expected: Option<&Vec<u8>>) {
    let ino = attr.ino;
    judge(fs, "getattr", fs.getattr(ino).await);
    let list = judge(fs, "listxattr", fs.listxattr(ino, ROOT).await).unwrap_or_default();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Some(value) = judge(fs, "getxattr", fs.getxattr(ino, name).await) else { continue };
        if expected.is_some() && name.starts_with(b"user.") {
            let is_one = |index| {
                (0..10).any(|number| {
                    attribute(number, index, attr.block_size_bytes as usize) == (name.to_vec(), value.clone())
                })
            };
            assert!((0..40).any(is_one), "a wrong attribute");
        }
    }
    let is = |found: &[u8]| expected.is_none_or(|expected| expected == found);
    match attr.kind {
        FileKind::Symlink => {
            if let Some(target) = judge(fs, "readlink", fs.readlink(ino).await) {
                assert!(is(&target), "a wrong target");
            }
        }
        FileKind::Regular if expected.is_some() && attr.size_bytes < 8 << 20 => {
            if let Some(content) = judge(fs, "read", read_whole(fs, ino).await) {
                assert!(is(&content), "wrong content");
            }
        }
        FileKind::Regular => {
            for offset in [0, attr.size_bytes / 2, attr.size_bytes.saturating_sub(5000), attr.size_bytes, u64::MAX] {
                judge(fs, "read", fs.read(ino, offset, 128 << 10).await);
            }
            for target in [SeekTarget::Data, SeekTarget::Hole] {
                for offset in [0, attr.size_bytes / 3, attr.size_bytes.saturating_sub(1), u64::MAX] {
                    judge(fs, "seek", fs.seek(ino, offset, target).await);
                }
            }
        }
        _ => {}
    }
}

/// Changes a little of everything, in some order.
async fn change(fs: &Fs, rng: &mut Rng) {
    let root = fs.root();
    let mut known = vec![root];
    for name in [&b"file1"[..], b"file2", b"file3", b"file4", b"sparse", b"many", b"dir"] {
        if let Some(attr) = judge(fs, "lookup", fs.lookup(root, name).await) {
            known.push(attr.ino);
        }
    }
    for step in 0..14_u64 {
        let (ino, dir) = (*rng.pick(&known), *rng.pick(&known));
        let old = [&b"file1"[..], b"file2", b"file3", b"file4", b"sparse", b"many", b"dir", b"sub", b"x3"];
        let (name, new) = (*rng.pick(&old), format!("x{step}").into_bytes());
        match rng.below(20) {
            12 | 13 => {
                let index = rng.below(50);
                let (name, _) = attribute(0, index, 512);
                let value = pattern(step, *rng.pick(&[0, 10, 300, 4000, 20_000]));
                judge(fs, "setxattr", fs.setxattr(ino, &name, &value, &SetXattr::default(), ROOT).await);
                let list = if rng.one_in(2) { ACCESS } else { DEFAULT };
                judge(fs, "set a list", fs.setxattr(ino, list, ACL, &SetXattr::default(), ROOT).await);
            }
            14 => {
                let chmod = SetAttr { permissions: Some(0o640), ..SetAttr::default() };
                judge(fs, "chmod", fs.setattr(ino, &chmod, ROOT).await);
                for index in 0..5 {
                    let (name, _) = attribute(0, index, 512);
                    judge(fs, "removexattr", fs.removexattr(ino, &name).await);
                }
            }
            15 | 16 => {
                let offset = *rng.pick(&[0, 5000, 300_000, 11 << 20, 3 << 40]);
                let len = *rng.pick(&[1, 4096, 300_000, 12 << 20, 1 << 40, i64::MAX as u64 - (3 << 40)]);
                let keep_size = rng.one_in(2);
                let modes = [Allocation::Punch, Allocation::Allocate { keep_size }, Allocation::Zero { keep_size }];
                let how = *rng.pick(&modes);
                judge(fs, "fallocate", fs.fallocate(ino, offset, len, how, ROOT, &|| true).await);
            }
            18 => {
                let flags = [InodeFlags::JOURNALED, InodeFlags::SYNC, InodeFlags::default()];
                let wanted = *rng.pick(&flags);
                judge(fs, "flags", fs.flags(ino).await);
                judge(fs, "set", fs.set_flags(ino, wanted, InodeFlags::JOURNALED, ROOT, Capabilities::ALL).await);
            }
            19 => {
                let (start, len) = (rng.below(20 << 20), rng.below(40 << 20));
                // So long a range that none is discarded: what a damaged bitmap calls free may be anything.
                judge(fs, "trim", fs.trim(start, len, 1 << 30, Capabilities::ALL, &|| true).await);
            }
            17 => {
                let [source, target] = [ino, dir].map(|ino| Spot { ino, offset: *rng.pick(&[0, 4000, 11 << 20]) });
                let len = *rng.pick(&[1, 5000, 1 << 20, u64::MAX]);
                judge(fs, "copy", fs.copy_range(source, target, len, ROOT, &|| true).await);
            }
            0 => drop(judge(fs, "mknod", fs.mknod(dir, &new, 0o100_644, (0, 0), ROOT).await)),
            1 => drop(judge(fs, "mkdir", fs.mkdir(dir, &new, 0o755, ROOT).await)),
            2 | 3 => {
                let offset = *rng.pick(&[0, 100, 5000, 300_000, 11 << 20, 3 << 40, i64::MAX as u64 - 100]);
                let data = pattern(step, *rng.pick(&[10, 4096, 60_000]));
                judge(fs, "write", fs.write(ino, offset, data, WriteFlags::default(), ROOT).await);
            }
            4 | 5 => {
                let size_bytes = Some(*rng.pick(&[0, 10, 5000, 100_000, 1 << 40, u64::MAX]));
                judge(fs, "setattr", fs.setattr(ino, &SetAttr { size_bytes, ..SetAttr::default() }, ROOT).await);
            }
            6 | 7 => drop(judge(fs, "unlink", fs.unlink(dir, name).await)),
            8 => drop(judge(fs, "rmdir", fs.rmdir(dir, name).await)),
            9 => {
                let mode = *rng.pick(&[RenameMode::Replace, RenameMode::Exchange, RenameMode::NoReplace]);
                let to = if rng.one_in(2) { *rng.pick(&old) } else { &*new };
                judge(fs, "rename", fs.rename(dir, name, *rng.pick(&known), to, mode, ROOT).await);
            }
            10 => drop(judge(fs, "link", fs.link(ino, dir, &new, ROOT).await)),
            _ => {
                let open = OpenFlags { write: true, truncate: true, append: false };
                judge(fs, "open", fs.open(ino, open, ROOT).await);
                judge(fs, "sync", fs.sync().await);
            }
        }
    }
    // Many names in one directory, so that leaves split.
    for index in 0..if rng.one_in(4) { 40 } else { 0 } {
        let name = format!("one more name in a directory that is damaged, {index}");
        judge(fs, "mknod", fs.mknod(*rng.pick(&known), name.as_bytes(), 0o100_644, (0, 0), ROOT).await);
    }
}

/// What became of a variant.
#[derive(Default)]
struct Outcome {
    mounted: bool,
    withdrawn: bool,
    /// The rule that was found broken.
    broken: Option<Discriminant<CorruptKind>>,
    peak: i64,
}

fn broken(error: &FsError) -> Option<Discriminant<CorruptKind>> {
    if let FsError::Corrupt { kind, .. } = error { Some(std::mem::discriminant(kind)) } else { None }
}

fn variant(bases: &[Base], seed: u64) -> Outcome {
    let mut rng = Rng(seed);
    let base = rng.pick(bases);
    let disk = Arc::new(base.disk.fork());
    let mut how = Vec::new();
    let mut revealed = base.protected;
    for _ in 0..*rng.pick(&[1, 1, 1, 1, 2, 4]) {
        let (what, by_checksum) = damage(&mut rng, base, &disk);
        how.push(what);
        revealed &= by_checksum;
    }
    let story = format!("variant {seed} of {}: {}", base.name, how.join("; "));
    let _step = Step::new(story.clone());
    if std::env::var_os("LUNFS_DAMAGED_SEED").is_some() {
        eprintln!("{story}");
    }
    // Independent of how many numbers the damage took.
    let mut rng = Rng(!seed);
    let disk = match std::env::var_os("LUNFS_DAMAGED_IMAGE") {
        Some(image) => Arc::new(ForkDisk::from_bytes(&std::fs::read(image).unwrap())),
        None => disk,
    };
    let damaged = disk.fork();
    let landmarks = base.landmarks(&disk);
    let before = USED.get();
    PEAK.set(before);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        run(async {
            if seed.is_multiple_of(4) {
                checker::findings(disk.clone()).await;
            }
            let read_only = rng.one_in(8);
            let fs = match mount(disk.clone(), CACHE_BYTES, read_only).await {
                Ok(fs) => fs,
                Err(error @ FsError::Corrupt { .. }) => {
                    assert!(error.to_string().starts_with("block "), "{error}");
                    return Outcome { broken: broken(&error), ..Outcome::default() };
                }
                Err(FsError::NotMountable(_)) => return Outcome::default(),
                Err(error) => panic!("mount: {error:?}"),
            };
            judge(&fs, "statfs", fs.statfs().await);
            if revealed {
                walk(&fs, Some(&base.model)).await;
                change(&fs, &mut rng).await;
            } else if rng.one_in(2) {
                change(&fs, &mut rng).await;
                walk(&fs, None).await;
            } else {
                walk(&fs, None).await;
                change(&fs, &mut rng).await;
            }
            judge(&fs, "sync", fs.sync().await);
            judge(&fs, "unmount", fs.unmount().await);
            let withdrawn = fs.withdrawn();
            let broken = withdrawn.as_ref().and_then(broken);
            Outcome { mounted: true, withdrawn: withdrawn.is_some(), broken, peak: 0 }
        })
    }));
    let peak = PEAK.get() - before;
    // A log may say that something goes there; a pointer of a file may not.
    let moved = landmarks != base.landmarks(&disk) && !base.name.ends_with("dirty");
    let complaint = match outcome {
        Ok(_) if moved => "file data was written over the volume's skeleton".to_owned(),
        Ok(outcome) if peak <= MEMORY_MAX => return Outcome { peak, ..outcome },
        Ok(_) => format!("takes {peak} bytes"),
        Err(_) => "see above".to_owned(),
    };
    let image = std::env::temp_dir().join(format!("damaged-{seed}.img"));
    damaged.save(&image);
    panic!("{story}: {complaint}; LUNFS_DAMAGED_SEED={seed} LUNFS_DAMAGED_IMAGE={}", image.display());
}

#[test]
fn whatever_a_volume_says_there_is_an_error_that_names_it_and_nothing_worse() {
    let bases: Vec<Base> = run(async {
        let mut bases = Vec::new();
        for bytes in [512, 1024, 2048, 4096] {
            for maker in [Maker::Lunfs, Maker::Gfs2] {
                bases.extend(make_bases(maker, BlockSize::new(bytes).unwrap()).await.unwrap());
            }
        }
        bases
    });
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("LUNFS_DAMAGED_SEED") {
        variant(&bases, seed);
        return;
    }
    let count = number("LUNFS_DAMAGED").unwrap_or(2000);
    let (next, mounted, withdrawn) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
    let largest = Mutex::new((0, 0));
    let (failed, rules) = (Mutex::new(Vec::new()), Mutex::new(HashSet::new()));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    match std::panic::catch_unwind(AssertUnwindSafe(|| variant(&bases, seed))) {
                        Ok(outcome) => {
                            mounted.fetch_add(u64::from(outcome.mounted), Ordering::Relaxed);
                            withdrawn.fetch_add(u64::from(outcome.withdrawn), Ordering::Relaxed);
                            rules.lock().extend(outcome.broken);
                            let mut largest = largest.lock();
                            *largest = (*largest).max((outcome.peak >> 10, seed));
                        }
                        Err(_) => failed.lock().push(seed),
                    }
                }
            });
        }
    });
    let (failed, rules) = (failed.into_inner(), rules.into_inner().len() as u64);
    let (mounted, withdrawn, largest) = (mounted.into_inner(), withdrawn.into_inner(), largest.into_inner());
    println!(
        "{count} variants: {mounted} mounted, {withdrawn} of them withdrew, {rules} different rules broken; at most {} KiB of memory (variant {})",
        largest.0, largest.1
    );
    // A test that mounts nothing, or damages nothing that matters, would pass as well.
    if count >= 1000 {
        assert!(mounted * 2 > count && withdrawn * 20 > count && rules >= 20, "too little happened");
    }
    assert!(failed.is_empty(), "{} variants: LUNFS_DAMAGED_SEED={:?}", failed.len(), &failed[..failed.len().min(40)]);
}
