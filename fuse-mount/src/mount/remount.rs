//! `mount -o remount`: read-only, writable again, and the flags that are the kernel's.

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;

use super::{syscall, umount};
use crate::control::Command;
use crate::control::client::{ControlError, Daemon};
use crate::daemon::MountRequest;
use crate::error::MountError;

/// Changes a mounted volume to what `request` asks for. When it has become read-only, everything is on disk and the
/// journal is clean.
///
/// # Errors
/// `NotMounted`, `InUse` by files that are open for writing; what the daemon or the kernel refuses.
pub fn remount(request: &MountRequest) -> Result<(), MountError> {
    if !rustix::process::geteuid().is_root() {
        return Err(MountError::NotRoot);
    }
    let mount = umount::find(&request.target)?;
    let daemon = Daemon::of(&mount.point).map_err(|error| refused(request, error))?;
    // The kernel would write out what it holds back, and wait for a thaw.
    if daemon.volume().map_err(|error| refused(request, error))?.frozen {
        return Err(MountError::Frozen { path: mount.point });
    }
    let was_read_only =
        rustix::fs::statvfs(&mount.point).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    let (flags, read_only) = (request.options.flags, request.options.fs.read_only);
    let change = |read_only| daemon.call(Command::ReadOnly { read_only }).map_err(|error| refused(request, error));
    let kernel = |flags: MountFlags| {
        syscall::remount(&mount.point, flags)
            .map_err(|source| MountError::Remount { target: request.target.clone(), source })
    };
    // The kernel refuses changes before the daemon does, so that none is on its way to fail.
    if read_only {
        kernel(flags)?;
        if let Err(error) = change(true) {
            if !was_read_only {
                kernel(flags - MountFlags::RDONLY)?;
            }
            return Err(error);
        }
    } else {
        change(false)?;
        kernel(flags)?;
    }
    Ok(())
}

fn refused(request: &MountRequest, error: ControlError) -> MountError {
    MountError::RemountRefused { target: request.target.clone(), source: Box::new(error) }
}
