//! The n-th read, write or flush of the device fails, for many n: the node withdraws, nothing panics, hangs or answers
//! wrongly, nothing is written any more, and what was acknowledged is there after a replay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.
#![allow(clippy::cast_possible_truncation)] // Lengths in tests are far below any limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use block::device::Operation;
use block::faulty::FaultyDevice;
use fs_core::attr::{RenameMode, SetAttr, WriteFlags};
use fs_core::error::FsError;
use fs_core::fs::Fs;
use lunfs_tests::memory::{Overlay, ROOT, format, make_file, mount, populate, run};
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::assert_fsck_clean;
use lunfs_tests::watchdog::{Watchdog, step};
use lunfs_tests::{data, need};

/// What was acknowledged: name, number of the data, length.
type Acknowledged = BTreeMap<String, (u64, u64)>;

const HANG: Duration = Duration::from_secs(60);

/// Works until an error; every answer on the way is checked.
async fn work(fs: &Fs, acknowledged: &mut Acknowledged) -> Result<(), FsError> {
    let root = fs.root();
    let dir = fs.mkdir(root, b"work", 0o755, ROOT).await?.ino;
    for index in 0..40_u64 {
        let (name, id, len) = (format!("kept{index}"), 1000 + index, [10, 3000, 9000, 200_000][index as usize % 4]);
        let file = make_file(fs, dir, &name, id, len).await?;
        fs.fsync(file).await?;
        acknowledged.insert(name, (id, len));
        // Things that come and go, without a promise.
        let other = make_file(fs, dir, &format!("temporary{index}"), 5, 20_000).await?;
        fs.rename(dir, format!("temporary{index}").as_bytes(), root, b"moved", RenameMode::Replace).await?;
        fs.setattr(other, &SetAttr { size_bytes: Some(5000), ..SetAttr::default() }, ROOT).await?;
        fs.write(other, 4000, data::bytes(6, 4000, 9000), WriteFlags::default(), ROOT).await?;
        fs.link(other, dir, format!("link{index}").as_bytes()).await?;
        if index % 3 == 0 {
            fs.unlink(dir, format!("link{index}").as_bytes()).await?;
        }
        fs.forget(other, 3);
        check_files(fs, acknowledged, index as usize % 7).await?;
        fs.lookup(root, b"dir").await?;
        let mut names = 0;
        fs.readdir(dir, 0, &mut |_| {
            names += 1;
            true
        })
        .await?;
        assert!(names >= acknowledged.len(), "a listing is short");
    }
    let many = fs.lookup(root, b"dir").await?.ino;
    for index in 0..300 {
        fs.unlink(many, format!("some longer name of a file {index}").as_bytes()).await?;
    }
    fs.sync().await
}

/// Reads every `of`-th acknowledged file: an answer is right or an error.
async fn check_files(fs: &Fs, acknowledged: &Acknowledged, of: usize) -> Result<(), FsError> {
    let dir = fs.lookup(fs.root(), b"work").await?.ino;
    for (name, (id, len)) in acknowledged.iter().step_by(of.max(1)) {
        let attr = fs.lookup(dir, name.as_bytes()).await?;
        assert_eq!(attr.size_bytes, *len, "size of {name}");
        let mut at = 0;
        while at < *len {
            let piece = fs.read(attr.ino, at, 1 << 17).await?;
            assert!(!piece.is_empty(), "{name} ends at {at} instead of {len}");
            assert_eq!(data::first_difference(*id, at, &piece), None, "content of {name}");
            at += piece.len() as u64;
        }
        fs.forget(attr.ino, 1);
    }
    fs.forget(dir, 1);
    Ok(())
}

/// One run with a fault. Gives whether the fault came up.
async fn one(base: &Overlay, operation: Operation, n: u64, forever: bool) -> (Acknowledged, Overlay, bool) {
    let below = base.copy();
    let device = FaultyDevice::new(Arc::new(below.clone()));
    if forever {
        device.fail_from(operation, n)
    } else {
        device.fail_nth(operation, n)
    }
    let mut acknowledged = Acknowledged::new();
    let mounted = mount(Arc::new(device.clone())).await;
    if let Ok(fs) = mounted {
        let result = work(&fs, &mut acknowledged).await;
        if let Err(error) = &result {
            assert!(
                matches!(error, FsError::Device(_) | FsError::Withdrawn),
                "an injected error is answered with {error:?}"
            );
            let cause = fs.withdrawn();
            assert!(matches!(cause, Some(FsError::Device(_))), "the node goes on after {error}: withdrawn {cause:?}");
            // Nothing more reaches the device, whatever is asked for.
            let writes = device.counts().writes.requests;
            let after = fs.mkdir(fs.root(), b"after", 0o755, ROOT).await;
            assert!(after.is_err(), "a directory was made after the withdrawal");
            assert!(fs.sync().await.is_err(), "a sync succeeded after the withdrawal");
            assert_eq!(device.counts().writes.requests, writes, "written after the withdrawal");
        }
        let end = fs.unmount().await;
        assert!(end.is_err() || fs.withdrawn().is_none(), "an unmount after a withdrawal says that all is well");
    }
    let counts = device.counts();
    let came_up = counts.of(operation).faults > 0;
    (acknowledged, below, came_up)
}

/// The healthy device is mounted again: what was acknowledged is there, and the referee is content.
async fn replay(device: &Overlay, acknowledged: &Acknowledged) {
    let fs = mount(Arc::new(device.clone())).await.expect("the healthy device can be mounted");
    if !acknowledged.is_empty() {
        check_files(&fs, acknowledged, 1).await.expect("everything acknowledged is there");
    }
    fs.unmount().await.expect("unmounts");
}

fn base() -> Overlay {
    let device = format(64 << 20, 4096);
    run(async {
        let fs = mount(Arc::new(device.clone())).await.unwrap();
        populate(&fs).await.unwrap();
        fs.unmount().await.unwrap();
    });
    device.flattened()
}

#[test]
fn the_node_withdraws_and_loses_nothing() {
    need::tools(&["fsck.gfs2"]);
    let _watchdog = Watchdog::minutes("device_errors", need::amount(15, 90));
    let scratch = Scratch::new("device-errors");
    let base = base();
    // How much there is of each without faults.
    let device = FaultyDevice::new(Arc::new(base.copy()));
    run(async {
        let fs = mount(Arc::new(device.clone())).await.unwrap();
        work(&fs, &mut Acknowledged::new()).await.unwrap();
        fs.unmount().await.unwrap();
    });
    let counts = device.counts();
    let points = need::amount(25, 400);
    let mut cases = 0;
    for operation in [Operation::Read, Operation::Write, Operation::Flush] {
        let total = counts.of(operation).requests;
        assert!(total > 10, "only {total} requests of kind {operation}: the work does not do enough");
        let (mut came_up, mut kept) = (0, 0);
        let wanted = total.min(points);
        for index in 0..wanted {
            let n = index * total / wanted;
            for forever in [false, true] {
                let what =
                    format!("{operation} {n} of {total} fails{}", if forever { ", and all after it" } else { "" });
                let _step = step(&what);
                let (acknowledged, device, fault) =
                    run(async { tokio::time::timeout(HANG, one(&base, operation, n, forever)).await })
                        .unwrap_or_else(|_| panic!("{what}: hangs"));
                run(async { tokio::time::timeout(HANG, replay(&device, &acknowledged)).await })
                    .unwrap_or_else(|_| panic!("{what}: replay hangs"));
                let image = scratch.path("image");
                device.save(&image);
                assert_fsck_clean(&image);
                came_up += u64::from(fault);
                kept += acknowledged.len();
                cases += 1;
            }
        }
        println!(
            "{operation}: {wanted} points of {total} requests, the error came up in {came_up} of {} runs, {kept} acknowledged files kept",
            2 * wanted
        );
        assert!(came_up >= wanted, "most injected errors have to come up");
        assert!(kept > 0);
    }
    println!("{cases} runs");
}
