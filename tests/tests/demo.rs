//! `lunfs demo` as its users see it: as root, as an ordinary user, and where io_uring is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lunfs_tests::command::{Outcome, finish, until};
use lunfs_tests::mount::{Mount, mounts_below};
use lunfs_tests::need;
use lunfs_tests::refusal::without_io_uring;
use lunfs_tests::scratch::{Guard, Leftover, Scratch};
use lunfs_tests::volume::Volume;
use lunfs_tests::watchdog::Watchdog;

/// Lets everybody open /dev/fuse until the guard is dropped.
fn fuse_for_everybody() -> Guard {
    let path = PathBuf::from("/dev/fuse");
    let guard = Guard::new(Leftover::Mode(path.clone(), path.metadata().unwrap().mode() & 0o7777));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    guard
}

/// Runs the demo and asserts that it was complete and left nothing behind.
fn demo(scratch: &Scratch, before: &[&str]) -> Outcome {
    // Where everybody may run it, and everybody may put files.
    let (binary, tmp) = (scratch.path("lunfs"), scratch.path("tmp"));
    std::fs::set_permissions(scratch.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(need::lunfs(), &binary).unwrap();
    std::fs::create_dir(&tmp).unwrap();
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut words = before.to_vec();
    words.extend([binary.to_str().unwrap(), "demo"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("TMPDIR", &tmp).env("HOME", &tmp).env("NO_COLOR", "1").current_dir("/");
    let said = finish(command).ok();
    println!("{}", said.stdout);
    for step in ["make a volume", "mount it", "copy a tree", "SIGKILL", "fsync acknowledged", "fsck.gfs2 -n"] {
        assert!(said.stdout.contains(step), "the demo does not show \"{step}\":\n{}", said.text());
    }
    assert_eq!(mounts_below(&tmp), 0, "the demo has left a mount");
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "the demo has left files");
    assert!(!runs(&binary), "the demo has left a process");
    said
}

/// Whether a process runs this binary.
fn runs(binary: &Path) -> bool {
    let links = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("exe"));
    links.filter_map(|link| std::fs::read_link(link).ok()).any(|exe| exe == binary)
}

fn needs() -> Watchdog {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "setpriv"]);
    Watchdog::minutes("demo", 10)
}

#[test]
fn as_root() {
    let _watchdog = needs();
    demo(&Scratch::new("demo"), &["env"]);
}

/// The terminal is closed: the signal comes, and nobody reads what is said about it.
#[test]
fn interrupted_and_unheard_it_ends_and_leaves_nothing() {
    let _watchdog = needs();
    let scratch = Scratch::new("demo-unheard");
    let (binary, tmp) = (scratch.path("lunfs"), scratch.path("tmp"));
    std::fs::copy(need::lunfs(), &binary).unwrap();
    let moments =
        ["messages", "source/many/file 100", "mounted/generated/many", "mounted/system", "mounted/load/writer0"];
    for made in moments {
        std::fs::create_dir(&tmp).unwrap();
        let mut command = Command::new(&binary);
        command.arg("demo").env("TMPDIR", &tmp).env("NO_COLOR", "1").current_dir("/");
        let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // In the midst of a command that mounts, of making files, of copying to the volume, of writing to it.
        until(&format!("there is {made}"), Duration::from_secs(120), || {
            let folders = std::fs::read_dir(&tmp).unwrap().flatten();
            folders.map(|folder| folder.path().join(made)).any(|path| path.exists())
        });
        drop(demo.stdout.take());
        drop(demo.stderr.take());
        let pid = rustix::process::Pid::from_child(&demo);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(!demo.wait().unwrap().success());
        until("the demo's processes are gone", Duration::from_secs(60), || !runs(&binary));
        assert_eq!(mounts_below(&tmp), 0, "the demo has left a mount");
        std::fs::remove_dir(&tmp).unwrap_or_else(|_| panic!("interrupted when there was {made}, it has left files"));
    }
}

#[test]
fn as_an_ordinary_user() {
    let _watchdog = needs();
    let _fuse = fuse_for_everybody();
    demo(&Scratch::new("demo-user"), &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
}

#[test]
fn as_an_ordinary_user_who_may_not_open_the_device() {
    let _watchdog = needs();
    let scratch = Scratch::new("demo-refused");
    std::fs::set_permissions(scratch.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::copy(need::lunfs(), scratch.path("lunfs")).unwrap();
    if Path::new("/dev/fuse").metadata().unwrap().mode() & 0o006 == 0o006 {
        println!("not run: everybody may open /dev/fuse here");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(scratch.path("lunfs")).arg("demo");
    let said = finish(command);
    assert_ne!(said.status, 0);
    assert!(said.stderr.contains("/dev/fuse") && said.stderr.trim().lines().count() == 1, "{}", said.stderr);
}

#[test]
fn where_io_uring_is_refused() {
    let _watchdog = needs();
    without_io_uring(|| demo(&Scratch::new("demo-no-uring"), &["env"]));
}

#[test]
fn a_mount_says_once_that_io_uring_is_refused() {
    let _watchdog = needs();
    let scratch = Scratch::new("no-uring");
    let volume = Volume::make(scratch.path("volume.img"), "128M", &["-j", "1", "-J", "8M"]);
    let with_option = Mount::foreground(&volume, &scratch.path("mnt"), "single,no_io_uring");
    lunfs_tests::ops::every_operation(&scratch.path("mnt"));
    with_option.umount();
    volume.assert_clean();
    let mount = without_io_uring(|| Mount::foreground(&volume, &scratch.path("mnt"), "single"));
    assert!(lunfs_tests::tree::read(&scratch.path("mnt")).len() > 100);
    let lines = mount.log().lines().filter(|line| line.contains("io_uring")).count();
    assert_eq!(lines, 1, "one line about io_uring:\n{}", mount.log());
    mount.umount();
}
