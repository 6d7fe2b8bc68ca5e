//! Copies between files inside the filesystem: content against a model, holes, what is refused, and that no call takes long.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    ForkDisk, Maker, ROOT, Rng, assert_sound, checker, mount, new_volume, pattern, read_whole, run, write_all,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, SetAttr};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::Fs;
use fs_core::ops::copy::Spot;

async fn new_file(fs: &Fs, name: &str) -> InodeNo {
    fs.mknod(fs.root(), name.as_bytes(), 0o100_644, (0, 0), ROOT).await.unwrap().ino
}

async fn copy(fs: &Fs, source: (InodeNo, u64), target: (InodeNo, u64), len: u64) -> Result<u64, FsError> {
    let spot = |(ino, offset)| Spot { ino, offset };
    fs.copy_range(spot(source), spot(target), len, ROOT, &|| true).await
}

async fn close(fs: Arc<Fs>, disk: &Arc<ForkDisk>, story: &str) {
    fs.unmount().await.unwrap();
    drop(fs);
    let errors = checker::errors(disk.clone()).await;
    assert!(errors.is_empty(), "{story}: {errors:#?}");
    assert_sound(disk, story);
}

#[test]
fn copies_are_what_a_model_says_in_all_block_sizes() {
    let seed = std::env::var("LUNFS_SEED").map_or(1, |text| text.parse().unwrap());
    for (round, (maker, bytes)) in
        [(Maker::Lunfs, 512), (Maker::Gfs2, 1024), (Maker::Lunfs, 2048), (Maker::Lunfs, 4096)].into_iter().enumerate()
    {
        let story = format!("LUNFS_SEED={seed}: {maker:?} {bytes}");
        let block = u64::from(bytes);
        run(async {
            let disk = Arc::new(new_volume(maker, BlockSize::new(bytes).unwrap()).await);
            let mut rng = Rng(seed * 1000 + round as u64);
            let fs = mount(disk.clone(), 1 << 20, false).await.unwrap();
            let mut inos = Vec::new();
            for name in ["a", "b", "c"] {
                inos.push(new_file(&fs, name).await);
            }
            let mut contents: Vec<Vec<u8>> = vec![Vec::new(); 3];
            for step in 0..250 {
                let (source, target) = (rng.below(3) as usize, rng.below(3) as usize);
                let limit = *rng.pick(&[block / 2, 10 * block, 100 * block]);
                let (mut from, mut to, mut len) = (rng.below(limit), rng.below(limit), 1 + rng.below(limit));
                if rng.one_in(2) {
                    (from, to, len) = (from / block * block, to / block * block, len.next_multiple_of(block));
                }
                match rng.below(6) {
                    0 => {
                        let data = pattern(rng.next(), len as usize);
                        let end = (to + len) as usize;
                        let size = contents[target].len().max(end);
                        contents[target].resize(size, 0);
                        contents[target][to as usize..end].copy_from_slice(&data);
                        write_all(&fs, inos[target], to, &data).await.unwrap();
                    }
                    1 => {
                        contents[target].resize(to as usize, 0);
                        let size = SetAttr { size_bytes: Some(to), ..SetAttr::default() };
                        fs.setattr(inos[target], &size, ROOT).await.unwrap();
                    }
                    _ => {
                        let have = (contents[source].len() as u64).saturating_sub(from).min(len);
                        let data = contents[source].get(from as usize..(from + have) as usize).unwrap_or(&[]).to_vec();
                        let result = copy(&fs, (inos[source], from), (inos[target], to), len).await;
                        if source == target && from.abs_diff(to) < have {
                            assert!(matches!(result, Err(FsError::Invalid(_))), "{story}, step {step}: {result:?}");
                        } else {
                            assert_eq!(result.unwrap(), have, "{story}, step {step}");
                            if have > 0 {
                                let end = to as usize + data.len();
                                let size = contents[target].len().max(end);
                                contents[target].resize(size, 0);
                                contents[target][to as usize..end].copy_from_slice(&data);
                            }
                        }
                    }
                }
                let found = read_whole(&fs, inos[target]).await.unwrap();
                assert!(found == contents[target], "{story}: content after step {step}");
            }
            close(fs, &disk, &story).await;
        });
    }
}

#[test]
fn a_hole_is_copied_as_one_and_takes_no_time() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let (source, target) = (new_file(&fs, "source").await, new_file(&fs, "target").await);
        for at in [0, 1 << 30, 1 << 40] {
            write_all(&fs, source, at, &pattern(at, 10_000)).await.unwrap();
        }
        write_all(&fs, target, 0, &pattern(9, 4 << 20)).await.unwrap();
        let done = copy(&fs, (source, 0), (target, 0), u64::MAX / 4).await.unwrap();
        assert_eq!(done, (1 << 40) + 10_000);
        for at in [0, 1 << 30, 1 << 40] {
            assert_eq!(fs.read(target, at, 10_000).await.unwrap()[..], pattern(at, 10_000));
        }
        let [one, other] = [fs.getattr(source).await.unwrap(), fs.getattr(target).await.unwrap()];
        assert_eq!((one.size_bytes, one.sectors), (other.size_bytes, other.sectors));
        close(fs, &disk, "holes").await;
    });
}

#[test]
fn one_call_never_takes_long_and_ends_when_its_process_is_interrupted() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let (source, target) = (new_file(&fs, "source").await, new_file(&fs, "target").await);
        for at in 0..9 {
            write_all(&fs, source, at << 20, &pattern(at, 1 << 20)).await.unwrap();
        }
        let spot = |ino| Spot { ino, offset: 0 };
        let interrupted = AtomicBool::new(false);
        let go_on = || !interrupted.swap(true, Ordering::Relaxed);
        let done = fs.copy_range(spot(source), spot(target), 9 << 20, ROOT, &go_on).await.unwrap();
        assert_eq!(done, 2 << 20, "one step before it was asked for the first time, one after it");
        assert_eq!(copy(&fs, (source, 0), (target, 0), u64::MAX / 2).await.unwrap(), 9 << 20);
        assert!(read_whole(&fs, source).await.unwrap() == read_whole(&fs, target).await.unwrap());
        close(fs, &disk, "long").await;
    });
}

#[test]
fn what_is_not_reported_as_copied_is_as_it_was() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let (source, target) = (new_file(&fs, "source").await, new_file(&fs, "target").await);
        // A hole that takes more than one step, and ends within a block.
        let hole = (8 << 20) + 100;
        let size = SetAttr { size_bytes: Some(hole), ..SetAttr::default() };
        fs.setattr(source, &size, ROOT).await.unwrap();
        let before = pattern(1, 9 << 20);
        write_all(&fs, target, 0, &before).await.unwrap();
        let (from, to) = (Spot { ino: source, offset: 0 }, Spot { ino: target, offset: 0 });
        let done = fs.copy_range(from, to, hole, ROOT, &|| false).await.unwrap() as usize;
        assert!(done > 0 && (done as u64) < hole, "{done} bytes: not what this test is about");
        let after = read_whole(&fs, target).await.unwrap();
        assert!(after[..done].iter().all(|byte| *byte == 0));
        assert!(after[done..] == before[done..]);
        close(fs, &disk, "a hole in part").await;
    });
}

#[test]
fn what_cannot_be_copied_is_refused_and_a_full_volume_says_so() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let (source, target) = (new_file(&fs, "source").await, new_file(&fs, "target").await);
        write_all(&fs, source, 0, &pattern(1, 13 << 20)).await.unwrap();
        assert!(matches!(copy(&fs, (source, 0), (fs.root(), 0), 1).await, Err(FsError::IsDirectory)));
        assert!(matches!(copy(&fs, (fs.root(), 0), (target, 0), 1).await, Err(FsError::IsDirectory)));
        assert!(matches!(copy(&fs, (source, 0), (target, u64::MAX - 4), 5).await, Err(FsError::TooLarge)));
        assert_eq!(copy(&fs, (source, u64::MAX), (target, 0), 5).await.unwrap(), 0);
        assert_eq!(copy(&fs, (source, 0), (target, 0), 0).await.unwrap(), 0);
        // More than is free: as much as there is room for, and then the truth.
        let done = copy(&fs, (source, 0), (target, 0), 13 << 20).await.unwrap();
        assert!(done > 5 << 20 && done < 13 << 20, "{done}");
        let rest = copy(&fs, (source, done), (target, done), (13 << 20) - done).await;
        assert!(matches!(rest, Err(FsError::NoSpace)), "{rest:?}");
        assert!(read_whole(&fs, target).await.unwrap() == pattern(1, 13 << 20)[..done as usize]);

        let user = Caller { uid: 1000, gid: 1000, umask: 0 };
        let permissions = SetAttr { permissions: Some(0o6755), ..SetAttr::default() };
        fs.setattr(target, &permissions, ROOT).await.unwrap();
        let spot = |ino| Spot { ino, offset: 0 };
        fs.copy_range(spot(source), spot(target), 10, user, &|| true).await.unwrap();
        assert_eq!(fs.getattr(target).await.unwrap().permissions, 0o755);
        close(fs, &disk, "refused").await;
    });
}

/// Two files copied onto each other at once, again and again: nobody waits for ever.
#[test]
fn copies_in_both_directions_do_not_wait_for_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let (one, other) = (new_file(&fs, "one").await, new_file(&fs, "other").await);
        for ino in [one, other] {
            write_all(&fs, ino, 0, &pattern(ino.get(), 3 << 20)).await.unwrap();
        }
        let tasks = [(one, other), (other, one), (one, other)].map(|(from, to)| {
            let fs = Arc::clone(&fs);
            tokio::spawn(async move {
                for _ in 0..20 {
                    assert_eq!(copy(&fs, (from, 0), (to, 0), 3 << 20).await.unwrap(), 3 << 20);
                }
            })
        });
        let _step = common::Step::new("copies in both directions".into());
        for task in tasks {
            task.await.unwrap();
        }
        close(fs, &disk, "both directions").await;
    });
}
