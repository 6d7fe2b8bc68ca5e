//! What a host supplies: time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::attr::Timestamp;

/// The host's clock. A simulation gives its own, so the filesystem never reads one by itself.
pub trait Env: Send + Sync + 'static {
    /// Wall-clock time, for file times and log headers.
    fn now(&self) -> Timestamp;

    /// Ready after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
