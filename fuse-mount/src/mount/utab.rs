//! Making umount(8) call our helper.
//!
//! umount(8) first asks the kernel for the type of the filesystem, gets `fuse` without the subtype, and then looks for no
//! helper of ours. It looks closer where libmount's table of user options has a line for the mount point, which is what
//! that table is for: `uhelper=` names the program that unmounts. mount(8) writes such a line, for mounts that exist
//! already, when it is told to fake one.

use std::path::Path;
use std::process::{Command, Stdio};

use super::syscall::FS_TYPE;

const TABLE: &str = "/run/mount/utab";

/// Enters the mount. Without it everything works but that umount(8) waits for the end, so nothing is made of errors.
pub fn enter(device: &Path, target: &Path) {
    if std::fs::read_to_string(TABLE).is_ok_and(|table| contains(&table, device, target)) {
        return;
    }
    let entered = Command::new("mount")
        .args(["-i", "-f", "-t", FS_TYPE, "-o", "uhelper=lunfs"])
        .args([device, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match entered {
        Ok(status) if status.success() => {}
        Ok(status) => {
            tracing::debug!(%status, "umount(8) will not wait for the end: mount(8) could not enter the mount")
        }
        Err(error) => tracing::debug!(%error, "umount(8) will not wait for the end: there is no mount(8)"),
    }
}

/// Whether a line is left over from an earlier mount that did not end by umount(8). Names that the table escapes are not
/// recognised, which costs one more line.
fn contains(table: &str, device: &Path, target: &Path) -> bool {
    let (source, target) = (format!("SRC={}", device.display()), format!("TARGET={}", target.display()));
    table.lines().any(|line| {
        let has = |wanted: &str| line.split(' ').any(|field| field == wanted);
        has(&source) && has(&target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_device_and_mount_point() {
        let table =
            "SRC=/dev/a TARGET=/mnt/a ROOT=/ OPTS=_netdev\nID=3 SRC=/dev/b TARGET=/mnt/b ROOT=/ OPTS=uhelper=lunfs\n";
        assert!(contains(table, Path::new("/dev/b"), Path::new("/mnt/b")));
        assert!(!contains(table, Path::new("/dev/a"), Path::new("/mnt/b")));
        assert!(!contains(table, Path::new("/dev/b"), Path::new("/mnt")));
    }
}
