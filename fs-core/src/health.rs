//! Whether this node still takes part in the volume.
//!
//! The first device error or broken rule makes the node withdraw: from then on nothing is written and every operation
//! fails. Its journal stays as it is, for the next mount to replay.

use std::sync::OnceLock;

use crate::error::FsError;

/// Health of one mounted volume.
#[derive(Debug, Default)]
pub struct Health {
    cause: OnceLock<FsError>,
}

impl Health {
    /// The error that made the node withdraw.
    pub fn cause(&self) -> Option<&FsError> {
        self.cause.get()
    }

    /// # Errors
    /// `Withdrawn` after [`Health::withdraw`].
    pub fn check(&self) -> Result<(), FsError> {
        if self.cause.get().is_some() { Err(FsError::Withdrawn) } else { Ok(()) }
    }

    /// Withdraws because of `error`. Only the first call counts, and is logged.
    pub fn withdraw(&self, error: &FsError) {
        if self.cause.set(error.clone()).is_ok() {
            tracing::error!(
                "withdrawn from the volume: {error}. Nothing is written any more; unmount it, check the device, mount again"
            );
        }
    }
}
