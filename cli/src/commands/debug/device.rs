//! The disk under inspection: opened for reading, and who else uses it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use block::OpenOptions;
use block::device::BlockDevice;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// Opens `path` for reading.
pub(super) fn open(path: &Path) -> anyhow::Result<Arc<dyn BlockDevice>> {
    // A few reads one after the other: threads serve them as well as a ring, wherever this runs.
    Ok(block::open(path, OpenOptions { read_only: true, io_uring: false })?)
}

/// Who uses the disk on this machine, in words. Only looks: no lock is taken, so nobody can be disturbed.
pub(super) fn in_use(path: &Path) -> Option<String> {
    if is_claimed(path) {
        return Some("in use on this machine by lunfs".to_owned());
    }
    mounted_at(path).map(|dir| format!("mounted at {dir}"))
}

/// Somebody holds a lock on the device or image.
fn is_claimed(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let wanted = Flock::from(FlockType::WriteLock);
    fcntl_getlk(&file, &wanted).is_ok_and(|holder| holder.is_some())
}

/// Where the kernel says that the device is mounted.
fn mounted_at(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').next() == path.to_str())?;
    mount.split(' ').nth(1).map(str::to_owned)
}
