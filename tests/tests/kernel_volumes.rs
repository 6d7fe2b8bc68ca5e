//! Volumes written, and some of them crashed, by the Linux kernel's own driver: every one mounts, what was fsynced is
//! there, the tree is the one that the kernel's own replay made, and the referee is content afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::{Path, PathBuf};

use lunfs_tests::command::{Outcome, bash, run};
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Kind, Volume, kind};
use lunfs_tests::watchdog::{Watchdog, step};

/// Below which folder the files of an acknowledgement list are.
fn acknowledged_below(list: &str) -> &'static str {
    match list {
        "pair-1.ack1" => "n1/k1",
        "pair-1.ack2" => "n2/k2",
        "pair-2.ack1" => "shared/k1",
        "pair-2.ack2" => "shared/k2",
        _ => "l",
    }
}

fn unpack(packed: &Path, to: &Path) {
    bash("zstd -q -d -f --long=27 \"$1\" -o \"$2\"", [packed, to]).ok();
}

/// Unpacks a manifest. The kernel that wrote it forgets the numbers of device nodes that it reads from the disk (it sets
/// them only on inodes that are new, and by then they are not); the two that it was given are put back.
fn unpack_manifest(packed: &Path, to: &Path) {
    unpack(packed, to);
    let chr = r#"/"path": "chr"/s/"rdev": \[0, 0\]/"rdev": [10, 229]/"#;
    let blk = r#"/"path": "blk"/s/"rdev": \[0, 0\]/"rdev": [259, 1048575]/"#;
    run("sed", ["-i".as_ref(), "-e".as_ref(), chr.as_ref(), "-e".as_ref(), blk.as_ref(), to.as_os_str()]).ok();
}

/// What the manifest of the volume says against what is mounted.
fn compare(manifest: &Path, dir: &Path) -> Outcome {
    let script = need::repository().join("tests/manifest");
    let args = [script.as_os_str(), "--check".as_ref(), manifest.as_os_str(), dir.as_os_str()];
    run("python3", args)
}

/// Checks each `path sha256 size` of a list; gives how many there are.
fn acknowledged_files_are_there(list: &Path, base: &Path) -> usize {
    let text = std::fs::read_to_string(list).unwrap();
    let entries: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let sums: String = entries.iter().map(|entry| format!("{}  {}\n", entry[1], entry[0])).collect();
    let scratch = Scratch::new("sums");
    let sums_path = scratch.path("sums");
    std::fs::write(&sums_path, sums).unwrap();
    bash("cd \"$2\" && sha256sum --check --quiet --strict \"$1\"", [sums_path.as_path(), base]).ok();
    for entry in &entries {
        let size: u64 = entry[2].parse().unwrap();
        assert_eq!(base.join(entry[0]).metadata().unwrap().len(), size, "{} in {}", entry[0], list.display());
    }
    entries.len()
}

#[test]
fn every_volume_of_the_kernel_is_read_replayed_and_left_clean() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "zstd", "python3", "sha256sum"]);
    let _watchdog = Watchdog::minutes("kernel_volumes", 15);
    if kind() == Kind::Ext4 {
        println!("not run: these are volumes of GFS2");
        return;
    }
    let fixtures = need::fixtures();
    let mut images: Vec<PathBuf> = std::fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    images.retain(|path| path.to_string_lossy().ends_with(".img.zst"));
    images.sort();
    assert!(images.len() >= 9, "only {} volumes in {}", images.len(), fixtures.display());
    let mut failures = Vec::new();
    for packed in &images {
        let name = packed.file_name().unwrap().to_string_lossy().replace(".img.zst", "");
        // One broken volume must not hide the others.
        if std::panic::catch_unwind(|| volume(&fixtures, packed, &name)).is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{} of {} volumes failed: {failures:?}", failures.len(), images.len());
}

fn volume(fixtures: &Path, packed: &Path, name: &str) {
    let _step = step(name);
    let scratch = Scratch::new("kernel");
    let (image, dir, manifest) = (scratch.path("volume.img"), scratch.path("mnt"), scratch.path("manifest"));
    unpack(packed, &image);
    unpack_manifest(&fixtures.join(format!("{name}.manifest.zst")), &manifest);
    let volume = Volume::existing(image);

    let mount = Mount::new(&volume, &dir, "single");
    let said = compare(&manifest, &dir).ok();
    let mut acknowledged = 0;
    for suffix in ["ack", "ack1", "ack2"] {
        let list = format!("{name}.{suffix}");
        if fixtures.join(&list).is_file() {
            acknowledged += acknowledged_files_are_there(&fixtures.join(&list), &dir.join(acknowledged_below(&list)));
        }
    }
    let dirty = !name.starts_with("features");
    assert!(!dirty || acknowledged > 0, "a crashed volume comes with a list of what was acknowledged");
    mount.umount();
    volume.assert_clean();
    println!("{name}: {}, {acknowledged} acknowledged files there", said.stdout.trim());

    // And it goes on being a filesystem.
    let mount = Mount::new(&volume, &dir, "single");
    let new = dir.join("written-by-lunfs");
    std::fs::create_dir(&new).unwrap();
    lunfs_tests::ops::every_operation(&new);
    std::fs::remove_dir_all(&new).unwrap();
    std::fs::write(dir.join("last"), "x").unwrap();
    std::fs::remove_file(dir.join("last")).unwrap();
    mount.umount();
    volume.assert_clean();
}

#[test]
fn a_read_only_mount_changes_nothing_but_replays() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "zstd", "python3"]);
    let _watchdog = Watchdog::minutes("kernel_volumes_read_only", 5);
    if kind() == Kind::Ext4 {
        println!("not run: these are volumes of GFS2");
        return;
    }
    let fixtures = need::fixtures();
    let scratch = Scratch::new("kernel-ro");
    let (image, dir, manifest) = (scratch.path("volume.img"), scratch.path("mnt"), scratch.path("manifest"));
    unpack(&fixtures.join("features-4096.img.zst"), &image);
    unpack_manifest(&fixtures.join("features-4096.manifest.zst"), &manifest);
    let before = lunfs_tests::tree::hash_file(&image);
    let volume = Volume::existing(image.clone());
    let mount = Mount::new(&volume, &dir, "single,ro");
    compare(&manifest, &dir).ok();
    assert_eq!(lunfs_tests::files::errno(std::fs::write(dir.join("new"), "x")), 30, "EROFS");
    mount.umount();
    assert_eq!(before, lunfs_tests::tree::hash_file(&image), "a clean volume mounted read-only is not written to");

    unpack(&fixtures.join("crash-1.img.zst"), &image);
    unpack_manifest(&fixtures.join("crash-1.manifest.zst"), &manifest);
    let mount = Mount::new(&volume, &dir, "single,ro");
    compare(&manifest, &dir).ok();
    mount.umount();
}
