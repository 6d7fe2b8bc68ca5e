//! A volume that is frozen, or made read-only, while it is mounted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, clippy::panic)] // a test

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{
    ForkDisk, Maker, ROOT, assert_sound, checker, mount, new_volume, new_volume_of, read_whole, run, write_all,
};
use fs_core::attr::{Allocation, Capabilities, InodeFlags, OpenFlags, RenameMode, SetAttr, SetXattr};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, OpFuture};
use fs_core::ops::copy::Spot;
use futures_util::FutureExt;
use parking_lot::Mutex;

const CACHE_BYTES: u64 = 16 << 20;

/// A mounted volume with some content that is not on disk yet.
async fn used_volume() -> (Arc<ForkDisk>, Arc<Fs>) {
    let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
    let fs = mount(Arc::clone(&disk) as _, CACHE_BYTES, false).await.unwrap();
    for name in [b"one", b"two", b"old"] {
        let file = fs.mknod(fs.root(), name, 0o100_644, (0, 0), ROOT).await.unwrap();
        write_all(&fs, file.ino, 0, &[7; 10_000]).await.unwrap();
        fs.setxattr(file.ino, b"user.a", b"b", &SetXattr::default(), ROOT).await.unwrap();
    }
    fs.mkdir(fs.root(), b"dir", 0o755, ROOT).await.unwrap();
    (disk, fs)
}

/// One of each operation that changes the volume; all of them can be done, in this order.
async fn changes(fs: &Fs) -> Vec<(&'static str, OpFuture<'_, ()>)> {
    let root = fs.root();
    let (one, two) = (fs.lookup(root, b"one").await.unwrap().ino, fs.lookup(root, b"two").await.unwrap().ino);
    let shorter = SetAttr { size_bytes: Some(5), ..SetAttr::default() };
    let [from, to] = [one, two].map(|ino| Spot { ino, offset: 0 });
    let emptied = OpenFlags { write: true, truncate: true, append: false };
    vec![
        ("mknod", Box::pin(async move { fs.mknod(root, b"new", 0o100_644, (0, 0), ROOT).await.map(drop) })),
        ("mkdir", Box::pin(async move { fs.mkdir(root, b"newdir", 0o755, ROOT).await.map(drop) })),
        ("symlink", Box::pin(async move { fs.symlink(root, b"sym", b"one", ROOT).await.map(drop) })),
        ("link", Box::pin(async move { fs.link(one, root, b"hard", ROOT).await.map(drop) })),
        ("unlink", fs.unlink(root, b"old")),
        ("rmdir", fs.rmdir(root, b"dir")),
        ("rename", fs.rename(root, b"two", root, b"three", RenameMode::Replace, ROOT)),
        ("write", Box::pin(async move { write_all(fs, one, 0, b"changed").await })),
        ("setattr", Box::pin(async move { fs.setattr(one, &shorter, ROOT).await.map(drop) })),
        ("open", fs.open(two, emptied, ROOT)),
        ("setxattr", Box::pin(async move { fs.setxattr(one, b"user.c", b"d", &SetXattr::default(), ROOT).await })),
        ("fallocate", fs.fallocate(one, 0, 100_000, Allocation::Allocate { keep_size: true }, ROOT, &|| true)),
        ("set_flags", fs.set_flags(one, InodeFlags::SYNC, InodeFlags::SYNC, ROOT, Capabilities::ALL)),
        ("set_label", fs.set_label(b"other", Capabilities::ALL)),
        ("copy_range", Box::pin(async move { fs.copy_range(from, to, 5, ROOT, &|| true).await.map(drop) })),
        ("removexattr", fs.removexattr(one, b"user.a")),
    ]
}

async fn assert_looks_unmounted(disk: &ForkDisk) {
    let copy = disk.fork();
    assert_sound(&copy, "a copy");
    let errors = checker::errors(Arc::new(disk.fork())).await;
    assert!(errors.is_empty(), "{errors:#?}");
    // Without a write a volume can be mounted only if there is nothing to be replayed.
    mount(Arc::new(disk.write_protected()), CACHE_BYTES, true).await.unwrap();
}

#[test]
fn while_a_volume_is_frozen_it_is_clean_and_changes_wait() {
    run(async {
        let (disk, fs) = used_volume().await;
        fs.freeze().await.unwrap();
        assert!(fs.is_frozen());
        assert!(matches!(fs.freeze().await, Err(FsError::Frozen)));
        assert!(matches!(fs.set_read_only(true).await, Err(FsError::Frozen)));
        assert_looks_unmounted(&disk).await;

        let before = disk.fork();
        let mut waiting = changes(&fs).await;
        for (name, change) in &mut waiting {
            assert!(change.now_or_never().is_none(), "{name} did not wait");
        }
        // Reading goes on, and does not wait for those who do.
        let one = fs.lookup(fs.root(), b"one").await.unwrap().ino;
        assert_eq!(read_whole(&fs, one).await.unwrap(), [7; 10_000]);
        assert_eq!(fs.getxattr(one, b"user.a").await.unwrap(), b"b");
        fs.fsync(one).await.unwrap();
        fs.sync().await.unwrap();
        fs.statfs().await.unwrap();
        assert!(before.differing(&disk).is_empty(), "something was written");

        assert!(fs.thaw());
        assert!(!fs.thaw());
        for (name, change) in waiting {
            change.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(read_whole(&fs, one).await.unwrap(), b"chang");
        fs.unmount().await.unwrap();
        assert_looks_unmounted(&disk).await;
    });
}

#[test]
fn unmounting_a_frozen_volume_lets_those_who_wait_end() {
    run(async {
        let (disk, fs) = used_volume().await;
        fs.freeze().await.unwrap();
        let mut waiting = fs.unlink(fs.root(), b"old");
        assert!((&mut waiting).now_or_never().is_none());
        fs.end_freezing();
        waiting.await.unwrap();
        assert!(matches!(fs.freeze().await, Err(FsError::Unmounting)));
        fs.unmount().await.unwrap();
        assert_looks_unmounted(&disk).await;
    });
}

#[test]
fn a_volume_can_be_made_read_only_and_writable_again() {
    run(async {
        let (disk, fs) = used_volume().await;
        fs.set_read_only(true).await.unwrap();
        assert_looks_unmounted(&disk).await;
        let before = disk.fork();
        for (name, change) in changes(&fs).await {
            assert!(matches!(change.await, Err(FsError::ReadOnly)), "{name}");
        }
        let one = fs.lookup(fs.root(), b"one").await.unwrap().ino;
        read_whole(&fs, one).await.unwrap();
        fs.sync().await.unwrap();
        assert!(before.differing(&disk).is_empty(), "something was written");
        fs.set_read_only(false).await.unwrap();
        for (name, change) in changes(&fs).await {
            change.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        fs.set_read_only(true).await.unwrap();
        fs.unmount().await.unwrap();
        assert_looks_unmounted(&disk).await;

        let fs = mount(Arc::clone(&disk) as _, CACHE_BYTES, true).await.unwrap();
        fs.set_read_only(true).await.unwrap();
        assert!(matches!(fs.set_read_only(false).await, Err(FsError::ReadOnly)));
    });
}

#[test]
fn who_freezes_waits_for_a_step_of_a_long_allocation_and_not_for_all() {
    run(async {
        let (disk, fs) = used_volume().await;
        let one = fs.lookup(fs.root(), b"one").await.unwrap().ino;
        let steps = AtomicU32::new(0);
        let freeze_at_the_second = || {
            if steps.fetch_add(1, Ordering::Relaxed) == 1 {
                fs.freeze().now_or_never().expect("it waits for the whole allocation").unwrap();
            }
            true
        };
        let how = Allocation::Allocate { keep_size: true };
        let mut allocation = fs.fallocate(one, 0, 15 << 20, how, ROOT, &freeze_at_the_second);
        assert!((&mut allocation).now_or_never().is_none(), "it went on while the volume was frozen");
        assert_looks_unmounted(&disk).await;
        assert!(fs.thaw());
        allocation.await.unwrap();
        assert!(steps.load(Ordering::Relaxed) > 2);
        fs.unmount().await.unwrap();
        assert_looks_unmounted(&disk).await;
    });
}

#[test]
fn who_freezes_waits_for_a_group_of_a_trim_and_not_for_all() {
    run(async {
        let disk = Arc::new(new_volume_of(256 << 20, BlockSize::MIN, 1).await);
        let fs = mount(Arc::clone(&disk) as _, CACHE_BYTES, false).await.unwrap();
        let freezing = Mutex::new(None);
        let pieces = AtomicU32::new(0);
        let freeze_at_the_first = || {
            if pieces.fetch_add(1, Ordering::Relaxed) == 0 {
                let mut freeze = fs.freeze();
                assert!((&mut freeze).now_or_never().is_none(), "the group is not waited for");
                *freezing.lock() = Some(freeze);
            }
            true
        };
        let mut trim = fs.trim(0, u64::MAX, 0, Capabilities::ALL, &freeze_at_the_first);
        assert!((&mut trim).now_or_never().is_none(), "it went on to the next group");
        let freeze = freezing.lock().take().unwrap();
        freeze.await.unwrap();
        let before = pieces.load(Ordering::Relaxed);
        assert!(fs.thaw());
        assert!(trim.await.unwrap() > 0);
        assert!(pieces.load(Ordering::Relaxed) > before, "all was done already");
        fs.unmount().await.unwrap();
    });
}
