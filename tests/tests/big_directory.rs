//! Very many files in one directory: created, listed (each name exactly once, also while others come and go), statted,
//! removed, in bounded memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::rng::mix;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::Volume;
use lunfs_tests::watchdog::{Watchdog, step};

/// The daemon's peak of memory.
const MEMORY_MAX: u64 = 600 << 20;

/// Names of various lengths, in an order that has nothing to do with their hashes.
fn name(index: u64) -> String {
    let padding = "-".repeat((mix(index) % 20) as usize);
    format!("file{padding}{index:07}")
}

/// Does something with all indices in two threads, and says how long one took.
fn each(what: &str, count: u64, act: impl Fn(u64) + Sync) {
    let _step = step(what);
    let started = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    act(index);
                }
            });
        }
    });
    report(what, count, started);
}

fn report(what: &str, count: u64, started: Instant) {
    let took = started.elapsed();
    println!("{what}: {count} in {:.1} s, {:.1} µs each", took.as_secs_f64(), took.as_secs_f64() * 1e6 / count as f64);
}

/// All names, each asserted to be listed once.
fn list(dir: &Path) -> HashSet<String> {
    let mut seen = HashSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(seen.insert(name.clone()), "{name} is listed twice");
    }
    seen
}

/// Lists while others are created and removed: what was there all the time is seen exactly once.
fn list_while_others_come_and_go(dir: &Path, count: u64) {
    let _step = step("listing while others come and go");
    let done = AtomicBool::new(false);
    let changes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (done, changes) = (&done, &changes);
            scope.spawn(move || {
                let mut round = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    // More at once than a leaf holds, so that leaves split under the reader.
                    let names: Vec<String> = (0..400).map(|n| format!("passing-{thread}-{round}-{n}")).collect();
                    for name in &names {
                        File::create(dir.join(name)).unwrap();
                    }
                    for name in &names {
                        std::fs::remove_file(dir.join(name)).unwrap();
                    }
                    changes.fetch_add(800, Ordering::Relaxed);
                    round += 1;
                }
            });
        }
        for pass in 0..3 {
            let started = Instant::now();
            let before = changes.load(Ordering::Relaxed);
            let mut seen = HashSet::new();
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                // A name that passes by may be removed and made anew while we read: only what stays is promised once.
                if !name.starts_with("passing-") {
                    assert!(seen.insert(name.clone()), "{name} is listed twice");
                }
            }
            let missing = (0..count).map(name).find(|name| !seen.contains(name));
            assert_eq!((seen.len() as u64, missing), (count, None), "pass {pass}");
            report("listed meanwhile", count, started);
            if pass == 2 {
                lunfs_tests::command::until("others have come and gone", std::time::Duration::from_secs(120), || {
                    changes.load(Ordering::Relaxed) > before.max(800)
                });
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{} names were created or removed meanwhile", changes.load(Ordering::Relaxed));
}

#[test]
fn many_files_in_one_directory() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2"]);
    let count: u64 = need::amount(50_000, 1_000_000);
    let _watchdog = Watchdog::minutes("big_directory", need::amount(15, 120));
    let scratch = Scratch::new("big-directory");
    let volume = Volume::make(scratch.path("volume.img"), need::amount("1G", "12G"), &["-j", "1", "-J", "64M"]);
    let mnt = scratch.path("mnt");
    let mut peak = 0;
    let mut end = |mount: Mount| {
        peak = mount.peak_memory().unwrap_or(0).max(peak);
        mount.umount();
        volume.assert_clean();
    };

    let mount = Mount::new(&volume, &mnt, "single");
    let dir = mnt.join("many");
    std::fs::create_dir(&dir).unwrap();
    let path = |index: u64| dir.join(name(index));
    each("created", count, |index| drop(File::create_new(path(index)).unwrap()));
    list_while_others_come_and_go(&dir, count);
    end(mount);

    let mount = Mount::new(&volume, &mnt, "single");
    let started = Instant::now();
    assert_eq!(list(&dir).len() as u64, count);
    report("listed", count, started);
    end(mount);

    let mount = Mount::new(&volume, &mnt, "single");
    each("statted", count, |index| assert!(path(index).symlink_metadata().unwrap().is_file()));
    let inodes: HashSet<u64> = (0..count.min(20_000)).map(|index| path(index).metadata().unwrap().ino()).collect();
    assert_eq!(inodes.len() as u64, count.min(20_000), "two names share an inode");
    each("removed", count, |index| std::fs::remove_file(path(index)).unwrap());
    assert_eq!(list(&dir).len(), 0);
    std::fs::remove_dir(&dir).unwrap();
    end(mount);

    println!("peak memory of the daemon: {} MiB", peak >> 20);
    assert!(peak < MEMORY_MAX, "the daemon took {} MiB", peak >> 20);
}
