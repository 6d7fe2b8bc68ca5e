//! Volumes that are sound, and on which the checker must find nothing: new ones in all shapes, and those that the Linux
//! kernel wrote, some of them after their journals were replayed.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::process::Command;
use std::sync::Arc;

use block::device::BlockDevice;
use common::{ForkDisk, checker, fixture, mount, run};
use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;

const MIB: u64 = 1 << 20;

/// Asserts that there is nothing to say about a volume, not even a note.
fn assert_nothing(disk: ForkDisk, what: &str) {
    let (report, findings) = run(checker::findings(Arc::new(disk)));
    let lines: Vec<String> = findings.iter().map(checker::line).collect();
    assert!(lines.is_empty() && report.complete, "{what}: {lines:#?}");
}

fn made_by_lunfs(size_bytes: u64, options: &mkfs::options::Options) -> ForkDisk {
    let disk = ForkDisk::new(size_bytes);
    let plan = mkfs::plan::Plan::new(size_bytes, &disk.geometry(), options).unwrap();
    let identity = mkfs::options::Identity::new(None, Timestamp { sec: 1_600_000_000, nsec: 0 });
    run(mkfs::format(&disk, &plan, &identity, false, &|_| ())).unwrap();
    disk
}

fn made_by_gfs2(size_bytes: u64, arguments: &[String]) -> ForkDisk {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(size_bytes).unwrap();
    let mut command = Command::new("mkfs.gfs2");
    command.args(["-O", "-q", "-K", "-p", "lock_nolock", "-J", "8"]).args(arguments).arg(&path);
    assert!(command.status().expect("mkfs.gfs2 (package gfs2-utils) is needed").success());
    ForkDisk::from_bytes(&std::fs::read(&path).unwrap())
}

#[test]
fn new_volumes_of_all_block_sizes_and_shapes() {
    for bytes in [512, 1024, 2048, 4096_u32] {
        let block_size = BlockSize::new(bytes).unwrap();
        // A gap for the cluster area, or none; system directories that fit into their dinodes, and ones that do not.
        let many = if bytes == 4096 { (400 * MIB, 24) } else { (180 * MIB, 9) };
        for (size_bytes, journals) in [(24 * MIB, 1), (140 * MIB, 3), many] {
            let options = mkfs::options::Options {
                block_size,
                journals: Some(journals),
                journal_bytes: Some(8 * MIB),
                ..Default::default()
            };
            let what = format!("{bytes} {size_bytes} {journals}");
            assert_nothing(made_by_lunfs(size_bytes, &options), &format!("mkfs.lunfs {what}"));
            let arguments = ["-b".to_owned(), bytes.to_string(), "-j".to_owned(), journals.to_string()];
            assert_nothing(made_by_gfs2(size_bytes, &arguments), &format!("mkfs.gfs2 {what}"));
        }
    }
    // The older format; groups that begin at stripes of a disk array; small groups.
    for arguments in ["-o format=1801", "-o swidth=262144,sunit=65536", "-r 32"] {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        assert_nothing(made_by_gfs2(300 * MIB, &arguments), &format!("{arguments:?}"));
    }
}

#[test]
fn volumes_of_the_kernel_that_were_unmounted() {
    for name in ["features-512", "features-1024", "features-4096"] {
        assert_nothing(fixture(name), name);
    }
}

#[test]
fn volumes_of_the_kernel_after_replay() {
    for name in ["crash-1", "crash-2", "crash-3", "crash-4", "pair-1", "pair-2"] {
        let disk = Arc::new(fixture(name));
        let (report, _) = run(checker::findings(disk.clone()));
        assert!(report.rules.contains_key("journal-dirty"), "{name}: {report:?}");
        run(async {
            let fs = mount(disk.clone(), 16 * MIB, false).await.unwrap();
            fs.unmount().await.unwrap();
        });
        let (report, findings) = run(checker::findings(disk));
        let lines: Vec<String> = findings.iter().map(checker::line).collect();
        assert!(report.is_clean(), "{name}: {lines:#?}");
        println!("{name}: {} notes: {lines:?}", report.notes());
    }
}
