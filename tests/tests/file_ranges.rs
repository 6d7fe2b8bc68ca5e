//! Ranges of files: allocated, zeroed, punched, copied, through a real mount. What each call does says ext4 in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::PathBuf;

use lunfs_tests::command::bash;
use lunfs_tests::ext4::{Ext4, same_on_ext4};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::Volume;
use lunfs_tests::watchdog::Watchdog;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "mkfs.ext4", "python3", "fallocate"]);
}

/// A file of this suite's folder.
fn script(name: &str) -> PathBuf {
    need::repository().join("tests/tests/file_ranges").join(name)
}

/// Runs a script in a folder of volumes of several kinds, and of ext4. Gives what it says.
fn compared(name: &str) -> String {
    needs();
    let scratch = Scratch::new(name);
    let mut all = String::new();
    let ext4 = Ext4::new(&scratch);
    for (block_bytes, options) in [("4096", "single"), ("512", "single"), ("4096", "single,transport=fuser")] {
        println!("blocks of {block_bytes} bytes, {options}");
        let image = scratch.path("volume.img");
        let volume = Volume::make(image.clone(), "200M", &["-b", block_bytes, "-j", "1", "-J", "8M"]);
        let mount = Mount::new(&volume, &scratch.path("mnt"), options);
        let args = [&*script(&format!("{name}.py"))];
        all = same_on_ext4(name, mount.dir(), ext4.dir(), "python3 -B \"$1\"", &args);
        bash("rmdir \"$1\" \"$2\"", [mount.dir().join(name), ext4.dir().join(name)]).ok();
        mount.umount();
        volume.assert_sound();
        std::fs::remove_file(image).unwrap();
    }
    all
}

#[test]
fn fallocate_does_what_it_does_on_ext4() {
    let _watchdog = Watchdog::minutes("fallocate_does_what_it_does_on_ext4", 20);
    let said = compared("allocate");
    assert!(said.lines().count() > 900 && said.contains("# privileges"), "{said}");
}

#[test]
fn copy_file_range_does_what_it_does_on_ext4() {
    let _watchdog = Watchdog::minutes("copy_file_range_does_what_it_does_on_ext4", 20);
    let said = compared("copy");
    assert!(said.lines().count() > 250 && said.contains("# many"), "{said}");
}

/// What ext4 has besides, GFS2 has not.
#[test]
fn ranges_are_neither_taken_out_nor_put_in() {
    needs();
    let _watchdog = Watchdog::minutes("ranges_are_neither_taken_out_nor_put_in", 5);
    let scratch = Scratch::new("collapse");
    let volume = Volume::make(scratch.path("volume.img"), "64M", &["-j", "1", "-J", "8M"]);
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    for option in ["-c", "-i"] {
        let line = format!("head -c 20000 /dev/zero > \"$1/f\"; fallocate {option} -o 0 -l 4096 \"$1/f\"");
        let refused = bash(&line, [mount.dir()]).status_is(&[1]);
        assert!(refused.stderr.contains("not supported"), "{}", refused.stderr);
    }
    mount.umount();
    volume.assert_sound();
}
