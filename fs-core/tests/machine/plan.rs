//! Workloads from seeds, and recording them.

use std::sync::Arc;

use fs_core::addr::InodeNo;
use fs_core::error::FsError;
use fs_core::fs::{Fs, MountOptions};
use parking_lot::Mutex;
use posix_model::errno::ENOSPC;
use posix_model::generate::{Generator, Profile};
use posix_model::op::{Kind, Op, Step, Target, listing};
use posix_model::rng::Rng;
use posix_model::tree::{Surface, Tree};

use super::clock::Clock;
use super::disk::{Disk, Image, Log};
use super::run::{ROOT, Runner, same};
use super::story::{Story, Whole};
use super::volume;

/// Permissions of the directories that workers work in.
pub(crate) const WORKER_MODE: u32 = 0o755;

/// Which volumes and workloads there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Some volumes are made by mkfs.gfs2.
    pub(crate) foreign: bool,
    /// Only the first part of each journal is used, so that the log comes around often, and is full often.
    pub(crate) short_journals: bool,
    /// Steps that all workers do together, at most.
    pub(crate) steps: u64,
}

/// A workload, and what it is run on. The same plan always gives the same recording.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) block_bytes: u32,
    /// Made by mkfs.gfs2, so without checksums.
    foreign: bool,
    /// Blocks of the journal that are used, if not all.
    journal_blocks: Option<u32>,
    /// Blocks from the start of the log to the end of the journal.
    before_end: u64,
    /// About so many blocks are free; `None`: enough of them.
    free_blocks: Option<u64>,
    cache_bytes: u64,
    /// Steps between two commits in the background; `None`: nothing happens in the background.
    interval: Option<u64>,
    unmounts: bool,
    /// What each worker does.
    pub(crate) workers: Vec<Vec<Step>>,
}

impl Plan {
    pub(crate) fn new(seed: u64, limits: Limits) -> Self {
        let mut rng = Rng::new(seed);
        let block_bytes = *rng.pick(&[512, 1024, 2048, 4096]);
        let free_blocks = rng.chance(25).then(|| 60 + rng.below(200));
        let count = 1 + rng.below(3) as usize;
        let steps = (20 + rng.below(limits.steps)) as usize / count;
        let profile = Profile {
            block_bytes: u64::from(block_bytes),
            file_bytes_max: (60 * u64::from(block_bytes)).min(100 << 10),
            write_bytes_max: *rng.pick(&[3, 10, 40]) * u64::from(block_bytes),
            xattr_bytes_max: u64::from(block_bytes) * *rng.pick(&[1, 3]),
            users: true,
            syncs: *rng.pick(&[0, 1, 4, 10, 25]),
            names_max: *rng.pick(&[8, 25, 60]),
            single_blocks: free_blocks.is_some(),
        };
        let worker = |rng: &mut Rng| {
            let mut tree = Tree::new(Surface::Filesystem, WORKER_MODE);
            Generator::new(profile.clone(), rng.fork()).steps(&mut tree, steps)
        };
        Self {
            seed,
            block_bytes,
            foreign: limits.foreign && rng.chance(15),
            journal_blocks: limits.short_journals.then(|| *rng.pick(&[48, 64, 96, 200])),
            before_end: *rng.pick(&[2, 20, 70, 300, 1000]),
            free_blocks,
            cache_bytes: *rng.pick(&[1, 1 << 20, 16 << 20]),
            interval: rng.chance(65).then(|| 3 + rng.below(60)),
            unmounts: rng.chance(50),
            workers: (0..count).map(|_| worker(&mut rng)).collect(),
        }
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "seed {}: blocks of {} bytes, by {}, journal of {} blocks, log {} blocks before its end, free blocks: {}, cache of {} \
             bytes, background: {}, unmounts: {}\n",
            self.seed,
            self.block_bytes,
            if self.foreign { "mkfs.gfs2" } else { "mkfs" },
            self.journal_blocks.map_or_else(|| "all its".to_owned(), |blocks| blocks.to_string()),
            self.before_end,
            self.free_blocks.map_or_else(|| "enough".to_owned(), |free| free.to_string()),
            self.cache_bytes,
            self.interval.map_or_else(|| "none".to_owned(), |steps| format!("every {steps} steps")),
            self.unmounts
        );
        for (number, steps) in self.workers.iter().enumerate() {
            text += &format!("  worker {number}:\n{}", listing(steps));
        }
        text
    }

    /// Steps of all workers.
    pub(crate) fn steps(&self) -> usize {
        self.workers.iter().map(Vec::len).sum()
    }
}

/// Mounts a disk.
pub(crate) async fn mount(disk: &Disk, cache_bytes: u64, clock: Arc<Clock>) -> Result<Arc<Fs>, FsError> {
    let options = MountOptions { cache_bytes, ..MountOptions::default() };
    Fs::mount(Arc::new(disk.clone()), options, clock).await
}

/// A workload as it went.
pub(crate) struct Recording {
    /// The disk before the mount.
    pub(crate) base: Image,
    pub(crate) log: Log,
    /// The workers' directories.
    pub(crate) roots: Vec<InodeNo>,
    pub(crate) stories: Vec<Story>,
    /// The volume as a whole.
    pub(crate) whole: Whole,
}

/// A clean volume with the workers' directories.
async fn prepare(plan: &Plan) -> Result<(Image, Vec<InodeNo>), FsError> {
    let image = if plan.foreign {
        volume::make_by_gfs2(plan.block_bytes)
    } else {
        volume::make(plan.block_bytes, plan.seed, plan.before_end, plan.journal_blocks).await
    };
    let disk = Disk::plain(image);
    let fs = mount(&disk, 8 << 20, Arc::new(Clock::new(1))).await?;
    let mut roots = Vec::new();
    for worker in 0..plan.workers.len() {
        let name = format!("worker {worker}");
        let attr = fs.mkdir(fs.root(), name.as_bytes(), WORKER_MODE, ROOT).await?;
        roots.push(attr.ino);
    }
    if let Some(free) = plan.free_blocks {
        fill(&fs, free).await?;
    }
    fs.unmount().await?;
    Ok((disk.image(), roots))
}

/// Leaves about `free` blocks.
async fn fill(fs: &Fs, free: u64) -> Result<(), FsError> {
    let ino = fs.mknod(fs.root(), b"ballast", Kind::File.bits() | 0o600, (0, 0), ROOT).await?.ino;
    let mut offset = 0;
    loop {
        let statfs = fs.statfs().await?;
        let left = statfs.blocks_free.saturating_sub(free) * u64::from(statfs.block_size_bytes);
        // Pointers take a little as well.
        let len = (left - left / 32).min(1 << 20);
        if len < 1 << 14 {
            return Ok(());
        }
        fs.write(ino, offset, vec![7; len as usize], Default::default(), ROOT).await?;
        offset += len;
    }
}

/// Runs the workload. An error says what the filesystem did wrong on the way.
pub(crate) async fn record(plan: &Plan) -> Result<Recording, String> {
    crate::shorten_journals(plan.journal_blocks);
    let (base, roots) = prepare(plan).await.map_err(|error| format!("preparing the volume: {error}"))?;
    let mut rng = Rng::new(plan.seed ^ 0x5eed);
    let disk = Disk::recording(base.clone(), rng.fork());
    let clock = Arc::new(Clock::new(plan.interval.unwrap_or(u64::MAX / 2)));
    let fs = mount(&disk, plan.cache_bytes, Arc::clone(&clock)).await.map_err(|error| format!("mounting: {error}"))?;
    let background = plan.interval.map(|_| tokio::spawn(Arc::clone(&fs).background()));

    let stories: Vec<_> = roots.iter().map(|_| Story::new(Tree::new(Surface::Filesystem, WORKER_MODE))).collect();
    let stories = Arc::new(Mutex::new(stories));
    let workers: Vec<_> = plan
        .workers
        .iter()
        .enumerate()
        .map(|(number, steps)| {
            let worker = Worker {
                number,
                steps: steps.clone(),
                runner: Runner::new(Arc::clone(&fs), roots[number]),
                disk: disk.clone(),
                clock: Arc::clone(&clock),
                stories: Arc::clone(&stories),
                full: plan.free_blocks.is_some(),
                rng: rng.fork(),
            };
            tokio::spawn(worker.work())
        })
        .collect();
    let mut result = Ok(());
    for worker in workers {
        let done = worker.await.map_err(|error| format!("a worker has panicked: {error}"));
        result = result.and(done.and_then(|done| done));
    }
    result?;
    let mut whole = Whole::default();
    if plan.unmounts {
        fs.unmount().await.map_err(|error| format!("unmounting: {error}"))?;
        let position = disk.position();
        stories.lock().iter_mut().for_each(|story| story.all_durable(position));
        whole.clean_at = Some(position);
    }
    if let Some(error) = fs.withdrawn() {
        return Err(format!("the node has withdrawn: {error}"));
    }
    let log = disk.take_log();
    if let Some(background) = background {
        // In the middle of its work, perhaps: nothing of that is in the log.
        background.abort();
        let _ = background.await;
    }
    drop(fs);
    let mut stories = std::mem::take(&mut *stories.lock());
    stories.iter_mut().for_each(Story::finish);
    Ok(Recording { base, log, roots, stories, whole })
}

/// One worker: does its steps, and tells its story.
struct Worker {
    number: usize,
    steps: Vec<Step>,
    runner: Runner,
    disk: Disk,
    clock: Arc<Clock>,
    stories: Arc<Mutex<Vec<Story>>>,
    full: bool,
    rng: Rng,
}

impl Worker {
    async fn work(mut self) -> Result<(), String> {
        for (number, step) in std::mem::take(&mut self.steps).into_iter().enumerate() {
            let done = self.step(&step).await;
            done.map_err(|reason| format!("worker {}, step {number}, {step}: {reason}", self.number))?;
            self.clock.step();
            if self.rng.chance(20) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let (mut tree, others) = {
            let mut stories = self.stories.lock();
            let others: Vec<usize> = stories.iter().map(Story::done).collect();
            let story = &mut stories[self.number];
            (story.tree().clone(), others)
        };
        let synced = match &step.op {
            Op::Fsync { target } | Op::Write { target, sync: true, .. } => tree.find(target).ok(),
            _ => None,
        };
        let before = tree.clone();
        let expected = tree.apply(step);
        self.stories.lock()[self.number].begin(tree.clone(), self.disk.position());
        let found = self.runner.run(step).await.map_err(|error| error.to_string())?;
        let position = self.disk.position();
        let mut stories = self.stories.lock();
        if found == Err(ENOSPC) && self.full && expected.is_ok() {
            stories[self.number].end_as(before, position);
            return Ok(());
        }
        if !same(&expected, &found) {
            return Err(format!("answered {found:?} instead of {expected:?}"));
        }
        stories[self.number].end(position);
        match (&step.op, expected.is_ok()) {
            (Op::Sync, true) => {
                for (story, done) in stories.iter_mut().zip(others) {
                    story.synced(done, position);
                }
            }
            (
                Op::Fsync { target: _ } | Op::Write { target: Target::Named(_) | Target::Open(_), sync: true, .. },
                true,
            ) => {
                if let Some(id) = synced {
                    stories[self.number].fsynced(id, position);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
