//! `lunfs install`, and mount(8), umount(8) and fstab afterwards. Everything happens in a mount namespace of its own, over
//! copies of the system's folders, so nothing of this machine changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::process::Command;

use lunfs_tests::command::{Outcome, finish};
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::watchdog::Watchdog;

/// Runs a script with bash in a namespace in which `/usr/sbin` and `/usr/local` may be changed.
fn in_a_copy_of_the_system(scratch: &Scratch, script: &str) -> Outcome {
    let prelude = r#"
        set -euxo pipefail
        here=$1 lunfs=$2
        mkdir -p "$here"/{sbin,local,mnt,prefix}
        mount --make-rprivate /
        for pair in /usr/sbin:sbin /usr/local:local; do
            # A folder of links to everything that is there now.
            from=${pair%%:*} to=$here/${pair##*:}
            mkdir "$to.below"; mount --bind "$from" "$to.below"
            for file in "$to.below"/*; do ln -s "$file" "$to/$(basename "$file")"; done
            mount --bind "$to" "$from"
        done
        cd "$here"
        trap 'umount -l "$here/mnt" 2>/dev/null || true' EXIT
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c"]);
    command.arg(format!("{prelude}\n{script}")).arg("bash").arg(scratch.dir()).arg(need::lunfs());
    finish(command)
}

fn needs() -> Watchdog {
    need::root_and_fuse();
    need::tools(&["unshare", "mount", "umount", "fsck.gfs2", "pgrep"]);
    assert!(
        std::fs::canonicalize("/sbin").is_ok_and(|sbin| sbin == std::path::Path::new("/usr/sbin")),
        "this test expects /sbin to be /usr/sbin, as Debian has it"
    );
    Watchdog::minutes("install", 5)
}

#[test]
fn mount_umount_and_fstab_work_after_install() {
    let _watchdog = needs();
    let scratch = Scratch::new("install");
    in_a_copy_of_the_system(
        &scratch,
        r#"
        "$lunfs" install --prefix "$here/prefix"
        for name in mkfs.lunfs mount.lunfs mount.fuse.lunfs mount.fuseblk.lunfs umount.lunfs umount.fuse.lunfs umount.fuseblk.lunfs; do
            test "$(realpath "/sbin/$name")" = "$here/prefix/sbin/lunfs"
        done
        mkfs.lunfs -q -j 1 -J 8M -L things volume.img 300M

        # mount(8) and umount(8), which returns when the image is clean: at once, without a wait.
        for round in 1 2 3; do
            mount -t lunfs -o single volume.img mnt
            findmnt -n -o FSTYPE,SOURCE mnt
            cp -a /usr/share/doc/bash "mnt/$round"
            dd if=/dev/zero of=mnt/big$round bs=1M count=30 status=none
            umount mnt
            fsck.gfs2 -n volume.img > said 2> complaints || { cat said complaints; exit 1; }
            test ! -s complaints || { cat complaints; exit 1; }
        done

        # A line of fstab, by path.
        echo "$here/volume.img $here/mnt lunfs single,noatime,nofail,_netdev 0 0" > fstab
        mount --fstab fstab "$here/mnt"
        test -d mnt/1 -a -d mnt/3
        diff -r /usr/share/doc/bash mnt/2
        umount "$here/mnt"
        fsck.gfs2 -n volume.img > said 2> complaints
        test ! -s complaints

        # By label, on a loop device.
        loop=$(losetup --find --show volume.img); blockdev --setrw "$loop"
        mount -t lunfs -o single LABEL=things mnt
        test -d mnt/1
        umount mnt
        # Detached, lazily: what is open stays usable, and the daemon ends when it is closed.
        mount -t lunfs -o single "$loop" mnt
        exec 7> mnt/open
        umount -l mnt
        echo late >&7
        exec 7>&-
        for try in $(seq 500); do losetup -d "$loop" 2>/dev/null || true; losetup "$loop" 2>/dev/null || break; sleep 0.02; done
        mount -t lunfs -o single volume.img mnt
        test "$(cat mnt/open)" = late
        umount mnt

        "$lunfs" install --prefix "$here/prefix" --uninstall
        test ! -e /sbin/mount.lunfs -a ! -e "$here/prefix/sbin/lunfs"
        find prefix -type f | { ! grep . ; }
        "#,
    )
    .ok();
}

#[test]
fn umount_tells_of_a_mount_in_another_namespace() {
    let _watchdog = needs();
    let scratch = Scratch::new("install-namespace");
    in_a_copy_of_the_system(
        &scratch,
        r#"
        "$lunfs" install --prefix "$here/prefix"
        mkfs.lunfs -q -j 1 -J 8M volume.img 300M
        mount -t lunfs -o single volume.img mnt
        mkfifo here go
        unshare --mount --propagation private sh -c 'echo > here; read line < go; cat mnt/late' > late &
        read line < here
        echo late > mnt/late
        umount mnt 2> said
        grep -q 'mounted elsewhere' said
        # The daemon goes on serving the other mount, and ends with it.
        pgrep -f 'mount.lunfs.*volume.img' > daemon
        echo > go
        wait
        test "$(cat late)" = late
        while kill -0 "$(cat daemon)" 2>/dev/null; do sleep 0.01; done
        fsck.gfs2 -n volume.img > said 2> complaints
        test ! -s complaints
        "#,
    )
    .ok();
}

#[test]
fn what_others_installed_is_not_overwritten() {
    let _watchdog = needs();
    let scratch = Scratch::new("install-foreign");
    let said = in_a_copy_of_the_system(
        &scratch,
        r#"
        rm -f /usr/sbin/mount.lunfs
        echo 'of somebody else' > /usr/sbin/mount.lunfs
        status=0; "$lunfs" install --prefix "$here/prefix" || status=$?
        grep -q 'of somebody else' /usr/sbin/mount.lunfs
        test $status -ne 0
        "#,
    );
    let said = said.ok();
    assert!(said.stderr.contains("mount.lunfs"), "the message names the file");
}
