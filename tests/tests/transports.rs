//! Both ways of speaking with the kernel: every operation over each, what only one of them can do, and what differs for a
//! volume on a block device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use lunfs_tests::command::{run, until};
use lunfs_tests::mount::{Mount, mount_lunfs, mountinfo, process_state};
use lunfs_tests::ops::every_operation;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Kind, LoopDevice, Volume, kind};
use lunfs_tests::watchdog::Watchdog;
use lunfs_tests::{data, need, tree};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

const SOON: Duration = Duration::from_secs(60);

/// The two transports.
const TRANSPORTS: [&str; 2] = ["native", "fuser"];

/// Starts a test; false if there is nothing to test.
fn needs(name: &'static str) -> Option<(Watchdog, Scratch)> {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "setpriv", "losetup"]);
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in has no transport");
        return None;
    }
    Some((Watchdog::minutes(name, 10), Scratch::new(name)))
}

fn volume(scratch: &Scratch, name: &str) -> Volume {
    Volume::make(scratch.path(name), "300M", &["-j", "1", "-J", "8M"])
}

/// Type with subtype of what is mounted at `dir`.
fn fstype(dir: &Path) -> String {
    mountinfo().into_iter().rfind(|line| line.dir == dir).expect("it is mounted").fstype
}

#[test]
fn every_operation_over_both() {
    let Some((_watchdog, scratch)) = needs("transports") else { return };
    let dir = scratch.path("mnt");
    for transport in TRANSPORTS {
        let volume = volume(&scratch, transport);
        let options = format!("single,transport={transport}");
        let mount = Mount::new(&volume, &dir, &options);
        every_operation(&dir);
        times(&dir, true);
        large_requests(&dir);
        long_listings(&dir);
        let before = tree::read(&dir);
        mount.umount();
        volume.assert_clean();
        // Read by the other one.
        for reader in TRANSPORTS {
            let mount = Mount::new(&volume, &dir, &format!("single,transport={reader}"));
            tree::assert_same(&format!("written over {transport}, read over {reader}"), &before, &tree::read(&dir));
            times(&dir, false);
            mount.umount();
        }
        volume.assert_clean();
    }
}

/// Times before 1970 with a fraction, and the first that there is (of which the kernel drops the fraction). Sets them, or
/// finds them again.
fn times(dir: &Path, set: bool) {
    for (index, (sec, nsec)) in
        [(-2, 500_000_000), (i64::MIN, 0), (i64::MIN + 1, 1), (-1, 999_999_999), (i64::MAX, 0)].into_iter().enumerate()
    {
        let path = dir.join(format!("time{index}"));
        if set {
            File::create(&path).unwrap();
            let time = Timespec { tv_sec: sec, tv_nsec: nsec };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        }
        let meta = path.metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (sec, nsec));
        assert_eq!((meta.atime(), meta.atime_nsec()), (sec, nsec));
    }
}

/// Reads and writes around the sizes at which buffers change hands, and larger than one request.
fn large_requests(dir: &Path) {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(dir.join("large")).unwrap();
    for (round, len) in [131_071_usize, 131_072, 131_073, 1 << 20, (1 << 20) + 1, 5_000_000, 3].into_iter().enumerate()
    {
        let (seed, offset) = (round as u64, round as u64 * 6_000_000);
        file.write_all_at(&data::bytes(seed, 0, len), offset).unwrap();
        let mut read = vec![0; len];
        file.read_exact_at(&mut read, offset).unwrap();
        assert_eq!(data::first_difference(seed, 0, &read), None, "{len} bytes");
    }
    // Not out of the page cache, too.
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let file = File::options().read(true).custom_flags(direct).open(dir.join("large")).unwrap();
    let mut buffer = block::device::IoBuf::zeroed(4 << 20);
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(data::first_difference(0, 0, &buffer[..131_071]), None);
    assert!(buffer[131_071..].iter().all(|byte| *byte == 0), "the hole between");
}

/// Names of all lengths, so that answers end at every place.
fn long_listings(dir: &Path) {
    let many = dir.join("listing");
    fs::create_dir(&many).unwrap();
    for index in 0..3000_usize {
        File::create(many.join(format!("{index:0width$}", width = 4 + index % 252))).unwrap();
    }
    let mut numbers: Vec<usize> =
        fs::read_dir(&many).unwrap().map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..3000));
    // With attributes: what READDIRPLUS said is what GETATTR says.
    let said = run("ls", ["-lU".as_ref(), many.as_os_str()]).ok();
    assert_eq!(said.stdout.lines().count(), 3001);
}

#[test]
fn a_device_is_mounted_as_one_where_the_transport_can() {
    let Some((_watchdog, scratch)) = needs("device") else { return };
    let image = volume(&scratch, "volume.img");
    let device = LoopDevice::attach(image.image(), &[]);
    let (volume, dir) = (Volume::existing(device.path().to_owned()), scratch.path("mnt"));
    for (transport, wanted) in [("native", "fuseblk.lunfs"), ("fuser", "fuse.lunfs"), ("native", "fuseblk.lunfs")] {
        let options = format!("single,transport={transport}");
        let mount = Mount::new(&volume, &dir, &options);
        assert_eq!(fstype(&dir), wanted);
        a_file(&dir, transport);
        // A second mount is refused: the kernel would take it for the first one.
        let second = mount_lunfs(volume.image(), &scratch.path("mnt"), &options);
        assert!(second.status == 32 && second.stderr.contains("mounted already"), "{}", second.text());
        // Nor does anybody else get the device.
        let said = run("mkfs.ext4", ["-q".as_ref(), volume.image().as_os_str()]);
        assert_ne!(said.status, 0, "mkfs on a mounted device");
        mount.umount();
        volume.assert_clean();
    }
    // An image has no device that the kernel could hold.
    drop(device);
    let mount = Mount::new(&image, &dir, "single,transport=native");
    assert_eq!(fstype(&dir), "fuse.lunfs");
    mount.umount();
    image.assert_clean();
}

fn a_file(dir: &Path, name: &str) {
    let path = dir.join(name);
    fs::write(&path, data::bytes(1, 0, 2_000_000)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), data::bytes(1, 0, 2_000_000));
    fs::remove_file(&path).unwrap();
}

#[test]
fn umount_of_a_device_waits_without_a_helper() {
    let Some((_watchdog, scratch)) = needs("umount-device") else { return };
    let image = volume(&scratch, "volume.img");
    let device = LoopDevice::attach(image.image(), &[]);
    let (volume, dir) = (Volume::existing(device.path().to_owned()), scratch.path("mnt"));
    for round in 0..5 {
        let mount = Mount::new(&volume, &dir, "single,transport=native,commit=3600");
        let pid = mount.pid().unwrap();
        for index in 0..50 {
            fs::write(dir.join(format!("{round}.{index}")), data::bytes(index, 0, 100_000)).unwrap();
        }
        // Not umount(8), which would look for our helper.
        rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::empty()).unwrap();
        volume.assert_clean();
        until("the daemon has ended", SOON, || matches!(process_state(pid), None | Some('Z')));
        drop(mount);
    }
}

#[test]
fn syncfs_reaches_the_daemon_of_a_device() {
    let Some((_watchdog, scratch)) = needs("syncfs") else { return };
    let image = volume(&scratch, "volume.img");
    let device = LoopDevice::attach(image.image(), &[]);
    let (volume, dir) = (Volume::existing(device.path().to_owned()), scratch.path("mnt"));
    let mount = Mount::new(&volume, &dir, "single,transport=native,commit=3600");
    fs::write(dir.join("kept"), data::bytes(1, 0, 300_000)).unwrap();
    rustix::fs::syncfs(File::open(&dir).unwrap()).unwrap();
    mount.kill();
    let mount = Mount::new(&volume, &dir, "single,transport=native");
    assert_eq!(fstype(&dir), "fuseblk.lunfs", "the dead mount has been cleared away");
    assert_eq!(fs::read(dir.join("kept")).unwrap(), data::bytes(1, 0, 300_000));
    mount.umount();
    volume.assert_clean();
}

#[test]
fn a_dead_mount_that_is_still_in_use_does_not_stop_the_next_one() {
    let Some((_watchdog, scratch)) = needs("dead-device") else { return };
    need::tools(&["mount"]);
    let image = volume(&scratch, "volume.img");
    let device = LoopDevice::attach(image.image(), &[]);
    let (volume, dir) = (Volume::existing(device.path().to_owned()), scratch.path("mnt"));
    let mount = Mount::new(&volume, &dir, "single,transport=native");
    fs::write(dir.join("file"), "content").unwrap();
    rustix::fs::syncfs(File::open(&dir).unwrap()).unwrap();
    let open = File::open(dir.join("file")).unwrap();
    mount.kill();
    // The kernel keeps the old filesystem, and the device with it, as long as something is open.
    let mount = Mount::new(&volume, &dir, "single,transport=native");
    assert_eq!(fstype(&dir), "fuse.lunfs");
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "content");
    mount.umount();
    drop(open);
    let mount = Mount::new(&volume, &dir, "single,transport=native");
    assert_eq!(fstype(&dir), "fuseblk.lunfs");
    mount.umount();
    volume.assert_clean();
}

#[test]
fn a_signal_ends_the_mount_of_a_device() {
    let Some((_watchdog, scratch)) = needs("signal-device") else { return };
    let image = volume(&scratch, "volume.img");
    let device = LoopDevice::attach(image.image(), &[]);
    let (volume, dir) = (Volume::existing(device.path().to_owned()), scratch.path("mnt"));
    for in_use in [false, true] {
        let mount = Mount::new(&volume, &dir, "single,transport=native,commit=3600");
        let pid = mount.pid().unwrap();
        fs::write(dir.join("file"), "content").unwrap();
        let open = in_use.then(|| File::open(dir.join("file")).unwrap());
        let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        until("the daemon has ended", SOON, || matches!(process_state(pid), None | Some('Z')));
        assert!(mountinfo().iter().all(|line| line.dir != dir), "nothing is mounted any more");
        drop((open, mount));
        volume.assert_clean();
    }
}
