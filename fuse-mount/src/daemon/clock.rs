//! The clock of the real world.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use fs_core::attr::Timestamp;
use fs_core::env::Env;

/// Wall-clock time of this machine, and timers of tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Env for Clock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is not set; 1970 is then as good as any time.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
