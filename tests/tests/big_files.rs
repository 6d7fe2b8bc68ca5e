//! Big files, sparse files, and a volume filled to its last block.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.
#![allow(clippy::cast_possible_truncation)] // Lengths in tests are far below any limit.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use lunfs_tests::command::until;
use lunfs_tests::files::{assert_data, space, write_data};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::rng::Rng;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Kind, Volume, kind};
use lunfs_tests::watchdog::{Watchdog, step};
use lunfs_tests::{data, tree};
use rustix::fs::SeekFrom;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2"]);
}

#[test]
fn a_big_file_is_read_back_as_it_was_written() {
    needs();
    let _watchdog = Watchdog::minutes("big_file", need::amount(10, 60));
    let len: u64 = need::amount(600 << 20, 8 << 30);
    let scratch = Scratch::new("big-file");
    let volume = Volume::make(scratch.path("volume.img"), need::amount("1G", "10G"), &["-j", "1", "-J", "64M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::new(&volume, &dir, "single");
    let started = Instant::now();
    write_data(&dir.join("big"), 1, len, 1 << 20).unwrap();
    println!("written: {:.0} MiB/s", (len >> 20) as f64 / started.elapsed().as_secs_f64());
    assert_eq!(dir.join("big").metadata().unwrap().len(), len);
    mount.umount();
    volume.assert_clean();
    let mount = Mount::new(&volume, &dir, "single");
    let started = Instant::now();
    assert_data(&mut File::open(dir.join("big")).unwrap(), 1, 0, len);
    println!("read back: {:.0} MiB/s", (len >> 20) as f64 / started.elapsed().as_secs_f64());
    if let Some(peak) = mount.peak_memory() {
        assert!(peak < 600 << 20, "a big file took {} MiB of the daemon's memory", peak >> 20);
    }
    std::fs::remove_file(dir.join("big")).unwrap();
    mount.umount();
    volume.assert_clean();
}

#[test]
fn a_sparse_file_has_data_at_three_tebibytes() {
    needs();
    let _watchdog = Watchdog::minutes("sparse_file", 5);
    let scratch = Scratch::new("sparse");
    let volume = Volume::make(scratch.path("volume.img"), "300M", &["-j", "1", "-J", "16M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::new(&volume, &dir, "single");
    let path = dir.join("sparse");
    // Where the data is: at the start, in the middle of nowhere, across a boundary of tree heights, at 3 TiB.
    let pieces: [(u64, usize); 4] = [(0, 100), (5 << 30, 10_000), ((1 << 40) - 777, 2000), (3 << 40, 100_000)];
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    for (at, len) in pieces.iter().rev() {
        file.write_all_at(&data::bytes(9, *at, *len), *at).unwrap();
    }
    drop(file);
    let check = |dir: &Path| {
        let mut file = File::open(dir.join("sparse")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (3 << 40) + 100_000);
        assert!(file.metadata().unwrap().blocks() < 2000, "holes take space");
        for (at, len) in pieces {
            assert_data(&mut file, 9, at, len as u64);
            let found = rustix::fs::seek(&file, SeekFrom::Data(at.saturating_sub(1 << 30))).unwrap();
            assert!(found <= at && at - found < 4096, "data at {at} is found at {found}");
            let end = at + len as u64;
            let hole = rustix::fs::seek(&file, SeekFrom::Hole(at)).unwrap();
            assert!(hole >= end && hole - end < 4096, "the hole after {end} is found at {hole}");
            let mut zeroes = [1; 4096];
            if hole < 3 << 40 {
                file.read_exact_at(&mut zeroes, hole + 4096).unwrap();
                assert_eq!(zeroes, [0; 4096], "a hole reads as zeroes");
            }
        }
    };
    check(&dir);
    mount.umount();
    volume.assert_clean();
    let mount = Mount::new(&volume, &dir, "single");
    check(&dir);
    File::options().write(true).open(&path).unwrap().set_len(50).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), data::bytes(9, 0, 50));
    mount.umount();
    volume.assert_clean();
}

/// Fills the volume with files of all sizes from one thread, until nothing more fits. Gives (id, length) of what was
/// written completely.
fn fill(dir: &Path, thread: u64) -> Vec<(u64, u64)> {
    let mut rng = Rng::new(thread);
    let mut kept = Vec::new();
    let mut refusals = 0;
    let own = dir.join(format!("w{thread}"));
    if std::fs::create_dir(&own).is_err() {
        return kept;
    }
    while refusals < 25 {
        let id = (thread << 32) | rng.below(1 << 31);
        // Smaller and smaller ones, so that the last block goes, too.
        let len = if refusals > 12 { rng.below(2000) } else { rng.within(1..4 << 20) };
        let path = own.join(format!("{id}"));
        let result = File::create_new(&path).and_then(|mut file| {
            file.write_all(&data::bytes(id, 0, len as usize))?;
            file.sync_all()
        });
        match result {
            Ok(()) => kept.push((id, len)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(28), "{}: only ENOSPC may happen, not {error}", path.display());
                refusals += 1;
                // What was written before space ran out has to be right.
                if let Ok(partial) = std::fs::read(&path) {
                    assert_eq!(data::first_difference(id, 0, &partial), None, "{} is damaged", path.display());
                }
            }
        }
    }
    kept
}

#[test]
fn a_volume_is_filled_to_the_last_block_and_emptied() {
    needs();
    let _watchdog = Watchdog::minutes("fill", need::amount(10, 30));
    let scratch = Scratch::new("fill");
    let volume = Volume::make(scratch.path("volume.img"), need::amount("256M", "2G"), &["-j", "1", "-J", "16M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::new(&volume, &dir, "single");
    std::fs::write(dir.join("before"), data::bytes(77, 0, 30_000)).unwrap();
    let before = space(&dir);

    let writing = step("filling the volume");
    let kept: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn({
                    let dir = &dir;
                    move || fill(dir, thread)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drop(writing);
    let full = space(&dir);
    println!("{} files, {} KiB left of {} MiB", kept.len(), full.free >> 10, full.total >> 20);
    let left_max = if kind() == Kind::Ext4 { full.total / 10 } else { 256 << 10 };
    assert!(full.free <= left_max, "{} bytes are left although nothing more fits", full.free);
    // Full, and everything else works: reading, removing, renaming.
    let check = || {
        for (id, len) in &kept {
            let path = dir.join(format!("w{}/{id}", id >> 32));
            let content = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(
                (content.len() as u64, data::first_difference(*id, 0, &content)),
                (*len, None),
                "{}",
                path.display()
            );
        }
        assert_eq!(std::fs::read(dir.join("before")).unwrap(), data::bytes(77, 0, 30_000));
    };
    check();
    mount.umount();
    volume.assert_clean();

    let mount = Mount::new(&volume, &dir, "single");
    check();
    let tree_full = tree::read(&dir);
    assert!(tree_full.len() > kept.len());
    for thread in 0..4 {
        let _ = std::fs::remove_dir_all(dir.join(format!("w{thread}")));
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().file_name() != "lost+found").count(), 1);
    until("df says what it said before", Duration::from_secs(60), || space(&dir) == before);
    mount.umount();
    volume.assert_clean();
    let mount = Mount::new(&volume, &dir, "single");
    assert_eq!(space(&dir), before, "df after a remount");
    mount.umount();
}
