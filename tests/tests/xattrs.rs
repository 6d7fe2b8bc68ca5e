//! Extended attributes and access control lists through a real mount, by the programs that people use. Where ext4 can
//! do the same, it is asked in the same run, and both have to say the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::{Path, PathBuf};

use lunfs_tests::command::{bash, run};
use lunfs_tests::ext4::{Ext4, assert_same_lines, same_on_ext4};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Volume, make_by_gfs2};
use lunfs_tests::watchdog::Watchdog;

fn needs() {
    need::root_and_fuse();
    need::tools(&[
        "fsck.gfs2",
        "mkfs.gfs2",
        "mkfs.ext4",
        "getfattr",
        "setfattr",
        "getfacl",
        "setfacl",
        "setcap",
        "getcap",
        "setpriv",
        "rsync",
        "tar",
        "python3",
    ]);
}

/// A file of this suite's folder.
fn script(name: &str) -> PathBuf {
    need::repository().join("tests/tests/xattrs").join(name)
}

#[test]
fn what_is_allowed_is_what_ext4_allows() {
    needs();
    let _watchdog = Watchdog::minutes("what_is_allowed_is_what_ext4_allows", 10);
    let scratch = Scratch::new("xattr-errors");
    let volume = Volume::make(scratch.path("volume.img"), "200M", &["-j", "1", "-J", "8M"]);
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    let ext4 = Ext4::new(&scratch);
    let errors = script("errors.py");
    let dir = mount.dir().to_owned();
    for base in [dir.as_path(), ext4.dir()] {
        std::fs::set_permissions(base, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let root = "python3 \"$1\" make; python3 \"$1\" try";
    let said = same_on_ext4("root", &dir, ext4.dir(), root, &[&errors]);
    for line in ["set file trusted.a None", "set fifo user.a EPERM", "set file system.a ENOTSUP", "too long E2BIG"] {
        assert!(said.lines().any(|found| found == line), "{line} is missing in\n{said}");
    }
    let user = "python3 \"$1\" make; setpriv --reuid=1000 --regid=1000 --clear-groups -- python3 - try < \"$1\"";
    let said = same_on_ext4("user", &dir, ext4.dir(), user, &[&errors]);
    for line in ["set file trusted.a EPERM", "set foreign user.a EACCES", "list file ['user.old']"] {
        assert!(said.lines().any(|found| found == line), "{line} is missing in\n{said}");
    }
    drop(ext4);
    mount.umount();
    volume.assert_clean();
}

#[test]
fn access_control_lists_are_those_of_ext4() {
    needs();
    let _watchdog = Watchdog::minutes("access_control_lists_are_those_of_ext4", 20);
    let scratch = Scratch::new("acl");
    let volume = Volume::make(scratch.path("volume.img"), "200M", &["-j", "1", "-J", "8M"]);
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    let ext4 = Ext4::new(&scratch);
    let dir = mount.dir().to_owned();
    for base in [scratch.dir(), dir.as_path(), ext4.dir()] {
        std::fs::set_permissions(base, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let said = same_on_ext4("lists", &dir, ext4.dir(), ". \"$1\"", &[&script("lists.sh")]);
    assert!(said.contains("user:1001:rwx"), "lists were set:\n{said}");
    assert!(said.contains("1000 true > c:  -rwxr-xr-x"), "writing takes capabilities away");
    drop(ext4);
    let list = |dir: &Path| bash("cd \"$1\"; getfacl -n -R -P .; getfattr -R -h -d -m - .", [dir]).ok().stdout;
    let before = list(&dir);
    mount.umount();
    volume.assert_clean();
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single");
    assert_same_lines("before and after a remount", &before, &list(&dir));
    mount.umount();

    // Without the option, lists mean nothing and cannot be set, and what is stored stays.
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single,noacl");
    let denied = bash("cd \"$1/lists\"; touch x; setfacl -m u:5:r x", [&dir]).status_is(&[1]);
    assert!(denied.stderr.contains("Operation not supported"), "{}", denied.stderr);
    let masked =
        bash("umask 027; cd \"$1/lists/in-000-u..rwx_g..rx_o..-\"; touch new; stat -c %a new; rm new ../x", [&dir]);
    assert_eq!(masked.ok().stdout.trim(), "640");
    mount.umount();
    let mount = Mount::new(&volume, &scratch.path("mnt"), "single,acl");
    assert_same_lines("before and after a mount without lists", &before, &list(&dir));
    mount.umount();
    volume.assert_clean();
}

/// Attributes of many sizes and namespaces on files, directories and a link.
const FILL: &str = r#"
cd "$1"; mkdir -p tree/sub; echo content > tree/file; echo more > tree/sub/file; ln -s file tree/link; ln tree/file tree/hard
python3 - <<'END'
import os, hashlib
limit = int(os.environ.get("LIMIT", 65536))
def value(size): return (hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1))[:size]
for path in "tree", "tree/file", "tree/sub/file":
    for size in 0, 1, 100, 400, 487, 488, 489, 900, 3000, 4054, 4055, 4056, 4057, 20000, limit:
        if size <= limit: os.setxattr(path, "user.size-%d" % size, value(size))
    for number in range(60): os.setxattr(path, "user.many-%d" % number, value(number * 3))
    os.setxattr(path, "trusted.t", b"\0\xff"); os.setxattr(path, "user.\xe4\xf6\xfc \"=", b"odd")
os.setxattr("tree/link", "trusted.on-a-link", b"x", follow_symlinks=False)
os.setxattr("tree/file", "security.s", b"module\0")
END
setfacl -m u:1001:rw tree/file; setfacl -d -m g:50:rx tree/sub; setfacl -m g:50:rwx tree/sub
# rsync compares whole seconds: it leaves the time of a directory that it has just filled if that is in the source's second.
find tree -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
"#;
/// What there is of them; not how many blocks they take, which depends on the order in which they were set.
const LIST: &str = r#"cd "$1"; getfattr -R -h -d -m - -e hex . | LC_ALL=C sort | sha256sum; getfacl -R -P -n . ; ls -lnR --time-style=full-iso . | grep -v ^total"#;

#[test]
fn attributes_survive_remounts_and_copies() {
    needs();
    let _watchdog = Watchdog::minutes("attributes_survive_remounts_and_copies", 20);
    let scratch = Scratch::new("xattr-copies");
    for (size, limit) in [("4096", "65536"), ("1024", "65536"), ("512", "20000")] {
        println!("blocks of {size} bytes");
        let image = scratch.path(&format!("{size}.img"));
        let volume = Volume::make(image, "300M", &["-b", size, "-j", "1", "-J", "8M"]);
        let dir = scratch.path("mnt");
        let mount = Mount::new(&volume, &dir, "single");
        bash(&format!("export LIMIT={limit}; {FILL}"), [&dir]).ok();
        let list = |name: &str| bash(LIST, [dir.join(name)]).ok().stdout;
        let before = list("tree");
        mount.umount();
        volume.assert_clean();
        let mount = Mount::new(&volume, &dir, "single");
        assert_same_lines("before and after a remount", &before, &list("tree"));
        let copy = r#"cd "$1"; cp -a tree by-cp; mkdir by-tar by-rsync
            tar -C tree --xattrs --xattrs-include='*' --acls -cf ../t.tar . && tar -C by-tar --xattrs --xattrs-include='*' --acls -xpf ../t.tar
            rm ../t.tar; rsync -aHAX tree/ by-rsync/"#;
        bash(copy, [&dir]).ok();
        for name in ["by-cp", "by-tar", "by-rsync"] {
            assert_same_lines(&format!("{name}, blocks of {size}"), &before, &list(name));
        }
        // Everything goes again.
        bash(r#"cd "$1"; rm -r by-cp by-tar; setfattr -x user.many-7 tree/file; setfattr -n user.many-8 -v new tree/file"#, [&dir]).ok();
        mount.umount();
        volume.assert_clean();
        let mount = Mount::new(&volume, &dir, "single");
        let left = bash(r#"cd "$1"; rm -r tree by-rsync; ls -A"#, [&dir]).ok();
        assert_eq!(left.stdout, "");
        mount.umount();
        volume.assert_clean();
        std::fs::remove_file(volume.image()).unwrap();
    }
}

#[test]
fn a_volume_of_the_older_format_has_no_trusted_attributes() {
    needs();
    let _watchdog = Watchdog::minutes("a_volume_of_the_older_format", 5);
    let scratch = Scratch::new("xattr-1801");
    let image = scratch.path("volume.img");
    make_by_gfs2(&image, "200M", &["-j", "1", "-J", "8M", "-o", "format=1801"]);
    let volume = Volume::existing(image);
    let dir = scratch.path("mnt");
    let mount = Mount::new(&volume, &dir, "single");
    let said =
        bash("cd \"$1\"; touch f; setfattr -n user.a -v b f; setfattr -n trusted.a -v b f", [&dir]).status_is(&[1]);
    assert!(said.stderr.contains("Operation not supported"), "{}", said.stderr);
    mount.umount();
    volume.assert_clean();
    assert_eq!(run("getfattr", ["--version"]).status, 0);
}
