//! What umount(8) calls for mounts of ours: it returns when everything is on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mountinfo::{self, FsId, Mount};
use super::{connection, syscall, target};
use crate::daemon::registry::{Registered, State};
use crate::error::MountError;

/// How often a daemon's state is looked at where the kernel does not tell whether its filesystem is still mounted.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// How often that is done before the filesystem counts as mounted elsewhere.
const LOOKS: u32 = 250;

/// How to unmount.
#[derive(Debug, Clone, Copy, Default)]
pub struct UmountOptions {
    /// Take it out of the tree now; it ends when nobody uses it any more.
    pub lazy: bool,
    /// End all requests in flight first.
    pub force: bool,
}

/// Unmounts a mount point, or the last mount of a device, and waits until its daemon has written everything.
///
/// # Errors
/// When nothing of ours is mounted there, when it is in use, and when the daemon could not write everything.
pub fn umount(what: &Path, options: UmountOptions) -> Result<(), MountError> {
    if !rustix::process::geteuid().is_root() {
        return Err(MountError::NotRoot);
    }
    let mount = find(what)?;
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
    match daemon {
        Some(mut daemon) if !options.lazy => {
            if has_ended(mount.fs, &mut daemon) {
                finish(daemon)
            } else {
                tracing::info!("the volume is still mounted elsewhere, so its daemon goes on");
                Ok(())
            }
        }
        _ => Ok(()),
    }
}

/// The mount that is meant: the one visible at a mount point, or the last one of a device.
fn find(what: &Path) -> Result<Mount, MountError> {
    let mounts = mountinfo::read().map_err(MountError::system("reading /proc/self/mountinfo"))?;
    let path: PathBuf = target::resolve(what).unwrap_or_else(|_| what.to_owned());
    let of_device = || mounts.iter().rev().find(|mount| mount.is_ours() && mount.source == path);
    let found = mountinfo::at(&mounts, &path).filter(|mount| mount.is_ours()).or_else(of_device);
    found.cloned().ok_or(MountError::NotMounted { path })
}

/// Whether that was the last mount of the filesystem. Others can be in other mount namespaces, where they are not seen.
fn has_ended(fs: FsId, daemon: &mut Registered) -> bool {
    for _ in 0..LOOKS {
        if let Some(alive) = connection::is_alive(fs) {
            return !alive;
        }
        if daemon.refresh().is_ok_and(|record| record.state != State::Serving) {
            return true;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    false
}

fn finish(daemon: Registered) -> Result<(), MountError> {
    let last = daemon.wait().map_err(MountError::system("waiting for the daemon"))?;
    match last.state {
        State::Clean => Ok(()),
        State::Failed(problem) => Err(MountError::NotClean { device: last.device, problem }),
        State::Serving | State::Stopping => {
            let problem = "the daemon was killed on the way".to_owned();
            Err(MountError::NotClean { device: last.device, problem })
        }
    }
}
