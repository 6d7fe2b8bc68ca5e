//! Free blocks that are told to the device, which then forgets them: nothing in use is among them, what has been told is
//! not told again, and who needs space finds it.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::device::Operation;
use block::faulty::FaultyDevice;
use common::{
    ForkDisk, Maker, ROOT, TickingEnv, assert_sound, checker, new_volume, pattern, read_whole, run, write_all,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{Capabilities, WriteFlags};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};

const ALL: Capabilities = Capabilities::ALL;

async fn mount(device: Arc<dyn block::device::BlockDevice>, discard: bool) -> Arc<Fs> {
    let options = MountOptions { cache_bytes: 4 << 20, discard, ..MountOptions::default() };
    Fs::mount(device, options, Arc::new(TickingEnv::default())).await.unwrap()
}

async fn new_file(fs: &Fs, name: &str, len: usize) -> InodeNo {
    let ino = fs.mknod(fs.root(), name.as_bytes(), 0o100_644, (0, 0), ROOT).await.unwrap().ino;
    write_all(fs, ino, 0, &pattern(len as u64, len)).await.unwrap();
    ino
}

async fn remove(fs: &Fs, name: &str, ino: InodeNo) {
    fs.unlink(fs.root(), name.as_bytes()).await.unwrap();
    fs.forget(ino, 1);
}

async fn trim(fs: &Fs) -> u64 {
    fs.trim(0, u64::MAX, 0, ALL, &|| true).await.unwrap()
}

async fn close(fs: Arc<Fs>, disk: &Arc<ForkDisk>, story: &str) {
    fs.unmount().await.unwrap();
    drop(fs);
    let errors = checker::errors(disk.clone()).await;
    assert!(errors.is_empty(), "{story}: {errors:#?}");
    assert_sound(disk, story);
}

/// Blocks of the device that were discarded last.
fn discarded(disk: &ForkDisk) -> usize {
    (0..disk.blocks(BlockSize::MAX))
        .filter(|addr| disk.block(*addr, BlockSize::MAX).iter().all(|byte| *byte == 0xDB))
        .count()
}

#[test]
fn all_that_is_free_is_trimmed_once_and_nothing_else() {
    run(async {
        for (maker, bytes) in [(Maker::Lunfs, 4096), (Maker::Gfs2, 1024), (Maker::Lunfs, 512)] {
            let story = format!("{maker:?} {bytes}");
            let disk = Arc::new(new_volume(maker, BlockSize::new(bytes).unwrap()).await);
            let fs = mount(disk.clone(), false).await;
            let kept = new_file(&fs, "kept", 3 << 20).await;
            let gone = new_file(&fs, "gone", 2 << 20).await;
            remove(&fs, "gone", gone).await;
            // What was freed just now is durable afterwards, and trimmed as well.
            let first = trim(&fs).await;
            let statfs = fs.statfs().await.unwrap();
            assert_eq!(first, statfs.blocks_free * u64::from(statfs.block_size_bytes), "{story}");
            assert_eq!(trim(&fs).await, 0, "{story}: a second time");
            let ino = new_file(&fs, "one", 1 << 20).await;
            assert_eq!(trim(&fs).await, 0, "{story}: nothing was freed");
            remove(&fs, "one", ino).await;
            assert!(trim(&fs).await >= 1 << 20, "{story}: something was");
            assert!(read_whole(&fs, kept).await.unwrap() == pattern(3 << 20, 3 << 20), "{story}");
            close(fs, &disk, &story).await;
            // It stands on the disk.
            let fs = mount(disk.clone(), false).await;
            assert_eq!(trim(&fs).await, 0, "{story}: after a remount");
            let kept = fs.lookup(fs.root(), b"kept").await.unwrap().ino;
            assert!(read_whole(&fs, kept).await.unwrap() == pattern(3 << 20, 3 << 20), "{story}");
            close(fs, &disk, &story).await;
        }
    });
}

#[test]
fn a_range_and_a_least_length_are_honoured() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), false).await;
        // Every second of small files goes: free ranges of one block, and a long one.
        let mut inos = Vec::new();
        for number in 0..100 {
            inos.push(new_file(&fs, &format!("f{number}"), 100).await);
        }
        for (number, ino) in inos.iter().enumerate().step_by(2) {
            remove(&fs, &format!("f{number}"), *ino).await;
        }
        assert_eq!(fs.trim(0, u64::MAX, 1 << 40, ALL, &|| true).await.unwrap(), 0);
        let long = fs.trim(0, u64::MAX, 1 << 20, ALL, &|| true).await.unwrap();
        let all = fs.statfs().await.unwrap().blocks_free * 4096;
        assert!(long < all && long > all - (1 << 20), "{long} of {all}");
        assert_eq!(discarded(&disk) as u64 * 4096, long);
        // What was left out then is not forgotten, and a part of a group is no whole one.
        assert_eq!(fs.trim(0, 1000, 0, ALL, &|| true).await.unwrap(), 0);
        let end = fs.trim(31 << 20, 1 << 19, 0, ALL, &|| true).await.unwrap();
        assert_eq!(end, 1 << 19);
        assert_eq!(trim(&fs).await, all);
        assert_eq!(trim(&fs).await, 0);
        assert!(matches!(fs.trim(1 << 40, 1, 0, ALL, &|| true).await, Err(FsError::Invalid(_))));
        let nobody = fs.trim(0, u64::MAX, 0, Capabilities::default(), &|| true).await;
        assert!(matches!(nobody, Err(FsError::NotPermitted(_))));
        let ino = new_file(&fs, "last", 1 << 20).await;
        remove(&fs, "last", ino).await;
        assert!(matches!(fs.trim(0, u64::MAX, 0, ALL, &|| false).await, Err(FsError::Interrupted)));
        assert!(trim(&fs).await > 0, "an interrupted trim is not done");
        close(fs, &disk, "ranges").await;
    });
}

#[test]
fn what_is_freed_is_discarded_once_that_is_durable() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), true).await;
        let ino = new_file(&fs, "file", 4 << 20).await;
        fs.sync().await.unwrap();
        assert_eq!(discarded(&disk), 0);
        remove(&fs, "file", ino).await;
        // Frees it; nothing of that is durable, and nothing was told to the device.
        let other = new_file(&fs, "other", 100).await;
        assert_eq!(discarded(&disk), 0);
        let background = tokio::spawn(Arc::clone(&fs).background());
        while discarded(&disk) < 1024 {
            fs.fsync(other).await.unwrap();
            tokio::task::yield_now().await;
        }
        let again = new_file(&fs, "again", 5 << 20).await;
        fs.sync().await.unwrap();
        assert!(read_whole(&fs, again).await.unwrap() == pattern(5 << 20, 5 << 20));
        assert!(read_whole(&fs, other).await.unwrap() == pattern(100, 100));
        close(fs, &disk, "online").await;
        background.await.unwrap();
    });
}

#[test]
fn a_device_that_fails_to_discard_loses_nothing() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let device = FaultyDevice::new(disk.clone());
        let fs = mount(Arc::new(device.clone()), true).await;
        device.fail_from(Operation::Discard, 0);
        let failed = fs.trim(0, u64::MAX, 0, ALL, &|| true).await;
        assert!(matches!(failed, Err(FsError::DiscardFailed(_))), "{failed:?}");
        let before = fs.statfs().await.unwrap();
        for _ in 0..3 {
            let ino = new_file(&fs, "file", 15 << 20).await;
            remove(&fs, "file", ino).await;
        }
        assert!(fs.withdrawn().is_none());
        fs.sync().await.unwrap();
        device.heal();
        assert!(trim(&fs).await > 0, "it was not taken for done");
        assert_eq!(fs.statfs().await.unwrap(), before);
        close(fs, &disk, "failing").await;
    });
}

/// A volume that is nearly full, always trimmed and always written to: who needs space finds it, as without.
#[test]
fn trims_take_no_space_from_those_who_write() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        for discard in [false, true] {
            let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
            let fs = mount(disk.clone(), discard).await;
            let kept = new_file(&fs, "kept", 6 << 20).await;
            let free = fs.statfs().await.unwrap().blocks_free as usize * 4096;
            let ended = Arc::new(AtomicBool::new(false));
            let trimmer = {
                let (fs, ended) = (Arc::clone(&fs), Arc::clone(&ended));
                tokio::spawn(async move {
                    while !ended.load(Ordering::Relaxed) {
                        // Never marked as done, so always all of it.
                        fs.trim(0, u64::MAX, 8192, ALL, &|| true).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            };
            let len = free / 10 * 9;
            let _step = common::Step::new(format!("trims beside writes, discard: {discard}"));
            for round in 0..12_u64 {
                let name = format!("r{round}");
                let ino = fs.mknod(fs.root(), name.as_bytes(), 0o100_644, (0, 0), ROOT).await.unwrap().ino;
                for at in (0..len).step_by(1 << 20) {
                    let data = pattern(round + at as u64, (len - at).min(1 << 20));
                    let size = data.len();
                    let done = fs.write(ino, at as u64, data, WriteFlags::default(), ROOT).await.unwrap();
                    assert_eq!(done as usize, size, "round {round}");
                }
                for at in (0..len).step_by(1 << 20) {
                    let piece = fs.read(ino, at as u64, (len - at).min(1 << 20) as u32).await.unwrap();
                    assert!(*piece == pattern(round + at as u64, piece.len()), "round {round}");
                }
                remove(&fs, &name, ino).await;
            }
            ended.store(true, Ordering::Relaxed);
            trimmer.await.unwrap();
            assert!(read_whole(&fs, kept).await.unwrap() == pattern(6 << 20, 6 << 20));
            close(fs, &disk, "full").await;
        }
    });
}
