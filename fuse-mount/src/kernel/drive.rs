//! Running operations: once in place, and if that does not finish them, elsewhere.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

/// How often it is said that the end waits for operations.
const REMINDER: Duration = Duration::from_secs(10);

/// Polls operations on the thread that received the request, so that what is cached is answered without a change of
/// thread, and hands over what has to wait, so that it holds no such thread.
#[derive(Debug, Clone)]
pub(super) struct Driver {
    runtime: Handle,
    underway: Arc<Underway>,
}

/// How many operations have been started and have not ended.
#[derive(Debug, Default)]
struct Underway {
    count: Mutex<usize>,
    none_left: Condvar,
}

/// One operation under way: over when this is dropped, whichever way that comes.
struct Turn(Arc<Underway>);

impl Turn {
    fn take(underway: &Arc<Underway>) -> Self {
        *underway.count.lock() += 1;
        Self(Arc::clone(underway))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.0.none_left.notify_all();
        }
    }
}

impl Driver {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, underway: Arc::default() }
    }

    /// Waits until every operation that was started has ended, and says so when that takes long. To be called when no
    /// more can start: what leaves the volume afterwards finds nobody there.
    pub(super) fn wait_until_idle(&self) {
        let mut count = self.underway.count.lock();
        while *count > 0 {
            if self.underway.none_left.wait_for(&mut count, REMINDER).timed_out() && *count > 0 {
                tracing::warn!(operations = *count, "unmounted; waiting for operations that are still under way");
            }
        }
    }

    /// Starts `operation`, which sends its answer itself.
    pub(super) fn drive(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let turn = Turn::take(&self.underway);
        let mut operation = Box::pin(async move {
            let _turn = turn;
            operation.await;
        });
        // A wake-up between this poll and the runtime's first one may get lost: that poll comes without one.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _entered = self.runtime.enter();
            operation.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        }));
        match polled {
            Ok(std::task::Poll::Ready(())) => {}
            Ok(std::task::Poll::Pending) => drop(self.runtime.spawn(operation)),
            // The panic hook has told. Dropping the operation answers the request with an error, and the thread lives on.
            Err(_) => tracing::error!("an operation ended by a defect of lunfs; its caller got an I/O error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    #[test]
    fn what_is_ready_runs_on_the_calling_thread() {
        let runtime = runtime();
        let (sender, receiver) = std::sync::mpsc::channel();
        Driver::new(runtime.handle().clone()).drive(async move { sender.send(std::thread::current().id()).unwrap() });
        assert_eq!(receiver.try_recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn what_waits_returns_at_once_and_finishes_elsewhere() {
        let runtime = runtime();
        let (open_gate, gate) = tokio::sync::oneshot::channel::<()>();
        let (sender, receiver) = std::sync::mpsc::channel();
        Driver::new(runtime.handle().clone()).drive(async move {
            gate.await.unwrap();
            sender.send(std::thread::current().id()).unwrap();
        });
        open_gate.send(()).unwrap();
        assert_ne!(receiver.recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn idle_means_that_what_was_handed_over_has_ended() {
        let runtime = runtime();
        let driver = Driver::new(runtime.handle().clone());
        driver.wait_until_idle();
        let (open_gate, gate) = tokio::sync::oneshot::channel::<()>();
        let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let end = Arc::clone(&ended);
        driver.drive(async move {
            gate.await.unwrap();
            end.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        driver.drive(async { panic!("for the test") });
        assert_eq!(*driver.underway.count.lock(), 1);
        open_gate.send(()).unwrap();
        driver.wait_until_idle();
        assert!(ended.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[test]
    fn a_panic_does_not_reach_the_thread_of_the_kernel() {
        let runtime = runtime();
        Driver::new(runtime.handle().clone()).drive(async { panic!("for the test") });
    }
}
