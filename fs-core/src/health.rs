//! Whether this node still takes part in the volume.
//!
//! The first device error or broken rule makes the node withdraw: from then on nothing is written and every operation
//! fails. Its journal stays as it is, for the next mount to replay.

use std::sync::OnceLock;

use crate::error::{FsError, one_line, remedy};

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
            tracing::error!("{}", farewell(error));
        }
    }
}

/// What is logged once: the cause down to what the operating system said, and what to do.
fn farewell(error: &FsError) -> String {
    let (cause, remedy) = (one_line(error), remedy(error));
    format!("withdrawn from the volume: {cause}. Nothing is written any more; unmount it, then: {remedy}")
}

#[cfg(test)]
mod tests {
    use block::device::{DeviceError, Operation};

    use super::*;

    #[test]
    fn the_log_tells_what_the_operating_system_said() {
        let source = std::io::Error::from_raw_os_error(28);
        let error = DeviceError::Io { operation: Operation::Write, offset_bytes: 8192, len_bytes: 4096, source };
        let line = farewell(&error.into());
        assert!(line.contains("write of 4096 bytes at byte 8192 failed: No space left on device"), "{line}");
    }
}
