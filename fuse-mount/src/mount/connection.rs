//! The kernel's side of a connection, as /sys/fs/fuse/connections shows it.

use std::io;
use std::path::{Path, PathBuf};

use super::mountinfo::FsId;

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

fn path(fs: FsId) -> PathBuf {
    // The directory's name is the device number as one figure; filesystems without a device have major number 0.
    Path::new(CONNECTIONS).join(fs.minor.to_string())
}

/// Whether the kernel still has this filesystem mounted somewhere. `None` if that cannot be seen here.
#[must_use]
pub fn is_alive(fs: FsId) -> Option<bool> {
    if path(fs).exists() {
        return Some(true);
    }
    // Without the control filesystem the directory is empty, so another entry proves that it is there.
    let controlled = super::mountinfo::read().ok()?.iter().any(|mount| mount.kind == "fusectl");
    controlled.then_some(false)
}

/// Ends the connection: every request in flight and every later one fails, nobody hangs any more.
///
/// # Errors
/// When the connection is gone or not visible here.
pub fn abort(fs: FsId) -> io::Result<()> {
    std::fs::write(path(fs).join("abort"), "1")
}
