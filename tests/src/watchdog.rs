//! A hang becomes a failure that says where: every test holds a [`Watchdog`], and every step that may hang names itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::scratch;

static STEPS: Mutex<BTreeMap<u64, (String, Instant)>> = Mutex::new(BTreeMap::new());

/// A step under way; ends when dropped.
pub struct Step(u64);

/// Says what the calling thread is at.
#[must_use]
pub fn step(what: &str) -> Step {
    let mut steps = STEPS.lock();
    let key = steps.last_key_value().map_or(0, |(key, _)| key + 1);
    steps.insert(key, (what.to_owned(), Instant::now()));
    Step(key)
}

impl Drop for Step {
    fn drop(&mut self) {
        STEPS.lock().remove(&self.0);
    }
}

/// Ends the whole test process with a report when the test takes longer than its limit.
pub struct Watchdog {
    done: Arc<AtomicBool>,
}

impl Watchdog {
    /// Starts watching. `limit` is many times what the test takes on a slow machine.
    #[must_use]
    pub fn new(test: &'static str, limit: Duration) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        std::thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < limit {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            report(test, limit);
            scratch::clean_up_everything();
            std::process::exit(101);
        });
        Self { done }
    }

    /// Watches with a limit in minutes.
    #[must_use]
    pub fn minutes(test: &'static str, minutes: u64) -> Self {
        Self::new(test, Duration::from_secs(60 * minutes))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
    }
}

fn report(test: &str, limit: Duration) {
    eprintln!("\n{test}: hangs: not finished after {limit:?}. Steps under way:");
    for (what, since) in STEPS.lock().values() {
        eprintln!("  {:8.1} s  {what}", since.elapsed().as_secs_f64());
    }
    eprintln!("Where the threads of this process wait in the kernel:");
    stacks("/proc/self/task");
    for daemon in scratch::daemons() {
        eprintln!("Where the threads of daemon {daemon} wait in the kernel:");
        stacks(&format!("/proc/{daemon}/task"));
    }
}

fn stacks(tasks: &str) {
    for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let top: Vec<String> = read("stack").lines().take(6).map(str::to_owned).collect();
        eprintln!("  {} {}: {}", task.file_name().to_string_lossy(), read("comm").trim(), top.join(" < "));
    }
}
