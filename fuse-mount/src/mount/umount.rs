//! What umount(8) calls for mounts of ours: it returns when everything is on disk.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mountinfo::{self, FsId, Mount};
use super::{connection, syscall, target};
use crate::control::client::Daemon;
use crate::daemon::registry::{Registered, State};
use crate::error::MountError;

/// How to unmount.
#[derive(Debug, Clone, Copy, Default)]
pub struct UmountOptions {
    /// Take it out of the tree now; it ends when nobody uses it any more.
    pub lazy: bool,
    /// End all requests in flight first.
    pub force: bool,
}

/// What became of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmounted {
    /// Everything is on disk, and the daemon has ended.
    Ended,
    /// It is out of the tree; the daemon ends when nobody uses the volume any more.
    Detached,
    /// It is mounted a second time, there or in another mount namespace; the daemon goes on.
    Elsewhere,
}

/// Unmounts a mount point, or the last mount of a device, and waits until its daemon has written everything.
///
/// # Errors
/// When nothing of ours is mounted there, when it is in use, and when the daemon could not write everything.
pub fn umount(what: &Path, options: UmountOptions) -> Result<Unmounted, MountError> {
    if !rustix::process::geteuid().is_root() {
        return Err(MountError::NotRoot);
    }
    let mount = find(what)?;
    if syscall::is_covered(&mount) {
        return Err(MountError::Covered { path: mount.point });
    }
    if !options.lazy && !options.force && is_frozen(&mount) {
        return Err(MountError::Frozen { path: mount.point });
    }
    // Before the unmount: afterwards the daemon may be gone, and its file with it.
    let daemon = Registered::of(mount.fs);
    let mut flags = UnmountFlags::empty();
    flags.set(UnmountFlags::DETACH, options.lazy);
    flags.set(UnmountFlags::FORCE, options.force);
    syscall::unmount(&mount.point, flags).map_err(|source| {
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::BUSY) => MountError::Busy { path: mount.point.clone() },
            Some(Errno::PERM | Errno::ACCESS) => MountError::NotRoot,
            _ => MountError::Unmount { path: mount.point.clone(), source },
        }
    })?;
    if options.lazy {
        return Ok(Unmounted::Detached);
    }
    if is_mounted(mount.fs) {
        return Ok(Unmounted::Elsewhere);
    }
    if let Some(daemon) = daemon {
        finish(daemon)?;
    }
    Ok(Unmounted::Ended)
}

/// The mount that is meant: the one visible at a mount point, or the last one of a device.
///
/// # Errors
/// `NotMounted`; when /proc is not there.
pub(crate) fn find(what: &Path) -> Result<Mount, MountError> {
    let mounts = mountinfo::read().map_err(MountError::system("reading /proc/self/mountinfo"))?;
    let path: PathBuf = target::resolve(what).unwrap_or_else(|_| what.to_owned());
    let of_device = || mounts.iter().rev().find(|mount| mount.is_ours() && mount.source == path);
    let found = mountinfo::at(&mounts, &path).filter(|mount| mount.is_ours()).or_else(of_device);
    found.cloned().ok_or(MountError::NotMounted { path })
}

/// Whether somebody keeps the volume as it is, and wants to find it so until he says otherwise.
fn is_frozen(mount: &Mount) -> bool {
    Daemon::of(&mount.point).and_then(|daemon| daemon.volume()).is_ok_and(|volume| volume.frozen)
}

/// Whether the filesystem has another mount. It can be in another mount namespace, where it is not seen from here; the
/// kernel's list of connections knows, and where that is not mounted, the processes that live there.
fn is_mounted(fs: FsId) -> bool {
    connection::is_alive(fs).unwrap_or_else(|| mountinfo::is_in_any_namespace(fs))
}

fn finish(daemon: Registered) -> Result<(), MountError> {
    let last = daemon.wait().map_err(MountError::system("waiting for the daemon"))?;
    match last.state {
        State::Clean => Ok(()),
        State::Failed(problem) => Err(MountError::NotClean { device: last.device, problem }),
        State::Serving | State::Stopping => {
            let problem = "its daemon was killed; the next mount repairs the volume from its journal".to_owned();
            Err(MountError::NotClean { device: last.device, problem })
        }
    }
}
