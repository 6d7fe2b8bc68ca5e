//! The disk under inspection: opened for reading, and who else uses it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use block::OpenOptions;
use block::device::BlockDevice;

/// Opens `path` for reading.
pub(super) fn open(path: &Path) -> anyhow::Result<Arc<dyn BlockDevice>> {
    // A few reads one after the other: threads serve them as well as a ring, wherever this runs.
    Ok(block::open(path, OpenOptions { read_only: true, io_uring: false })?)
}

/// Who uses the disk on this machine, in words. Only looks: no lock is taken, so nobody can be disturbed.
pub(super) fn in_use(path: &Path) -> Option<String> {
    if is_claimed(path) {
        return Some("in use by another program on this machine".to_owned());
    }
    mounted_at(path).map(|dir| format!("mounted at {dir}"))
}

/// Somebody holds a lock on the device or image, as the kernel lists them.
fn is_claimed(path: &Path) -> bool {
    let Ok(file) = std::fs::metadata(path) else { return false };
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let number = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|lock| lock.split_ascii_whitespace().any(|word| word == number))
}

/// Where the kernel says that the device is mounted.
fn mounted_at(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').next() == path.to_str())?;
    mount.split(' ').nth(1).map(str::to_owned)
}
