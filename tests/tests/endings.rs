//! The ways in which a mount ends other than by umount and SIGKILL: a signal, by force, and by the device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use lunfs_tests::command::{bash, run, until};
use lunfs_tests::load::{Load, Rules, adopt, read_found, skeleton};
use lunfs_tests::mount::{Mount, daemon_of, mount_lunfs};
use lunfs_tests::need;
use lunfs_tests::rng::{Rng, seed};
use lunfs_tests::scratch::{self, Scratch};
use lunfs_tests::volume::{Kind, Volume, called, kind};
use lunfs_tests::watchdog::{Watchdog, step};

const THREADS: u64 = 4;

/// Ends a mount under load by `end`, several times: the daemon writes what it has, the journal is clean without another
/// mount, and what fsync acknowledged is there.
fn ends_clean_under_load(name: &str, end: impl Fn(&Mount)) {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2"]);
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in has no daemon");
        return;
    }
    let _watchdog = Watchdog::minutes("endings", 10);
    let seed = seed();
    println!("repeat with LUNFS_SEED={seed}");
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new(name);
    let volume = Volume::make(scratch.path("volume.img"), "512M", &["-j", "1", "-J", "16M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::foreground(&volume, &dir, "single");
    let mut histories = skeleton(&dir, THREADS);
    mount.umount();
    for round in 0..need::amount(6, 60) {
        let _step = step(&format!("round {round} of seed {seed}"));
        let mount = Mount::foreground(&volume, &dir, "single");
        let load = Load::start(histories, rng.next_u64(), &dir, u64::MAX);
        load.wait_for(rng.below(1000));
        load.expect_crash();
        end(&mount);
        let (status, said) = mount.wait_for_end();
        assert_eq!(status, Some(0), "the daemon ended with an error:\n{said}");
        histories = load.join();
        volume.assert_clean();

        let mount = Mount::foreground(&volume, &dir, "single");
        adopt(&mut histories, &read_found(&dir), Rules { unsynced_may_be_zero: false });
        mount.umount();
        volume.assert_clean();
    }
}

#[test]
fn a_signal_ends_a_busy_mount_clean() {
    ends_clean_under_load("signal", |mount| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(mount.pid().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    });
}

#[test]
fn force_ends_a_busy_mount_clean() {
    ends_clean_under_load("force", |mount| {
        let said = run(called("umount.lunfs"), ["-f".as_ref(), "-l".as_ref(), mount.dir().as_os_str()]);
        said.ok();
    });
}

/// A filesystem of its own for the image, which can be full.
struct Host<'a>(&'a Path);

impl<'a> Host<'a> {
    fn of(dir: &'a Path, size: &str) -> Self {
        fs::create_dir(dir).unwrap();
        Self::of_existing(dir, size)
    }

    fn of_existing(dir: &'a Path, size: &str) -> Self {
        run("mount", ["-t", "tmpfs", "-o", &format!("size={size}"), "host", dir.to_str().unwrap()]).ok();
        Self(dir)
    }

    fn grow(&self, size: &str) {
        run("mount", ["-o", &format!("remount,size={size}"), self.0.to_str().unwrap()]).ok();
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        run("umount", ["-l".as_ref(), self.0.as_os_str()]);
    }
}

#[test]
fn a_device_that_fails_makes_the_node_withdraw() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "mount", "umount"]);
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in does not withdraw");
        return;
    }
    let _watchdog = Watchdog::minutes("a_device_that_fails", 5);
    let scratch = Scratch::new("withdraw");
    let host_dir = scratch.path("host");
    let host = Host::of(&host_dir, "64M");
    let volume = Volume::make(host_dir.join("volume.img"), "400M", &["-j", "1", "-J", "8M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::foreground(&volume, &dir, "single");
    let mut kept = File::create(dir.join("kept")).unwrap();
    kept.write_all(b"acknowledged").unwrap();
    kept.sync_all().unwrap();

    // The image finds no room: sooner or later a write of the device fails.
    let mut big = File::create(dir.join("big")).unwrap();
    let piece = vec![1; 1 << 20];
    let failed = (0..200).find_map(|_| big.write_all(&piece).and_then(|()| big.sync_data()).err());
    assert_eq!(failed.expect("200 MiB do not fit into 64 MiB").raw_os_error(), Some(5), "EIO");

    // From now on nothing works but the end, and that tells why.
    assert_eq!(fs::write(dir.join("later"), "x").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(fs::read_dir(&dir).and_then(|mut entries| entries.next().unwrap()).unwrap_err().raw_os_error(), Some(5));
    drop((kept, big));
    let said = run(called("umount.lunfs"), [&dir]).status_is(&[32]);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("No space left on device"), "the line keeps the cause: {}", said.stderr);
    let (status, log) = mount.wait_for_end();
    assert_ne!(status, Some(0));
    let told: Vec<_> = log.lines().filter(|line| line.contains("withdrawn from the volume")).collect();
    assert_eq!(told.len(), 1, "one clear line:\n{log}");
    assert!(told[0].contains("No space left on device"), "{log}");

    // With room the journal is replayed, and what was acknowledged is there.
    host.grow("512M");
    mount_lunfs(volume.image(), &dir, "single").ok();
    assert_eq!(fs::read(dir.join("kept")).unwrap(), b"acknowledged");
    assert!(fs::metadata(dir.join("later")).is_err());
    run(called("umount.lunfs"), [&dir]).ok();
    volume.assert_clean();
}

#[test]
fn what_covers_a_mount_stays_and_what_is_out_of_sight_is_told_so() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "mount", "umount", "losetup"]);
    if kind() == Kind::Ext4 {
        println!("not run: this is about our own commands");
        return;
    }
    let _watchdog = Watchdog::minutes("what_covers_a_mount", 5);
    let scratch = Scratch::new("covered");
    let volume = Volume::make(scratch.path("volume.img"), "300M", &["-j", "1", "-J", "8M"]);
    let (dir, other) = (scratch.path("mnt"), scratch.path("other"));
    fs::create_dir(&other).unwrap();

    // By its device, with something else on top.
    let mount = Mount::foreground(&volume, &dir, "single");
    let cover = Host::of_existing(&dir, "1M");
    fs::write(dir.join("precious"), "of somebody else").unwrap();
    let said = run(called("umount.lunfs"), [volume.image()]).status_is(&[32]);
    assert!(said.stderr.contains("mounted over it"), "{}", said.stderr);
    assert!(dir.join("precious").exists());
    drop(cover);

    // The image under a loop device is the same disk, whichever comes first.
    let device = bash("losetup --find --show \"$1\"", [volume.image()]).ok().stdout.trim().to_owned();
    let said = mount_lunfs(Path::new(&device), &other, "single").status_is(&[32]);
    assert!(said.stderr.contains("in use"), "{}", said.stderr);
    mount.umount();
    mount_lunfs(Path::new(&device), &dir, "single").ok();
    let said = mount_lunfs(volume.image(), &other, "single").status_is(&[32]);
    assert!(said.stderr.contains("in use"), "{}", said.stderr);
    run(called("umount.lunfs"), [&dir]).ok();
    run("losetup", ["-d", &device]).ok();
    volume.assert_clean();

    // Out of the tree, and still in use: the message does not send to a place where nothing is.
    let mount = Mount::foreground(&volume, &dir, "single");
    let used = File::create(dir.join("used")).unwrap();
    run(called("umount.lunfs"), ["-l".as_ref(), dir.as_os_str()]).ok();
    let said = mount_lunfs(volume.image(), &dir, "single").status_is(&[32]);
    assert!(said.stderr.contains("cannot be seen from here"), "{}", said.stderr);
    drop(used);
    assert_eq!(mount.wait_for_end().0, Some(0));
    volume.assert_clean();
}

#[test]
fn a_daemon_outlives_the_limits_of_the_shell_and_a_kill_is_seen_at_once() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "bash"]);
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in has no daemon");
        return;
    }
    let _watchdog = Watchdog::minutes("a_daemon_outlives_the_limits", 5);
    let scratch = Scratch::new("limits");
    let volume = Volume::make(scratch.path("volume.img"), "300M", &["-j", "1", "-J", "8M"]);
    let dir = scratch.path("mnt");
    fs::create_dir(&dir).unwrap();
    let limited = |limits: &str| {
        let script = format!("{limits}; umask 777; exec \"$1\" \"$2\" \"$3\" -o single");
        bash(&script, [called("mount.lunfs").as_os_str(), volume.image().as_os_str(), dir.as_os_str()])
    };
    // Without the right to lift it (which root lacks in some containers) there is no way but to refuse.
    let said = limited("ulimit -f 64");
    if said.status == 0 {
        run(called("umount.lunfs"), [&dir]).ok();
    } else {
        assert!(said.status_is(&[2]).stderr.contains("ulimit -f unlimited"));
    }
    limited("ulimit -S -f 64; ulimit -S -v 2000000").ok();
    fs::write(dir.join("big"), vec![7; 30 << 20]).unwrap();
    File::open(dir.join("big")).unwrap().sync_all().unwrap();
    for _ in 0..need::amount(5, 50) {
        // Killed, and mounted as soon as the mount is dead: the process may not be gone as a whole.
        scratch::kill(daemon_of(volume.image()).unwrap());
        until("the mount is dead", Duration::from_secs(30), || rustix::fs::statfs(&dir).is_err());
        mount_lunfs(volume.image(), &dir, "single").ok();
        assert_eq!(fs::metadata(dir.join("big")).unwrap().len(), 30 << 20);
    }
    run(called("umount.lunfs"), [&dir]).ok();
    volume.assert_clean();
}
