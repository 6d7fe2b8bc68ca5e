//! Quotas through a real mount: limits for every kind of growth, by the programs of ordinary users; `lunfs quota`, on
//! mounts and on devices; daemons that are killed; what `gfs2_edit` and `fsck.gfs2` see afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lunfs_tests::command::{Outcome, bash, run, until};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Volume, called};
use lunfs_tests::watchdog::Watchdog;
use serde_json::Value;

/// What EDQUOT is called.
const REFUSED: &str = "Disk quota exceeded";
const BLOCK: u64 = 4096;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "gfs2_edit", "setpriv", "setfattr", "python3", "getent"]);
}

#[track_caller]
fn quota(spec: &Path, args: &str) -> Outcome {
    run(called("lunfs"), ["quota".as_ref(), spec.as_os_str()].into_iter().chain(args.split(' ').map(AsRef::as_ref)))
}

/// The fields of `quota get`.
#[track_caller]
fn get(spec: &Path, whose: &str) -> Value {
    serde_json::from_str(&quota(spec, &format!("get {whose} --json")).ok().stdout).unwrap()
}

#[track_caller]
fn used(spec: &Path, whose: &str) -> u64 {
    get(spec, whose)["used_blocks"].as_u64().unwrap()
}

/// Runs a line of bash in `dir` as user and group 1000, who is in group 2000 as well.
#[track_caller]
fn as_user(dir: &Path, script: &str) -> Outcome {
    let line = format!(
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; cd \"$1\"; \
         exec setpriv --reuid=1000 --regid=1000 --groups=1000,2000 -- bash -c '{script}'"
    );
    bash(&line, [dir])
}

/// Programs say what the kernel told them, and end with an error.
#[track_caller]
fn assert_refused(said: &Outcome) {
    assert!(said.status != 0 && said.text().contains(REFUSED), "{}: {}, {}", said.line, said.status, said.text());
}

#[track_caller]
fn new_mount(scratch: &Scratch, options: &str) -> (Volume, Mount) {
    let volume = Volume::make(scratch.path("volume.img"), "200M", &["-j", "1", "-J", "8M"]);
    let mount = Mount::foreground(&volume, &scratch.path("mnt"), &format!("single,{options}"));
    std::fs::set_permissions(mount.dir(), PermissionsExt::from_mode(0o777)).unwrap();
    (volume, mount)
}

/// Unmounts; then the volume is sound, and the quota file says what there is.
#[track_caller]
fn finish(volume: &Volume, mount: Mount) {
    mount.umount();
    assert_counted(volume);
}

#[track_caller]
fn assert_counted(volume: &Volume) {
    volume.assert_clean();
    let said = quota(volume.image(), "check --json").ok();
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(found["differing"], 0, "{}", said.stdout);
    let checked = run(called("lunfs"), ["debug".as_ref(), volume.image().as_os_str(), "check".as_ref()]).ok();
    assert!(checked.stdout.contains("clean: 0 error(s)"), "{}", checked.stdout);
}

#[test]
fn limits_hold_for_every_kind_of_growth() {
    needs();
    let _watchdog = Watchdog::minutes("limits_hold_for_every_kind_of_growth", 10);
    let scratch = Scratch::new("quota-limits");
    let (volume, mount) = new_mount(&scratch, "quota=on");
    let dir = mount.dir();
    quota(dir, "set --user 1000 --limit 1M --warn 512K").ok();
    quota(dir, "set --group 2000 --limit 40K").ok();
    assert_eq!(get(dir, "--user 1000")["limit_blocks"], 256);
    assert_eq!(get(dir, "--user 1000")["warn_blocks"], 128);
    assert_eq!(get(dir, "--user 1000")["mode"], "on");

    as_user(dir, "mkdir own; echo small > own/small; head -c 30000 /dev/zero > own/medium").ok();
    assert_refused(&as_user(dir, "head -c 2M /dev/zero > own/large"));
    assert_eq!(used(dir, "--user 1000"), 256, "up to the limit, and not a block more");
    for refused in [
        "echo more >> own/large",
        "echo new > own/new",
        "cp own/medium own/copy",
        "mkdir own/dir",
        "ln -s target own/link",
        "mkfifo own/fifo",
        "setfattr -n user.a -v 1 own/small",
        // 3 KiB are in the inode, 5000 bytes in a block.
        "truncate -s 5000 own/small",
        "dd if=/dev/zero of=own/large bs=4k count=1 seek=100000 conv=notrunc",
    ] {
        assert_refused(&as_user(dir, refused));
    }
    // What takes no block goes on: other content, other names, holes.
    as_user(dir, "dd if=/dev/zero of=own/large bs=4k count=10 conv=notrunc; mv own/large own/l; truncate -s 1T own/l")
        .ok();
    let mapped = "import mmap, os
f = os.open(\"own/l\", os.O_RDWR)
m = mmap.mmap(f, 1 << 30)
m[900 << 20] = 1
try:
    m.flush()
    print(\"written\")
except OSError:
    print(\"refused\")";
    assert_eq!(as_user(dir, &format!("python3 -c \"\n{}\"", mapped.replace('"', "\\\""))).ok().stdout, "refused\n");
    assert_eq!(used(dir, "--user 1000"), 256);

    // Giving away: to somebody who is full, not even by root.
    std::fs::write(dir.join("of root"), [1; 5000]).unwrap();
    assert_refused(&bash("chown 1000 \"$1\"/'of root'", [dir]));
    assert_refused(&as_user(dir, "chgrp 2000 own/l"));
    as_user(dir, "chgrp 2000 own/small own/medium").ok();
    assert_eq!(used(dir, "--group 2000"), 10, "an inode with 30000 bytes in 8 blocks, and a small one");
    assert_refused(&as_user(dir, "chgrp 2000 own"));
    bash("chown 5:2000 \"$1\"/own/small; chown 1000:2000 \"$1\"/own/small", [dir]).ok();

    // Root goes beyond it, and that counts.
    bash("head -c 100K /dev/zero >> \"$1\"/own/medium", [dir]).status_is(&[0]);
    assert!(used(dir, "--user 1000") > 256);
    quota(dir, "set --group 2000 --limit 0").ok();

    // Space is there again after deletion: the kernel lets go of the inode on its own time.
    as_user(dir, "rm own/l").ok();
    until("the space is there again", Duration::from_secs(60), || {
        as_user(dir, "head -c 800K /dev/zero > own/again").status == 0
    });
    as_user(dir, "rm -r own").ok();
    until("all of it is there again", Duration::from_secs(60), || used(dir, "--user 1000") == 0);
    finish(&volume, mount);
}

#[test]
fn the_log_says_once_who_comes_near_and_who_comes_to_a_limit() {
    needs();
    let _watchdog = Watchdog::minutes("the_log_says_once", 10);
    for (mode, lines) in [("on", 1), ("quiet", 0)] {
        let scratch = Scratch::new("quota-log");
        let (volume, mount) = new_mount(&scratch, &format!("quota={mode}"));
        let dir = mount.dir();
        quota(dir, "set --user 1000 --limit 1M --warn 512K").ok();
        as_user(dir, "head -c 500K /dev/zero > a").ok();
        assert!(!mount.log().contains("user 1000"), "{}", mount.log());
        as_user(dir, "for i in 1 2 3; do head -c 20K /dev/zero > $i; done").ok();
        for _ in 0..3 {
            assert_refused(&as_user(dir, "head -c 1M /dev/zero >> a"));
        }
        // The daemon writes it before it answers, but through a pipe.
        let count = |what: &str| mount.log().lines().filter(|line| line.contains(what)).count();
        until("the log has come", Duration::from_secs(30), || {
            count("quota warning: user 1000") >= lines && count("quota exceeded: user 1000") >= lines
        });
        assert_eq!([count("quota warning"), count("quota exceeded")], [lines; 2], "{}", mount.log());
        finish(&volume, mount);
    }
}

#[test]
fn everybody_sees_his_own_and_root_sets() {
    needs();
    let _watchdog = Watchdog::minutes("everybody_sees_his_own", 10);
    let scratch = Scratch::new("quota-users");
    let (volume, mount) = new_mount(&scratch, "quota=account");
    let dir = mount.dir();
    // Where users can reach it.
    let lunfs = dir.join("lunfs");
    std::fs::copy(need::lunfs(), &lunfs).unwrap();
    quota(dir, "set --user 1000 --limit 4K").ok();
    as_user(dir, "head -c 30000 /dev/zero > a").ok();
    let own = as_user(dir, "./lunfs quota . get --user 1000 --json").ok().stdout;
    let own: Value = serde_json::from_str(&own).unwrap();
    assert_eq!([&own["used_blocks"], &own["limit_blocks"]], [9, 1], "counted, and not refused");
    as_user(dir, "./lunfs quota . get --group 1000; ./lunfs quota . get --group 2000").ok();
    let report = as_user(dir, "./lunfs quota . report --json").ok().stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let ids: Vec<_> = report["quotas"].as_array().unwrap().iter().map(|quota| quota["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1000, 1000, 2000]);
    for refused in ["get --user 0", "get --group 0", "get --user 1001", "set --user 1000 --limit 1G", "sync"] {
        let said = as_user(dir, &format!("./lunfs quota . {refused}")).status_is(&[1]);
        assert!(said.stderr.contains("only root"), "{}", said.stderr);
    }
    // All of it, and in order.
    let report: Value = serde_json::from_str(&quota(dir, "report --json").ok().stdout).unwrap();
    let all: Vec<_> = report["quotas"].as_array().unwrap().iter().map(|quota| quota["used_blocks"].as_u64()).collect();
    assert!(all.len() == 4 && all.iter().all(Option::is_some), "{report}");
    assert_eq!((report["output_version"].as_u64(), report["block_size"].as_u64()), (Some(1), Some(BLOCK)));
    let users = quota(dir, "report --user").ok().stdout;
    assert!(users.contains("36 KiB") && !users.contains("group"), "{users}");
    // By the name of the image as well, while it is mounted.
    assert_eq!(used(volume.image(), "--user 1000"), 9);
    let said = quota(volume.image(), "check").status_is(&[1]);
    assert!(said.stderr.contains("unmount it first"), "{}", said.stderr);
    std::fs::remove_file(lunfs).unwrap();
    finish(&volume, mount);
}

#[test]
fn a_killed_daemon_loses_nothing_and_counts_nothing_twice() {
    needs();
    let _watchdog = Watchdog::minutes("a_killed_daemon_loses_nothing", 20);
    let scratch = Scratch::new("quota-kill");
    let (volume, mut mount) = new_mount(&scratch, "quota=on,quota_quantum=1,commit=1");
    let work = "for i in $(seq 40); do mkdir -p d$i; head -c ${i}000 /dev/zero > d$i/f; setfattr -n user.a -v $i d$i/f;
        chgrp 2000 d$((i / 2 + 1)) || true; rm -rf d$((i / 3)); sync d$i/f; done";
    for _ in 0..need::amount(5, 30) {
        as_user(mount.dir(), work).status_is(&[0, 1]);
        mount.kill();
        mount = Mount::foreground(&volume, &scratch.path("mnt"), "single,quota=on,quota_quantum=1");
    }
    finish(&volume, mount);
}

#[test]
fn what_a_mount_without_quotas_leaves_behind_is_found_and_repaired() {
    needs();
    let _watchdog = Watchdog::minutes("what_a_mount_without_quotas_leaves_behind", 10);
    let scratch = Scratch::new("quota-check");
    let (volume, mount) = new_mount(&scratch, "noquota");
    as_user(mount.dir(), "head -c 30000 /dev/zero > a").ok();
    // Looked at and set all the same.
    quota(mount.dir(), "set --user 1000 --limit 100M").ok();
    assert_eq!((used(mount.dir(), "--user 1000"), get(mount.dir(), "--user 1000")["mode"].as_str()), (0, Some("off")));
    mount.umount();
    let said = quota(volume.image(), "check --json").status_is(&[1]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(found["differing"], 2, "{found}");
    assert_eq!(found["differences"][0]["found_blocks"], 9, "{found}");
    quota(volume.image(), "check --repair").ok();
    assert_counted(&volume);
    assert_eq!(used(volume.image(), "--group 1000"), 9);
    assert_eq!(get(volume.image(), "--user 1000")["limit_blocks"], 25600);

    // On the device, without a mount.
    quota(volume.image(), "set --user 1000 --limit 10000 --warn 5000").ok();
    assert_eq!(get(volume.image(), "--user 1000")["limit_blocks"], 3, "whole blocks, rounded up");
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single,quota");
    assert_refused(&as_user(mount.dir(), "echo b > b"));
    finish(&volume, mount);

    // A journal that was not closed is somebody's business.
    let mount = Mount::foreground(&volume, &scratch.path("mnt"), "single,quota=account");
    as_user(mount.dir(), "echo b > b; sync b").ok();
    mount.kill();
    lunfs_tests::mount::detach(&scratch.path("mnt"));
    let said = quota(volume.image(), "check").status_is(&[1]);
    assert!(said.stderr.contains("replayed"), "{}", said.stderr);
    assert_eq!(used(volume.image(), "--user 1000"), 10);
    // Looking has replayed it, and left the rest to whoever may write.
    quota(volume.image(), "sync").ok();
    assert_counted(&volume);
}

#[test]
fn the_numbers_are_those_that_gfs2_edit_shows() {
    needs();
    let _watchdog = Watchdog::minutes("the_numbers_are_those_that_gfs2_edit_shows", 10);
    let scratch = Scratch::new("quota-gfs2-edit");
    let (volume, mount) = new_mount(&scratch, "quota=on");
    quota(mount.dir(), "set --user 5 --limit 400K --warn 200K").ok();
    quota(mount.dir(), "set --group 6 --limit 800K").ok();
    bash("head -c 40000 /dev/zero > \"$1\"/a; chown 5:6 \"$1\"/a", [mount.dir()]).ok();
    quota(mount.dir(), "sync").ok();
    finish(&volume, mount);
    let shown = run("gfs2_edit", ["-p".as_ref(), "quota".as_ref(), volume.image().as_os_str()]).ok().stdout;
    let entries = shown.split_once("quota entries found: 14").unwrap_or_else(|| panic!("{shown}")).1;
    let numbers: Vec<u64> = entries
        .lines()
        .filter(|line| line.trim_start().starts_with("qu_"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    let mut wanted = vec![[0, 0, 0]; 14];
    (wanted[0], wanted[1]) = ([0, 0, 1], [0, 0, 1]);
    (wanted[10], wanted[13]) = ([100, 50, 11], [200, 0, 11]);
    assert_eq!(numbers, wanted.concat(), "{shown}");
}

#[test]
fn wrong_uses_say_what_is_wrong() {
    needs();
    let _watchdog = Watchdog::minutes("wrong_uses_say_what_is_wrong", 10);
    let scratch = Scratch::new("quota-wrong");
    let volume = Volume::make(scratch.path("volume.img"), "200M", &["-j", "1", "-J", "8M"]);
    for (args, status, words) in [
        ("", 2, "Usage"),
        ("set --user 5", 2, "required"),
        ("set --limit 5M", 2, "required"),
        ("set --user 5 --group 6 --limit 5M", 2, "cannot be used"),
        ("set --user 5 --limit much", 2, "no size"),
        ("set --user nobody-of-that-name --limit 5M", 1, "there is no user"),
        ("get", 2, "required"),
        ("get --group 4294967296", 1, "there is no group"),
        ("report --user --group", 2, "cannot be used"),
    ] {
        let said =
            bash(&format!("\"$1\" quota \"$2\" {args}"), [&called("lunfs"), volume.image()]).status_is(&[status]);
        assert!(said.text().contains(words), "{args}: {}", said.text());
    }
    for (spec, words) in [("/proc", "not in a mounted volume"), ("/nowhere/at.all", "no such"), ("/dev/null", "")] {
        let said = quota(Path::new(spec), "report").status_is(&[1]);
        assert!(said.stderr.contains(words) && said.stderr.lines().count() == 1, "{spec}: {}", said.stderr);
    }
    volume.assert_clean();
}
