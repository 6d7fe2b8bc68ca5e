//! `mkfs.lunfs` as it is typed: what it refuses, with which words and status, and what it must not touch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::path::Path;

use block::claim::{Claim, Sharing};
use lunfs_tests::command::{Outcome, bash, run};
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{LoopDevice, assert_fsck_clean, called};

fn mkfs(args: &[&str], target: &Path, size: Option<&str>) -> Outcome {
    let mut line: Vec<OsString> = args.iter().map(OsString::from).collect();
    line.push(target.into());
    line.extend(size.map(OsString::from));
    run(called("mkfs.lunfs"), line)
}

#[track_caller]
fn refused(said: Outcome, words: &str) {
    let said = said.status_is(&[1]);
    assert!(said.stderr.contains(words), "{}\n  does not say {words:?}:\n{}", said.line, said.stderr);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
}

#[test]
fn each_wrong_use_has_its_message_and_status_1() {
    let scratch = Scratch::new("mkfs");
    let (file, none) = (scratch.path("file"), scratch.path("none"));
    bash("truncate -s 128M $1; mkfifo $2", [&file, &scratch.path("pipe")]).ok();
    let long = "x".repeat(64);
    let rows: &[(&[&str], &Path, Option<&str>, &str)] = &[
        (&[], &none, None, "give a SIZE to make an image file"),
        (&[], Path::new("/nowhere/volume"), Some("1G"), "no such device or file"),
        (&[], Path::new("/dev/no-such-disk"), Some("1G"), "no such device"),
        (&[], scratch.dir(), None, "is a directory"),
        (&[], Path::new("/dev/null"), None, "is a character device"),
        (&[], &scratch.path("pipe"), None, "is a pipe"),
        (&[], &file, Some("1G"), "the device has 134217728"),
        (&[], &none, Some("1M"), "the smallest is"),
        (&[], &none, Some("1.5G"), "is no size"),
        (&[], &none, Some("99999999P"), "too large"),
        (&["-b", "300"], &file, None, "512, 1024, 2048 or 4096"),
        (&["-b", "8192"], &file, None, "512, 1024, 2048 or 4096"),
        (&["-j", "0"], &file, None, "choose 1 to 128"),
        (&["-j", "129"], &file, None, "choose 1 to 128"),
        (&["-j", "40"], &file, None, "at most"),
        (&["-j", "many"], &file, None, "-j"),
        (&["-J", "4M"], &file, None, "choose 8 to 1024 MiB"),
        (&["-J", "2G"], &file, None, "choose 8 to 1024 MiB"),
        (&["-J", "1G"], &file, None, "the smallest is"),
        (&["-r", "16"], &file, None, "choose 32 to 2048 MiB"),
        (&["-L", &long], &file, None, "at most 63 fit"),
        (&["-L", "a/b"], &file, None, "the label contains '/'"),
        (&["-U", "five"], &file, None, "a UUID looks like"),
        (&["-U", "00000000-0000-0000-0000-000000000000"], &file, None, "is not zero"),
        (&["-X"], &file, None, "-X"),
        (&["-q", "-v"], &file, None, "cannot be used with"),
    ];
    for (args, target, size, words) in rows {
        refused(mkfs(args, target, *size), words);
        assert!(!none.exists(), "{args:?} left a file behind");
    }
    refused(run(called("mkfs.lunfs"), [""; 0]), "DEVICE");
    assert_eq!(bash("cmp -n 134217728 $1 /dev/zero", [&file]).status, 0, "something was written");
}

#[test]
fn what_is_on_a_disk_is_named_and_kept_until_forced() {
    need::tools(&["mkfs.ext4", "fsck.gfs2", "blkid"]);
    let scratch = Scratch::new("mkfs");
    let file = scratch.path("file");
    bash("truncate -s 64M $1; mkfs.ext4 -qF $1; cp $1 $1.before", [&file]).ok();
    refused(mkfs(&[], &file, None), "holds ext2, ext3 or ext4; to overwrite it, add -f");
    bash("cmp $1 $1.before", [&file]).ok();
    mkfs(&["-f", "-q"], &file, None).ok();
    assert_fsck_clean(&file);
    refused(mkfs(&[], &file, None), "holds lunfs");
    mkfs(&["-O"], &file, None).ok();

    let gpt = "truncate -s 0 $1; truncate -s 64M $1
        for at in 512 $((64 * 1024 * 1024 - 512)); do
            printf 'EFI PART' | dd of=$1 bs=1 seek=$at conv=notrunc status=none
        done";
    bash(gpt, [&file]).ok();
    refused(mkfs(&[], &file, None), "holds GPT partition table");
    mkfs(&["-f", "-q"], &file, None).ok();
    let type_found = run(
        "blkid",
        ["-p".as_ref(), "-o".as_ref(), "value".as_ref(), "-s".as_ref(), "TYPE".as_ref(), file.as_os_str()],
    );
    assert_eq!(type_found.ok().stdout.trim(), "gfs2");
    bash("[[ $(tail -c 512 $1 | head -c 8) != 'EFI PART' ]]", [&file]).ok();
}

#[test]
fn a_disk_in_use_is_refused_even_when_forced() {
    need::root();
    let scratch = Scratch::new("mkfs");
    let (file, dir) = (scratch.path("file"), scratch.path("dir"));
    bash("truncate -s 64M $1; mkfs.ext4 -qF $1; mkdir $2", [&file, &dir]).ok();
    {
        let _claim = Claim::take(&file, Sharing::Exclusive).unwrap();
        refused(mkfs(&["-f"], &file, None), "in use on this machine");
    }
    let device = LoopDevice::attach(&file, &[]);
    refused(mkfs(&["-f"], &file, None), "in use by /dev/loop");
    run("mount", [device.path(), &dir]).ok();
    refused(mkfs(&["-f"], device.path(), None), "in use on this machine");
    run("umount", [&dir]).ok();
    mkfs(&["-f", "-q"], device.path(), None).ok();
}

#[test]
fn sectors_of_a_device_limit_the_blocks() {
    need::root();
    let scratch = Scratch::new("mkfs");
    let file = scratch.path("file");
    bash("truncate -s 256M $1", [&file]).ok();
    {
        let device = LoopDevice::attach(&file, &["--sector-size", "4096"]);
        refused(mkfs(&["-b", "512"], device.path(), None), "smaller than the device's sectors of 4096; use -b 4096");
        mkfs(&["-q"], device.path(), None).ok();
    }
    assert_fsck_clean(&file);
    let said = mkfs(&["-f", "-b", "1024"], &file, None).ok();
    assert!(said.stderr.contains("physical sectors of 4096"), "{}", said.stderr);
    assert_fsck_clean(&file);
}

#[test]
fn a_read_only_device_and_one_of_somebody_else_are_refused() {
    need::root();
    need::tools(&["setpriv"]);
    let scratch = Scratch::new("mkfs");
    let (file, program) = (scratch.path("file"), scratch.path("mkfs.lunfs"));
    bash("truncate -s 64M $1; cp $2 $3; chmod 755 $3 $(dirname $3)", [file.as_path(), need::lunfs(), &program]).ok();
    {
        let device = LoopDevice::attach(&file, &["--read-only"]);
        refused(mkfs(&[], device.path(), None), "the medium is read-only");
    }
    let device = LoopDevice::attach(&file, &[]);
    let mut nobody: Vec<OsString> = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from).to_vec();
    nobody.extend([program.into_os_string(), device.path().into()]);
    refused(run("setpriv", nobody), "permission denied; run as root");
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let scratch = Scratch::new("mkfs");
    let file = scratch.path("file");
    let said = mkfs(&["-n", "--json", "-j", "2"], &file, Some("10T")).ok();
    assert!(
        said.stdout.starts_with("{\"output_version\":1") && said.stdout.contains("\"journals\":2"),
        "{}",
        said.stdout
    );
    assert!(!file.exists());
    bash("truncate -s 64M $1; mkfs.ext4 -qF $1; cp $1 $1.before", [&file]).ok();
    mkfs(&["-n"], &file, None).ok();
    bash("cmp $1 $1.before", [&file]).ok();
}

#[test]
fn options_of_mkfs_gfs2_are_taken_with_a_warning_and_quiet_is_quiet() {
    let scratch = Scratch::new("mkfs");
    let file = scratch.path("file");
    let said = mkfs(&["-p", "lock_dlm", "-t", "c:v", "-J", "8", "-r", "32", "-L", "data"], &file, Some("256M")).ok();
    assert!(said.stderr.contains("-p is ignored") && said.stderr.contains("-t is ignored"), "{}", said.stderr);
    assert!(said.stdout.contains("mount -t lunfs") && said.stdout.contains("data"), "{}", said.stdout);
    assert_fsck_clean(&file);
    let said = mkfs(&["-q", "-f"], &file, None).ok();
    assert_eq!(said.text(), "");
    let said = mkfs(&["--json"], &file, None).status_is(&[1]);
    assert!(said.stdout.contains("\"error\":"), "{}", said.stdout);
}

#[test]
fn a_new_vhdx_file_holds_a_volume_that_the_referee_finds_clean() {
    need::tools(&["qemu-img", "fsck.gfs2"]);
    let scratch = Scratch::new("mkfs");
    let (disk, raw) = (scratch.path("disk.vhdx"), scratch.path("raw"));
    mkfs(&["-q"], &disk, Some("300M")).ok();
    run("qemu-img", ["convert".as_ref(), "-O".as_ref(), "raw".as_ref(), disk.as_os_str(), raw.as_os_str()]).ok();
    assert_fsck_clean(&raw);
    refused(mkfs(&[], &disk, None), "holds lunfs");
}
