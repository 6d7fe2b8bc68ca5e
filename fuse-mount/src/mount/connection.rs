//! The kernel's side of a connection, as /sys/fs/fuse/connections shows it.

use std::io;
use std::path::{Path, PathBuf};

use super::mountinfo::FsId;

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Bits of a device number within the kernel that hold the minor one.
const MINOR_BITS: u32 = 20;

/// The directory's name is the device number as one figure. Filesystems without a device have major number 0.
fn path(fs: FsId) -> PathBuf {
    let number = (u64::from(fs.major) << MINOR_BITS) | u64::from(fs.minor);
    Path::new(CONNECTIONS).join(number.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_named_as_the_kernel_numbers_devices() {
        assert_eq!(path(FsId { major: 0, minor: 35 }), Path::new("/sys/fs/fuse/connections/35"));
        assert_eq!(path(FsId { major: 8, minor: 17 }), Path::new("/sys/fs/fuse/connections/8388625"));
    }
}
