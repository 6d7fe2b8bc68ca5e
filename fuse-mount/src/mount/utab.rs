//! Making umount(8) call our helper.
//!
//! umount(8) first asks the kernel for the type of the filesystem, gets `fuse` without the subtype, and then looks for no
//! helper of ours. It looks closer where libmount's table of user options has a line for the mount point, which is what
//! that table is for: `uhelper=` names the program that unmounts. mount(8) writes such a line, for mounts that exist
//! already, when it is told to fake one.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::syscall::FsType;

const TABLE: &str = "/run/mount/utab";

/// Enters the mount. Without it everything works but that umount(8) waits for the end, so nothing is made of errors.
pub fn enter(kind: FsType, device: &Path, target: &Path) {
    if lines_of(target).is_empty() {
        let arguments = ["-i", "-f", "-t", kind.name(), "-o", "uhelper=lunfs"].map(OsStr::new);
        run("mount", arguments.into_iter().chain([device.as_os_str(), target.as_os_str()]));
    }
}

/// Takes the entry away, unless umount(8) has done so, or will: then it finds nothing to do.
pub fn leave(device: &Path, target: &Path) {
    let lines = lines_of(target);
    // Somebody else may have mounted something there meanwhile.
    if !lines.is_empty() && lines.iter().all(|line| has(line, "SRC=", device)) {
        run("umount", ["-i", "--fake"].map(OsStr::new).into_iter().chain([target.as_os_str()]));
    }
}

fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a OsStr>) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::debug!(%status, program, "the table of mount options could not be changed"),
        Err(error) => tracing::debug!(%error, program, "the table of mount options could not be changed"),
    }
}

fn lines_of(target: &Path) -> Vec<String> {
    let table = std::fs::read_to_string(TABLE).unwrap_or_default();
    table.lines().filter(|line| has(line, "TARGET=", target)).map(str::to_owned).collect()
}

/// Whether a field is this path. Names that the table escapes are not recognised; their lines stay until the next boot.
fn has(line: &str, field: &str, path: &Path) -> bool {
    line.split(' ').any(|found| found.strip_prefix(field).is_some_and(|found| Path::new(found) == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_recognised_by_its_fields() {
        let line = "ID=3 SRC=/dev/b TARGET=/mnt/b ROOT=/ OPTS=uhelper=lunfs";
        assert!(has(line, "SRC=", Path::new("/dev/b")) && has(line, "TARGET=", Path::new("/mnt/b")));
        assert!(!has(line, "SRC=", Path::new("/dev")) && !has(line, "TARGET=", Path::new("/dev/b")));
    }
}
