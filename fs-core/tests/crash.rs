//! Power cuts at random moments of random workloads, on a disk that loses, keeps or tears whatever it was not told to
//! flush. Afterwards the volume mounts, everything that was made durable is there, nothing is older than it may be, nothing
//! is there that was never written, and neither the checker nor `fsck.gfs2` finds anything to complain about.
//!
//! `LUNFS_CRASH_IMAGES` sets how many images are tried, `LUNFS_CRASH_SEED` the first workload. A failure prints the line that
//! repeats it, and the smallest one that was found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)] // a test

use fs_core as mkfs_core;

mod machine;

use std::sync::Arc;

use machine::clock::Clock;
use machine::disk::{Disk, Image};
use machine::judge::Judges;
use machine::medium::Medium;
use machine::plan::{Limits, mount};
use machine::run::ROOT;
use machine::search::{Search, explain, search};
use machine::{checker, on_this_thread, setting, volume};
use posix_model::rng::Rng;

/// Journals are used as they are.
fn shorten_journals(blocks: Option<u32>) {
    assert_eq!(blocks, None);
}

#[test]
fn power_cuts_lose_nothing_that_was_promised() {
    let seed = setting("LUNFS_CRASH_SEED", 1);
    let images = setting("LUNFS_CRASH_IMAGES", 20_000);
    let each = setting("LUNFS_CRASH_EACH", 200);
    let threads = setting("LUNFS_CRASH_THREADS", std::thread::available_parallelism().map_or(1, usize::from) as u64);
    let judges = Judges { fsck_permille: if volume::has_fsck() { 20 } else { 0 } };
    let (tally, failure) = search(Search {
        limits: Limits { foreign: volume::has_fsck(), short_journals: false, steps: 250 },
        judges,
        seed,
        images,
        each,
        threads: threads as usize,
        prepare: |_| (),
        argument: 0,
    });
    if let Some(failure) = failure {
        let seed = failure.plan.seed;
        panic!(
            "{}\nrepeat: LUNFS_CRASH_SEED={seed} LUNFS_CRASH_IMAGES={each} LUNFS_CRASH_EACH={each} cargo test --workspace \
             --test crash",
            explain(&failure, judges)
        );
    }
    println!("{tally:?}");
    assert!(tally.images == images && tally.with_losses > images / 4 && tally.with_promises > images / 4, "{tally:?}");
}

#[test]
fn orphans_are_freed_after_a_mount_that_was_cut_off() {
    on_this_thread(async {
        let image = volume::make(4096, 1, 100, None).await;
        let clock = || Arc::new(Clock::new(u64::MAX / 2));
        let all_kept = |base: &Image, disk: &Disk| {
            let log = disk.take_log();
            let mut medium = Medium::new(base, &log);
            medium.advance(log.events.len());
            medium.image(&Default::default())
        };
        // A file that is open and has no name any more, when the power goes.
        let disk = Disk::recording(image.clone(), Rng::new(1));
        let fs = mount(&disk, 1 << 20, clock()).await.unwrap();
        let ino = fs.mknod(fs.root(), b"name", 0o100_600, (0, 0), ROOT).await.unwrap().ino;
        fs.write(ino, 0, vec![1; 100_000], Default::default(), ROOT).await.unwrap();
        fs.unlink(fs.root(), b"name").await.unwrap();
        fs.sync().await.unwrap();
        let image = all_kept(&image, &disk);
        // It goes again when the journal has been replayed, and nothing else has happened.
        let disk = Disk::recording(image.clone(), Rng::new(2));
        mount(&disk, 1 << 20, clock()).await.unwrap();
        let image = all_kept(&image, &disk);
        let disk = Disk::plain(image);
        let fs = mount(&disk, 1 << 20, clock()).await.unwrap();
        fs.unmount().await.unwrap();
        let errors = checker::errors(Arc::new(disk.clone())).await;
        assert!(errors.is_empty(), "{errors:#?}");
        if volume::has_fsck() {
            assert_eq!(volume::fsck(&disk.image()), None);
        }
    });
}
