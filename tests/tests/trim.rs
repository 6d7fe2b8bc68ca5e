//! Telling the device what is free: fstrim(8) and `-o discard`, on image files and block devices. What is free goes, what is
//! in use stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use lunfs_tests::command::{bash, run, until};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{LoopDevice, Volume};
use lunfs_tests::watchdog::Watchdog;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "fstrim", "losetup", "setpriv", "sha256sum"]);
}

/// Space that the image takes on the disk, in bytes.
fn taken(image: &Path) -> u64 {
    std::fs::metadata(image).unwrap().blocks() * 512
}

/// Bytes that fstrim says it has trimmed.
#[track_caller]
fn fstrim(dir: &Path) -> u64 {
    let said = run("fstrim", ["-v".as_ref(), dir.as_os_str()]).ok().stdout;
    // DIR: 12.3 MiB (12345678 bytes) trimmed
    let bytes = said.split('(').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{said}"));
    bytes.parse().unwrap()
}

const FILL: &str = "cd \"$1\"; head -c 40M /dev/urandom > kept; head -c 60M /dev/urandom > gone; sync -f .; sync kept gone; sha256sum kept";

#[test]
fn fstrim_gives_back_what_is_free_and_the_second_time_nothing() {
    needs();
    let _watchdog = Watchdog::minutes("fstrim_gives_back_what_is_free", 10);
    for (options, with_device) in [("single", false), ("single,transport=fuser", false), ("single", true)] {
        println!("{options}, block device: {with_device}");
        let scratch = Scratch::new("fstrim");
        let image = scratch.path("volume.img");
        let volume = Volume::make(image.clone(), "200M", &["-j", "1", "-J", "8M"]);
        let device = with_device.then(|| LoopDevice::attach(&image, &["--direct-io=on"]));
        let mounted = device.as_ref().map_or(volume.clone(), |device| Volume::existing(device.path().to_owned()));
        let dir = scratch.path("mnt");
        let mount = Mount::new(&mounted, &dir, options);
        let sum = bash(FILL, [&dir]).ok().stdout;
        assert!(taken(&image) > 100 << 20);
        bash("cd \"$1\"; rm gone; sync kept", [&dir]).ok();
        let first = fstrim(&dir);
        assert!(first > 140 << 20, "{first}");
        assert!(taken(&image) < 60 << 20, "{}", taken(&image));
        assert_eq!(fstrim(&dir), 0);
        assert_eq!(bash("cd \"$1\"; sha256sum kept", [&dir]).ok().stdout, sum);
        bash("chmod 755 \"$1\"", [&dir]).ok();
        let nobody = bash("setpriv --reuid=1000 --regid=1000 --clear-groups fstrim -v \"$1\"", [&dir]);
        assert_ne!(nobody.status, 0);
        mount.umount();
        let mount = Mount::new(&mounted, &dir, options);
        assert_eq!(fstrim(&dir), 0, "what is trimmed stands on the disk");
        assert_eq!(bash("cd \"$1\"; sha256sum kept", [&dir]).ok().stdout, sum);
        mount.umount();
        drop(device);
        volume.assert_sound();
    }
}

#[test]
fn a_mount_with_discard_gives_back_what_is_freed() {
    needs();
    let _watchdog = Watchdog::minutes("a_mount_with_discard_gives_back_what_is_freed", 10);
    let scratch = Scratch::new("discard");
    let image = scratch.path("volume.img");
    let volume = Volume::make(image.clone(), "200M", &["-j", "1", "-J", "8M"]);
    let dir = scratch.path("mnt");
    for (options, gives_back) in [("single,commit=1", false), ("single,discard,commit=1", true)] {
        let mount = Mount::new(&volume, &dir, options);
        let sum = bash(FILL, [&dir]).ok().stdout;
        let full = taken(&image);
        bash("cd \"$1\"; rm gone; sync kept", [&dir]).ok();
        if gives_back {
            until("the image is smaller", Duration::from_secs(60), || taken(&image) < full - (50 << 20));
        }
        // And what is freed and taken again keeps its content.
        let churn =
            "cd \"$1\"; for i in $(seq 30); do cp kept copy; cmp kept copy || exit 1; rm copy; done; sha256sum kept";
        assert_eq!(bash(churn, [&dir]).ok().stdout, sum);
        mount.umount();
        volume.assert_sound();
        assert_eq!(taken(&image) < full - (50 << 20), gives_back, "{options}");
    }
}
