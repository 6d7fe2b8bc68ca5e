//! Keeping a volume as it is while it stays mounted: for a while, or read-only.

use std::sync::atomic::Ordering;

use super::{Fs, OpFuture};
use crate::error::FsError;
use crate::mount;

impl Fs {
    /// Everything on disk, the journal clean, and no change until [`Fs::thaw`]: what would change something waits, reading
    /// goes on. A copy of the device that is made meanwhile is a volume that was unmounted, except that inodes that are open
    /// and have no names are still there.
    ///
    /// # Errors
    /// `Frozen` if it is frozen or being frozen, `Unmounting`; device errors, `Corrupt`, `Withdrawn`: it is not frozen then.
    pub fn freeze(&self) -> OpFuture<'_, ()> {
        Box::pin(async move {
            let _turn = self.settling.lock().await;
            self.changes_stopped().await?.keep()?;
            tracing::info!("frozen: changes wait until the volume is thawed");
            Ok(())
        })
    }

    /// Lets changes go on. Returns whether the volume was frozen.
    pub fn thaw(&self) -> bool {
        let was_frozen = self.volume.gate.open();
        if was_frozen {
            // What has been put off.
            self.volume.refs.wake.notify_one();
            tracing::info!("thawed");
        }
        was_frozen
    }

    /// Whether the volume is frozen.
    pub fn is_frozen(&self) -> bool {
        self.volume.gate.is_closed()
    }

    /// The volume is about to be unmounted: nothing waits for a thaw any more, and it cannot be frozen again.
    pub fn end_freezing(&self) {
        self.volume.gate.open_for_good();
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.volume.is_read_only()
    }

    /// From now on changes are refused with `ReadOnly`, or are not any more. Everything is on disk and the journal clean
    /// when it has become read-only.
    ///
    /// # Errors
    /// `ReadOnly` if it was mounted read-only from the start and shall be writable, `Frozen`, `Unmounting`; device errors,
    /// `Corrupt`, `Withdrawn`: nothing has changed then.
    pub fn set_read_only(&self, read_only: bool) -> OpFuture<'_, ()> {
        Box::pin(async move {
            if self.volume.options.read_only {
                // Its device may be, and nothing that makes a volume writable has been done.
                return if read_only { Ok(()) } else { Err(FsError::ReadOnly) };
            }
            let _turn = self.settling.lock().await;
            if read_only {
                let closing = self.changes_stopped().await?;
                self.volume.read_only.store(true, Ordering::Relaxed);
                drop(closing);
            } else {
                self.volume.disk.health.check()?;
                self.volume.read_only.store(false, Ordering::Relaxed);
                self.volume.refs.wake.notify_one();
            }
            Ok(())
        })
    }

    /// Waits for changes under way, stops others, and writes everything. It is the caller's turn to settle.
    async fn changes_stopped(&self) -> Result<crate::gate::Closing<'_>, FsError> {
        // It changes the volume without passing the gate, once.
        self.checked(self.survey().await)?;
        let closing = self.volume.gate.close().await?;
        if !self.volume.options.read_only {
            self.checked(mount::settle(&self.volume).await)?;
        }
        Ok(closing)
    }
}
