//! What a suite needs from the machine. What is missing fails the test with a line that says how to get it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Whether the long versions were asked for (`tests/run --full`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("LUNFS_FULL").is_some_and(|value| value == "1")
}

/// `in_ci` normally, `in_full` with `tests/run --full`.
pub fn amount<T>(in_ci: T, in_full: T) -> T {
    if full() { in_full } else { in_ci }
}

/// Root, and a FUSE device that it may open.
pub fn root_and_fuse() {
    root();
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        panic!("this test mounts a volume and needs /dev/fuse, which cannot be opened: {error}. Try `modprobe fuse`.");
    }
}

/// Root.
pub fn root() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts a volume and has to be run as root");
}

/// Programs that the suite runs.
pub fn tools(names: &[&str]) {
    for name in names {
        assert!(on_path(name).is_some(), "this test needs {name}; `tests/run` installs it");
    }
}

/// Where a program is.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The `lunfs` binary of this build: `LUNFS_BIN`, or built now beside the test that runs.
#[must_use]
pub fn lunfs() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("LUNFS_BIN") {
            let given = PathBuf::from(given);
            assert!(given.is_file(), "LUNFS_BIN names {}, which does not exist", given.display());
            return given;
        }
        build("lunfs", "lunfs")
    })
}

/// Builds the binary of another package with the profile of the running test, so that it is never an old one.
fn build(package: &str, binary: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let profile_dir =
        me.ancestors().find(|dir| dir.join("deps").is_dir()).expect("a test runs below target").to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "-p", package, "--bin", binary]).current_dir(repository());
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be run");
    assert!(status.success(), "building {binary} failed");
    profile_dir.join(binary)
}

/// The top of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}

/// The volumes written by the Linux kernel: `LUNFS_FIXTURES`, or those of the repository.
#[must_use]
pub fn fixtures() -> PathBuf {
    std::env::var_os("LUNFS_FIXTURES").map_or_else(|| repository().join("tests/fixtures"), PathBuf::from)
}
