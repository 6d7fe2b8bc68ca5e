//! Interruptions: a process gives up waiting for its request.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// Requests under way, and whether their process has been interrupted. Shared by all threads of a session.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    requests: Mutex<HashMap<u64, State>>,
}

#[derive(Debug, Default)]
struct State {
    interrupted: bool,
    waiting: Option<Waker>,
}

impl UnderWay {
    /// A request has arrived.
    pub(super) fn begin(&self, unique: u64) {
        self.requests.lock().insert(unique, State::default());
    }

    /// It is being answered.
    pub(super) fn end(&self, unique: u64) {
        self.requests.lock().remove(&unique);
    }

    /// The process that waits for the request has been interrupted. False if no such request is known.
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        let waiting = match self.requests.lock().get_mut(&unique) {
            Some(state) => {
                state.interrupted = true;
                state.waiting.take()
            }
            None => return false,
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        true
    }
}

/// Tells an operation whether the process that waits for it has been interrupted. The operation decides what that means:
/// it is never dropped on the way, because what it has begun must be finished.
#[derive(Debug, Clone)]
pub struct Interruption {
    requests: Arc<UnderWay>,
    unique: u64,
}

impl Interruption {
    pub(super) fn of(requests: &Arc<UnderWay>, unique: u64) -> Self {
        Self { requests: Arc::clone(requests), unique }
    }

    /// The interruption of a request that cannot be interrupted.
    #[must_use]
    pub fn never() -> Self {
        Self { requests: Arc::default(), unique: 0 }
    }

    /// Whether it has been interrupted.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.requests.requests.lock().get(&self.unique).is_some_and(|state| state.interrupted)
    }

    /// Waits for the interruption. One task may wait at a time.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + '_ {
        std::future::poll_fn(|context| match self.requests.requests.lock().get_mut(&self.unique) {
            Some(state) if state.interrupted => Poll::Ready(()),
            Some(state) => {
                state.waiting = Some(context.waker().clone());
                Poll::Pending
            }
            // Answered already: nobody is left to be interrupted.
            None => Poll::Pending,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_and_sees_it() {
        let requests = Arc::new(UnderWay::default());
        requests.begin(4);
        let interruption = Interruption::of(&requests, 4);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let waiting = runtime.spawn({
            let interruption = interruption.clone();
            async move { interruption.wait().await }
        });
        assert!(!interruption.has_come());
        assert!(!requests.interrupt(6), "another request");
        assert!(requests.interrupt(4));
        runtime.block_on(waiting).unwrap();
        assert!(interruption.has_come());
        requests.end(4);
        assert!(!requests.interrupt(4), "it has been answered");
    }
}
