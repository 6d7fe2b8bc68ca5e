//! Running operations: once in place, and if that does not finish them, elsewhere.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

use tokio::runtime::Handle;

/// Polls operations on the thread that received the request, so that what is cached is answered without a change of
/// thread, and hands over what has to wait, so that it holds no such thread.
#[derive(Debug, Clone)]
pub(super) struct Driver {
    runtime: Handle,
}

impl Driver {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime }
    }

    /// Starts `operation`, which sends its answer itself.
    pub(super) fn drive(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let mut operation = Box::pin(operation);
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
    fn a_panic_does_not_reach_the_thread_of_the_kernel() {
        let runtime = runtime();
        Driver::new(runtime.handle().clone()).drive(async { panic!("for the test") });
    }
}
