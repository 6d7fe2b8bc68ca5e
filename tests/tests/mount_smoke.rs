//! Every operation once through a real mount, and real trees copied onto it: the same after a remount, and clean for the
//! referee. On volumes of lunfs and of mkfs.gfs2, with every block size, and on .vhdx images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::{Path, PathBuf};

use lunfs_tests::command::{bash, run};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::ops::every_operation;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::tree;
use lunfs_tests::volume::{Kind, Volume, assert_fsck_clean, kind, make_by_gfs2};
use lunfs_tests::watchdog::Watchdog;

fn needs() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "mkfs.gfs2", "setpriv", "rsync", "qemu-img"]);
}

/// Operations, a look at the whole tree, a remount, the same look.
fn operations_on(volume: &Volume, dir: &Path) {
    let mount = Mount::foreground(volume, dir, "single");
    every_operation(dir);
    let before = tree::read(dir);
    mount.umount();
    volume.assert_clean();
    let mount = Mount::foreground(volume, dir, "single");
    tree::assert_same("before and after a remount", &before, &tree::read(dir));
    mount.umount();
    volume.assert_clean();
}

#[test]
fn every_operation_in_every_block_size() {
    needs();
    let _watchdog = Watchdog::minutes("every_operation_in_every_block_size", 10);
    let scratch = Scratch::new("operations");
    for size in ["4096", "2048", "1024", "512"] {
        if kind() == Kind::Ext4 && size != "4096" {
            continue;
        }
        println!("blocks of {size} bytes");
        let volume = Volume::make(scratch.path(&format!("{size}.img")), "300M", &["-b", size, "-j", "1", "-J", "8M"]);
        operations_on(&volume, &scratch.path("mnt"));
    }
}

#[test]
fn every_operation_on_a_volume_of_mkfs_gfs2() {
    needs();
    let _watchdog = Watchdog::minutes("every_operation_on_a_volume_of_mkfs_gfs2", 10);
    let scratch = Scratch::new("foreign");
    operations_on(&made_by_gfs2(&scratch.path("foreign.img"), "300M"), &scratch.path("mnt"));
}

/// A volume that `mkfs.gfs2` made.
fn made_by_gfs2(image: &Path, size: &str) -> Volume {
    if kind() == Kind::Ext4 {
        return Volume::make(image.to_owned(), size, &[]);
    }
    make_by_gfs2(image, size, &["-j", "2", "-J", "16M"]);
    Volume::existing(image.to_owned())
}

/// What is copied: `/usr` with `--full`, else parts of it with many small files, deep folders, links and some big ones.
fn sources() -> Vec<PathBuf> {
    let all = ["/usr"];
    let part = ["/usr/share/doc", "/usr/lib/python3", "/usr/share/perl", "/usr/share/zoneinfo"];
    let chosen = if need::full() { &all[..] } else { &part[..] };
    chosen.iter().map(PathBuf::from).filter(|path| path.is_dir()).collect()
}

/// The same for the volumes of other makers, which need not take as long.
fn fewer_sources() -> Vec<PathBuf> {
    let all = sources();
    if need::full() { all } else { all.into_iter().skip(1).collect() }
}

/// Copies, compares, remounts, compares. `check` looks at the image once it is unmounted.
fn copy_of_a_tree(volume: &Volume, dir: &Path, sources: &[PathBuf], check: impl Fn()) {
    let mount = Mount::foreground(volume, dir, "single");
    for source in sources {
        let target = dir.join(source.strip_prefix("/").unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let said = run("cp", ["-a".as_ref(), source.as_os_str(), target.as_os_str()]);
        assert!(said.status == 0, "cp -a {}: {}", source.display(), said.text());
    }
    let compare = || {
        for source in sources {
            let target = dir.join(source.strip_prefix("/").unwrap());
            run("diff", ["-r".as_ref(), "--no-dereference".as_ref(), source.as_os_str(), target.as_os_str()]).ok();
            let said =
                bash("rsync -aHAXn --checksum --delete --itemize-changes \"$1/\" \"$2/\"", [source, &target]).ok();
            assert!(said.stdout.trim().is_empty(), "rsync sees differences:\n{}", said.stdout);
        }
    };
    compare();
    mount.umount();
    check();
    let mount = Mount::foreground(volume, dir, "single");
    compare();
    mount.umount();
    check();
}

#[test]
fn a_copied_tree_is_the_same_after_a_remount() {
    needs();
    let _watchdog = Watchdog::minutes("a_copied_tree", need::amount(15, 60));
    let scratch = Scratch::new("copy");
    let volume = Volume::make(scratch.path("volume.img"), need::amount("1G", "16G"), &["-j", "1", "-J", "64M"]);
    copy_of_a_tree(&volume, &scratch.path("mnt"), &sources(), || volume.assert_clean());
}

#[test]
fn a_copied_tree_on_a_volume_of_mkfs_gfs2() {
    needs();
    let _watchdog = Watchdog::minutes("a_copied_tree_on_a_volume_of_mkfs_gfs2", need::amount(15, 60));
    let scratch = Scratch::new("copy-foreign");
    let volume = made_by_gfs2(&scratch.path("foreign.img"), need::amount("1G", "16G"));
    copy_of_a_tree(&volume, &scratch.path("mnt"), &fewer_sources(), || volume.assert_clean());
}

#[test]
fn a_copied_tree_on_fixed_and_dynamic_vhdx() {
    needs();
    let _watchdog = Watchdog::minutes("a_copied_tree_on_vhdx", need::amount(15, 90));
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in knows no .vhdx");
        return;
    }
    let scratch = Scratch::new("copy-vhdx");
    for subformat in ["fixed", "dynamic"] {
        let (image, raw) = (scratch.path(&format!("{subformat}.vhdx")), scratch.path("converted.raw"));
        let size = need::amount("1G", "16G");
        bash(
            "qemu-img create -q -f vhdx -o subformat=$2 \"$1\" $3",
            [image.as_os_str(), subformat.as_ref(), size.as_ref()],
        )
        .ok();
        run(lunfs_tests::volume::called("mkfs.lunfs"), ["-q".as_ref(), "-j".as_ref(), "1".as_ref(), image.as_os_str()])
            .ok();
        let volume = Volume::existing(image.clone());
        copy_of_a_tree(&volume, &scratch.path("mnt"), &fewer_sources(), || {
            // The judge reads raw images, and what reads ours is not us.
            bash("qemu-img check -q \"$1\" && qemu-img convert -O raw \"$1\" \"$2\"", [&image, &raw]).ok();
            assert_fsck_clean(&raw);
            std::fs::remove_file(&raw).unwrap();
        });
        std::fs::remove_file(&image).unwrap();
    }
}
