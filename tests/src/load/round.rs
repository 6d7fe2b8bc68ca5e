//! A load of several threads as one thing: start it, crash it, check what is left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::check::{Found, FoundEntry, Rules, check};
use super::history::History;
use super::worker::{Shared, Worker};
use crate::watchdog;

/// A load at work.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<History>>,
}

/// Makes the directories that the threads work in, durably. Once, on an empty volume.
#[track_caller]
pub fn skeleton(root: &Path, threads: u64) -> Vec<History> {
    let make =
        |name: &str| std::fs::create_dir(root.join(name)).unwrap_or_else(|error| panic!("mkdir {name}: {error}"));
    make("shared");
    for thread in 0..threads {
        make(&format!("t{thread}"));
    }
    std::fs::File::open(root).unwrap().sync_all().unwrap_or_else(|error| panic!("fsync of the root: {error}"));
    (0..threads).map(History::new).collect()
}

impl Load {
    /// Starts one thread per history. They stop after `limit` operations at the latest.
    #[must_use]
    pub fn start(histories: Vec<History>, seed: u64, root: &Path, limit: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = histories
            .into_iter()
            .map(|history| {
                let (shared, root) = (shared.clone(), root.to_owned());
                std::thread::spawn(move || Worker::new(history, seed, &root, &shared).run(limit))
            })
            .collect();
        Self { shared, threads }
    }

    /// Operations and syncs acknowledged so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.operations.load(Ordering::Relaxed), self.shared.syncs.load(Ordering::Relaxed))
    }

    /// Waits until so many operations are acknowledged, or a thread has ended.
    pub fn wait_for(&self, operations: u64) {
        let _step = watchdog::step(&format!("waiting for {operations} operations of the load"));
        while self.counts().0 < operations && !self.threads.iter().any(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
    }

    /// From now on errors are expected. Call it just before the crash.
    pub fn expect_crash(&self) {
        self.shared.crashed.store(true, Ordering::SeqCst);
    }

    /// From now on errors are expected, and the threads go on until one comes.
    pub fn expect_crash_soon(&self) {
        self.shared.tolerant.store(true, Ordering::SeqCst);
    }

    /// Waits for the threads, and gives back what they have been promised.
    ///
    /// # Panics
    /// When one of them panicked, because an operation failed before the crash.
    #[must_use]
    pub fn join(self) -> Vec<History> {
        let _step = watchdog::step("waiting for the threads of the load");
        let join = |thread: JoinHandle<History>| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.threads.into_iter().map(join).collect()
    }
}

/// Checks the promises made to all threads, and makes what was found the start of the next round.
///
/// # Panics
/// When a promise is broken, with all that is wrong.
#[track_caller]
pub fn adopt(histories: &mut [History], found: &Found, rules: Rules) {
    let mut wrong = Vec::new();
    for history in histories.iter_mut() {
        if found.get(&history.own()) != Some(&FoundEntry::Dir) {
            wrong.push(format!("the directory {} is gone", history.own()));
        }
        match check(history, found, rules) {
            Ok((names, contents)) => history.restart(names, contents),
            Err(lines) => {
                wrong.extend(lines);
                let log = std::env::temp_dir().join(format!("lunfs-load-{}.log", history.thread));
                std::fs::write(&log, history.log().join("\n")).unwrap();
                wrong.push(format!("  all that the thread did: {}", log.display()));
            }
        }
    }
    let known =
        |path: &str| path == "shared" || histories.iter().any(|history| history.owns(path) || history.own() == path);
    wrong.extend(found.keys().filter(|path| !known(path)).map(|path| format!("{path} belongs to nobody")));
    assert!(wrong.is_empty(), "promises are broken:\n{}", wrong.join("\n"));
}
