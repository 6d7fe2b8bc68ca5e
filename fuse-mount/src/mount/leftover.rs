//! Mounts whose daemon was killed: every access to them fails, and they hide the directory below.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::mount::UnmountFlags;

use super::mountinfo::{self, FsId, Mount};
use super::{connection, syscall, target};
use crate::daemon::registry::Registered;
use crate::error::MountError;

/// Clears away a dead mount of ours that covers the mount point.
///
/// # Errors
/// When it cannot be unmounted.
pub fn clear_target(point: &Path) -> Result<(), MountError> {
    // They can lie on top of each other; mountinfo is read anew because a lazy unmount may take several along.
    while let Some(dead) = read()?.iter().rev().find(|mount| mount.point == point && is_dead(mount)) {
        clear(dead)?;
    }
    Ok(())
}

/// Waits for the end of a daemon whose mount covers the mount point and fails already, if that is what is there. Returns
/// whether it was.
///
/// # Errors
/// When mountinfo or the daemon's file cannot be read.
pub fn wait_for_dying(point: &Path) -> Result<bool, MountError> {
    let mounts = read()?;
    let Some(mount) = mountinfo::at(&mounts, point).filter(|mount| mount.is_ours()) else { return Ok(false) };
    if !std::fs::metadata(point).is_err_and(|error| target::is_dead(&error)) {
        return Ok(false);
    }
    if let Some(daemon) = Registered::of(mount.fs) {
        daemon.wait().map_err(MountError::system("waiting for the daemon of an earlier mount"))?;
    }
    Ok(true)
}

/// Clears away every dead mount of a device. The caller holds the claim on the device, so that no daemon lives for it:
/// what is mounted of it is dead.
///
/// # Errors
/// When one cannot be unmounted.
pub fn clear_device(device: &Path) -> Result<(), MountError> {
    for mount in read()?.iter().rev().filter(|mount| mount.is_ours() && is_same(&mount.source, device)) {
        clear(mount)?;
    }
    Ok(())
}

/// Whether the kernel still has a FUSE filesystem on a block device, though nothing of it is mounted here any more:
/// somebody has a file of it open, or it is mounted in another mount namespace.
#[must_use]
pub fn is_held(device: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(device) else { return false };
    let number = metadata.rdev();
    let fs = FsId { major: rustix::fs::major(number), minor: rustix::fs::minor(number) };
    metadata.file_type().is_block_device() && connection::is_alive(fs) == Some(true)
}

fn read() -> Result<Vec<Mount>, MountError> {
    mountinfo::read().map_err(MountError::system("reading /proc/self/mountinfo"))
}

/// Whether it is ours and its daemon is gone. A daemon that lives and does not answer is not dead: it is registered, and
/// is not asked here, because the question could hang.
fn is_dead(mount: &Mount) -> bool {
    mount.is_ours()
        && Registered::of(mount.fs).is_none()
        && std::fs::metadata(&mount.point).is_err_and(|error| target::is_dead(&error))
}

fn clear(dead: &Mount) -> Result<(), MountError> {
    tracing::warn!(mount_point = %dead.point.display(), "clearing away a mount whose daemon is dead");
    // The connection of a dead daemon has ended, unless somebody else still has it open.
    if let Err(error) = connection::abort(dead.fs) {
        tracing::debug!(%error, "no connection to abort");
    }
    match syscall::unmount(&dead.point, UnmountFlags::DETACH) {
        // Gone already: a mount above it took it along.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result.map_err(|source| MountError::Unmount { path: dead.point.clone(), source }),
    }
}

/// Whether two names mean one device, or one image file.
fn is_same(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) else { return false };
    if one.rdev() != 0 || other.rdev() != 0 {
        one.rdev() == other.rdev()
    } else {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }
}
