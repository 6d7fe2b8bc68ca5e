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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_core::fs::{Fs, MountOptions};
use machine::clock::Clock;
use machine::disk::{Disk, Image};
use machine::run::{ROOT, Runner, same};
use machine::{checker, on_this_thread, see, setting, volume};
use posix_model::errno::{
    EACCES, EBADF, EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY, EOPNOTSUPP, EPERM, Errno,
};
use posix_model::generate::{Generator, Profile};
use posix_model::op::{Op, Step, listing};
use posix_model::rng::Rng;
use posix_model::shrink::shrink;
use posix_model::tree::{Surface, Tree};

const STEPS: usize = 200;
/// Permissions of the directory that a sequence is run in.
const MODE: u32 = 0o777;
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

/// What was answered.
#[derive(Debug, Default, Clone)]
struct Answers {
    done: u64,
    refused: BTreeMap<Errno, u64>,
}

/// Why the volume does not do what the model does. What the volume is asked for goes through `twist`.
async fn differs(base: &Image, case: &Case, twist: fn(Step) -> Step, answers: &mut Answers) -> Option<String> {
    let disk = Disk::plain(base.clone());
    let mut fs = mount(&disk).await;
    let root = fs.mkdir(fs.root(), b"w", MODE, ROOT).await.unwrap().ino;
    let mut runner = Runner::new(Arc::clone(&fs), root);
    let mut tree = Tree::new(Surface::Filesystem, MODE);
    for (number, step) in case.steps.iter().enumerate() {
        let expected = tree.apply(step);
        let found = match runner.run(&twist(step.clone())).await {
            Ok(found) => found,
            Err(error) => return Some(format!("step {number}, {step}: {error}")),
        };
        match &found {
            Ok(_) => answers.done += 1,
            Err(errno) => *answers.refused.entry(*errno).or_default() += 1,
        }
        if !same(&expected, &found) {
            return Some(format!("step {number}, {step}: answered {found:?} instead of {expected:?}"));
        }
        if number == case.remount_at {
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
#[derive(Clone)]
struct Case {
    block_bytes: u32,
    steps: Vec<Step>,
    /// The volume is unmounted and mounted after this step, if there is one.
    remount_at: usize,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let block_bytes = *rng.pick(&BLOCK_SIZES);
        let remount_at = rng.below(2 * STEPS as u64) as usize;
        let mut tree = Tree::new(Surface::Filesystem, MODE);
        let steps = Generator::new(profile(block_bytes), rng.fork()).steps(&mut tree, STEPS);
        Self { block_bytes, steps, remount_at }
    }

    /// The shortest sequence that was found to differ.
    fn shortened(&self, base: &Image, twist: fn(Step) -> Step) -> Self {
        let with = |steps: &[Step]| Self { steps: steps.to_vec(), ..self.clone() };
        let mut ignored = Answers::default();
        let differs = |steps: &[Step]| on_this_thread(differs(base, &with(steps), twist, &mut ignored)).is_some();
        with(&shrink(self.steps.clone(), 400, differs))
    }
}

async fn bases() -> BTreeMap<u32, Image> {
    let mut bases = BTreeMap::new();
    for size in BLOCK_SIZES {
        bases.insert(size, volume::make(size, 7, 40, None).await);
    }
    bases
}

fn check(bases: &BTreeMap<u32, Image>, seed: u64, answers: &mut Answers) -> Result<(), String> {
    let case = Case::new(seed);
    let base = &bases[&case.block_bytes];
    let Some(reason) = on_this_thread(differs(base, &case, |step| step, answers)) else { return Ok(()) };
    let short = case.shortened(base, |step| step);
    let reason_now = on_this_thread(differs(base, &short, |step| step, answers)).unwrap_or_default();
    Err(format!(
        "{reason}\nshortened to {} steps: {reason_now}\n{}repeat: LUNFS_MODEL_SEED={seed} LUNFS_MODEL_SEQUENCES=1 \
         cargo test --workspace --test reference_model",
        short.steps.len(),
        listing(&short.steps)
    ))
}

/// Journals are used as they are.
fn shorten_journals(blocks: Option<u32>) {
    assert_eq!(blocks, None);
}

#[test]
fn a_volume_answers_as_the_model_does() {
    let first = setting("LUNFS_MODEL_SEED", 1);
    let sequences = setting("LUNFS_MODEL_SEQUENCES", 2000);
    let next = AtomicU64::new(first);
    let failures = parking_lot::Mutex::new(Vec::new());
    let total = parking_lot::Mutex::new(Answers::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let bases = on_this_thread(bases());
                let mut answers = Answers::default();
                while failures.lock().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + sequences {
                        break;
                    }
                    if let Err(failure) = check(&bases, seed, &mut answers) {
                        failures.lock().push(failure);
                    }
                }
                let mut total = total.lock();
                total.done += answers.done;
                for (errno, count) in answers.refused {
                    *total.refused.entry(errno).or_default() += count;
                }
            });
        }
    });
    let (failures, total) = (failures.into_inner(), total.into_inner());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    println!("{total:?}");
    // Most steps do something, and every error comes up that a filesystem decides on.
    assert!(total.done > sequences * STEPS as u64 / 2, "{total:?}");
    if sequences >= 500 {
        for errno in [ENOENT, EEXIST, ENOTDIR, EISDIR, EINVAL, ENOTEMPTY, EPERM, EACCES, ENODATA, EOPNOTSUPP, EBADF] {
            assert!(total.refused.contains_key(&errno), "no {errno}: {total:?}");
        }
    }
}

#[test]
fn a_wrong_answer_is_noticed_and_made_small() {
    let bases = on_this_thread(bases());
    let longer = |step: Step| match step.op {
        Op::Truncate { target, size } => Step { op: Op::Truncate { target, size: size + 1 }, ..step },
        _ => step,
    };
    let case = Case::new(3);
    let base = &bases[&case.block_bytes];
    assert!(on_this_thread(differs(base, &case, longer, &mut Answers::default())).is_some());
    let short = case.shortened(base, longer);
    // A file, perhaps another name of it, and the truncation.
    assert!(short.steps.len() <= 6, "{}", listing(&short.steps));
}
