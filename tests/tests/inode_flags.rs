//! Flags of inodes (chattr, lsattr) and the label, through a real mount. What a flag forbids says ext4 in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::Path;

use lunfs_tests::command::{bash, run};
use lunfs_tests::ext4::{Ext4, same_on_ext4};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Volume, make_by_gfs2};
use lunfs_tests::watchdog::Watchdog;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "mkfs.gfs2", "mkfs.ext4", "chattr", "lsattr", "setpriv", "python3"]);
}

fn small(scratch: &Scratch) -> Volume {
    Volume::make(scratch.path("volume.img"), "200M", &["-j", "1", "-J", "8M"])
}

/// The letters of lsattr, without the places of those that are not set.
#[track_caller]
fn letters(path: &Path) -> String {
    let said = run("lsattr", ["-d".as_ref(), path.as_os_str()]).ok().stdout;
    said.split(' ').next().unwrap().replace('-', "")
}

#[test]
fn what_flags_forbid_is_what_ext4_forbids() {
    needs();
    let _watchdog = Watchdog::minutes("what_flags_forbid_is_what_ext4_forbids", 20);
    let scratch = Scratch::new("flags");
    let ext4 = Ext4::new(&scratch);
    let script = need::repository().join("tests/tests/inode_flags/flags.py");
    for options in ["single", "single,transport=fuser"] {
        let volume = small(&scratch);
        let mount = Mount::new(&volume, &scratch.path("mnt"), options);
        for base in [scratch.dir(), mount.dir(), ext4.dir()] {
            std::fs::set_permissions(base, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let line = "chmod 777 .; python3 -B \"$1\"";
        let said = same_on_ext4("flags", mount.dir(), ext4.dir(), line, &[&script]);
        for line in ["with-i write f EPERM", "with-a append f ok", "with-a unlink in d EPERM", "read with A True"] {
            assert!(said.lines().any(|found| found == line), "{line} is missing in\n{said}");
        }
        bash("rmdir \"$1/flags\" \"$2/flags\"", [mount.dir(), ext4.dir()]).ok();
        mount.umount();
        volume.assert_sound();
        std::fs::remove_file(volume.image()).unwrap();
    }
}

#[test]
fn chattr_and_lsattr_work_and_flags_stay() {
    needs();
    let _watchdog = Watchdog::minutes("chattr_and_lsattr_work_and_flags_stay", 10);
    let scratch = Scratch::new("chattr");
    let volume = small(&scratch);
    let mut mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    let dir = mount.dir().to_owned();
    let make = r#"cd "$1"; mkdir d many; echo x > f; echo x > i; echo x > a; chattr +jSA f; chattr +i i; chattr +a a; chattr +jT d
        mkdir d/sub; echo inherited > d/sub/g; ln -s f link; for i in $(seq 400); do : > many/a-long-name-that-fills-leaves-$i; done"#;
    bash(make, [&dir]).ok();
    let check = |dir: &Path| {
        for (name, wanted) in
            [("f", "SAj"), ("i", "i"), ("a", "a"), ("d", "jT"), ("d/sub", "j"), ("d/sub/g", "j"), ("many", "I")]
        {
            assert_eq!(letters(&dir.join(name)), wanted, "{name}");
        }
    };
    check(&dir);
    for round in 0..2 {
        mount.umount();
        volume.assert_sound();
        mount = Mount::new(&volume, &dir, if round == 0 { "single" } else { "single,transport=fuser" });
        check(&dir);
    }
    // A directory that is hashed keeps its letter, and can have others.
    bash("chattr +A \"$1/many\"", [&dir]).ok();
    assert_eq!(letters(&dir.join("many")), "AI");
    for (options, name) in [("+c", "f"), ("+C", "f"), ("+T", "f"), ("+d", "d"), ("+i", "link")] {
        let refused = bash(&format!("chattr {options} \"$1/{name}\""), [&dir]);
        assert_ne!(refused.status, 0, "chattr {options} {name}");
    }
    bash("cd \"$1\"; chattr -i i; chattr -a a; rm i a; chattr -jSA f; cat f d/sub/g", [&dir]).ok();
    assert_eq!(letters(&dir.join("f")), "");
    mount.umount();
    volume.assert_sound();
}

/// What the kernel cannot know of an append-only file, the daemon refuses.
#[test]
fn an_append_only_file_keeps_its_content_whatever_way_it_is_written() {
    needs();
    let _watchdog = Watchdog::minutes("an_append_only_file_keeps_its_content", 5);
    let scratch = Scratch::new("append");
    let volume = small(&scratch);
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    let script = r#"cd "$1"; echo 0123456789 > log; chattr +a log; python3 - <<'END'
import fcntl, mmap, os
fd = os.open("log", os.O_RDWR | os.O_APPEND)
fcntl.fcntl(fd, fcntl.F_SETFL, 0)
try: os.pwrite(fd, b"xx", 2); print("written")
except PermissionError: print("refused")
view = mmap.mmap(fd, 11)
view[4:6] = b"yy"
try: view.flush(); print("flushed")
except OSError: print("refused")
END
echo more >> log"#;
    let said = bash(script, [mount.dir()]).ok();
    assert_eq!(said.stdout, "refused\nrefused\n");
    let content = bash(
        "cd \"$1\"; python3 -c 'import os; fd = os.open(\"log\", 0); os.posix_fadvise(fd, 0, 0, 4); print(os.read(fd, 99))'",
        [mount.dir()],
    );
    assert_eq!(content.ok().stdout.trim(), r"b'0123456789\nmore\n'");
    bash("chattr -a \"$1/log\"", [mount.dir()]).ok();
    mount.umount();
    volume.assert_sound();
}

/// What is asked to be synchronous is there after SIGKILL.
#[test]
fn what_is_synchronous_survives_the_daemon() {
    needs();
    let _watchdog = Watchdog::minutes("what_is_synchronous_survives_the_daemon", 5);
    let scratch = Scratch::new("chattr-sync");
    let volume = small(&scratch);
    let dir = scratch.path("mnt");
    let mount = Mount::foreground(&volume, &dir, "single,commit=3600");
    let make = r#"cd "$1"; mkdir d; : > f; chattr +S d f; sync -f f; echo content > f; : > d/old; mv d/old d/new; ln d/new d/link; : > d/gone; rm d/gone; mkdir d/sub"#;
    bash(make, [&dir]).ok();
    mount.kill();
    let mount = Mount::new(&volume, &dir, "single");
    let found = bash("cd \"$1\"; cat f; ls d", [&dir]).ok();
    assert_eq!(found.stdout, "content\nlink\nnew\nsub\n");
    mount.umount();
    volume.assert_sound();
}

#[test]
fn the_label_is_read_and_set_by_who_may() {
    needs();
    let _watchdog = Watchdog::minutes("the_label_is_read_and_set_by_who_may", 5);
    let scratch = Scratch::new("label");
    let volume = Volume::make(scratch.path("volume.img"), "64M", &["-j", "1", "-J", "8M", "-L", "first"]);
    let dir = scratch.path("mnt");
    let script = r#"import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
if len(sys.argv) > 2:
    try: fcntl.ioctl(fd, 0x41009432, sys.argv[2].encode().ljust(256, b"\0"))
    except OSError as error: print(error.strerror)
print(fcntl.ioctl(fd, 0x81009431, bytes(256)).rstrip(b"\0").decode())"#;
    let call = |words: &[&str]| {
        let args = ["-c", script, dir.to_str().unwrap()].into_iter().chain(words.iter().copied());
        run("python3", args).ok().stdout.trim().to_owned()
    };
    let mount = Mount::new(&volume, &dir, "single");
    assert_eq!(call(&[]), "first");
    assert_eq!(call(&["second"]), "second");
    assert_eq!(call(&[&"x".repeat(64)]), "Invalid argument\nsecond");
    assert_eq!(call(&["two\nlines"]), "Invalid argument\nsecond");
    let user = bash(
        "export PATH=/usr/bin:/bin; chmod 755 \"$1\"; setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c \"$2\" \"$1\" mine",
        [dir.as_os_str(), script.as_ref()],
    );
    assert_eq!(user.ok().stdout.trim(), "Operation not permitted\nsecond");
    mount.umount();
    volume.assert_sound();
    let shown = run("blkid", ["-p".as_ref(), "-s".as_ref(), "LABEL".as_ref(), volume.image().as_os_str()]).ok();
    assert!(shown.stdout.contains("LABEL=\"second\""), "{}", shown.stdout);
    let mount = Mount::new(&volume, &dir, "single");
    assert_eq!(call(&[]), "second");
    mount.umount();

    // The cluster's name of another implementation is left alone.
    let image = scratch.path("gfs2.img");
    make_by_gfs2(&image, "64M", &["-j", "1", "-J", "8M", "-t", "cluster:name"]);
    let volume = Volume::existing(image);
    let mount = Mount::new(&volume, &dir, "single");
    assert_eq!(call(&["mine"]), "Operation not supported\ncluster:name");
    mount.umount();
    volume.assert_sound();
}
