//! Damaged images, opened, walked and written to in memory: no panic, no endless loop, no memory beyond the limit, and
//! every error says what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.
#![allow(clippy::cast_possible_truncation)] // Lengths in tests are far below any limit.
#![allow(unsafe_code)] // An allocator that counts has to be one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fs_core::addr::InodeNo;
use fs_core::attr::{FileKind, RenameMode, SeekTarget, SetAttr, WriteFlags};
use fs_core::error::FsError;
use fs_core::fs::Fs;
use lunfs_tests::memory::{CACHE_BYTES, Overlay, ROOT, format, make_file, mount, populate, run};
use lunfs_tests::rng::{Rng, seed};
use lunfs_tests::watchdog::{Watchdog, step};
use lunfs_tests::{data, need};

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a mount may allocate beyond its cache: resource groups, journal, the buffers of requests, what a walk returns.
const MEMORY_SLACK: usize = 48 << 20;
/// Longest time for one image; a sound one takes a hundredth of it.
const HANG: Duration = Duration::from_secs(30);
/// Requests to the device that one image may cause; a sound one needs a hundredth of it.
const REQUESTS_MAX: u64 = 500_000;
/// Entries that a walk looks at: a damaged directory may claim any number.
const ENTRIES_MAX: usize = 3000;

/// A sound volume, and where its metadata is.
struct Base {
    name: String,
    device: Overlay,
    block: usize,
    /// Byte offsets of blocks with the magic number, by type.
    metadata: BTreeMap<u8, Vec<usize>>,
}

impl Base {
    /// A block of metadata; each type as often as any other, though nearly all are inodes.
    fn block(&self, rng: &mut Rng) -> usize {
        let types: Vec<u8> = self.metadata.keys().copied().collect();
        let kind = rng.pick(&types).unwrap();
        *rng.pick(&self.metadata[kind]).unwrap()
    }
}

fn base(block: u32, dirty: bool, marker: bool) -> Base {
    let device = format(64 << 20, block);
    let end = run(async {
        let fs = mount(Arc::new(device.clone())).await.unwrap();
        populate(&fs).await.unwrap();
        fs.sync().await.unwrap();
        // What a crash leaves now has a journal full of images.
        let crashed = device.copy();
        fs.unmount().await.unwrap();
        if dirty { crashed } else { device }
    });
    if !marker {
        // Without the marker, block checksums are not believed: the damage gets further.
        end.put(0, &[0; 65536]);
    }
    let device = end.flattened();
    let bytes = device.bytes();
    let mut metadata: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for at in (0..bytes.len()).step_by(block as usize) {
        if bytes[at..at + 4] == [0x01, 0x16, 0x19, 0x70] {
            metadata.entry(bytes[at + 7]).or_default().push(at);
        }
    }
    let name =
        format!("blocks of {block}{}{}", if dirty { ", dirty" } else { "" }, if marker { "" } else { ", no marker" });
    Base { name, device, block: block as usize, metadata }
}

/// Damages a copy; says what was done.
fn damage(base: &Base, rng: &mut Rng) -> (Overlay, String) {
    let device = base.device.copy();
    let mut said = Vec::new();
    for _ in 0..rng.within(1..5) {
        let at = base.block(rng);
        // Mostly the header and the first fields: that is where the structure is.
        let within =
            if rng.chance(70) { rng.below(232.min(base.block as u64)) } else { rng.below(base.block as u64) } as usize;
        let width = [1, 2, 4, 8][rng.below(4) as usize];
        let field = (at + within / width * width, width);
        match rng.below(8) {
            0 => {
                let noise = data::bytes(rng.next_u64(), 0, base.block);
                device.put(at, &noise);
                said.push(format!("block at {at} is noise"));
            }
            1 => {
                let from = base.block(rng);
                device.put(at, &device.get(from, base.block));
                said.push(format!("block at {at} is a copy of that at {from}"));
            }
            2 => {
                device.put(at, &vec![0; base.block]);
                said.push(format!("block at {at} is zeroed"));
            }
            3 => {
                let byte = rng.below(device.size() as u64) as usize;
                device.put(byte, &[rng.next_u64() as u8]);
                said.push(format!("byte {byte} is another"));
            }
            kind => {
                let old = device.get(field.0, width);
                let mut wide = [0; 8];
                wide[8 - width..].copy_from_slice(&old);
                let old = u64::from_be_bytes(wide);
                let target = base.block(rng) as u64 / base.block as u64;
                let new = match kind {
                    4 => target,
                    5 => *rng
                        .pick(&[0, 1, u64::MAX, u64::MAX / 2, 1 << 31, 1 << 40, old + 1, old.wrapping_sub(1)])
                        .unwrap(),
                    6 => old ^ (1 << rng.below(8 * width as u64)),
                    _ => rng.next_u64(),
                };
                device.put(field.0, &new.to_be_bytes()[8 - width..]);
                said.push(format!("{width} bytes at {} were {old:#x} and are {new:#x}", field.0));
            }
        }
    }
    (device, said.join("; "))
}

/// The errors that came up, by their names.
type Seen = BTreeMap<String, u64>;

fn note<T>(result: Result<T, FsError>, seen: &mut Seen) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty(), "an error says nothing: {error:?}");
            if let FsError::Corrupt { addr, kind } = &error {
                assert!(
                    text.contains(&addr.to_string()) && text.contains(&kind.to_string()),
                    "{text} names no rule or block"
                );
            }
            // The device is sound: what is wrong has to be noticed before it is asked for something impossible.
            assert!(!matches!(error, FsError::Device(_)), "no rule is named: {error:?}");
            // The rule's name without its numbers.
            let rule = match &error {
                FsError::Corrupt { kind, .. } => format!("Corrupt: {}", first_word(&format!("{kind:?}"))),
                other => first_word(&format!("{other:?}")).to_owned(),
            };
            *seen.entry(rule).or_default() += 1;
            None
        }
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()
}

/// A mount of a damaged image that is made anew when the node has withdrawn, so that one error does not hide the rest.
struct Mounted {
    device: Overlay,
    fs: Option<Arc<Fs>>,
    mounts_left: u32,
}

impl Mounted {
    /// The mount, if the image still can be mounted.
    async fn fs(&mut self, seen: &mut Seen) -> Option<Arc<Fs>> {
        if self.fs.as_ref().is_none_or(|fs| fs.withdrawn().is_some()) {
            self.end(seen).await;
            self.mounts_left = self.mounts_left.checked_sub(1)?;
            self.fs = note(mount(Arc::new(self.device.clone())).await, seen);
        }
        self.fs.clone()
    }

    async fn end(&mut self, seen: &mut Seen) {
        if let Some(fs) = self.fs.take() {
            note(fs.unmount().await, seen);
        }
    }
}

/// Looks at everything that can be reached, within limits.
async fn walk(mounted: &mut Mounted, seen: &mut Seen) -> (Vec<InodeNo>, Vec<InodeNo>) {
    let Some(fs) = mounted.fs(seen).await else { return (Vec::new(), Vec::new()) };
    let (mut dirs, mut files) = (vec![fs.root()], Vec::new());
    let mut known = BTreeSet::from([fs.root().get()]);
    drop(fs);
    let (mut at, mut entries) = (0, 0);
    while let Some(dir) = dirs.get(at).copied() {
        at += 1;
        let Some(fs) = mounted.fs(seen).await else { break };
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let before = found.len();
            let listed = fs
                .readdirplus(dir, after, &mut |entry, attr| {
                    if entry.cookie <= after {
                        panic!("cookies do not rise: {} after {after}", entry.cookie);
                    }
                    after = entry.cookie;
                    found.push((entry.name.clone(), attr.ino, attr.kind));
                    found.len() - before < 100
                })
                .await;
            entries += found.len() - before;
            if note(listed, seen).is_none() || found.len() == before || entries > ENTRIES_MAX {
                break;
            }
        }
        for (name, ino, kind) in found {
            if name == b"." || name == b".." || !known.insert(ino.get()) {
                continue;
            }
            note(fs.lookup(dir, &name).await, seen);
            match kind {
                FileKind::Directory => dirs.push(ino),
                FileKind::Symlink => drop(note(fs.readlink(ino).await, seen)),
                FileKind::Regular => files.push(ino),
                _ => {}
            }
        }
    }
    for file in &files {
        let Some(fs) = mounted.fs(seen).await else { break };
        let Some(attr) = note(fs.getattr(*file).await, seen) else { continue };
        for offset in [0, attr.size_bytes / 2, attr.size_bytes.saturating_sub(5000)] {
            note(fs.read(*file, offset, 70_000).await, seen);
        }
        note(fs.seek(*file, 0, SeekTarget::Data).await, seen);
        note(fs.seek(*file, 0, SeekTarget::Hole).await, seen);
    }
    (dirs, files)
}

/// Changes things all over the place.
async fn change(mounted: &mut Mounted, dirs: &[InodeNo], files: &[InodeNo], rng: &mut Rng, seen: &mut Seen) {
    for index in 0..12 {
        let (Some(fs), Some(dir)) = (mounted.fs(seen).await, rng.pick(dirs).copied()) else { return };
        note(make_file(&fs, dir, &format!("new {index}"), 1, rng.below(30_000)).await, seen);
        note(fs.mkdir(dir, format!("newdir {index}").as_bytes(), 0o755, ROOT).await, seen);
        note(fs.rename(dir, format!("new {index}").as_bytes(), fs.root(), b"moved", RenameMode::Replace).await, seen);
        note(fs.unlink(fs.root(), format!("file{}", rng.below(8)).as_bytes()).await, seen);
        note(fs.unlink(dir, format!("some longer name of a file {}", rng.below(500)).as_bytes()).await, seen);
        note(fs.rmdir(dir, format!("newdir {index}").as_bytes()).await, seen);
        if let Some(file) = rng.pick(files).copied() {
            let at = rng.below(1 << 20);
            note(fs.write(file, at, data::bytes(2, at, 5000), WriteFlags::default(), ROOT).await, seen);
            let size = SetAttr { size_bytes: Some(rng.below(1 << 17)), ..SetAttr::default() };
            note(fs.setattr(file, &size, ROOT).await, seen);
        }
        note(fs.statfs().await, seen);
        note(fs.sync().await, seen);
    }
}

async fn one(device: Overlay, rng: &mut Rng, seen: &mut Seen) {
    let mut mounted = Mounted { device, fs: None, mounts_left: 30 };
    let (dirs, files) = walk(&mut mounted, seen).await;
    change(&mut mounted, &dirs, &files, rng, seen).await;
    mounted.end(seen).await;
}

#[test]
fn nothing_on_a_disk_makes_it_panic_or_hang_or_grow() {
    let images = need::amount(2000, 20_000);
    let _watchdog = Watchdog::minutes("damaged_images", need::amount(20, 120));
    let seed = seed();
    println!("{images} images; repeat with LUNFS_SEED={seed}");
    let bases = [
        base(4096, false, true),
        base(4096, false, false),
        base(4096, true, true),
        base(4096, true, false),
        base(1024, false, false),
        base(512, true, false),
    ];
    for base in &bases {
        let counts: Vec<(u8, usize)> = base.metadata.iter().map(|(kind, blocks)| (*kind, blocks.len())).collect();
        println!("{}: blocks by type {counts:?}", base.name);
        // Superblock, resource groups, inodes, indirect blocks, leaves, log headers, descriptors.
        assert!([1, 2, 4, 5, 6, 8, 9].iter().all(|kind| base.metadata.contains_key(kind)), "a type is missing");
    }
    let (mut seen, mut failures) = (Seen::new(), Vec::new());
    let (mut with_errors, mut slowest, mut largest) = (0, Duration::ZERO, 0);
    for index in 0..images {
        let base = &bases[index % bases.len()];
        let mut rng = Rng::new(seed.wrapping_add(index as u64));
        let (device, what) = damage(base, &mut rng);
        let what = format!("image {index} of seed {seed} ({}): {what}", base.name);
        let _step = step(&what);
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let started = Instant::now();
        let mut found = Seen::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(async { tokio::time::timeout(HANG, one(device.clone(), &mut rng, &mut found)).await })
        }));
        let took = started.elapsed();
        // Several defects at once are found faster than one after the other.
        match outcome {
            Err(_) => failures.push(format!("{what}: panics (see above)")),
            Ok(Err(_)) => failures.push(format!("{what}: not finished after {HANG:?}, {} requests", device.requests())),
            Ok(Ok(())) => {}
        }
        assert!(failures.len() < 10, "{}", failures.join("\n"));
        let grown = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        if grown > CACHE_BYTES as usize + MEMORY_SLACK {
            failures.push(format!("{what}: {} MiB allocated", grown >> 20));
        }
        if device.requests() > REQUESTS_MAX {
            failures.push(format!("{what}: {} requests", device.requests()));
        }
        (slowest, largest) = (slowest.max(took), largest.max(grown));
        with_errors += u64::from(found.keys().any(|rule| rule.starts_with("Corrupt")));
        for (text, count) in found {
            *seen.entry(text).or_default() += count;
        }
    }
    println!(
        "{with_errors} of {images} images had errors; slowest {slowest:?}, largest {} MiB; what was said:",
        largest >> 20
    );
    let mut by_count: Vec<_> = seen.iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (text, count) in by_count.iter().take(40) {
        println!("{count:8}  {text}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let rules = seen.keys().filter(|rule| rule.starts_with("Corrupt")).count();
    println!("{rules} different rules");
    assert!(with_errors > images as u64 / 4, "the damage does no harm: this test tests nothing");
    assert!(rules > 18, "only {rules} different rules were broken: this test tests little");
}
