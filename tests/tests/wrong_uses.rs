//! Each wrong use of mkfs, mount, umount and debug: one line that says what is wrong, the right exit status, and nothing
//! changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use lunfs_tests::command::{Outcome, bash, run};
use lunfs_tests::mount::{Mount, mountinfo, mounts_below};
use lunfs_tests::need;
use lunfs_tests::scratch::{Guard, Leftover, Scratch};
use lunfs_tests::tree::hash_file;
use lunfs_tests::volume::{LoopDevice, Volume};
use lunfs_tests::watchdog::Watchdog;

/// A wrong use: the line of bash, its exit status, and words of its message.
type Case = (&'static str, i32, &'static [&'static str]);

const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";
/// A mount namespace of its own, in which there is no /dev/fuse.
const NO_FUSE: &str =
    "unshare --mount sh -c 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"' sh";

/// What stands in the folder in which the lines run: see `prepare`.
const MOUNT: &[Case] = &[
    ("mount.lunfs good.img mnt -o defaults", 1, &["-o single"]),
    ("mount.lunfs good.img mnt", 1, &["-o single"]),
    ("mount.lunfs good.img mnt -o single,nonsense", 1, &["nonsense"]),
    ("mount.lunfs good.img mnt -o single,commit=never", 1, &["commit"]),
    ("mount.lunfs good.img mnt -o single,quota=yes", 1, &["quota=yes"]),
    ("mount.lunfs", 1, &["required"]),
    ("mount.lunfs good.img", 1, &["required"]),
    ("$NOBODY mount.lunfs good.img mnt -o single", 1, &["root"]),
    ("$NO_FUSE mount.lunfs good.img mnt -o single", 2, &["/dev/fuse", "modprobe fuse"]),
    ("mount.lunfs none.img mnt -o single", 32, &["none.img", "no such"]),
    ("mount.lunfs /dev/nosuchdisk mnt -o single", 32, &["nosuchdisk", "no such"]),
    ("mount.lunfs UUID=00000000-1111-2222-3333-444444444444 mnt -o single", 32, &["00000000-1111", "no such"]),
    ("mount.lunfs folder mnt -o single", 32, &["folder", "is a directory"]),
    ("mount.lunfs /dev/null mnt -o single", 32, &["/dev/null", "character"]),
    ("mount.lunfs good.img none -o single", 32, &["none", "does not exist"]),
    ("mount.lunfs good.img good.img -o single", 32, &["good.img", "not a directory"]),
    ("mount.lunfs ext4.img mnt -o single", 32, &["ext4.img", "not a volume", "holds ext4"]),
    ("mount.lunfs zeroes.img mnt -o single", 32, &["zeroes.img", "not a volume"]),
    ("mount.lunfs empty.img mnt -o single", 32, &["empty.img"]),
    ("mount.lunfs half.img mnt -o single", 32, &["half.img"]),
    ("mount.lunfs head.img mnt -o single", 32, &["head.img"]),
    ("mount.lunfs not.vhdx mnt -o single", 32, &["not.vhdx"]),
    ("mount.lunfs $READONLY mnt -o single", 32, &["read-only"]),
    ("mount.lunfs mounted.img mnt -o single", 32, &["mounted.img", "mounted already"]),
    ("mount.lunfs repaired.img mnt -o single", 32, &["fsck"]),
    ("umount.lunfs mnt", 32, &["mnt", "not a mounted"]),
    ("umount.lunfs none.img", 32, &["none.img"]),
    ("umount.lunfs", 1, &["required"]),
    ("exec 9<busy/.; umount.lunfs busy 9<&-", 32, &["busy"]),
];

const MKFS: &[Case] = &[
    ("mkfs.lunfs", 1, &["required"]),
    ("mkfs.lunfs --nonsense new.img 300M", 1, &["--nonsense"]),
    ("mkfs.lunfs none.img", 1, &["none.img"]),
    ("mkfs.lunfs none/new.img 300M", 1, &["new.img"]),
    ("mkfs.lunfs folder", 1, &["folder", "directory"]),
    ("mkfs.lunfs /dev/null", 1, &["/dev/null"]),
    ("$NOBODY mkfs.lunfs good.img -f", 1, &["good.img", "permission denied"]),
    ("mkfs.lunfs new.img 1M", 1, &["too small"]),
    ("mkfs.lunfs new.img 0", 1, &[]),
    ("mkfs.lunfs new.img many", 1, &["many"]),
    ("mkfs.lunfs -b 3000 new.img 300M", 1, &["3000"]),
    ("mkfs.lunfs -b 65536 new.img 300M", 1, &["65536"]),
    ("mkfs.lunfs -j 0 new.img 300M", 1, &["-j"]),
    ("mkfs.lunfs -j 16 -J 128M new.img 300M", 1, &["journals"]),
    ("mkfs.lunfs -J 1M new.img 300M", 1, &["-J"]),
    ("mkfs.lunfs -r 1M new.img 300M", 1, &["-r"]),
    ("mkfs.lunfs -U nonsense new.img 300M", 1, &["nonsense"]),
    ("mkfs.lunfs -L \"$(printf '%0100d' 0)\" new.img 300M", 1, &["label"]),
    ("mkfs.lunfs ext4.img", 1, &["ext4", "-f"]),
    ("mkfs.lunfs good.img", 1, &["-f"]),
    ("mkfs.lunfs mounted.img", 1, &["mounted.img"]),
    ("mkfs.lunfs -f mounted.img", 1, &["mounted.img"]),
    ("mkfs.lunfs -f $READONLY", 1, &["read-only"]),
    ("mkfs.lunfs -f $MOUNTED_EXT4", 1, &["in use"]),
];

const DEBUG: &[Case] = &[
    ("lunfs debug", 2, &["Usage"]),
    ("lunfs debug good.img", 2, &[]),
    ("lunfs debug good.img nonsense", 2, &["nonsense"]),
    ("lunfs debug none.img sb", 1, &["none.img", "no such"]),
    ("lunfs debug folder sb", 1, &["folder", "directory"]),
    ("$NOBODY lunfs debug secret.img sb", 1, &["secret.img", "permission denied"]),
    ("lunfs debug ext4.img sb", 1, &[]),
    ("lunfs debug empty.img sb", 1, &["empty.img"]),
    ("lunfs debug good.img rgrp 9999", 1, &["9999"]),
    ("lunfs debug good.img journal 9999", 1, &["9999"]),
    ("lunfs debug good.img inode 1", 1, &[]),
    ("lunfs debug good.img block 99999999999", 1, &["99999999999"]),
    ("lunfs debug good.img path /not/there", 1, &["not"]),
    ("lunfs debug good.img inode many", 2, &["many"]),
    ("lunfs nonsense", 2, &["nonsense"]),
    ("lunfs", 2, &[]),
];

/// Makes the folder that the lines run in.
fn prepare(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    // Where everybody may run it: the folder of the build need not be open to all.
    std::fs::copy(need::lunfs(), bin.join("lunfs")).unwrap();
    for name in ["mkfs.lunfs", "mount.lunfs", "umount.lunfs"] {
        symlink("lunfs", bin.join(name)).unwrap();
    }
    let script = r#"
        cd "$1"
        mkdir mnt folder busy ext4mnt
        bin/mkfs.lunfs -q -j 1 -J 8M good.img 64M
        cp good.img secret.img; chmod 600 secret.img
        cp good.img half.img; truncate -s 30M half.img
        cp good.img head.img; truncate -s 100K head.img
        cp good.img mounted.img; cp good.img busy.img; cp good.img readonly.img
        cp good.img not.vhdx
        truncate -s 64M zeroes.img; : > empty.img
        truncate -s 64M ext4.img; mkfs.ext4 -q -F ext4.img
        cp ext4.img ext4mounted.img
        # What the superblock says while fsck.gfs2 repairs.
        cp good.img repaired.img
        printf 'fsck_lunfs\0' | dd of=repaired.img bs=1 seek=$((65536 + 96)) conv=notrunc status=none
    "#;
    bash(script, [dir]).ok();
}

fn check(dir: &Path, variables: &[(&str, &str)], (line, status, words): Case) -> Result<(), String> {
    let mut script = format!("cd \"$1\"; PATH=\"$1/bin:$PATH:/usr/sbin:/sbin\"; NOBODY='{NOBODY}'\n");
    script.push_str("no_fuse() { unshare --mount sh -c 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"' sh \"$@\"; }\n");
    for (name, value) in variables {
        script.push_str(&format!("{name}='{value}'\n"));
    }
    script.push_str(&format!("set +e +u\n{}\nexit $?", line.replace("$NO_FUSE", "no_fuse")));
    let said: Outcome = bash(&script, [dir]);
    let mut wrong = Vec::new();
    if said.status != status {
        wrong.push(format!("ended with {} instead of {status}", said.status));
    }
    let message = said.stderr.trim();
    for word in words {
        if !message.to_lowercase().contains(&word.to_lowercase()) {
            wrong.push(format!("does not say \"{word}\""));
        }
    }
    // Wrong command lines may print their usage; everything else is one line that names the program.
    let usage = message.contains("Usage:") || message.starts_with("error: ");
    if !usage && message.lines().count() != 1 {
        wrong.push(format!("says {} lines instead of one", message.lines().count()));
    }
    if message.contains("panicked") {
        wrong.push("panics".to_owned());
    }
    if wrong.is_empty() {
        println!("{status:3}  {line}\n     {}", message.lines().next().unwrap_or_default());
        return Ok(());
    }
    Err(format!("`{line}`: {}\n    it said: {message}", wrong.join(", ")))
}

fn check_all(cases: &[Case]) {
    need::root_and_fuse();
    need::tools(&["setpriv", "unshare", "mkfs.ext4", "losetup"]);
    assert!(NO_FUSE.contains("/dev/null"));
    let scratch = Scratch::new("wrong");
    let dir = scratch.dir();
    prepare(dir);
    let readonly = LoopDevice::attach(&dir.join("readonly.img"), &["--read-only"]);
    let ext4 = LoopDevice::attach(&dir.join("ext4mounted.img"), &[]);
    // Declared after the loop device, so that it goes first.
    let ext4_mount = Guard::new(Leftover::Mount(dir.join("ext4mnt")));
    run("mount", [ext4.path(), &dir.join("ext4mnt")]).ok();
    let mounted = Mount::new(&Volume::existing(dir.join("mounted.img")), &dir.join("folder"), "single");
    let busy = Mount::new(&Volume::existing(dir.join("busy.img")), &dir.join("busy"), "single");
    let variables = [("READONLY", readonly.path().to_str().unwrap()), ("MOUNTED_EXT4", ext4.path().to_str().unwrap())];
    let untouched =
        ["good.img", "ext4.img", "half.img", "head.img", "zeroes.img", "repaired.img", "not.vhdx", "secret.img"];
    let before = untouched.map(|name| hash_file(&dir.join(name)));
    let mounts = mounts_below(dir);

    let wrong: Vec<String> = cases.iter().filter_map(|case| check(dir, &variables, *case).err()).collect();

    let changed: Vec<&str> = untouched
        .iter()
        .zip(&before)
        .filter(|(name, hash)| hash_file(&dir.join(name)) != **hash)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(mounts_below(dir), mounts, "a wrong use has mounted something:\n{:#?}", mountinfo());
    std::fs::write(dir.join("folder/still-alive"), "x").unwrap();
    mounted.umount();
    busy.umount();
    drop(ext4_mount);
    assert!(
        wrong.is_empty(),
        "{} of {} wrong uses are answered wrongly:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert!(changed.is_empty(), "a wrong use has changed {changed:?}");
}

#[test]
fn of_mount_and_umount() {
    let _watchdog = Watchdog::minutes("wrong uses of mount", 5);
    check_all(MOUNT);
}

#[test]
fn of_mkfs() {
    let _watchdog = Watchdog::minutes("wrong uses of mkfs", 5);
    check_all(MKFS);
}

#[test]
fn of_debug() {
    let _watchdog = Watchdog::minutes("wrong uses of debug", 5);
    check_all(DEBUG);
}
