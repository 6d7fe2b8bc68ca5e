//! What is done about room that is short, before an operation fails for it.

use crate::alloc::trim::QuietGuard;
use crate::error::FsError;
use crate::volume::Volume;

/// What has been done already for one operation, or for one step of it.
pub struct Shortage<'v> {
    volume: &'v Volume,
    /// Nothing is out of reach for being discarded, from the first lack of space on.
    no_trim: Option<QuietGuard<'v>>,
    quota_relieved: bool,
}

impl<'v> Shortage<'v> {
    /// Nothing yet.
    pub fn new(volume: &'v Volume) -> Self {
        Self { volume, no_trim: None, quota_relieved: false }
    }

    /// Makes the room that `error` says is missing, or asks for less, `blocks` being how much is asked for. Ok: try again.
    /// Also when nothing could be reclaimed: the background work may have done it meanwhile.
    ///
    /// # Errors
    /// `error`, if it is another one, or if all has been done about it; errors of reading and of the journal.
    pub async fn relieve(&mut self, error: FsError, blocks: &mut u64) -> Result<(), FsError> {
        match error {
            FsError::NoSpace if self.no_trim.is_none() => {
                self.volume.reclaim().await?;
                self.no_trim = Some(self.volume.trimming.look().await);
            }
            FsError::QuotaExceeded { .. } if !self.quota_relieved => {
                self.volume.delete_orphans().await?;
                self.quota_relieved = true;
            }
            FsError::NoSpace | FsError::QuotaExceeded { .. } if *blocks > 1 => *blocks /= 2,
            error => return Err(error),
        }
        Ok(())
    }
}
