//! The mount point.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::MountError;

/// The absolute path of a mount point without links, found without asking the filesystem that may be mounted there: its
/// daemon can be dead, and then every question to it is answered with an error.
///
/// # Errors
/// When the way there does not exist.
pub fn resolve(target: &Path) -> Result<PathBuf, MountError> {
    let failed = |source| MountError::TargetLookup { path: target.to_owned(), source };
    match std::fs::canonicalize(target) {
        Ok(path) => Ok(path),
        Err(error) if is_dead(&error) => {
            let absolute = std::path::absolute(target).map_err(failed)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent).map_err(failed)?.join(name)),
                _ => Err(failed(error)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(MountError::Target { path: target.to_owned(), problem: "does not exist; make it with mkdir -p" })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Checks that a volume can be mounted there.
///
/// # Errors
/// When it is not a directory, or its filesystem does not answer.
pub fn check(target: &Path) -> Result<(), MountError> {
    let path = || target.to_owned();
    let metadata = std::fs::metadata(target).map_err(|source| MountError::TargetLookup { path: path(), source })?;
    if metadata.is_dir() { Ok(()) } else { Err(MountError::Target { path: path(), problem: "is not a directory" }) }
}

/// Whether an error says that the daemon behind a path is gone.
#[must_use]
pub fn is_dead(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOTCONN | Errno::CONNABORTED))
}
