//! Random sequences by several users, on the model and on a volume in memory: the same answers, errors and trees. What
//! permissions forbid is the kernel's to refuse, and is compared on real mounts (`tests/tests/posix_model.rs`).
//!
//! `LUNFS_MODEL_SEQUENCES` sets how many sequences are tried, `LUNFS_MODEL_SEED` the first seed. A failure prints the line
//! that repeats it, and the shortest sequence that was found to fail.

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
use std::sync::atomic::{AtomicU64, Ordering};

use fs_core::fs::{Fs, MountOptions};
use machine::clock::Clock;
use machine::disk::{Disk, Image};
use machine::run::{ROOT, Runner, same};
use machine::{checker, on_this_thread, see, setting, volume};
use posix_model::generate::{Generator, Profile};
use posix_model::op::{Step, listing};
use posix_model::rng::Rng;
use posix_model::shrink::shrink;
use posix_model::tree::{Surface, Tree};

const STEPS: usize = 200;
const BLOCK_SIZES: [u32; 4] = [512, 1024, 2048, 4096];

fn profile(block_bytes: u32) -> Profile {
    let block_bytes = u64::from(block_bytes);
    Profile {
        block_bytes,
        file_bytes_max: 100 * block_bytes,
        write_bytes_max: 40 * block_bytes,
        xattr_bytes_max: (9 * block_bytes).min(16_000),
        users: true,
        syncs: 3,
        names_max: 60,
        single_blocks: false,
    }
}

async fn mount(disk: &Disk) -> Arc<Fs> {
    let options = MountOptions { cache_bytes: 4 << 20, ..MountOptions::default() };
    Fs::mount(Arc::new(disk.clone()), options, Arc::new(Clock::new(20))).await.unwrap()
}

/// Why the volume does not do what the model does.
async fn differs(base: &Image, steps: &[Step], remount_at: usize) -> Option<String> {
    let disk = Disk::plain(base.clone());
    let mut fs = mount(&disk).await;
    let root = fs.mkdir(fs.root(), b"w", 0o777, ROOT).await.unwrap().ino;
    let mut runner = Runner::new(Arc::clone(&fs), root);
    let mut tree = Tree::new(Surface::Filesystem, 0o777);
    for (number, step) in steps.iter().enumerate() {
        let expected = tree.apply(step);
        let found = match runner.run(step).await {
            Ok(found) => found,
            Err(error) => return Some(format!("step {number}, {step}: {error}")),
        };
        if !same(&expected, &found) {
            return Some(format!("step {number}, {step}: answered {found:?} instead of {expected:?}"));
        }
        if number == remount_at {
            if let Some(difference) = see::see(&fs, root).await.unwrap().differs(&tree) {
                return Some(format!("after step {number}: {difference}"));
            }
            fs.unmount().await.unwrap();
            fs = mount(&disk).await;
            runner = Runner::new(Arc::clone(&fs), root);
            tree = tree.closed();
        }
    }
    let view = match see::see(&fs, root).await {
        Ok(view) => view,
        Err(error) => return Some(format!("the tree cannot be read: {error}")),
    };
    if let Some(difference) = view.differs(&tree) {
        return Some(format!("at the end: {difference}"));
    }
    fs.unmount().await.unwrap();
    let errors = checker::errors(Arc::new(disk)).await;
    (!errors.is_empty()).then(|| format!("the checker finds {errors:#?}"))
}

/// A sequence, and what it runs on.
fn sequence(seed: u64) -> (u32, Vec<Step>, usize) {
    let mut rng = Rng::new(seed);
    let block_bytes = *rng.pick(&BLOCK_SIZES);
    let remount_at = rng.below(2 * STEPS as u64) as usize;
    let mut tree = Tree::new(Surface::Filesystem, 0o777);
    let steps = Generator::new(profile(block_bytes), rng.fork()).steps(&mut tree, STEPS);
    (block_bytes, steps, remount_at)
}

fn check(bases: &[(u32, Image)], seed: u64) -> Result<(), String> {
    let (block_bytes, steps, remount_at) = sequence(seed);
    let base = &bases.iter().find(|(size, _)| *size == block_bytes).unwrap().1;
    let Some(reason) = on_this_thread(differs(base, &steps, remount_at)) else { return Ok(()) };
    let short = shrink(steps, 400, |steps| on_this_thread(differs(base, steps, remount_at)).is_some());
    let reason_now = on_this_thread(differs(base, &short, remount_at)).unwrap_or_default();
    Err(format!(
        "{reason}\nshortened to {} steps: {reason_now}\n{}repeat: LUNFS_MODEL_SEED={seed} LUNFS_MODEL_SEQUENCES=1 \
         cargo test --workspace --test reference_model",
        short.len(),
        listing(&short)
    ))
}

/// Journals are used as they are.
fn shorten_journals(_: Option<u32>) {}

#[test]
fn a_volume_answers_as_the_model_does() {
    let first = setting("LUNFS_MODEL_SEED", 1);
    let end = first + setting("LUNFS_MODEL_SEQUENCES", 2000);
    let next = AtomicU64::new(first);
    let failures = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let bases = BLOCK_SIZES.map(|size| (size, on_this_thread(volume::make(size, 7, 40, None))));
                while failures.lock().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(failure) = check(&bases, seed) {
                        failures.lock().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
