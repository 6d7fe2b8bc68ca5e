//! Time, which passes with the steps that are done, so that the same seed gives the same run.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use fs_core::attr::Timestamp;
use fs_core::env::Env;

/// The clock of a run. Each look at it is a second later; sleeping takes some steps.
pub(crate) struct Clock {
    now: AtomicI64,
    steps: AtomicU64,
    stepped: tokio::sync::Notify,
    /// Steps that a sleep of any length takes.
    sleep_steps: u64,
}

impl Clock {
    pub(crate) fn new(sleep_steps: u64) -> Self {
        Self { now: AtomicI64::new(0), steps: AtomicU64::new(0), stepped: tokio::sync::Notify::new(), sleep_steps }
    }

    /// A step was done.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.stepped.notify_waiters();
    }
}

impl Env for Clock {
    fn now(&self) -> Timestamp {
        Timestamp { sec: 1_700_000_000 + self.now.fetch_add(1, Ordering::Relaxed), nsec: 1 }
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let until = self.steps.load(Ordering::Relaxed) + self.sleep_steps;
        Box::pin(async move {
            loop {
                let stepped = self.stepped.notified();
                if self.steps.load(Ordering::Relaxed) >= until {
                    return;
                }
                stepped.await;
            }
        })
    }
}
