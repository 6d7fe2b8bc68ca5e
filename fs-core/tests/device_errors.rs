//! Devices that fail: whichever request it is, the node withdraws, nobody is told something wrong, nothing is written
//! afterwards, and on the healthy device everything is there that was promised. `LUNFS_DEVICE_ERRORS=200` tries more
//! requests of each kind.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use block::device::Operation;
use block::faulty::FaultyDevice;
use common::{
    ForkDisk, Maker, ROOT, Step, checker, fsck_objects, mount, new_volume, pattern, read_whole, run, write_all,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{Allocation, Capabilities, DirEntry, FileKind, InodeFlags, OpenFlags, RenameMode, SetAttr};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::Fs;
use fs_core::ops::copy::Spot;

/// So small that the workload reads from the device.
const CACHE_BYTES: u64 = 128 << 10;
const EIO: i32 = 5;

/// What was promised: files in the root directory that are written once, and whose fsync has returned.
#[derive(Clone, Default)]
struct Promises {
    files: BTreeMap<String, Vec<u8>>,
    /// A name that is being changed to another: either may be found.
    moving: Option<(String, String)>,
    /// This file grows; so much of it is promised.
    log: usize,
}

const LOG: &str = "log";

fn log_content(len: usize) -> Vec<u8> {
    pattern(4711, len)
}

/// A bit of everything. What can be read back equals what was written.
async fn work(fs: &Fs, promises: &mut Promises) -> Result<(), FsError> {
    let root = fs.root();
    let kept = fs.mkdir(root, b"kept", 0o755, ROOT).await?.ino;
    fs.fsync(kept).await?;
    let log = fs.mknod(root, LOG.as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
    for round in 0..6_usize {
        let name = format!("kept{round}");
        let content = pattern(round as u64, [0, 100, 9000, 70_000, 300_000, 1000][round]);
        let ino = fs.mknod(root, name.as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
        write_all(fs, ino, 0, &content).await?;
        fs.fsync(ino).await?;
        promises.files.insert(name, content.clone());

        write_all(fs, log, promises.log as u64, &log_content(promises.log + 3000)[promises.log..]).await?;
        fs.fsync(log).await?;
        promises.log += 3000;

        churn(fs, kept, round).await?;
        assert!(read_whole(fs, ino).await? == content, "kept{round} is not what was written");
        fs.forget(ino, 1);
    }
    promises.moving = Some(("kept3".into(), "moved3".into()));
    fs.rename(root, b"kept3", root, b"moved3", RenameMode::Replace, ROOT).await?;
    fs.fsync(root).await?;
    promises.moving = None;
    let content = promises.files.remove("kept3").unwrap();
    promises.files.insert("moved3".into(), content);
    read_all_of(fs, kept).await?;
    for (name, content) in &promises.files {
        let ino = fs.lookup(root, name.as_bytes()).await?.ino;
        assert!(read_whole(fs, ino).await? == *content, "{name} is not what was written");
        fs.forget(ino, 1);
    }
    Ok(())
}

/// Changes that nobody waits for.
async fn churn(fs: &Fs, dir: InodeNo, round: usize) -> Result<(), FsError> {
    for index in 0..25 {
        let name = format!("a file that comes and goes, {round} {index}");
        let ino = fs.mknod(dir, name.as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
        let content = pattern(index, 2000 * index as usize);
        write_all(fs, ino, 0, &content).await?;
        match index % 5 {
            0 => {
                let size_bytes = Some(content.len() as u64 / 2);
                fs.setattr(ino, &SetAttr { size_bytes, ..SetAttr::default() }, ROOT).await?;
                fs.fallocate(ino, 0, 40_000, Allocation::Allocate { keep_size: true }, ROOT, &|| true).await?;
                assert!(read_whole(fs, ino).await? == content[..content.len() / 2], "{name} was cut wrongly");
            }
            1 => {
                fs.unlink(dir, name.as_bytes()).await?;
                assert!(read_whole(fs, ino).await? == content, "{name} without a name");
            }
            2 => fs.rename(dir, name.as_bytes(), fs.root(), b"rolling", RenameMode::Replace, ROOT).await?,
            3 => fs.open(ino, OpenFlags { write: true, truncate: true, append: false }, ROOT).await?,
            _ if index % 2 == 0 => {
                fs.fallocate(ino, 1000, 20_000, Allocation::Punch, ROOT, &|| true).await?;
                fs.fallocate(ino, 15_000, 9000, Allocation::Zero { keep_size: true }, ROOT, &|| true).await?;
                let mut content = content;
                let end = content.len().min(24_000);
                content.get_mut(1000..end).unwrap_or_default().fill(0);
                assert!(read_whole(fs, ino).await? == content, "{name} with a hole");
                let copy =
                    fs.mknod(dir, format!("copy {round} {index}").as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
                let [source, target] = [ino, copy].map(|ino| Spot { ino, offset: 0 });
                fs.copy_range(source, target, 1 << 30, ROOT, &|| true).await?;
                assert!(read_whole(fs, copy).await? == content, "{name} copied");
                fs.forget(copy, 1);
                fs.link(ino, dir, format!("link {round} {index}").as_bytes(), ROOT).await?;
            }
            _ => drop(fs.link(ino, dir, format!("link {round} {index}").as_bytes(), ROOT).await?),
        }
        fs.forget(ino, 1 + u64::from(index % 5 == 4));
    }
    fs.mkdir(dir, format!("dir{round}").as_bytes(), 0o755, ROOT).await?;
    // Through the log, past it, and back.
    let ino = fs.mknod(dir, format!("journaled {round}").as_bytes(), 0o100_644, (0, 0), ROOT).await?.ino;
    for (step, wanted) in [InodeFlags::JOURNALED, InodeFlags::default()].into_iter().cycle().take(4).enumerate() {
        fs.set_flags(ino, wanted, InodeFlags::JOURNALED, ROOT, Capabilities::ALL).await?;
        write_all(fs, ino, step as u64 * 2000, &pattern(step as u64, 9000)).await?;
    }
    fs.forget(ino, 1);
    fs.trim(0, u64::MAX, 0, Capabilities::ALL, &|| true).await?;
    if round % 2 == 1 {
        fs.rmdir(dir, format!("dir{}", round - 1).as_bytes()).await?;
    }
    Ok(())
}

/// Reads every file of a directory.
async fn read_all_of(fs: &Fs, dir: InodeNo) -> Result<(), FsError> {
    let mut names = Vec::new();
    let mut emit = |entry: &DirEntry| {
        names.push(entry.name.clone());
        true
    };
    fs.readdir(dir, 0, &mut emit).await?;
    for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
        let attr = fs.lookup(dir, name).await?;
        if attr.kind == FileKind::Regular {
            read_whole(fs, attr.ino).await?;
        }
        fs.forget(attr.ino, 1);
    }
    Ok(())
}

/// What a round does with the device: a mount, the workload, an unmount, with one fault.
struct Fault {
    operation: Operation,
    nth: u64,
    for_ever: bool,
}

/// Runs the workload on a device that fails, and checks that nothing wrong follows. Returns what was promised, and whether
/// the fault came up.
async fn fail(disk: &Arc<ForkDisk>, fault: &Fault) -> (Promises, bool) {
    let device = FaultyDevice::new(disk.clone());
    let mut promises = Promises::default();
    if fault.for_ever {
        device.fail_from(fault.operation, fault.nth);
    } else {
        device.fail_nth(fault.operation, fault.nth);
    }
    let fs = match mount(Arc::new(device.clone()), CACHE_BYTES, false).await {
        Ok(fs) => fs,
        Err(error) => {
            assert_eq!(error.errno(), EIO, "mount: {error}");
            return (promises, true);
        }
    };
    let background = tokio::spawn(Arc::clone(&fs).background());
    let met = |device: &FaultyDevice| device.counts().of(fault.operation).faults > 0;
    let result = work(&fs, &mut promises).await;
    if let Err(error) = &result {
        assert!(met(&device), "without a fault: {error}");
        assert_eq!(error.errno(), EIO, "{error}");
        assert!(fs.withdrawn().is_some(), "{error}, and nothing follows");
    }
    if met(&device) {
        assert!(fs.withdrawn().is_some(), "nobody was told of a device error");
        let before = device.counts();
        device.heal();
        let root = fs.root();
        let refused = [
            fs.lookup(root, b"kept").await.err(),
            fs.getattr(root).await.err(),
            fs.statfs().await.err(),
            fs.mknod(root, b"too late", 0o100_644, (0, 0), ROOT).await.err(),
            fs.unlink(root, b"kept0").await.err(),
            fs.sync().await.err(),
            fs.fsync(root).await.err(),
            fs.readdir(root, 0, &mut |_| true).await.err(),
            fs.setattr(root, &SetAttr::default(), ROOT).await.err(),
            fs.unmount().await.err(),
        ];
        for (index, error) in refused.iter().enumerate() {
            assert!(matches!(error, Some(FsError::Withdrawn)), "operation {index} after a withdrawal: {error:?}");
        }
        assert_eq!(device.counts(), before, "requests after a withdrawal");
    } else {
        let unmounted = fs.unmount().await;
        assert_eq!(unmounted.is_err(), met(&device), "{unmounted:?}");
        assert_eq!(fs.withdrawn().is_some(), met(&device));
        let before = device.counts();
        device.heal();
        if unmounted.is_err() {
            assert!(matches!(fs.unmount().await, Err(FsError::Withdrawn)));
            assert_eq!(device.counts(), before, "requests after a withdrawal");
        }
    }
    background.await.unwrap();
    (promises, met(&device))
}

/// The healthy device has what was promised.
async fn check(disk: Arc<ForkDisk>, promises: &Promises, fault: &str) {
    let fs = mount(disk, 8 << 20, false).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
    let find = async |name: &str| fs.lookup(fs.root(), name.as_bytes()).await;
    for (name, content) in &promises.files {
        let mut found = find(name).await;
        if let Some((from, to)) = &promises.moving
            && from == name
            && found.is_err()
        {
            found = find(to).await;
        }
        let ino = found.unwrap_or_else(|error| panic!("{fault}: {name}: {error}")).ino;
        assert!(read_whole(&fs, ino).await.unwrap() == *content, "{fault}: {name} has lost its content");
    }
    if promises.log > 0 {
        let ino = find(LOG).await.unwrap().ino;
        let content = read_whole(&fs, ino).await.unwrap();
        assert!(content.len() >= promises.log, "{fault}: the log has lost its end");
        assert!(content[..promises.log] == log_content(promises.log), "{fault}: the log has changed");
    }
    // Whatever else is there can be read.
    if let Ok(kept) = find("kept").await {
        read_all_of(&fs, kept.ino).await.unwrap();
    }
    fs.unmount().await.unwrap();
}

/// `count` numbers below `limit`, the first ones among them and the last.
fn spread(limit: u64, count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count.min(limit)).map(|index| index * limit / count.min(limit)).collect();
    numbers.extend((0..limit.min(8)).chain([limit.saturating_sub(1)]));
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

async fn all_faults_of(maker: Maker, bytes: u32, rounds: u64) {
    let size = BlockSize::new(bytes).unwrap();
    let clean = Arc::new(new_volume(maker, size).await);
    // The second volume has a log to be replayed.
    let healthy = Arc::new(clean.fork());
    let device = FaultyDevice::new(healthy.clone());
    let fs = mount(Arc::new(device.clone()), CACHE_BYTES, false).await.unwrap();
    let mut promised = Promises::default();
    work(&fs, &mut promised).await.unwrap();
    let cut_off = Arc::new(healthy.fork());
    fs.unmount().await.unwrap();
    let counts = device.counts();
    assert!(counts.reads.requests > 100, "the cache is too large for this test");
    check(Arc::new(cut_off.fork()), &promised, "no fault").await;

    let (mut number, mut met) = (0, 0);
    for operation in [Operation::Read, Operation::Write, Operation::Flush] {
        for nth in spread(counts.of(operation).requests, rounds) {
            let fault = Fault { operation, nth, for_ever: number % 2 == 0 };
            let story = format!(
                "{maker:?} {bytes}: {operation:?} {nth} fails{}",
                if fault.for_ever { " for ever" } else { "" }
            );
            let _step = Step::new(story.clone());
            let disk = Arc::new(clean.fork());
            let (promises, came_up) = fail(&disk, &fault).await;
            met += u64::from(came_up);
            check(disk.clone(), &promises, &story).await;
            let errors = checker::errors(disk.clone()).await;
            assert!(errors.is_empty(), "{story}: {errors:#?}");
            if number % 10 == 0
                && let Some(objections) = fsck_objects(&disk)
            {
                panic!("{story}: {objections}");
            }
            number += 1;
        }
    }
    replay_fails(&cut_off, &promised).await;
    println!("{maker:?} {bytes}: {met} faults of {number} came up");
    assert!(met * 10 > number * 9, "{met} faults of {number} came up");
}

/// Mounting a volume that was cut off fails at each of its requests, and does no harm.
async fn replay_fails(cut_off: &Arc<ForkDisk>, promised: &Promises) {
    let device = FaultyDevice::new(Arc::new(cut_off.fork()));
    drop(mount(Arc::new(device.clone()), CACHE_BYTES, false).await.unwrap());
    let counts = device.counts();
    for operation in [Operation::Read, Operation::Write, Operation::Flush] {
        for nth in 0..counts.of(operation).requests {
            let story = format!("replay: {operation:?} {nth} fails");
            let _step = Step::new(story.clone());
            let disk = Arc::new(cut_off.fork());
            let device = FaultyDevice::new(disk.clone());
            device.fail_nth(operation, nth);
            if let Err(error) = mount(Arc::new(device.clone()), CACHE_BYTES, false).await {
                assert_eq!(error.errno(), EIO, "{story}: {error}");
            }
            assert_eq!(device.counts().of(operation).faults, 1, "{story}: it did not come up");
            check(disk.clone(), promised, &story).await;
            let errors = checker::errors(disk.clone()).await;
            assert!(errors.is_empty(), "{story}: {errors:#?}");
            if nth % 10 == 0
                && let Some(objections) = fsck_objects(&disk)
            {
                panic!("{story}: {objections}");
            }
        }
    }
}

#[test]
fn a_device_error_makes_the_node_withdraw_and_breaks_no_promise() {
    let rounds = std::env::var("LUNFS_DEVICE_ERRORS").map_or(15, |text| text.parse().unwrap());
    for (maker, bytes) in [(Maker::Lunfs, 4096), (Maker::Gfs2, 1024), (Maker::Lunfs, 512)] {
        run(all_faults_of(maker, bytes, rounds));
    }
}
