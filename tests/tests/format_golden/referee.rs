//! Volumes of lunfs before `fsck.gfs2`.

use lunfs_tests::command::run;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::assert_fsck_clean;
use mkfs::error::{MkfsError, PlanError};
use mkfs::options::Options;

use crate::made::{GIB, MIB, make, options};

#[test]
fn fsck_finds_nothing_in_new_volumes_of_all_block_sizes_and_journals() {
    need::tools(&["fsck.gfs2"]);
    let scratch = Scratch::new("golden");
    let image = scratch.path("volume");
    for block_bytes in [512, 1024, 2048, 4096] {
        for size in [128 * MIB, GIB, 777 * MIB + 12_345 * 512] {
            for journals in [1, 3, 8, 16] {
                let mut asked = options(block_bytes, journals);
                let mut made = make(&image, size, &asked);
                if let Err(MkfsError::Plan(PlanError::JournalsDoNotFit { fit, .. })) = made {
                    asked = options(block_bytes, fit);
                    made = make(&image, size, &asked);
                }
                made.unwrap_or_else(|error| panic!("{block_bytes} {size} {journals}: {error}"));
                assert_fsck_clean(&image);
            }
        }
    }
}

#[test]
fn fsck_finds_nothing_in_a_default_volume_of_any_size() {
    need::tools(&["fsck.gfs2"]);
    let scratch = Scratch::new("golden");
    let image = scratch.path("volume");
    for size in [32 * MIB, 127 * MIB, 128 * MIB, 256 * MIB, GIB, 5 * GIB, 100 * GIB] {
        make(&image, size, &Options::default()).unwrap();
        assert_fsck_clean(&image);
    }
}

#[test]
fn fsck_finds_nothing_in_the_smallest_volume_and_a_smaller_one_is_refused() {
    need::tools(&["fsck.gfs2"]);
    let scratch = Scratch::new("golden");
    let image = scratch.path("volume");
    for block_bytes in [512, 1024, 2048, 4096] {
        let Err(MkfsError::Plan(PlanError::TooSmall { minimum_bytes, .. })) =
            make(&image, MIB, &options(block_bytes, 1))
        else {
            panic!("a volume of 1 MiB")
        };
        assert!(minimum_bytes < 12 * MIB, "{minimum_bytes}");
        make(&image, minimum_bytes, &options(block_bytes, 1)).unwrap();
        assert_fsck_clean(&image);
        make(&image, minimum_bytes - 4096, &options(block_bytes, 1)).unwrap_err();
    }
}

#[test]
fn fsck_finds_nothing_with_hundreds_of_journals() {
    need::tools(&["fsck.gfs2"]);
    let scratch = Scratch::new("golden");
    let image = scratch.path("volume");
    for (block_bytes, journals) in [(512, 64), (1024, 100), (4096, 128)] {
        let asked = Options { journal_bytes: Some(8 * MIB), ..options(block_bytes, journals) };
        make(&image, 4 * GIB, &asked).unwrap();
        assert_fsck_clean(&image);
    }
}

#[test]
fn repair_of_a_new_volume_takes_the_marker_and_nothing_else() {
    need::tools(&["fsck.gfs2"]);
    let scratch = Scratch::new("golden");
    let (image, copy) = (scratch.path("volume"), scratch.path("copy"));
    for block_bytes in [512, 1024, 4096] {
        make(&image, 256 * MIB, &options(block_bytes, 3)).unwrap();
        run("cp", ["--sparse=always".as_ref(), image.as_os_str(), copy.as_os_str()]).ok();
        run("fsck.gfs2", ["-y".as_ref(), copy.as_os_str()]).ok();
        let (before, after) = (std::fs::read(&image).unwrap(), std::fs::read(&copy).unwrap());
        let changed: Vec<usize> =
            (0..before.len()).step_by(512).filter(|at| before[*at..at + 512] != after[*at..at + 512]).collect();
        assert!(changed.iter().all(|at| (61440..65536).contains(at)), "{block_bytes}: {changed:?}");
    }
}
