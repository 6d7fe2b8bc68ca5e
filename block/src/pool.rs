//! Threads that run blocking calls.
//!
//! Laws
//! * At most `max_threads` threads; they are started when there is work for them and stay.
//! * A job that was accepted is run, whether or not anybody still waits for its answer.
//! * Dropping the pool waits for the queue to drain, so that afterwards nothing of it is on its way to the device.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded set of threads with one queue.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    name: &'static str,
    max_threads: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    /// Threads that wait for work and have not been promised any.
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closing: bool,
}

/// The pool is closing, or the job died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Pool {
    /// Starts a pool with its first thread, so that a system without threads to give says so here and not at a write.
    pub(crate) fn start(name: &'static str, max_threads: usize) -> io::Result<Self> {
        let state = State { queue: VecDeque::new(), idle: 0, threads: Vec::new(), closing: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() });
        let pool = Self { shared, name, max_threads };
        let first = pool.spawn()?;
        pool.shared.state.lock().threads.push(first);
        Ok(pool)
    }

    fn spawn(&self) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.work())
    }

    /// Queues a job.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Gone> {
        let mut state = self.shared.state.lock();
        if state.closing {
            return Err(Gone);
        }
        state.queue.push_back(Box::new(job));
        if state.idle > 0 {
            state.idle -= 1;
            self.shared.work.notify_one();
        } else if state.threads.len() < self.max_threads {
            // Without another thread the job waits for one of those that exist.
            match self.spawn() {
                Ok(thread) => state.threads.push(thread),
                Err(error) => tracing::warn!(%error, "no further thread for device requests"),
            }
        }
        Ok(())
    }

    /// Runs `job` on one of the threads and waits for its answer.
    pub(crate) async fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        self.run(move || {
            // Nobody may be waiting any more; the work was still worth doing.
            let _ = answer.send(job());
        })?;
        answered.await.map_err(|_| Gone)
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                parking_lot::MutexGuard::unlocked(&mut state, job);
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
            }
        }
    }
}

impl Pool {
    /// Takes no further job, and returns when those that were accepted are done.
    pub(crate) fn close(&self) {
        let threads = {
            let mut state = self.shared.state.lock();
            state.closing = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for thread in threads {
            join_unless_self(thread);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits for a thread to end. The last owner of a device may be a job of its own pool; a thread cannot wait for itself.
pub(crate) fn join_unless_self(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() {
        // A thread that panicked has nothing left to wait for.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn dropping_the_pool_runs_every_job_that_was_accepted() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::start("test", 3).unwrap();
        for _ in 0..1000 {
            let done = Arc::clone(&done);
            pool.run(move || {
                done.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        }
        drop(pool);
        assert_eq!(done.load(Ordering::SeqCst), 1000);
    }

    #[test]
    fn jobs_run_side_by_side_up_to_the_limit() {
        let pool = Pool::start("test", 4).unwrap();
        // Each job waits for the three others: only four threads at once get past the barrier.
        let barrier = Arc::new(std::sync::Barrier::new(4));
        for _ in 0..4 {
            let barrier = Arc::clone(&barrier);
            pool.run(move || {
                barrier.wait();
            })
            .unwrap();
        }
        drop(pool);
        assert_eq!(Arc::strong_count(&barrier), 1);
    }
}
